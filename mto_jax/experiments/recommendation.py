# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The choice among measured strategies: their costs, the limits, and what advice.json says."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mto_jax.errors import UserError
from mto_jax.experiments import choice
from mto_jax.experiments.choice import Device, Limits, Option
from mto_jax.experiments.contrasts import MeanChange
from mto_jax.experiments.costs import Cost
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.halving import MOST_SHOWN, Candidate, Measured, Question, in_plan
from mto_jax.experiments.learning_curve import LearningCurve, replicates
from mto_jax.experiments.run import SECONDS
from mto_jax.experiments.strategies import FINE_TUNE


@dataclasses.dataclass(frozen=True, eq=False)
class Adviser:
    """What a strategy may cost, and where.

    Attributes:
      question: what is compared.
      device: on which the model is adapted.
      limits: of a training and of serving.
      served: tasks that are served together.
    """

    question: Question
    device: Device
    limits: Limits
    served: int

    def fitting(self) -> tuple[list[Candidate], dict[Candidate, str]]:
        """The candidates within the limits as far as they are known, and why others are not.

        Raises:
          UserError: there are none.
        """
        options = {c: self._option(c, self.device.flops) for c in self.question.candidates}
        unfit = {c: reason for c, o in options.items() if (reason := self._excess(o))}
        if len(unfit) == len(options):
            raise self._nothing_fits([*options.values()])
        return [c for c in options if c not in unfit], unfit

    def recommend(
        self, measured: Measured, out: Mapping[Candidate, str]
    ) -> tuple[dict[str, Any], Cell]:
        """The content of advice.json but for the command, and the cell that is advised.

        Args:
          out: candidates that were not measured, and why.

        Raises:
          UserError: nothing that was measured is within the limits.
        """
        question, plan = self.question, measured.plan
        own = {str(c): c for c in in_plan(plan) if c in question.candidates}
        options = [self._finished(measured, c) for c in own.values()]
        last, target = max(plan), question.target
        left = choice.running(options, last)
        chosen = choice.choose(left, target, self.limits, self.served)
        if chosen is None:
            raise self._nothing_fits(left)
        others = [o for o in left if o is not chosen.chosen]
        second = choice.choose(others, target, self.limits, self.served)
        first = min((shots for shots in plan if shots), default=target)
        flips = choice.flips(options, first, max(target, last), self.limits, self.served)
        summary = {
            "task": question.task,
            "model": str(question.runner.bases.paths["base"]),
            "template": question.template,
            "metric": question.metric,
            "shots": target,
            "heads": question.heads,
            "device": self.device.title,
            "limits": {k: None if v == math.inf else v for k, v in vars(self.limits).items()},
            "tasks_served": self.served,
            "keep": question.keep,
            "recommended": chosen.chosen.name,
            "best": chosen.best.name,
            "as_good": [o.name for o in chosen.as_good],
            "runner_up": second.chosen.name if second else None,
            "flips": [{"from": shots, "choice": name} for shots, name in flips],
            "strategies": {o.name: self._row(measured, own[o.name], o) for o in options},
            "left out": {str(c): reason for c, reason in out.items()},
        }
        if constant := self._constant(measured):
            summary["best constant answer"] = constant
        candidate = own[chosen.chosen.name]
        shots = 0 if candidate.method == "frozen" else min(target, question.heads)
        rate = measured.rate(candidate, measured.shots(candidate)[-1])
        return summary, question.cell(candidate, shots, rate)

    def _option(self, candidate: Candidate, flops: float | None, **measured: Any) -> Option:
        """The costs of a candidate on a device of so many FLOP/s, and what was measured."""
        question, runner = self.question, self.question.runner

        @functools.cache
        def cost_at(shots: int) -> Cost:
            return runner.cost(question.cell(candidate, shots))

        def cost(shots: int) -> Cost:
            return cost_at(min(shots, MOST_SHOWN))

        def minutes(shots: int) -> float:
            rows = runner.recipes.rows(question.cell(candidate, shots), question.examples(shots))
            return rows * cost(shots).example / flops / 60 if rows and flops else 0.0

        here = cost(question.target)
        trained = question.rates[candidate.method]
        return Option(
            str(candidate),
            memory=max(here.training, here.serving + (self.served - 1) * here.stored),
            stored=self.served * here.stored,
            answer=lambda shots: cost(shots).answer,
            minutes=minutes if flops or not trained else None,
            **measured,
        )

    def _excess(self, option: Option) -> str | None:
        return option.excess(self.question.target, self.limits)

    def _nothing_fits(self, options: Sequence[Option]) -> UserError:
        memory = min(options, key=lambda o: o.memory)
        text = f"No strategy fits. The least memory: {memory.name}, {memory.memory / 1e9:.3g} GB"
        timed = [(o.minutes(self.question.target), o.name) for o in options if o.minutes]
        if timed:
            least, name = min(timed)
            text += f"; the least time: {name}, {least:.3g} minutes"
        if self.question.keep:
            kept = min(options, key=lambda o: o.forgotten)
            text += f"; the least forgotten: {kept.name}, {kept.forgotten:.0%}"
        reasons = "; ".join(f"{o.name} {self._excess(o)}" for o in options)
        return UserError(
            f"{text}. Raise MINUTES, MEMORY_GB or advise.most_forgotten, or lower TASKS_SERVED. Of "
            f"all: {reasons}."
        )

    def _finished(self, measured: Measured, candidate: Candidate) -> Option:
        """A measured candidate."""
        question, runner = self.question, self.question.runner
        shots = measured.shots(candidate)
        values = np.stack([replicates(measured.scores(candidate, n)) for n in shots])
        flat = not question.rates[candidate.method]
        curve = LearningCurve([max(n, 1) for n in shots], values, flat)
        # What was asked about other tasks too was trained once, for the first of its cells.
        last = {"task": question.task, "shots": shots[-1], **candidate._asdict()}
        cells = measured.results.where(last)
        rows = sum(
            runner.recipes.rows(cell, question.examples(cell.shots or 0))
            for cell in cells
            if not cell.values["asked"]
        )
        seconds = sum(measured.values(cells, SECONDS))
        flops = self.device.flops or rows * runner.cost(cells[0]).example / seconds
        forgotten = self._forgotten(measured, candidate, shots[-1])
        return self._option(candidate, flops, curve=curve, forgotten=forgotten)

    def _forgotten(self, measured: Measured, candidate: Candidate, shots: int) -> float:
        """The share of the score on the tasks to be kept that adaptation and tuning lose.

        An adapter leaves the model that it is trained on as it is.
        """
        question, results = self.question, measured.results
        tuned, objective = candidate.method in FINE_TUNE, candidate.objective
        if not question.keep or not (tuned or objective != "none"):
            return 0.0
        own = question.place(candidate, shots, measured.rate(candidate, shots))
        frozen = {"method": "frozen", "objective": "none"}
        pairs = [
            (
                [
                    {**own, "asked": name}
                    if tuned
                    else {**frozen, "task": name, "objective": objective}
                ],
                [{**frozen, "task": name}],
            )
            for name in question.keep
        ]
        change = MeanChange(pairs, relative=True).compute(results, results.cells, question.metric)
        return max(0.0, -change.difference) if change else 0.0

    def _row(self, measured: Measured, candidate: Candidate, option: Option) -> dict[str, Any]:
        """What advice.json says of a candidate."""
        shots, target = measured.shots(candidate), self.question.target
        cells = measured.cells(candidate, shots[-1])
        cost = self.question.runner.cost(cells[0])
        assert option.curve
        assert option.minutes
        return {
            "learning_rate": measured.rate(candidate, shots[-1]),
            "measured": [
                {"shots": n, **_interval(values_B)}
                for n, values_B in zip(shots, option.curve.values_RxB, strict=True)
            ],
            "in the end": {
                **_interval(option.curve.at(target)),
                "extrapolated": option.curve.extrapolated(target),
            },
            "trained_parameters": cost.trained,
            "stored_bytes": cost.stored,
            "memory_bytes": option.memory,
            "minutes": option.minutes(target),
            "seconds_of_a_cell": float(np.mean(measured.values(cells, SECONDS))),
            "answer_flops": option.answer(target),
            "forgotten": option.forgotten,
            "excess": self._excess(option),
        }

    def _constant(self, measured: Measured) -> float | None:
        """The score of the best answer that is the same for all heads."""
        results, metric = measured.results, self.question.metric
        cells = results.where({"task": self.question.task})
        info = (results.results[cell]["info"] for cell in cells)
        values = [i.get("best constant answer", {}).get(metric) for i in info]
        return next((value for value in values if value is not None), None)


def _interval(values_B: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(values_B[1:], [0.025, 0.975])
    return {"value": float(values_B[0]), "low": float(low), "high": float(high)}
