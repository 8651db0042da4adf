# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Strategies measured at growing numbers of shots, of which the worse half leaves each time:
successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943), shots being the resource."""

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mto_jax.errors import UserError
from mto_jax.experiments.adapters import with_prompt
from mto_jax.experiments.grid import Cell, Grid, Where
from mto_jax.experiments.results import Results
from mto_jax.experiments.run import computed
from mto_jax.experiments.runner import FewShot
from mto_jax.experiments.scoring import DEV_LOSS
from mto_jax.experiments.store import CellStore
from mto_jax.experiments.strategies import ADAPTER_METHODS, FINE_TUNE, IN_CONTEXT, STRATEGIES
from mto_jax.text2text import few_shot
from mto_jax.text2text.templates import TEMPLATES

MOST_SHOWN = 10  # solved examples before a question
_GROWTH = (3, 10)  # rungs: 3, 10, 30, 100, ...
_RATES_RUNGS = 2  # so many rungs try every learning rate


class Candidate(NamedTuple):
    """A strategy on the model as it is, or adapted under an objective first."""

    method: str
    objective: str = "none"

    def __str__(self):
        return self.method if self.objective == "none" else f"{self.method}, {self.objective}"


# Rates of each candidate, by shots: what is measured.
Plan = dict[int, dict[Candidate, list[float | None]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """What is compared, and the cells that do it.

    Attributes:
      runner: of the cells; its model is called "base".
      task, template: to tune on, and to test.
      metric: of all tasks.
      candidates: that are compared.
      rates: of each strategy; none where nothing trains.
      seeds: of each cell that trains.
      keep: tasks that what was tuned is asked about as well.
      shots: heads to train on in the end; None means all.
      probe_shots: most heads that are measured.
    """

    runner: FewShot
    task: str
    template: str
    metric: str
    candidates: Sequence[Candidate]
    rates: Mapping[str, Sequence[float]]
    seeds: Sequence[int]
    keep: Sequence[str]
    shots: int | None
    probe_shots: int

    @functools.cached_property
    def _tails(self) -> list[int]:
        """Examples of each head that there is to train on, `tails` at most."""
        records = self.runner.tasks[self.task].task.train
        counts = collections.Counter(few_shot.normal(record.head) for record in records)
        return [min(count, self.runner.tails) for count in counts.values()]

    @property
    def heads(self) -> int:
        """Heads that there are to train on."""
        return len(self._tails)

    @property
    def target(self) -> int:
        """Heads to train on in the end."""
        return self.shots or self.heads

    @property
    def rungs(self) -> list[int]:
        """The numbers of heads that are measured."""
        top = min(self.target, self.heads, self.probe_shots)
        growing = (base * 10**power for power in itertools.count() for base in _GROWTH)
        return [*itertools.takewhile(lambda n: n < top, growing), top]

    def examples(self, shots: int) -> int:
        """Examples of so many heads."""
        return round(shots * sum(self._tails) / self.heads)

    def template_of(self, method: str) -> str:
        """The template of a strategy: with a soft prompt where it trains one."""
        if not STRATEGIES[method].adapters.prompt_rows:
            return self.template
        return with_prompt(TEMPLATES[self.template])[0].name

    def cell(self, candidate: Candidate, shots: int, rate: float | None = None) -> Cell:
        """The first cell of a candidate."""
        method, objective = candidate
        place = ("base", objective, self.template_of(method), self.task, shots, self.seeds[0])
        return Cell(*place, method, (("learning_rate", rate), ("asked", None)))

    def place(self, candidate: Candidate, shots: int, rate: float | None) -> dict[str, Any]:
        """Where the cells of a candidate are, but for those asked about other tasks."""
        axes = {"task": self.task, "shots": shots, "learning_rate": rate, "asked": None}
        return {**axes, **candidate._asdict()}

    def grid(self, plan: Plan) -> Grid:
        """The cells of a plan; on the tasks to be kept, those of the model as it is."""
        there = in_plan(plan)
        rates = [*dict.fromkeys(r for at in plan.values() for own in at.values() for r in own)]
        methods = [*dict.fromkeys(c.method for c in there)]
        tuned = [method for method in methods if method in FINE_TUNE]
        asked = [None, *(self.keep if tuned else ())]
        constraints: list[Mapping[str, Where]] = [
            {"when": {"method": m}, "only": {"template": self.template_of(m)}} for m in methods
        ]
        plain = {"seed": self.seeds[0], "asked": None}
        constraints += [
            {"when": {"method": "frozen"}, "only": {**plain, "shots": 0}},
            {"when": {"task": self.keep}, "only": {"method": "frozen"}},
            {"when": {"asked": asked[1:]}, "only": {"method": tuned}},
        ]
        for shots, at in plan.items():
            for objective in dict.fromkeys(c.objective for c in there):
                here = [c for c in at if c.objective == objective]
                place = {"shots": shots, "objective": objective}
                constraints.append({"when": place, "only": {"method": [c.method for c in here]}})
                constraints += [
                    {"when": {**place, "method": c.method}, "only": {"learning_rate": at[c]}}
                    for c in here
                ]
        return Grid(
            name="advice",
            model=["base"],
            objective=[*dict.fromkeys(c.objective for c in there)],
            template=[*dict.fromkeys(map(self.template_of, methods))],
            task=[self.task, *self.keep],
            metric=self.metric,
            shots=[*plan],
            seed=self.seeds,
            method=methods,
            extra={"learning_rate": rates, "asked": asked},
            constraints=constraints,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """The results of a plan."""

    question: Question
    plan: Plan
    results: Results

    def shots(self, candidate: Candidate) -> list[int]:
        """The numbers of shots at which a candidate was measured."""
        return [shots for shots, at in self.plan.items() if candidate in at]

    def rate(self, candidate: Candidate, shots: int) -> float | None:
        """The rate with the best mean on the validation heads, of those that were tried."""
        tried = self.plan[shots][candidate]
        if len(tried) == 1:
            return tried[0]
        loss = candidate.method in ADAPTER_METHODS
        name = DEV_LOSS if loss else f"validation_{self.question.metric}"

        def worth(rate: float | None) -> float:
            mean = np.mean(self.values(self._at(candidate, shots, rate), name))
            return float(-mean if loss else mean)

        return max(tried, key=worth)

    def cells(self, candidate: Candidate, shots: int) -> list[Cell]:
        """The cells of a candidate at the chosen rate."""
        return self._at(candidate, shots, self.rate(candidate, shots))

    def _at(self, candidate: Candidate, shots: int, rate: float | None) -> list[Cell]:
        return self.results.where(self.question.place(candidate, shots, rate))

    def values(self, cells: Sequence[Cell], name: str) -> list[float]:
        """A metric of cells."""
        return [self.results.results[cell]["values"][name] for cell in cells]

    def scores(self, candidate: Candidate, shots: int) -> np.ndarray:
        """Scores [S, N] by seed and example; by seed alone where the metric has no others."""
        cells, metric = self.cells(candidate, shots), self.question.metric
        scores = self.results.scores(cells, metric)
        return np.array([self.values(cells, metric)]).T if scores is None else scores[0, 0]

    def promise(self, candidate: Candidate, around: Sequence[int]) -> float:
        """The score at the next of three rungs, by a line over log(shots) that does not fall."""
        before, now = (float(self.scores(candidate, n).mean()) for n in around[:2])
        ahead = math.log(around[2] / around[1]) / math.log(around[1] / around[0])
        return now + max(0.0, now - before) * ahead


def in_plan(plan: Plan) -> list[Candidate]:
    """The candidates of a plan."""
    return [*dict.fromkeys(c for at in plan.values() for c in at)]


def race(
    question: Question, fitting: Sequence[Candidate], store: CellStore, retry_failed: bool
) -> tuple[Measured, dict[Candidate, str]]:
    """Measures candidates; returns what came out, and why some could not be measured.

    Every one that trains is tuned on 3, 10, 30, ... heads. From the second rung on the half whose
    last two scores promise least for the next rung leaves; rates are tried on two rungs, and then
    the best stays.
    """
    failed: dict[Candidate, str] = {}
    untrained = [c for c in fitting if not question.rates[c.method]]
    shown = [c for c in untrained if c.method in IN_CONTEXT]
    running = [c for c in fitting if c not in untrained]
    rates = {c: [*question.rates[c.method]] for c in running}
    plain = [Candidate("frozen"), *(c for c in untrained if c not in shown)]
    plan: Plan = {0: {c: [None] for c in dict.fromkeys(plain)}}
    for i, shots in enumerate(rungs := question.rungs):
        plan[shots] = {c: [*rates[c]] for c in running}
        plan[shots] |= {c: [None] for c in shown if shots <= max(MOST_SHOWN, rungs[0])}
        if not plan[shots]:
            del plan[shots]
        measured, errors = _compute(question, plan, store, retry_failed)
        for cell, text in errors.items():
            candidate = Candidate(cell.method, cell.objective)
            failed[candidate] = f"{text} (rate {cell.values['learning_rate']}, {shots} shots)"
            _drop(plan, candidate, shots, cell.values["learning_rate"])
        if not plan:
            raise UserError(f"Nothing could be measured: {'; '.join(failed.values())}.")
        running = [c for c in running if c in plan.get(shots, {})]
        rates = {c: [*plan[shots][c]] for c in running}
        for candidate in running if i + 1 >= _RATES_RUNGS else ():
            rates[candidate] = [measured.rate(candidate, shots)]
        if 0 < i < len(rungs) - 1:
            promise = {c: measured.promise(c, rungs[i - 1 : i + 2]) for c in running}
            count = max(2, math.ceil(len(running) / 2))
            left = sorted(running, key=lambda c: -promise[c])[:count]
            running = [c for c in running if c in left]
            print(f"{shots} shots: {', '.join(map(str, running))} go on", flush=True)
        if not plan.get(shots):
            break
    return _compute(question, plan, store, False)[0], failed


def _compute(
    question: Question, plan: Plan, store: CellStore, retry_failed: bool
) -> tuple[Measured, dict[Cell, str]]:
    """The results of a plan, computed where they are missing, and what failed."""
    grid, runner = question.grid(plan), question.runner
    grid.check(runner.known())
    plain = grid.cells()
    runner.check(plain)
    cells = [cell.with_settings(runner.settings(cell)) for cell in plain]
    store.check(grid, cells)
    results = computed(grid, runner, cells, store, retry_failed)
    return Measured(question, plan, results), store.errors(cells)


def _drop(plan: Plan, candidate: Candidate, shots: int, rate: float | None) -> None:
    """Takes a rate that failed out of the rung, and a candidate without any."""
    at = plan[0 if candidate.method == "frozen" else shots]
    if rate in at.get(candidate, []):
        at[candidate].remove(rate)
    if not at.get(candidate):
        at.pop(candidate, None)
