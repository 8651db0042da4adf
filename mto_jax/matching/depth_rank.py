# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""DepthRank, the Maskability Index and DepthRank normalised by the frequency of the tokens.

Pouramini and Afsharizadeh, "The Maskability Index: Predicting Task-Objective Alignment in
Pretrained Language Models", 2026.
"""

from collections.abc import Sequence

import numpy as np

from mto_jax.matching.teacher_forcing import ScoredSentence
from mto_jax.matching.verdict import Verdict, judge, ratio
from mto_jax.models.config import ModelConfig

T5_BASE_THRESHOLD = 0.30  # of the Maskability Index, published


def threshold(config: ModelConfig) -> float:
    """Returns what the Maskability Index of a model is compared with.

    The published 0.30 was found on T5-base and holds for models of its size. Elsewhere it is 0,
    where both templates rank the tails alike (the zero of the ratio's logarithm).
    """
    base = (config.d_model, config.num_encoder_layers, config.num_decoder_layers) == (768, 12, 12)
    return T5_BASE_THRESHOLD if base else 0.0


Heads = Sequence[Sequence[ScoredSentence]]  # by head, then by tail


def depth_rank(sentence: ScoredSentence) -> float:
    """Mean zero-based rank of the tail's tokens.

    Their example, "PersonX works as a waitress", xIntent, "to earn money", has the ranks 1, 53, 1:
    18.33.
    """
    return float(np.mean(sentence.scores.rank_N))


def normalised_depth_rank(sentence: ScoredSentence) -> float:
    """Mean over the tail's tokens of log2((1 + rank) / (1 + rank without the head)).

    -1: knowing the head halves the rank. A token that is likely whatever the head, such as the "to"
    that bends DepthRank, counts nothing.
    """
    with_head_N, without_N = sentence.scores.rank_N, sentence.headless.rank_N
    return float(np.mean(np.log2((1.0 + with_head_N) / (1.0 + without_N))))


def maskability(
    task: str, shots: int, plain: Heads, masked: Heads, threshold: float = T5_BASE_THRESHOLD
) -> Verdict:
    """MI = (DR of the plain template - DR of the masked one) / DR of the plain one.

    DR of a template is the mean DepthRank of its sentences; the interval resamples heads. Decided
    at the `threshold` of the model.
    """
    plain_N, masked_N = _sums(plain, depth_rank), _sums(masked, depth_rank)
    count = sum(map(len, plain))
    return judge(
        task,
        f"MI({shots})",
        ratio(plain_N - masked_N, plain_N),
        threshold=threshold,
        templates={"plain": plain_N.sum() / count, "masked": masked_N.sum() / count},
    )


def normalised(task: str, shots: int, plain: Heads, masked: Heads) -> Verdict:
    """Returns how much more the head lowers ranks under the masked template, in powers of two."""
    plain_N, masked_N = _sums(plain, normalised_depth_rank), _sums(masked, normalised_depth_rank)
    counts_N = np.array([len(tails) for tails in plain])
    return judge(
        task,
        f"nDR({shots})",
        ratio(plain_N - masked_N, counts_N),
        templates={
            "plain": plain_N.sum() / counts_N.sum(),
            "masked": masked_N.sum() / counts_N.sum(),
        },
    )


def _sums(heads: Heads, score) -> np.ndarray:
    return np.array([sum(map(score, tails)) for tails in heads])
