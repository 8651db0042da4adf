# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Verdict of a score on a task: a value, its interval, and the decision if that allows one."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mto_jax.metrics.statistics import Interval, Statistics, bootstrap

MASK_FILLING, MAP_PHRASAL = "Mask-Filling", "Map-Phrasal"
NO_WINNER = "no clear winner"
ADAPTATION = "adaptation"  # the score that compares objectives, not templates


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One score of one task.

    Attributes:
      task: its name.
      score: name of the score, with the number of training examples where it has one: "MI(5)".
      value: above the threshold it speaks for Mask-Filling, below for Map-Phrasal; None for an
        expert's word.
      low, high: bounds of the 95 % bootstrap interval over the examples, and over the seeds where
        there are several.
      threshold: what the value is compared with.
      decision: MASK_FILLING, MAP_PHRASAL, or NO_WINNER when the interval covers the threshold. The
        verdict on adaptation decides for an objective or "none".
      templates: the score's own figure for everything that it compares, in its own unit.
    """

    task: str
    score: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float
    decision: str
    templates: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def leaning(self) -> str:
        """The decision that the value alone would give, however unsure; a tie leans nowhere."""
        if self.value is None:
            return self.decision
        if self.value == self.threshold:
            return NO_WINNER
        return MASK_FILLING if self.value > self.threshold else MAP_PHRASAL


def judge(
    task: str,
    score: str,
    interval: Interval,
    *,
    threshold: float = 0.0,
    templates: Mapping[str, float] | None = None,
) -> Verdict:
    """The verdict of a value and its interval."""
    decision = NO_WINNER
    if interval.low is not None and interval.low > threshold:
        decision = MASK_FILLING
    elif interval.high is not None and interval.high < threshold:
        decision = MAP_PHRASAL
    return Verdict(
        task,
        score,
        interval.value,
        interval.low,
        interval.high,
        threshold,
        decision,
        dict(templates or {}),
    )


def ratio(numerator_N: np.ndarray, denominator_N: np.ndarray) -> Interval:
    """The sum of the numerators / sum of the denominators, bootstrapped over the examples.

    A mean over sentences whose unit of resampling is the head has the sum of a head's sentences
    above and their number below.
    """

    def finish(sums: np.ndarray, num_examples: int) -> dict[str, np.ndarray]:
        del num_examples
        return {"value": sums[..., 0] / np.maximum(sums[..., 1], 1e-9)}

    values_Nx2 = np.stack([numerator_N, denominator_N], axis=-1).astype(float)
    return bootstrap(Statistics(values_Nx2, finish))["value"]


def vote(task: str, margins_N: np.ndarray) -> Verdict:
    """Returns the classifier's verdict: the mean vote of the pairs, Filling +1 and Mapping -1."""
    votes_N = np.sign(margins_N)
    return judge(task, "classifier", ratio(votes_N, np.ones_like(votes_N)))
