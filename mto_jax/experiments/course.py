# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is asked along a course of pre-training: the grid, its tables, and what they say in the
terms of Sun and Dredze, arXiv 2408.06663."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax.experiments.contrasts import Contrast, MeanChange
from mto_jax.experiments.grid import Grid, Where
from mto_jax.experiments.results import Results
from mto_jax.experiments.tables import Table
from mto_jax.metrics import statistics

LEARNED, LATENT, NEITHER = "learned", "latent", "neither"


@dataclasses.dataclass(frozen=True)
class Course:
    """The subject of a trajectory; its grid, tables and summary.

    Attributes:
      models: names of the checkpoints, in order.
      trained: tasks that are tuned on.
      tasks: those and the others that are asked.
      templates, shots: of the tuning.
      shares: of replay; the first is None, without.
      measures: what else every model is asked: "recall:TASK", "loss:NAME" (`Cell.measure`).
    """

    models: list[str]
    trained: list[str]
    tasks: list[str]
    templates: list[str]
    shots: list[int | None]
    shares: list[float | None]
    measures: list[str] = dataclasses.field(default_factory=list)

    @property
    def most(self) -> int | None:
        """The most shots."""
        return None if None in self.shots else max(s for s in self.shots if s is not None)

    def grid(self, seeds: Sequence[int], metric: str) -> Grid:
        """Frozen models on every task; tuned ones on their own, at the most shots on all."""
        plain: Where = {"asked": None, "replay": None}
        others = [None, *dict.fromkeys(asked for _, asked in self.pairs), *self.measures]
        frozen: Where = {"shots": 0, "seed": seeds[0], "replay": None}
        constant: Where = {
            **frozen,
            **plain,
            "model": self.models[-1],
            "template": self.templates[0],
        }
        replayed: Where = {"model": self.models[-1], "shots": self.most}
        constraints: list[Mapping[str, Where]] = [
            {"when": {"method": "frozen"}, "only": frozen},
            {"when": {"method": "constant"}, "only": constant},
            *(
                {
                    "when": {"method": "frozen", "task": task},
                    "only": {"asked": [None, *(m for m in self.measures if self.home(m) == task)]},
                }
                for task in self.tasks
            ),
            {"when": {"method": "fine_tune"}, "only": {"shots": self.shots, "task": self.trained}},
            {"when": {"asked": others[1:]}, "only": {"shots": [0, self.most]}},
            *({"when": {"replay": share}, "only": replayed} for share in self.shares[1:]),
            *(
                {"when": {"task": task}, "only": {"asked": [o for o in others if o != task]}}
                for task in self.trained
            ),
        ]
        return Grid(
            name="trajectory",
            model=self.models,
            template=self.templates,
            task=self.tasks,
            metric=metric,
            shots=[0, *self.shots],
            seed=[*seeds],
            method=["frozen", "constant", "fine_tune"],
            extra={"asked": others, "replay": self.shares},
            constraints=constraints,
        )

    def base(self, task: str, **place: Any) -> Where:
        """The model as it is, on a task."""
        return {"method": "frozen", "task": task, "asked": None, **place}

    def home(self, measure: str) -> str:
        """The task under which the model as it is has a measure."""
        kind, _, name = measure.partition(":")
        return name if kind == "recall" else self.trained[0]

    def tuned(self, task: str, asked: str | None = None, **place: Any) -> Where:
        """The model tuned on a task, at the most shots, without replay unless `place` says so."""
        defaults = {"shots": self.most, "replay": None}
        return {"method": "fine_tune", "task": task, "asked": asked, **(defaults | place)}

    @property
    def replays(self) -> bool:
        """Whether there is something to show of replay."""
        return len(self.shares) > 1 and bool(self.pairs)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(tuned on, asked about), two tasks."""
        return [(t, a) for t, a in itertools.product(self.trained, self.tasks) if t != a]

    @property
    def own(self) -> list[tuple[str, None]]:
        """(tuned on, asked about itself)."""
        return [(task, None) for task in self.trained]

    def tables(self) -> list[Table]:
        """Scores; gains of tuning; what tuning does to other tasks; what replay changes."""
        rows: dict[str, list[Where]] = {}
        gains, matrix, replayed = {}, {}, {}
        for task, template in itertools.product(self.tasks, self.templates):
            here = {"template": template}
            rows[f"{task}, {template}, frozen"] = [self.base(task, **here)]
            for shots in self.shots if task in self.trained else ():
                number = "all" if shots is None else shots
                tuned = self.tuned(task, shots=shots, **here)
                rows[f"{task}, {template}, {number} shots"] = [tuned]
                gains[f"{task}, {template}, {number} shots"] = Contrast(
                    [[tuned]], [[self.base(task, **here)]]
                )
        for task, asked in self.pairs:
            label = f"tuned on {task}, asked about {asked}"
            matrix[label] = Contrast([[self.tuned(task, asked)]], [[self.base(asked)]])
        for share in self.shares if len(self.shares) > 1 else ():
            name = f"replay {share or 0:.0%}"
            replayed[f"{name}: the task itself"] = self.change(self.models[-1], self.own, share)
            if self.pairs:
                replayed[f"{name}: other tasks"] = self.change(self.models[-1], self.pairs, share)
        answers = [None, *dict.fromkeys(asked for _, asked in self.pairs)]
        options: dict[str, Any] = {
            "columns": "model", "average": False, "where": {"asked": answers}
        }  # fmt: skip
        tables = [
            Table("scores", rows, title="Scores, frozen and tuned", **options),
            Table("gains", gains, title="What tuning gains over the frozen model", **options),
        ]
        if matrix:
            title = "What tuning on one task does to another: tuned less frozen"
            tables.append(Table("forgetting", matrix, title=title, **options))
        if replayed:
            title = "What tuning gains and loses at the last checkpoint, by the share of replay"
            tables.append(Table("replay", replayed, title=title, **options))
        for kind in dict.fromkeys(measure.partition(":")[0] for measure in self.measures):
            asked = [m for m in self.measures if m.startswith(f"{kind}:")]
            of_kind: dict[str, Any] = {
                f"{kind} of {m.partition(':')[2]}, tuned on {task}{at}": self.measured(
                    task, m, share
                )
                for m, task in itertools.product(asked, self.trained)
                for share in self.shares
                for at in [f", replay {share:.0%}" if share else ""]
            }
            where = {"asked": asked}
            title = f"What tuning does to {kind}: tuned less frozen"
            tables.append(Table(kind, of_kind, "model", where, title, metric=kind, average=False))
        return tables

    def measured(self, task: str, measure: str, share: float | None) -> Contrast:
        """Tuned on a task less frozen, in a measure."""
        tuned = self.tuned(task, measure, replay=share)
        return Contrast([[tuned]], [[self.base(self.home(measure), asked=measure)]])

    def change(
        self,
        model: str,
        pairs: Sequence[tuple[str, str | None]],
        share: float | None,
        relative: bool = False,
    ) -> MeanChange:
        """The mean over pairs of tasks of tuned less frozen, at a checkpoint."""
        return MeanChange(
            [
                (
                    [self.tuned(task, asked, replay=share, model=model)],
                    [self.base(asked or task, model=model)],
                )
                for task, asked in pairs
            ],
            relative,
        )

    def summary(self, results: Results, metric: str) -> dict[str, Any]:
        """The content of trajectory.json."""

        def contrast(plus: Where, minus: Where) -> statistics.Comparison | None:
            return Contrast([[plus]], [[minus]]).compute(results, results.cells, metric)

        def above(versus: statistics.Comparison | None) -> bool:
            return versus is not None and versus.significant and versus.difference > 0

        first, last = ({"model": self.models[i]} for i in (0, -1))
        judged = {}
        for task in self.trained:
            constant = {"method": "constant", "task": task}
            gain = contrast(self.tuned(task, **last), self.base(task, **last))
            shown = contrast(self.base(task, **last), constant)
            known = contrast(self.tuned(task, **last), constant)
            later = contrast(self.tuned(task, **last), self.tuned(task, **first))
            if above(gain) and above(known) and above(later):
                kind = LATENT
                why = "tuning adds to the last checkpoint, and gains by later checkpoints"
            elif above(shown) and not above(gain):
                kind = LEARNED
                why = (
                    "the last checkpoint is above the best constant answer, and tuning adds nothing"
                )
            else:
                kind = NEITHER
                why = "neither pattern is clear"
            numbers = {
                "last tuned - last frozen": gain,
                "last frozen - best constant answer": shown,
                "last tuned - best constant answer": known,
                "last tuned - first tuned": later,
            }
            judged[task] = {
                "class": kind,
                "why": why,
                "turning point": {
                    "frozen": self._turning(results, metric, lambda m, t=task: self.base(t, **m)),
                    "tuned": self._turning(results, metric, lambda m, t=task: self.tuned(t, **m)),
                },
                "comparisons": {name: _numbers(value) for name, value in numbers.items()},
            }
        forgetting: dict[str, dict[str, Any]] = {}
        for name in self.models if self.pairs else ():
            for share in self.shares if name == self.models[-1] else [None]:
                change = self.change(name, self.pairs, share, relative=True)
                if versus := change.compute(results, results.cells, metric):
                    label = f"replay {share or 0:.0%}"
                    forgetting.setdefault(name, {})[label] = _numbers(versus)
        measures = {
            f"{measure}, tuned on {task}, replay {share or 0:.0%}": _numbers(versus)
            for measure, task, share in itertools.product(self.measures, self.trained, self.shares)
            if (
                versus := self.measured(task, measure, share).compute(
                    results, results.where(last), measure.partition(":")[0]
                )
            )
        }
        text = [
            f"{name}, {share}: on tasks that were not tuned, scores change by "
            f"{value['difference']:+.1%} [{value['low']:+.1%}, {value['high']:+.1%}]"
            for name, by_share in forgetting.items()
            for share, value in by_share.items()
        ]
        return {
            "metric": metric,
            "checkpoints": self.models,
            "tasks": judged,
            "forgetting": {"by checkpoint": forgetting, "text": text},
            "measures": measures,
        }

    def _turning(self, results: Results, metric: str, place) -> str:
        """The first checkpoint that the last one is not clearly better than."""
        final = place({"model": self.models[-1]})
        for name in self.models[:-1]:
            contrast = Contrast([[final]], [[place({"model": name})]])
            versus = contrast.compute(results, results.cells, metric)
            if versus is not None and not (versus.significant and versus.difference > 0):
                return name
        return self.models[-1]


def _numbers(versus: statistics.Comparison | None) -> dict[str, float] | None:
    if versus is None:
        return None
    return {"difference": versus.difference, "low": versus.low, "high": versus.high, "p": versus.p}
