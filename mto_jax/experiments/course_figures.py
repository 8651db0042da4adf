# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures of a course of pre-training: scores along it, and replay against forgetting."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib.figure

from mto_jax.experiments.course import Course
from mto_jax.experiments.figures import grid_of_panels, reach
from mto_jax.experiments.grid import Grid, Where, matches
from mto_jax.experiments.results import Results
from mto_jax.pictures import styled

_DASHES = ("-", "--", "-.", ":")


@dataclasses.dataclass(frozen=True)
class CourseFigure:
    """Scores along the checkpoints: a panel for each task, a line for each number of shots."""

    course: Course
    name: str = "course"
    where: Where = dataclasses.field(default_factory=lambda: {"replay": None, "asked": None})
    metric: str | None = None

    def check(self, grid: Grid, known: Mapping[str, Any]) -> None:
        """Nothing that could be wrong is given by a user."""

    @styled
    def draw(self, grid: Grid, results: Results) -> matplotlib.figure.Figure:
        """The figure; masked templates are dashed."""
        course, at = self.course, range(len(self.course.models))
        figure, axes = grid_of_panels(len(course.tasks), 3.4, 3.0, sharey=True)
        for task, axis in zip(course.tasks, axes, strict=True):
            constant = results.where({"method": "constant", "task": task})
            if (value := results.entry(constant, grid.metric).value) is not None:
                axis.axhline(value, color="0.6", lw=1, ls=":", label="best constant answer")
            own = results.where({**self.where, "task": task, "method": ["frozen", "fine_tune"]})
            for i, (shots, template) in enumerate(
                itertools.product([0, *course.shots], course.templates)
            ):
                place = {"shots": shots, "template": template}
                cells = [cell for cell in own if matches(cell.values, place)]
                entries = [
                    results.entry([c for c in cells if c.model == name], grid.metric)
                    for name in course.models
                ]
                drawn = [(x, e) for x, e in zip(at, entries, strict=True) if e.value is not None]
                if not drawn:
                    continue
                number = "all" if shots is None else shots
                colour = f"C{i // len(course.templates)}"
                axis.plot(
                    [x for x, _ in drawn], [e.value for _, e in drawn],
                    marker="o", ms=3, color=colour, ls=_DASHES[i % len(course.templates) % 4],
                    label=f"{'frozen' if shots == 0 else f'{number} shots'}, {template}",
                )  # fmt: skip
                bounds = [(x, e.low, e.high) for x, e in drawn if e.low is not None]
                if bounds:
                    xs, low, high = zip(*bounds, strict=True)
                    axis.fill_between(xs, low, high, color=colour, alpha=0.1, lw=0)
            axis.set_xticks(at, course.models, rotation=30, ha="right")
            axis.set_title(grid.label(task))
        axes[0].set_ylabel(f"{grid.label(grid.metric)}, 95 % interval")
        handles = {}
        for axis in axes:
            handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend([*handles.values()], [*handles], loc="outside right upper", fontsize="small")
        figure.suptitle("Scores along pre-training, frozen and tuned")
        return figure


@dataclasses.dataclass(frozen=True)
class ReplayFigure:
    """The gain of tuning on its own task against its cost to others, by the share of replay."""

    course: Course
    name: str = "replay"
    where: Where = dataclasses.field(default_factory=dict)
    metric: str | None = None

    def check(self, grid: Grid, known: Mapping[str, Any]) -> None:
        """Nothing that could be wrong is given by a user."""

    @styled
    def draw(self, grid: Grid, results: Results) -> matplotlib.figure.Figure:
        """The figure."""
        figure, (axis,) = grid_of_panels(1, 5.0, 3.6)
        course = self.course
        for i, share in enumerate(course.shares):
            x, y = (
                course.change(course.models[-1], pairs, share).compute(
                    results, results.cells, grid.metric
                )
                for pairs in (course.pairs, course.own)
            )
            if x is None or y is None:
                continue
            axis.errorbar(
                x.difference, y.difference,
                xerr=reach([(x.difference, x.low, x.high)]),
                yerr=reach([(y.difference, y.low, y.high)]),
                fmt="o", color=f"C{i}", label=f"replay {share or 0:.0%}",
            )  # fmt: skip
        axis.axvline(0, color="0.75", lw=1)
        axis.set_xlabel(f"other tasks: {grid.label(grid.metric)}, tuned - frozen")
        axis.set_ylabel("the task itself: tuned - frozen")
        figure.legend(loc="outside right upper", fontsize="small")
        figure.suptitle(f"Replay at {course.models[-1]}, 95 % intervals")
        return figure
