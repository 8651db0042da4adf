# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The few-shot probe: train every candidate on a few examples and compare their held-out scores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mto_jax.errors import unknown
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.matching.verdict import Verdict, judge
from mto_jax.metrics.statistics import Statistics
from mto_jax.models.t5 import T5
from mto_jax.text2text.task import Task, candidates, tokenise
from mto_jax.text2text.templates import Template

Tune = Callable[..., T5]  # a `training.fit.Tuning`


def probe(
    model: T5,
    task: Task,
    vocabulary: Any,
    lengths: Mapping[str, int],
    tune: Tune,
    *,
    shots: int = 30,
    tails: int = 3,
    seeds: int = 1,
    metric: str | None = None,
) -> Verdict:
    """Returns the dev score of the best masked candidate less the best plain one's, paired.

    Args:
      tune: trains a copy of the model, `tune(model, examples, seed=...)`.
      shots: heads to train on.
      tails: of each head.
      seeds: how often all is repeated, with other heads; a score is the mean.
      metric: name of the value that is compared; None is the one that decides, of the task's
        metrics.

    Raises:
      UserError: the task has no such metric, or one that cannot be resampled.
    """
    name = metric or task.metrics.decides
    known = {
        template: [
            _score(model, task, template, vocabulary, lengths, tune, shots, tails, seed, name)
            for seed in range(seeds)
        ]
        for template in candidates(task)
    }
    values = {template: mean_of(scores).value()["value"] for template, scores in known.items()}
    masked, plain = (
        max((t for t in values if t.masked == masked), key=values.__getitem__)
        for masked in (True, False)
    )
    return judge(
        task.name,
        "probe",
        mean_of(known[masked], known[plain]),
        templates={template.name: value for template, value in values.items()},
    )


def _score(
    model: T5,
    task: Task,
    template: Template,
    vocabulary: Any,
    lengths: Mapping[str, int],
    tune: Tune,
    shots: int,
    tails: int,
    seed: int,
    name: str,
) -> tuple[str, Statistics]:
    """Returns the name and the statistics of the value that decides, over the held-out records."""
    chosen = task.shots(shots, tails, skip=seed * shots)
    trained = tune(model, tokenise(template, chosen, task, vocabulary, lengths), seed=seed)
    known = evaluate_records(trained, task, template, vocabulary, lengths).resampled
    name = name or next(iter(known))
    if name not in known:
        raise unknown(f"metric with intervals of the task {task.name!r} called", name, known)
    return name, known[name]


Scores = Sequence[tuple[str, Statistics]]


def mean_of(scores: Scores, less: Scores = ()) -> Statistics:
    """Returns the metric "value": the mean of values on the same examples, less others' mean.

    Args:
      scores: (name, statistics that give it).
      less: the same; empty for nothing to subtract.
    """
    sides = [*scores, *less]
    parts = [known.values_NxK for _, known in sides]
    stack = scipy.sparse.hstack if any(map(scipy.sparse.issparse, parts)) else np.hstack
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]

    def finish(sums: np.ndarray, num_examples: int) -> dict[str, np.ndarray]:
        values = [
            known.finish(part, num_examples)[name]
            for (name, known), part in zip(sides, np.split(sums, ends, axis=-1), strict=True)
        ]
        mean = np.mean(values[: len(scores)], axis=0)
        return {"value": mean - np.mean(values[len(scores) :], axis=0) if less else mean}

    return Statistics(stack(parts), finish)
