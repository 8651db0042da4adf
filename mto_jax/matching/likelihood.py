# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Likelihood of the gold answers under each template."""

import numpy as np

from mto_jax.matching.depth_rank import Heads
from mto_jax.matching.verdict import Verdict, judge, ratio


def likelihood(task: str, shots: int, plain: Heads, masked: Heads) -> Verdict:
    """Returns the mean log-likelihood under the masked template less that under the plain one.

    EOS and sentinels do not count, so both templates are judged on the same tokens.
    """
    plain_N, masked_N = (
        np.array([sum(np.mean(tail.scores.log_prob_N) for tail in tails) for tails in heads])
        for heads in (plain, masked)
    )
    counts_N = np.array([len(tails) for tails in plain])
    return judge(
        task,
        f"likelihood({shots})",
        ratio(masked_N - plain_N, counts_N),
        templates={
            "plain": plain_N.sum() / counts_N.sum(),
            "masked": masked_N.sum() / counts_N.sum(),
        },
    )
