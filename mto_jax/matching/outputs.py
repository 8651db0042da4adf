# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The outputs of `mto match`: tables, a figure, the mapping as gin."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.figure
import rich.table

from mto_jax.console import folding_table
from mto_jax.matching.agreement import Agreement
from mto_jax.matching.decide import Decision
from mto_jax.matching.probe import Probed, choice
from mto_jax.matching.verdict import MAP_PHRASAL, MASK_FILLING, NO_WINNER, Verdict
from mto_jax.pictures import COLOURS, styled

Rows = list[list[str]]  # the first is the head

MARKS = {MASK_FILLING: "fill", MAP_PHRASAL: "map", NO_WINNER: "?"}
# Colour, marker and words of a decision in the figure; others, a gain of adaptation, are the last.
_LOOKS = {
    MASK_FILLING: (COLOURS[0], "o", "Mask-Filling"),
    MAP_PHRASAL: (COLOURS[3], "s", "Map-Phrasal"),
    NO_WINNER: (COLOURS[8], "D", "unclear"),
}
_GAIN = (COLOURS[2], "^", "an objective gains")


def verdict_rows(verdicts: Sequence[Verdict], decisions: Mapping[str, Decision]) -> Rows:
    """A row a task, a column a score, the choice and what decided at the end.

    A cell says "fill", "map" or "?" (no clear winner), or an objective, the value and its interval;
    the head says what the values of a score are compared with.
    """
    scores = list(dict.fromkeys(verdict.score for verdict in verdicts))
    cells = {(verdict.task, verdict.score): _cell(verdict) for verdict in verdicts}
    heads = [_head(score, verdicts) for score in scores]
    rows = [["task", *heads, "objective, template", "decided by"]]
    for task, decision in decisions.items():
        shown = [cells.get((task, score), "") for score in scores]
        rows.append([task, *shown, ", ".join(decision.choice), decision.decided_by])
    return rows


def _head(score: str, verdicts: Sequence[Verdict]) -> str:
    """The score and its threshold, as far as it has values."""
    valued = [v for v in verdicts if v.score == score and v.value is not None]
    against = dict.fromkeys(f"{verdict.threshold:g}" for verdict in valued)
    return f"{score} (against {' or '.join(against)})" if against else score


def _cell(verdict: Verdict) -> str:
    mark = MARKS.get(verdict.decision, verdict.decision)
    if verdict.value is None:
        return mark
    return f"{mark} {verdict.value:+.2f} [{verdict.low:+.2f}, {verdict.high:+.2f}]"


def probe_rows(probes: Mapping[str, Probed]) -> Rows:
    """A row a task: the best template under each objective, beside the best constant answer."""
    pairs = [choice(name) for probe in probes.values() for name in probe.values]
    objectives = list(dict.fromkeys(pair.objective for pair in pairs))
    rows = [["task", "metric", "best constant answer", *objectives]]
    for task, probe in probes.items():
        cells = []
        for objective in objectives:
            same = [name for name in probe.values if choice(name).objective == objective]
            best = max(same, key=probe.values.__getitem__)
            distinct = f"{probe.distinct[best]:.0f} of {probe.heads}"
            cells.append(f"{choice(best).template} {probe.values[best]:.3f} [{distinct}]")
        rows.append([task, probe.metric, f"{probe.constant:.3f}", *cells])
    return rows


def classifier_rows(classified: Mapping[str, tuple[str, float]]) -> Rows:
    """A row a task of known group: the share of its pairs that the classifier puts there."""
    rows = [["task", "group", "pairs put there"]]
    rows += [[task, group, f"{share:.0%}"] for task, (group, share) in classified.items()]
    shares = [share for _, share in classified.values()]
    return [*rows, ["mean", "", f"{sum(shares) / len(shares):.0%}"]]


def agreement_rows(agreements: Sequence[Agreement]) -> Rows:
    """A row a score: how often it says what the probe says."""
    rows = [["score", "same winner where both are clear", "same sign", "rank correlation"]]
    for agreement in agreements:
        correlation = "" if agreement.correlation is None else f"{agreement.correlation:+.2f}"
        rows.append(
            [
                agreement.score,
                f"{agreement.same} of {agreement.clear}" if agreement.clear else "none is clear",
                f"{agreement.same_leaning} of {agreement.tasks}",
                correlation,
            ]
        )
    return rows


def table(title: str, rows: Rows) -> rich.table.Table:
    """The rows as a table for the terminal."""
    result = folding_table(rows[0], title, show_lines=True)
    for row in rows[1:]:
        result.add_row(*(text.replace(" [", "\n\\[") for text in row))
    return result


@styled
def figure(verdicts: Sequence[Verdict]) -> matplotlib.figure.Figure:
    """A panel for every score that has values: each task's value, interval and decision."""
    valued = [verdict for verdict in verdicts if verdict.value is not None]
    scores = list(dict.fromkeys(verdict.score for verdict in valued))
    tasks = list(dict.fromkeys(verdict.task for verdict in valued))
    columns = min(4, max(1, len(scores)))
    rows = max(1, math.ceil(len(scores) / columns))
    result = matplotlib.figure.Figure(
        figsize=(3.2 * columns + 1.5, (0.25 * len(tasks) + 1.0) * rows), layout="constrained"
    )
    panels = result.subplots(rows, columns, sharey=True, squeeze=False)
    for panel in panels.flat[len(scores) :]:
        panel.set_axis_off()
    for panel, score in zip(panels.flat, scores, strict=False):
        for verdict in (v for v in valued if v.score == score):
            colour, marker, label = _LOOKS.get(verdict.decision, _GAIN)
            if verdict.value is None or verdict.low is None or verdict.high is None:
                continue
            below, above = verdict.value - verdict.low, verdict.high - verdict.value
            panel.errorbar(
                verdict.value,
                tasks.index(verdict.task),
                xerr=[[max(below, 0.0)], [max(above, 0.0)]],
                fmt=marker,
                capsize=3,
                color=colour,
                label=label,
            )
            panel.axvline(verdict.threshold, color="0.8", zorder=0)
        panel.set_title(score)
    panels[0, 0].set_yticks(range(len(tasks)), tasks)
    panels[0, 0].set_ylim(len(tasks) - 0.5, -0.5)
    handles = {}
    for panel in panels.flat:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    result.legend([*handles.values()], [*handles], loc="outside lower center", ncols=4)
    return result


def mapping_gin(decisions: Mapping[str, Decision], model: str) -> str:
    """The mapping as a gin file, in the form of gin/mappings/expert.gin."""
    lines = [
        f"# Written by `mto match` with the model {model}: task -> (objective, template).",
        "#",
        "# Use: add --gin_file=THIS_FILE to a command and name a bare task, e.g. "
        "MIXTURE_OR_TASK_NAME =",
        f'# "{next(iter(decisions))}", or, for `mto adapt`, TASK. Nothing here is REQUIRED.',
        "",
        "mapping.tasks = {",
    ]
    for task, decision in decisions.items():
        pair = f'("{decision.choice.objective}", "{decision.choice.template}")'
        lines.append(f'    "{task}": {pair},  # {decision.decided_by}')
    return "\n".join([*lines, "}"]) + "\n"
