# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `mto tune` shows and writes: a table and a figure of tuned models beside the frozen one."""

import dataclasses
import statistics as numbers
from collections.abc import Mapping, Sequence

import matplotlib.figure
import numpy as np

from mto_jax.experiments.figures import styled
from mto_jax.experiments.results import stratified
from mto_jax.metrics.statistics import Comparison, Interval, bootstrap, compare
from mto_jax.tuning.results import Result

Rows = list[list[str]]  # the first is the head


@dataclasses.dataclass(frozen=True)
class Line:
    """Runs that differ in their seed alone, beside the frozen model: of one task, or the mean of several.

    Attributes:
      task: its name, or how many tasks.
      score: mean over tasks, seeds and records; its interval is over records, whose scores are means over seeds.
      seeds, diverged: how many runs, for each task, and how many of all did not end well.
      deviation: of the score over the seeds, that of a sample; None for a single one.
      gain: over the frozen model, paired by record.
      dev_losses: (mean of the runs, that of the frozen model); None without dev examples.
    """

    task: str
    template: str
    adapter: str
    rate: float
    metric: str
    seeds: int
    diverged: int
    score: Interval
    deviation: float | None
    frozen: Interval
    gain: Comparison
    dev_losses: tuple[float, float] | None


def lines(
    results: Sequence[Result], frozen: Mapping[tuple[str, str], Result]
) -> tuple[list[Line], list[Line]]:
    """(a line for each task, template, adapter and rate, the means over tasks where there are several).

    Args:
      frozen: how the frozen model answers, by task and the tuned model's template.
    """
    single: dict[tuple, list[Result]] = {}
    several: dict[tuple, list[Result]] = {}
    for one in results:
        kind = (one.template, one.adapter, one.rate)
        single.setdefault((one.task, *kind), []).append(one)
        several.setdefault((one.metric, *kind), []).append(one)
    counts = {key: len({one.task for one in mine}) for key, mine in several.items()}
    return (
        [_line(task, mine, frozen) for (task, *_), mine in single.items()],
        [
            _line(f"mean of {counts[key]} tasks", mine, frozen)
            for key, mine in several.items()
            if counts[key] > 1
        ],
    )


def _line(name: str, mine: Sequence[Result], frozen: Mapping[tuple[str, str], Result]) -> Line:
    first = mine[0]
    by_task: dict[str, list[Result]] = {}
    by_seed: dict[int | None, list[Result]] = {}
    for one in mine:
        by_task.setdefault(one.task, []).append(one)
        by_seed.setdefault(one.seed, []).append(one)
    rivals = {task: frozen[task, first.template] for task in by_task}
    tuned = stratified({t: np.mean([one.scores for one in its], 0) for t, its in by_task.items()})
    base = stratified({task: np.asarray(one.scores) for task, one in rivals.items()})
    each = [float(np.mean([np.mean(one.scores) for one in its])) for its in by_seed.values()]
    losses = None
    if all(rival.dev_loss is not None for rival in rivals.values()):
        # That of a run whose every evaluation was not finite is none.
        own = [np.nan if one.dev_loss is None else one.dev_loss for one in mine]
        losses = (float(np.mean(own)), float(np.mean([one.dev_loss for one in rivals.values()])))
    return Line(
        name,
        first.template,
        first.adapter,
        first.rate,
        first.metric,
        len(by_seed),
        sum(one.diverged is not None for one in mine),
        bootstrap(tuned)["value"],
        numbers.stdev(each) if len(each) > 1 else None,
        bootstrap(base)["value"],
        compare(tuned, base)["value"],
        losses,
    )


def rows(found: Sequence[Line]) -> Rows:
    """The table."""
    head = ["task", "template", "adapter", "rate", "score", "seeds", "frozen", "gain"]
    table = [[*head, "dev loss (frozen)", "metric"]]
    for one in found:
        table.append(
            [
                one.task,
                one.template,
                one.adapter,
                f"{one.rate:g}",
                str(one.score),
                _seeds(one),
                str(one.frozen),
                f"{one.gain.difference:+.3f} [{one.gain.low:+.3f}, {one.gain.high:+.3f}]",
                "" if one.dev_losses is None else "{:.3f} ({:.3f})".format(*one.dev_losses),
                one.metric,
            ]
        )
    return table


def _seeds(line: Line) -> str:
    text = f"{line.seeds}"
    if line.deviation is not None:
        text += f", deviation {line.deviation:.3f}"
    return f"{text}, {line.diverged} DIVERGED" if line.diverged else text


@styled
def figure(found: Sequence[Line]) -> matplotlib.figure.Figure:
    """The scores of single tasks with their intervals, and as bars what the frozen model has."""
    tasks = list(dict.fromkeys(one.task for one in found))
    series = list(dict.fromkeys((one.template, one.adapter, one.rate) for one in found))
    height = max(2.5, 1.2 + (0.12 + 0.14 * len(series)) * len(tasks))
    result = matplotlib.figure.Figure(figsize=(8.5, height), layout="constrained")
    axes = result.subplots()
    step = 0.8 / len(series)
    for i, key in enumerate(series):
        mine = [one for one in found if (one.template, one.adapter, one.rate) == key]
        places = [tasks.index(one.task) + (i - (len(series) - 1) / 2) * step for one in mine]
        values = np.array([one.score.value for one in mine])
        bounds = np.array([[one.score.low, one.score.high] for one in mine])
        errors = np.abs(bounds - values[:, None]).T
        label = f"{key[0]}, {key[1]}, rate {key[2]:g}"
        axes.barh(places, [one.frozen.value for one in mine], step * 0.9, color="0.85", zorder=0)
        axes.errorbar(values, places, xerr=errors, fmt="o", ms=4, capsize=2, label=label)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(
        f"{', '.join(dict.fromkeys(one.metric for one in found))}; grey: the frozen model"
    )
    result.legend(loc="outside right upper", fontsize="small")
    return result
