# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""advice.md: the recommendation in a sentence, what was measured, and where the order flips."""

import math
from collections.abc import Mapping
from typing import Any

from mto_jax.console import markdown_table, size_text

Summary = Mapping[str, Any]  # the content of advice.json


def sentence(summary: Summary) -> str:
    """Returns the recommendation."""
    name, best = summary["recommended"], summary["best"]
    row = summary["strategies"][name]
    text = (
        f"For {summary['task']} with {_heads(summary['shots'])}, take {name}"
        f"{_rate(row)}: {summary['metric']} {_score(row['in the end'])}"
    )
    if row["in the end"]["extrapolated"]:
        text += ", extrapolated"
    if name != best:
        other = summary["strategies"][best]
        text += (
            f", within one standard error of the best, {best} "
            f"({_score(other['in the end'])}), and cheaper"
        )
    constant = summary.get("best constant answer", -math.inf)
    if row["in the end"]["low"] <= constant:
        text += f". It is not clearly above the best constant answer, {constant:.3f}"
    return f"{text}."


def page(summary: Summary) -> str:
    """Returns the content of advice.md."""
    strategies = summary["strategies"]
    lines = [
        f"# How to adapt {summary['model']} to {summary['task']}",
        "",
        f"**{sentence(summary)}**",
        "",
        f"    {summary['command']}",
        "",
        _table(summary),
        "",
        f"Scores are means of {summary['metric']} on heads that nothing was trained on, with "
        "95 % intervals over these heads and the training seeds; a rate is the best on other, "
        "validation heads. The same heads chose the strategy, so the score of the chosen is a "
        "little too high. *In italics: extrapolated* by a power law through the measured scores. "
        "An empty place: left behind at fewer heads.",
        "",
        f"- Device: {summary['device']}; {_limits(summary)}.",
        "- Memory is an estimate by formula, without recomputation. Minutes are of one training "
        "with all the heads, "
        + (
            "at the speed measured here, compilation and evaluation included."
            if "CPU" in summary["device"]
            else "at 0.3 of the device's peak rate, a guess."
        ),
    ]
    if "best constant answer" in summary:
        constant = summary["best constant answer"]
        lines.append(f"- The best answer that is the same for everything has {constant:.3f}.")
    if summary["runner_up"]:
        row = strategies[summary["runner_up"]]
        lines.append(
            f"- Runner-up: {summary['runner_up']}{_rate(row)}, {_score(row['in the end'])}."
        )
    lines.append(f"- Where the order flips: {_flips(summary)}.")
    if summary["keep"]:
        lost = ", ".join(f"{name} {row['forgotten']:.0%}" for name, row in strategies.items())
        lines.append(
            f"- Forgotten of {', '.join(summary['keep'])}: {lost}. An adapter forgets what the "
            "adaptation before it made the model forget, or nothing."
        )
    if summary["left out"]:
        lines.append("- Left out:")
        lines += [f"    - {name}: {reason}" for name, reason in summary["left out"].items()]
    return "\n".join(lines) + "\n"


def _table(summary: Summary) -> str:
    strategies = summary["strategies"]
    shots = sorted({point["shots"] for row in strategies.values() for point in row["measured"]})
    target = summary["shots"]
    columns = [n for n in shots if n]
    head = ["strategy", "rate", *(f"{n} heads" for n in columns)]
    head += [f"{target} heads"] * (target not in columns)
    head += ["trained", "stored per task", "memory", "minutes", "an answer"]
    lines = [head]
    for name, row in strategies.items():
        points = {point["shots"]: point for point in row["measured"]}
        flat = not row["learning_rate"]
        end = row["in the end"]
        shown = [_score(points[n]) if n in points else "" for n in columns]
        if flat and 0 in points:
            shown = [_score(points[0])] * len(columns)
        if target not in columns:
            shown.append(f"*{_score(end)}*" if end["extrapolated"] else _score(end))
        label = f"**{name}**" if name == summary["recommended"] else name
        rate = f"{row['learning_rate']:g}" if row["learning_rate"] else ""
        costs = [
            f"{row['trained_parameters']:,}",
            size_text(row["stored_bytes"]),
            size_text(row["memory_bytes"]),
            f"{row['minutes']:.3g}",
            f"{row['answer_flops'] / 1e9:.3g} GFLOP",
        ]
        lines.append([label, rate, *shown, *costs])
    return markdown_table(lines)


def _flips(summary: Summary) -> str:
    target, flips = summary["shots"], summary["flips"]
    parts = []
    for i, change in enumerate(flips):
        end = flips[i + 1]["from"] - 1 if i + 1 < len(flips) else target
        parts.append(f"{change['choice'] or 'nothing'} from {change['from']} to {end} heads")
    return ", ".join(parts)


def _limits(summary: Summary) -> str:
    limits = summary["limits"]
    parts = [f"at most {size_text(limits['memory'])}"]
    if limits["minutes"] is not None:
        parts.append(f"{limits['minutes']:g} minutes")
    if limits["forgotten"] is not None:
        parts.append(f"{limits['forgotten']:.0%} forgotten")
    served = summary["tasks_served"]
    cheap = "the shortest training" if served == 1 else f"the fewest bytes of {served} tasks"
    return f"{', '.join(parts)}; cheapest is {cheap}"


def _heads(number: int) -> str:
    return f"{number:,} heads" if number != 1 else "one head"


def _rate(row: Mapping[str, Any]) -> str:
    return f" at the learning rate {row['learning_rate']:g}" if row["learning_rate"] else ""


def _score(point: Mapping[str, Any]) -> str:
    return f"{point['value']:.3f} [{point['low']:.3f}, {point['high']:.3f}]"
