# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The few-shot probe: train every pair of objective and template on a few examples, compare scores.

A *pair* is a model adapted under an objective (or not) and a template. Every pair answers the
held-out heads after tuning on a few others, once a seed. What is compared is the best pair of one
kind with the best of another, where the best is chosen on one half of the heads and measured on the
other, and the other way round, so that choosing among many gains nothing by chance.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse

from mto_jax.errors import unknown
from mto_jax.evaluation.evaluator import best_constant, evaluate_records
from mto_jax.evaluation.result import doubts
from mto_jax.evaluation.task_metrics import all_metrics
from mto_jax.matching.verdict import (
    ADAPTATION,
    MAP_PHRASAL,
    MASK_FILLING,
    NO_WINNER,
    Verdict,
    judge,
)
from mto_jax.metrics import statistics
from mto_jax.metrics.statistics import Interval, Statistics
from mto_jax.metrics.text import Metric
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text.mapping import Choice
from mto_jax.text2text.task import Task, tokenise
from mto_jax.text2text.templates import TEMPLATES, Template, reference_texts

NO_ADAPTATION = "none"  # the objective of the model as it is
RANKED = "ranked_accuracy"

Tune = Callable[..., EncoderDecoder]  # a `finetune.Tuning`
# Of a pair and a seed: "predictions" of the held-out heads, and their "ranked" scores or None.
Answers = Mapping[str, Any]
Items = Sequence[Any]  # by head: (references, prediction), or a score


@dataclasses.dataclass(frozen=True)
class Probed:
    """The probe of a task.

    Attributes:
      metric: name of the value that is compared.
      values: mean over heads and seeds of each pair, by "OBJECTIVE TEMPLATE".
      distinct: how many of the predictions are different from each other, a mean over seeds.
      heads: number of the predictions.
      constant: the value of the best answer that is the same for every head.
      verdicts: "probe" (masked templates or plain ones), "adaptation" (adapted or not) where there
        are objectives to compare, and "ranked probe" where answers are chosen among given ones.
    """

    metric: str
    values: Mapping[str, float]
    distinct: Mapping[str, float]
    heads: int
    constant: float
    verdicts: list[Verdict]

    @property
    def best(self) -> Choice:
        """The pair with the greatest value."""
        return max(map(choice, self.values), key=lambda pair: self.values[key(pair)])

    def warnings(self, task: str) -> list[str]:
        """Returns in words what makes the scores doubtful."""
        best = self.best
        title = f"{task}, the best pair ({', '.join(best)})"
        values, constant = {self.metric: self.values[key(best)]}, {self.metric: self.constant}
        texts = doubts(title, values, constant, [])
        if not any(self.values.values()):
            texts = [
                f"{task}: every template has {self.metric} 0 under every objective, so the probe "
                "tells none from another. Train on more heads (SHOTS), or take a model that knows "
                "more."
            ]
        if self.distinct[key(best)] == 1 < self.heads:
            texts.append(f"{title}: all {self.heads} predictions are the same.")
        return texts


def key(pair: Choice) -> str:
    """The pair as a key of JSON."""
    return " ".join(pair)


def choice(name: str) -> Choice:
    """The pair of a key."""
    return Choice(*name.split(" "))


def ask(
    model: EncoderDecoder,
    task: Task,
    template: Template,
    vocabulary: Any,
    lengths: Mapping[str, int],
    tune: Tune,
    *,
    shots: int,
    tails: int = 3,
    seed: int = 0,
) -> Answers:
    """Returns the answers to the held-out heads after training on a few others.

    Args:
      tune: trains a copy of the model, `tune(model, examples, seed=...)`.
      shots: heads to train on; 0 asks the model as it is.
      tails: of each head.
      seed: another one takes other heads.
    """
    if shots:
        chosen = task.shots(shots, tails, skip=seed * shots)
        model = tune(model, tokenise(template, chosen, task, vocabulary, lengths), seed=seed)
    result = evaluate_records(model, task, template, vocabulary, lengths, rank=True)
    return {"predictions": result.predictions, "ranked": result.scores.get(RANKED)}


def probed(
    task: Task, answers: Mapping[Choice, Sequence[Answers]], metric: str | None = None
) -> Probed:
    """Returns what the answers of all pairs say, each of as many seeds.

    Args:
      metric: name of the value that is compared; None is the one that decides, of the task's
        metrics.

    Raises:
      UserError: the task has no such metric, or one that cannot be resampled.
    """
    function, name = _measure(task, TEMPLATES[next(iter(answers)).template], metric)
    golds = {pair: references(task, TEMPLATES[pair.template]) for pair in answers}
    items = {
        pair: [[*zip(golds[pair], a["predictions"], strict=True)] for a in seeds]
        for pair, seeds in answers.items()
    }

    def measure(of_heads: Items) -> Statistics:
        return function.statistics(*map(list, zip(*of_heads, strict=True)))

    values = _means(items, measure, name)
    compared = len({TEMPLATES[pair.template].masked for pair in items}) > 1
    verdicts = []
    if compared:
        verdicts.append(_on_templates(task.name, "probe", items, measure, name, values))
    adapted = [pair for pair in items if pair.objective != NO_ADAPTATION]
    if 0 < len(adapted) < len(items):
        rest = [pair for pair in items if pair not in adapted]
        verdict = judge(
            task.name, ADAPTATION, contrast(items, measure, name, adapted, rest), templates=values
        )
        best = max(adapted, key=lambda pair: values[key(pair)]).objective
        decision = {MASK_FILLING: best, MAP_PHRASAL: NO_ADAPTATION}.get(verdict.decision)
        verdicts.append(dataclasses.replace(verdict, decision=decision or NO_WINNER))
    if compared and all(a["ranked"] for seeds in answers.values() for a in seeds):
        hits = {pair: [a["ranked"] for a in seeds] for pair, seeds in answers.items()}

        def share(of_heads: Items) -> Statistics:
            return statistics.mean({RANKED: np.array(of_heads)})

        means = _means(hits, share, RANKED)
        verdicts.append(_on_templates(task.name, "ranked probe", hits, share, RANKED, means))
    return Probed(
        name,
        values,
        {
            key(pair): float(np.mean([len({*a["predictions"]}) for a in seeds]))
            for pair, seeds in answers.items()
        },
        len(task.held_out),
        best_constant([function], next(iter(golds.values())), name).values[name].value,
        verdicts,
    )


def references(task: Task, template: Template) -> list[list[str]]:
    """The gold answers to every held-out record."""
    return [reference_texts(template, record, task.wording) for record in task.held_out]


def contrast(
    items: Mapping[Choice, Sequence[Items]],
    measure: Callable[[Items], Statistics],
    name: str,
    left: Collection[Choice],
    right: Collection[Choice],
) -> Interval:
    """Returns the interval of the best pair of `left` less the best of `right`.

    Every other head is answered by the two pairs that are best on the rest, and the rest by those
    that are best on it. The interval resamples seeds and heads, which all pairs share.

    Args:
      items: of each pair, by seed and head, what a score is computed from.
      measure: the statistics of the items of some heads.
      name: of the value in them.
    """
    sides = []
    for pairs in (left, right):
        best = [
            max(pairs, key=lambda pair, half=half: _mean(items[pair], measure, name, 1 - half))
            for half in (0, 1)
        ]
        by_half = zip(*(items[pair] for pair in best), strict=True)  # by seed
        answered = [[both[i % 2] for i, both in enumerate(zip(*b, strict=True))] for b in by_half]
        sides.append([*map(measure, answered)])
    num_heads = sides[0][0].values_NxK.shape[0]
    K = max(one.values_NxK.shape[1] for seeds in sides for one in seeds)
    values_SxNx2K = np.zeros((len(sides[0]), num_heads, 2 * K))
    for side, seeds in enumerate(sides):
        for values_Nx2K, one in zip(values_SxNx2K, seeds, strict=True):
            dense = one.values_NxK.toarray() if issparse(one.values_NxK) else one.values_NxK
            values_Nx2K[:, side * K :][:, : dense.shape[1]] = dense

    def finish(sums: np.ndarray, count: np.ndarray) -> np.ndarray:
        values = np.zeros((2, *count.shape))
        for side, seeds in enumerate(sides):
            for s, one in enumerate(seeds):
                part = sums[..., s, side * K :][..., : one.values_NxK.shape[1]]
                values[side, ..., s] = one.finish(part, count[..., s])[name]
        return values[0] - values[1]

    return statistics.hierarchical_interval(values_SxNx2K, ("seed", "head"), finish=finish)


def _on_templates(task, score, items, measure, name: str, values) -> Verdict:
    """The verdict on masked templates against plain ones."""
    masked = [pair for pair in items if TEMPLATES[pair.template].masked]
    plain = [pair for pair in items if pair not in masked]
    return judge(task, score, contrast(items, measure, name, masked, plain), templates=values)


def _means(items, measure, name: str) -> dict[str, float]:
    return {key(pair): _mean(seeds, measure, name) for pair, seeds in items.items()}


def _mean(seeds: Sequence[Items], measure, name: str, half: int | None = None) -> float:
    """The mean over seeds of the value on all heads, or on every other one."""
    parts = [heads if half is None else heads[half::2] or heads for heads in seeds]
    return float(np.mean([measure(part).value()[name] for part in parts]))


def _measure(task: Task, template: Template, metric: str | None) -> tuple[Metric, str]:
    """The metric that gives the value that decides, and the value's name."""
    golds, wanted, seen = references(task, template), metric or task.metrics.decides, []
    for function in all_metrics(task):
        if hasattr(function, "statistics"):
            names = [*function.statistics(golds, [texts[0] for texts in golds]).value()]
            if (name := wanted or names[0]) in names:
                return function, name
            seen += names
    raise unknown(f"metric with intervals of the task {task.name!r} called", wanted, seen)


def check_metric(task: Task, template: Template, metric: str | None) -> None:
    """Raises a `UserError` where the probe of a task could not compare this metric."""
    _measure(task, template, metric)
