# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The choice among strategies: the cheapest within one standard error of the best, under limits."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mto_jax.experiments.learning_curve import LearningCurve
from mto_jax.training.performance import PEAK_FLOPS


@dataclasses.dataclass(frozen=True)
class Device:
    """A device to adapt a model on.

    Attributes:
      title: its name.
      memory: bytes; None for a machine's own.
      flops: a second, in training; None where they are measured.
    """

    title: str
    memory: float | None = None
    flops: float | None = None


# The share of the peak rate (`performance.PEAK_FLOPS`) that a training is taken to reach: a guess.
# `mto train` prints the real one as MFU.
UTILISATION = 0.3
DEVICES: Mapping[str, Device] = {
    "cpu": Device("the CPU of this machine"),
    "h100": Device("an NVIDIA H100 of 80 GB", 80e9, UTILISATION * PEAK_FLOPS["NVIDIA H100"]),
    "v5e": Device("a chip of TPU v5e", 16e9, UTILISATION * PEAK_FLOPS["TPU v5e"]),
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a strategy has to stay below; None is no limit.

    Attributes:
      minutes: of one training.
      memory: bytes, of the training and of serving all tasks together.
      forgotten: share of the score on the tasks to be kept.
    """

    minutes: float | None = None
    memory: float | None = None
    forgotten: float = math.inf


@dataclasses.dataclass(frozen=True)
class Option:
    """A strategy with its costs and its curve.

    Attributes:
      name: of the strategy, with its objective of adaptation.
      curve: None until it is measured.
      minutes: of training, by shots; None where not known yet.
      memory: bytes of training, or of serving all tasks if that is more.
      stored: bytes of all tasks' own parameters.
      answer: FLOPs of an answer, by shots.
      forgotten: share of the score that the tasks to be kept lose.
    """

    name: str
    memory: float
    stored: float
    answer: Callable[[int], float]
    minutes: Callable[[int], float] | None = None
    curve: LearningCurve | None = None
    forgotten: float = 0.0

    def excess(self, shots: int, limits: Limits) -> str | None:
        """Returns which limit it is above, in words; None if none."""
        if limits.memory is not None and self.memory > limits.memory:
            return f"needs {self.memory / 1e9:.3g} GB of {limits.memory / 1e9:.3g}"
        if self.minutes and limits.minutes is not None and self.minutes(shots) > limits.minutes:
            return f"trains for {self.minutes(shots):.3g} minutes of {limits.minutes:.3g}"
        if self.forgotten > limits.forgotten:
            return f"loses {self.forgotten:.0%} on what is to be kept, of {limits.forgotten:.0%}"
        return None


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen at a number of shots.

    Attributes:
      chosen: the cheapest of `as_good`.
      best: the highest score.
      as_good: within one standard error of the best, the cheapest first.
    """

    chosen: Option
    best: Option
    as_good: Sequence[Option]


def choose(options: Sequence[Option], shots: int, limits: Limits, served: int = 1) -> Choice | None:
    """Returns the choice among measured options; None if none is within the limits.

    An option is as good as the best if its score is less by no more than the standard error of
    their difference, which is that of paired bootstrap replicates. Cheapest is the shortest
    training, or, where several tasks are served, the fewest bytes of them all; then the other; then
    the fewest FLOPs of an answer.

    Args:
      shots: of the training.
      served: tasks that are served together.
    """
    allowed = {o.name: o for o in options if o.curve and o.excess(shots, limits) is None}
    scores = {name: o.curve.at(shots) for name, o in allowed.items() if o.curve}
    if not scores:
        return None
    best = max(scores, key=lambda name: scores[name][0])

    def close(name: str) -> bool:
        difference_B = scores[best] - scores[name]
        return difference_B[0] <= np.std(difference_B[1:])

    def price(option: Option) -> tuple[float, ...]:
        minutes = option.minutes(shots) if option.minutes else 0.0
        first = (option.stored, minutes) if served > 1 else (minutes, option.stored)
        return (*first, option.answer(shots))

    as_good = sorted((allowed[name] for name in scores if close(name)), key=price)
    return Choice(as_good[0], allowed[best], as_good)


def flips(
    options: Sequence[Option], first: int, last: int, limits: Limits, served: int = 1
) -> list[tuple[int, str | None]]:
    """Returns [(shots, name of the choice from there on)] between two numbers of shots.

    An option that was left behind at fewer shots than were measured in all is out from there on.
    """
    reach = max(o.curve.shots[-1] for o in options if o.curve)
    changes: list[tuple[int, str | None]] = []
    for shots in sorted({round(n) for n in np.geomspace(first, last, 60)}):
        choice = choose(running(options, min(shots, reach)), shots, limits, served)
        name = choice.chosen.name if choice else None
        if not changes or changes[-1][1] != name:
            changes.append((shots, name))
    return changes


def running(options: Sequence[Option], shots: int) -> list[Option]:
    """Returns those that were measured up to so many shots, or do not depend on more."""
    return [o for o in options if o.curve and (o.curve.flat or o.curve.shots[-1] >= shots)]
