# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The few-shot probe: train every candidate on a few examples and see. What the cheap scores are judged by."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mto_jax.evaluation.predictions import ask
from mto_jax.matching.verdict import Verdict, judge
from mto_jax.metrics import statistics
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
) -> Verdict:
    """Dev score of the best masked candidate less that of the best plain one, paired by example.

    Args:
      tune: trains a copy of the model, `tune(model, examples, seed=...)`.
      shots: heads to train on.
      tails: of each head.
      seeds: how often all is repeated, with other heads; an example's score is the mean.
    """
    scores = {
        template: np.mean(
            [
                _score(model, task, template, vocabulary, lengths, tune, shots, tails, seed)
                for seed in range(seeds)
            ],
            axis=0,
        )
        for template in candidates(task)
    }
    masked_N, plain_N = (
        max((s for template, s in scores.items() if template.masked == masked), key=np.mean)
        for masked in (True, False)
    )
    return judge(
        task.name,
        "probe",
        statistics.mean({"value": masked_N - plain_N}),
        templates={template.name: float(s.mean()) for template, s in scores.items()},
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
) -> np.ndarray:
    """Score [N] of every held-out record."""
    chosen = task.shots(shots, tails, skip=seed * shots)
    trained = tune(model, tokenise(template, chosen, task, vocabulary, lengths), seed=seed)
    return ask(trained, task, template, vocabulary, lengths).scores
