# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A grid of experiments: axes, constraints, cells.

A cell is a pure function of its place on the axes and of the settings of whoever computes it. Its
key is a digest of both, so equal cells are one, and a result counts however the grid has grown.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gin

from mto_jax.errors import UserError, unknown
from mto_jax.files import canonical, digest

Value = str | int | float | bool | None  # a place on an axis
Place = Mapping[str, Value]  # some axes with a value each
Where = Mapping[str, Value | Sequence[Value]]  # some axes with the values allowed on each

ASKED = ("asked", "asked_template")  # free axes, see `Cell.asked`
AXES = ("model", "objective", "template", "task", "shots", "seed", "method")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One experiment: its place on the axes, and what else decides its result.

    Attributes:
      model: a name that the runner knows.
      objective: of the adaptation; "none" for the model as it is, "matched" for the mapping's.
      template: the paper's name.
      task: name of the data set, without a template.
      shots: training heads; None takes all.
      seed: of the heads drawn and of the training.
      method: how the model is tuned.
      extra: (axis, value) of the free axes.
      settings: canonical JSON of what the runner's result depends on beside the axes.
    """

    model: str
    objective: str
    template: str
    task: str
    shots: int | None
    seed: int
    method: str
    extra: tuple[tuple[str, Value], ...] = ()
    settings: str = "{}"

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """Its value on every axis."""
        return {axis: getattr(self, axis) for axis in AXES} | dict(self.extra)

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits that name the cell: a digest of its values and settings."""
        return digest({"values": self.values, "settings": json.loads(self.settings)})[:16]

    @property
    def measure(self) -> str | None:
        """What is measured in place of the task's metrics: "recall" or "loss"; None for these.

        A value of the axis "asked" may be "recall:TASK", whether the model still knows the facts of
        a task, or "loss:NAME", its loss on a SeqIO task such as that of its pre-training.
        """
        measure, colon, _ = str(self.values.get("asked") or "").partition(":")
        return measure if colon else None

    @property
    def asked(self) -> "Cell":
        """The place that is tested: the cell's own, but on the axes "asked" and "asked_template".

        A model that is tuned on one task may be asked about another, or under another template:
        values on these two free axes, of which None is the cell's own.
        """
        task, template = (self.values.get(axis) for axis in ASKED)
        if self.measure == "recall":
            task = str(task).removeprefix("recall:")
        return dataclasses.replace(
            self, task=task or self.task, template=template or self.template, extra=()
        )

    @property
    def trained(self) -> tuple:
        """The values its training depends on: all but those of the axes of `ASKED`."""
        return tuple(item for item in self.values.items() if item[0] not in ASKED)

    def with_settings(self, settings: Mapping[str, Any]) -> "Cell":
        """Returns the cell under these settings."""
        return dataclasses.replace(self, settings=canonical(settings))

    def __str__(self):
        return ", ".join(f"{axis} {value}" for axis, value in self.values.items())


def each(cells: Sequence[Cell], axis: str) -> list:
    """The values of cells on an axis, each once."""
    return list(dict.fromkeys(getattr(cell, axis) for cell in cells))


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Grid:
    """The axes of a grid, and which of their combinations are cells.

    Attributes:
      name: of the grid; a results folder belongs to one name.
      model, objective, template, task, shots, seed, method: the values on each axis (see `Cell`).
      metric: the metric that tables and figures show unless they name another.
      extra: {axis: values} of free axes.
      constraints: each says what values go together: {"when": {axis: value or values}, "only":
        {axis: value or values}}. A cell on all the axes of "when" has to be on all the axes of
        "only" too.
      baseline: the place that others are compared with, e.g. {"objective": "none", "template":
        "Mapping"}; a cell's counterpart is the cell that differs from it in these axes alone.
      choose: {"axis": a setting such as "learning_rate", "by": a metric of validation heads such as
        "validation_rougeL", "within": axes}: of each combination of the axes "within", tables and
        figures show the setting with the best mean alone; empty shows all.
      labels: {value: how tables and figures write it}.
    """

    name: str
    model: Sequence[str]
    template: Sequence[str]
    task: Sequence[str]
    metric: str
    objective: Sequence[str] = ("none",)
    shots: Sequence[int | None] = (30,)
    seed: Sequence[int] = (0,)
    method: Sequence[str] = ("fine_tune",)
    extra: Mapping[str, Sequence[Value]] = dataclasses.field(default_factory=dict)
    constraints: Sequence[Mapping[str, Where]] = ()
    baseline: Place = dataclasses.field(default_factory=dict)
    choose: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def axes(self) -> dict[str, list[Any]]:
        """The values on every axis, each once.

        Raises:
          UserError: an axis without values, with a value of the wrong type, or with a name that is
            taken.
        """
        axes = {}
        for axis, values in [*((a, getattr(self, a)) for a in AXES), *self.extra.items()]:
            place = f"Grid.{axis}" if axis in AXES else f"Grid.extra[{axis!r}]"
            if axis in axes:
                raise UserError(
                    f"{place} has the name of another axis: choose a name beside {', '.join(AXES)}."
                )
            if isinstance(values, str) or not isinstance(values, Collection) or not values:
                raise UserError(f"{place} is {values!r}; expected a list of at least one value.")
            for value in values:
                _check_type(place, axis, value)
            axes[axis] = list(dict.fromkeys(values))
        return axes

    def check(self, known: Mapping[str, Collection[str]]) -> None:
        """Check that everything in the grid exists, as far as `known` names what does.

        Raises:
          UserError: an unknown value, axis or metric, or constraints that leave nothing of an axis
            value.
        """
        for axis, values in self.axes.items():
            for value in values:
                if axis in known and value not in known[axis]:
                    raise unknown(
                        f"value of the axis {axis!r} (Grid.{axis})",
                        str(value),
                        map(str, known[axis]),
                    )
        self.check_metric("Grid.metric", self.metric, known)
        for i, constraint in enumerate(self.constraints):
            place = f"Grid.constraints[{i}]"
            if not isinstance(constraint, Mapping) or set(constraint) != {"when", "only"}:
                raise UserError(
                    f"{place} is {constraint!r}; expected "
                    '{"when": {axis: values}, "only": {axis: values}}.'
                )
            # What exists may be constrained though this grid leaves it out: a grid can be cut down
            # by a flag without its constraints being written again.
            self.check_where(f'{place}["when"]', constraint["when"], known)
            self.check_where(f'{place}["only"]', constraint["only"], known)
        self.check_baseline("Grid.baseline", self.baseline)
        if self.choose:
            if set(self.choose) != {"axis", "by", "within"}:
                raise UserError(
                    f'Grid.choose is {self.choose!r}; expected {{"axis": axis, "by": metric, '
                    '"within": [axes]}.'
                )
            for axis in (self.choose["axis"], *self.choose["within"]):
                self.check_axis("Grid.choose", axis)
        self.cells()

    def check_baseline(self, place: str, baseline: Where) -> None:
        """It is a place to compare with.

        Raises:
          UserError: an axis or value does not exist, or it names a task.
        """
        self.check_where(place, baseline)
        if "task" in baseline:
            raise UserError(f"{place} names a task: scores of different tasks are not compared.")

    def check_where(
        self, place: str, where: Where, known: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """All axes and values in `where` exist.

        Raises:
          UserError: one does not; `place` says where it stands.
        """
        if not isinstance(where, Mapping):
            raise UserError(f"{place} is {where!r}; expected {{axis: value}}.")
        for axis, values in where.items():
            self.check_axis(place, axis)
            allowed = [*self.axes[axis], *(known or {}).get(axis, ())]
            for value in listed(values):
                if value not in allowed:
                    raise unknown(
                        f"value of the axis {axis!r} ({place})", str(value), map(str, allowed)
                    )

    def check_axis(self, place: str, axis: str) -> None:
        """The axis exists, else a `UserError`."""
        if axis not in self.axes:
            raise unknown(f"axis ({place}) called", str(axis), self.axes)

    def check_metric(self, place: str, metric: str, known: Mapping[str, Collection[str]]) -> None:
        """The metric exists, as far as known["metric"] tells, else a `UserError`."""
        if "metric" in known and metric not in known["metric"]:
            raise unknown(f"metric ({place}) called", metric, known["metric"])

    def cells(self) -> list[Cell]:
        """The cells that the constraints allow, without settings.

        Raises:
          UserError: none is left, or none with some value of an axis.
        """
        return list(self._cells)

    @functools.cached_property
    def _cells(self) -> list[Cell]:
        kept = []
        for place in itertools.product(*self.axes.values()):
            extra = tuple(zip(self.extra, place[len(AXES) :], strict=True))
            cell = Cell(**dict(zip(AXES, place, strict=False)), extra=extra)
            if self._allows(cell):
                kept.append(cell)
        if not kept:
            raise UserError(
                "The constraints leave no cell of the grid: no combination of the axes satisfies "
                f"all of Grid.constraints = {list(self.constraints)!r}."
            )
        for axis, values in self.axes.items():
            if lost := set(values) - {cell.values[axis] for cell in kept}:
                gone = next(value for value in values if value in lost)
                raise UserError(
                    f"The constraints leave no cell with {axis} {gone!r}. Take it out of the axis, "
                    "or change Grid.constraints."
                )
        return kept

    def label(self, value: Value) -> str:
        """A value as tables and figures write it."""
        return self.labels.get(str(value), "all" if value is None else str(value))

    def _allows(self, cell: Cell) -> bool:
        return all(
            matches(cell.values, constraint["only"])
            for constraint in self.constraints
            if matches(cell.values, constraint["when"])
        )


def matches(values: Place, where: Where) -> bool:
    """Returns whether the values are among those that `where` allows, on each of its axes.

    >>> matches({"task": "xIntent", "seed": 0}, {"task": ["xIntent", "xNeed"]})
    True
    """
    return all(values[axis] in listed(allowed) for axis, allowed in where.items())


def listed(values: Value | Sequence[Value]) -> Sequence[Any]:
    return values if isinstance(values, list | tuple) else [values]


def _check_type(place: str, axis: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if axis == "shots":
        fits, expected = (
            value is None or (whole and value >= 0),
            "a number of heads, or None for all",
        )
    elif axis == "seed":
        fits, expected = whole, "a whole number"
    elif axis in AXES:
        fits, expected = isinstance(value, str), "a name"
    else:
        fits, expected = isinstance(value, Value), "a name, a number or None"
    if not fits:
        raise UserError(f"{place} holds {value!r}; expected {expected}.")
