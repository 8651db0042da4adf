# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Agreement of each cheap score with the few-shot probe."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mto_jax.matching.verdict import ADAPTATION, NO_WINNER, Verdict


@dataclasses.dataclass(frozen=True)
class Agreement:
    """One score against the probe, over tasks.

    Attributes:
      score: its name.
      tasks: tasks that both have judged.
      clear: tasks on which both have a clear winner, and `same`: those on which it is the same.
      same_leaning: tasks on which the values alone, whatever their intervals, point the same way.
      correlation: Spearman's, of the score's values and the probe's; None for fewer than three
        tasks or a score without values.
    """

    score: str
    tasks: int
    clear: int
    same: int
    same_leaning: int
    correlation: float | None


def agreements(verdicts: Sequence[Verdict], reference: str = "probe") -> list[Agreement]:
    """The agreement of every score that shares a task with the probe, in order of occurrence."""
    probes = {v.task: v for v in verdicts if v.score == reference}
    rows = []
    others = (v.score for v in verdicts if v.score not in (reference, ADAPTATION))
    for score in dict.fromkeys(others):
        both = [(v, probes[v.task]) for v in verdicts if v.score == score and v.task in probes]
        if not both:
            continue
        clear = [(v, p) for v, p in both if NO_WINNER not in (v.decision, p.decision)]
        valued = [(v.value, p.value) for v, p in both if v.value is not None]
        rows.append(
            Agreement(
                score,
                len(both),
                len(clear),
                sum(v.decision == p.decision for v, p in clear),
                sum(v.leaning == p.leaning != NO_WINNER for v, p in both),
                spearman(*zip(*valued, strict=True)) if len(valued) >= 3 else None,
            )
        )
    return rows


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation with mean ranks for ties; None if a side is constant.

    >>> spearman([1, 2, 3, 4], [10, 30, 20, 40])
    0.8
    """
    from scipy import stats  # takes a second

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    result: Any = stats.spearmanr(a, b)
    return round(float(result.statistic), 12)
