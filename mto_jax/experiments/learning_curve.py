# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores by the number of training examples: bootstrap replicates, and a power law through them.

A score is c - a n^-b, which rises to c; error falls as a power of the data (Hestness et al. 2017,
arXiv 1712.00409). Every replicate is fitted for itself, so what is read off beyond the data has an
interval that grows with the distance.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

_EXPONENTS = np.geomspace(0.1, 1.0, 50)  # b; those of Hestness et al. are 0.07 to 0.5
_LEAST_POINTS = 3  # of a fit


def replicates(scores_SxN: np.ndarray, samples: int = 1000) -> np.ndarray:
    """Returns [1 + samples]: the mean, then that of drawn seeds and examples.

    Calls with as many seeds and examples share their draws, so replicates are paired.
    """
    S, N = scores_SxN.shape
    seeds, examples = np.random.default_rng(0), np.random.default_rng(1)
    seeds_BxS = seeds.multinomial(S, [1 / S] * S, samples) / S
    examples_BxN = examples.multinomial(N, [1 / N] * N, samples) / N
    drawn_B = np.einsum("bs,sn,bn->b", seeds_BxS, scores_SxN, examples_BxN, optimize=True)
    return np.concatenate([[scores_SxN.mean()], drawn_B])


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """The replicates of a strategy's score at growing numbers of shots.

    Attributes:
      shots: R numbers, ascending.
      values_RxB: replicates at each; the first of each row is the estimate.
      flat: more shots than the last change nothing.
    """

    shots: Sequence[int]
    values_RxB: np.ndarray
    flat: bool = False

    def at(self, shots: int) -> np.ndarray:
        """Returns the replicates [B] at a number of shots.

        Measured; between two measurements by a line over log(shots); beyond the last by the fitted
        power law, or with fewer than three points by the last.
        """
        if shots <= self.shots[-1]:
            at = np.interp(np.log(max(shots, 1)), np.log(self.shots), np.arange(len(self.shots)))
            low, high = int(np.floor(at)), int(np.ceil(at))
            return self.values_RxB[low] + (at - low) * (
                self.values_RxB[high] - self.values_RxB[low]
            )
        if self.flat or len(self.shots) < _LEAST_POINTS:
            return self.values_RxB[-1]
        c_B, a_B, b_B = self.fitted
        return c_B - a_B * float(shots) ** -b_B

    def extrapolated(self, shots: int) -> bool:
        """Whether `at` is beyond what was measured."""
        return shots > self.shots[-1] and not self.flat

    @functools.cached_property
    def fitted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(c, a, b) of each replicate, [B]: least squares with a >= 0 and c at most the ceiling.

        The ceiling is 1; a metric that has more has none.
        """
        y_RxB = self.values_RxB
        ceiling = 1.0 if y_RxB.max() <= 1 else np.inf
        fits = []
        for b in _EXPONENTS:
            x_Rx1 = np.asarray(self.shots, float)[:, None] ** -b
            deviation_Rx1 = x_Rx1 - x_Rx1.mean()
            a_B = np.maximum(-(deviation_Rx1 * y_RxB).sum(0) / (deviation_Rx1**2).sum(), 0.0)
            c_B = y_RxB.mean(0) + a_B * x_Rx1.mean()
            above = c_B > ceiling
            if above.any():
                least_B = (x_Rx1 * (ceiling - y_RxB)).sum(0) / (x_Rx1**2).sum()
                a_B, c_B = np.where(above, np.maximum(least_B, 0.0), a_B), np.minimum(c_B, ceiling)
            error_B = ((c_B - a_B * x_Rx1 - y_RxB) ** 2).sum(0)
            fits.append((error_B, c_B, a_B, np.full_like(c_B, b)))
        errors, *parameters = (np.stack(column) for column in zip(*fits, strict=True))
        best_1xB = errors.argmin(0)[None]
        c_B, a_B, b_B = (np.take_along_axis(p, best_1xB, 0)[0] for p in parameters)
        return c_B, a_B, b_B
