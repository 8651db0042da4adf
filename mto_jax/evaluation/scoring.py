# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scoring of given targets: log-likelihoods, token ranks, DepthRank, ranking of choices.

All come from one teacher-forced pass. Logits are held for a slice of the tokens at a time, never for all.

Letters: Q sources, B targets (several may belong to one source), S source, T target, D model, V vocabulary.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mto_jax.evaluation import decoding

# Logits that are held at once: 16 M floats, 64 MiB.
_LOGITS_AT_ONCE = 1 << 24


class TokenScores(NamedTuple):
    """Scores of every target token; meaningless where there is no target.

    Attributes:
      log_prob_BxT: natural logarithm of the token's probability, given the source and the gold tokens before.
      rank_BxT: how many tokens of the vocabulary the model finds likelier: 0 for its first choice.
    """

    log_prob_BxT: jax.Array
    rank_BxT: jax.Array


def token_scores(
    model: nnx.Module, batch: Mapping[str, Any], sources_B: np.ndarray | None = None
) -> TokenScores:
    """Scores of `batch["decoder_target_tokens"]`, a batch of the loader (packed or not).

    Args:
      sources_B: the row of the source of each row of targets, so that several may share one, which is
        encoded once; None: each its own. A packed segment reads the source's segment of the same number.
    """
    graphdef, params = nnx.split(model)
    names = ("encoder_input_tokens", "encoder_segment_ids", "decoder_input_tokens")
    names += ("decoder_segment_ids", "decoder_target_tokens")
    if sources_B is None:
        sources_B = np.arange(len(batch["decoder_target_tokens"]), dtype=np.int32)
    return _program(graphdef, params, *(batch[name] for name in names), sources_B)


def log_likelihood(model: nnx.Module, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Log-likelihood of each row's target: (sum_B of natural logarithms, count_B of its tokens).

    A row holds one example; tokens count by `batch["decoder_loss_weights"]` (the loader's count EOS).
    The perplexity of a data set is exp(-sum of the sums / sum of the counts).
    """
    weights_BxT = batch["decoder_loss_weights"]
    log_prob_BxT = jnp.where(weights_BxT > 0, token_scores(model, batch).log_prob_BxT, 0.0)
    return jnp.sum(log_prob_BxT * weights_BxT, axis=-1), jnp.sum(weights_BxT, axis=-1)


def tail_weights(targets_BxT: np.ndarray, vocabulary: Any) -> np.ndarray:
    """1.0 at the tokens of the answer proper, 0.0 at padding, EOS and sentinels: what DepthRank counts."""
    first_sentinel = vocabulary.size - vocabulary.extra_ids
    ends = (vocabulary.pad_id, vocabulary.eos_id)
    return (~np.isin(targets_BxT, ends) & (targets_BxT < first_sentinel)).astype(np.float32)


def depth_rank(rank_BxT: np.ndarray, weights_BxT: np.ndarray) -> np.ndarray:
    """DepthRank of each target [B]: the mean rank of its tokens with weight 1 (see `tail_weights`).

    Pouramini and Afsharizadeh, "The Maskability Index", 2026. Their example, "PersonX works as a
    waitress", xIntent, "to earn money", has the token ranks 1, 53, 1:

    >>> depth_rank(np.array([[1, 53, 1, 7]]), np.array([[1.0, 1.0, 1.0, 0.0]])).round(2)
    array([18.33])
    """
    return np.sum(rank_BxT * weights_BxT, axis=-1) / np.sum(weights_BxT, axis=-1)


def score_choices(
    model: nnx.Module,
    inputs: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    vocabulary: Any,
    *,
    batch_size: int = 32,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Log-likelihood of every choice of every question.

    A question is encoded once for all its choices.

    Args:
      inputs: token ids of each question, with EOS.
      choices: for each question the token ids of its choices (at least one; any number), with EOS.
      batch_size: questions at once.

    Returns:
      For each question (sums [C], counts [C]): summed log-probabilities and numbers of tokens.
    """
    graphdef, params = nnx.split(model)
    results: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0)) for _ in inputs]
    width = max(map(len, choices), default=0)
    for chosen, tokens_QxS, lengths_Q in decoding.bucketed(inputs, batch_size, vocabulary.pad_id):
        segment_ids_QxS = np.arange(tokens_QxS.shape[1]) < np.maximum(lengths_Q, 1)[:, None]
        # Every question has `width` rows; those it does not need stay padding.
        rows = {
            row * width + c: choice
            for row, index in enumerate(chosen)
            for c, choice in enumerate(choices[index])
        }
        T = decoding.bucket(max(map(len, rows.values())))
        targets_BxT = np.full((len(tokens_QxS) * width, T), vocabulary.pad_id, np.int32)
        segment_ids_BxT = np.zeros_like(targets_BxT)
        for row, choice in rows.items():
            targets_BxT[row, : len(choice)] = choice
            segment_ids_BxT[row, : len(choice)] = 1
        scores = _program(
            graphdef,
            params,
            tokens_QxS,
            segment_ids_QxS.astype(np.int32),
            np.pad(targets_BxT, ((0, 0), (1, 0)), constant_values=vocabulary.pad_id)[:, :-1],
            segment_ids_BxT,
            targets_BxT,
            np.repeat(np.arange(len(tokens_QxS), dtype=np.int32), width),
        )
        sums_B = np.sum(np.asarray(scores.log_prob_BxT), axis=-1, where=segment_ids_BxT > 0)
        counts_B = segment_ids_BxT.sum(axis=-1)
        for row, index in enumerate(chosen):
            mine = slice(row * width, row * width + len(choices[index]))
            results[index] = (sums_B[mine], counts_B[mine])
    return results


def best_choice(sums_C: np.ndarray, counts_C: np.ndarray, *, mean: bool = False) -> int:
    """Index of the likeliest choice: by the sum of its log-probabilities, or by their mean per token.

    The sum is the probability of the whole choice and favours short ones; the mean takes the length out.

    >>> sums, counts = np.array([-4.0, -6.0]), np.array([2, 6])
    >>> best_choice(sums, counts), best_choice(sums, counts, mean=True)
    (0, 1)
    """
    return int(np.argmax(sums_C / counts_C if mean else sums_C))


@functools.partial(jax.jit, static_argnames="graphdef")
def _program(
    graphdef,
    params,
    tokens_QxS,
    source_segment_ids_QxS,
    inputs_BxT,
    segment_ids_BxT,
    targets_BxT,
    sources_B,
) -> TokenScores:
    """One teacher-forced pass; row b of the targets belongs to source `sources_B[b]`."""
    model = nnx.merge(graphdef, params)
    encoded_QxSxD = model.encode(tokens_QxS, source_segment_ids_QxS)
    hidden_BxTxD = model.decode(
        encoded_QxSxD[sources_B], source_segment_ids_QxS[sources_B], inputs_BxT, segment_ids_BxT
    )
    B, T, D = hidden_BxTxD.shape
    N = min(B * T, max(1, _LOGITS_AT_ONCE // model.config.vocab_size))
    pad = -(B * T) % N

    def score(part):
        hidden_NxD, targets_N = part
        logits_NxV = model.logits(hidden_NxD).astype(jnp.float32)
        gold_Nx1 = jnp.take_along_axis(logits_NxV, targets_N[:, None], axis=-1)
        # Counting the larger logits gives the rank without a sort.
        rank_N = jnp.sum(logits_NxV > gold_Nx1, axis=-1)
        return gold_Nx1[:, 0] - jax.nn.logsumexp(logits_NxV, axis=-1), rank_N

    parts = (
        jnp.pad(hidden_BxTxD.reshape(B * T, D), ((0, pad), (0, 0))).reshape(-1, N, D),
        jnp.pad(targets_BxT.reshape(B * T), (0, pad)).reshape(-1, N),
    )
    log_prob, rank = jax.lax.map(score, parts)
    return TokenScores(*(x.reshape(-1)[: B * T].reshape(B, T) for x in (log_prob, rank)))
