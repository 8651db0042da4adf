# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scoring of given targets: log-likelihoods, token ranks, DepthRank, ranking of choices.

All come from one teacher-forced pass, and only the tokens that count cost logits, a slice of them
at a time.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mto_jax.data.packing import bucket
from mto_jax.decoding import generation, replicas
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.models.partitioning import platform

# Logits that are held at once. 2 M floats, 8 MiB, are read again while they are still in a
# processor's cache; an accelerator wants fewer and larger slices.
_LOGITS_AT_ONCE = 1 << 21
_LOGITS_AT_ONCE_ON_ACCELERATORS = 1 << 24
# Choices that share a neutral source; more would make the rows of the decoder longer than need be.
_CHOICES_AT_ONCE = 16


class TokenScores(NamedTuple):
    """Scores of every target token that counts; 0 elsewhere.

    Attributes:
      log_prob_BxT: natural logarithm of the token's probability, given the source and the gold
        tokens before.
      rank_BxT: how many tokens of the vocabulary the model finds likelier: 0 for its first choice.
    """

    log_prob_BxT: jax.Array
    rank_BxT: jax.Array


def token_scores(
    model: EncoderDecoder,
    batch: Mapping[str, Any],
    *,
    counted_BxT: np.ndarray | None = None,
    sources_BxT: np.ndarray | None = None,
    rivals: range | None = None,
) -> TokenScores:
    """Returns the scores of `batch["decoder_target_tokens"]` of a batch, packed or not.

    Args:
      counted_BxT: True at the tokens to score; None: at all but padding. Soft tokens, which have no
        logit, are never scored.
      sources_BxT: the segment of the source that each token reads, so that several targets of a row
        may share one, which is encoded once; None: the segment with the number of their own.
      rivals: the ids that ranks count; None: the whole vocabulary.
    """
    replicated, mesh = replicas.replicate(model, len(batch["decoder_target_tokens"]))
    names = ("encoder_input_tokens", "encoder_segment_ids", "decoder_input_tokens")
    names += ("decoder_segment_ids", "decoder_target_tokens")
    segment_ids_BxT = batch["decoder_segment_ids"]
    counted_BxT = segment_ids_BxT > 0 if counted_BxT is None else counted_BxT
    rows = (
        *(batch[name] for name in names),
        counted_BxT & (batch["decoder_target_tokens"] < model.config.vocab_size),
        segment_ids_BxT if sources_BxT is None else sources_BxT,
    )
    return _program(replicated, rows, mesh=mesh, rivals=rivals)


def log_likelihood(model: EncoderDecoder, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Returns log-likelihoods of targets: (sum_B of natural logarithms, count_B of tokens).

    A row holds one example; tokens count by `batch["decoder_loss_weights"]` (the loader's count
    EOS). The perplexity of a data set is exp(-sum of the sums / sum of the counts).
    """
    weights_BxT = batch["decoder_loss_weights"]
    weights_BxT = weights_BxT * (batch["decoder_target_tokens"] < model.config.vocab_size)
    scores = token_scores(model, batch, counted_BxT=weights_BxT > 0)
    return jnp.sum(scores.log_prob_BxT * weights_BxT, axis=-1), jnp.sum(weights_BxT, axis=-1)


def shifted(targets_BxT: np.ndarray, segment_ids_BxT: np.ndarray) -> np.ndarray:
    """Returns decoder inputs: segments of the targets shifted to the right, 0 in front.

    >>> shifted(np.array([[7, 8, 1, 9, 1, 0]]), np.array([[1, 1, 1, 2, 2, 0]])).tolist()
    [[0, 7, 8, 0, 9, 0]]
    """
    before_BxT, segment_before_BxT = (
        np.pad(x, ((0, 0), (1, 0)))[:, :-1] for x in (targets_BxT, segment_ids_BxT)
    )
    same_BxT = (segment_before_BxT == segment_ids_BxT) & (segment_ids_BxT > 0)
    return np.where(same_BxT, before_BxT, 0)


def tail_weights(targets_BxT: np.ndarray, vocabulary: Any) -> np.ndarray:
    """Returns DepthRank's weights: 1.0, but 0.0 at padding, EOS and sentinels."""
    ends = np.isin(targets_BxT, (vocabulary.pad_id, vocabulary.eos_id))
    return (~ends & ~vocabulary.is_sentinel(targets_BxT)).astype(np.float32)


def depth_rank(rank_BxT: np.ndarray, weights_BxT: np.ndarray) -> np.ndarray:
    """Returns DepthRank of each target [B]: the mean rank of its tokens with weight 1.

    Pouramini and Afsharizadeh, "The Maskability Index", 2026. Their example, "PersonX works as a
    waitress", xIntent, "to earn money", has the token ranks 1, 53, 1:

    >>> depth_rank(np.array([[1, 53, 1, 7]]), np.array([[1.0, 1.0, 1.0, 0.0]])).round(2)
    array([18.33])
    """
    return np.sum(rank_BxT * weights_BxT, axis=-1) / np.sum(weights_BxT, axis=-1)


def score_choices(
    model: EncoderDecoder,
    inputs: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    vocabulary: Any,
    *,
    batch_size: int = 32,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the log-likelihood of every choice of every question.

    A question is encoded once for all its choices, which stand side by side in one row of the
    decoder.

    Args:
      inputs: token ids of each question, with EOS.
      choices: for each question the token ids of its choices (at least one; any number), with EOS;
        soft tokens of the decoder may stand in front.
      batch_size: questions at once.

    Returns:
      For each question (sums [C], counts [C]): summed natural log-probabilities and numbers of
      tokens.
    """
    results: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0)) for _ in inputs]
    for chosen, tokens_BxS, lengths_B in generation.bucketed(inputs, batch_size, vocabulary.pad_id):
        segment_ids_BxS = np.arange(tokens_BxS.shape[1]) < np.maximum(lengths_B, 1)[:, None]
        T = bucket(max(sum(map(len, choices[index])) for index in chosen))
        targets_BxT = np.full((len(tokens_BxS), T), vocabulary.pad_id, np.int32)
        segment_ids_BxT = np.zeros_like(targets_BxT)
        for row, index in enumerate(chosen):
            lengths_C = [len(choice) for choice in choices[index]]
            here = row, slice(sum(lengths_C))
            targets_BxT[here] = list(itertools.chain(*choices[index]))
            targets_BxT[targets_BxT == vocabulary.eos_id] = model.config.eos_id
            segment_ids_BxT[here] = np.repeat(np.arange(1, len(lengths_C) + 1), lengths_C)
        batch = {
            "encoder_input_tokens": tokens_BxS,
            "encoder_segment_ids": segment_ids_BxS.astype(np.int32),
            "decoder_input_tokens": shifted(targets_BxT, segment_ids_BxT),
            "decoder_segment_ids": segment_ids_BxT,
            "decoder_target_tokens": targets_BxT,
        }
        first_BxT = np.minimum(segment_ids_BxT, 1)
        log_prob_BxT = np.asarray(token_scores(model, batch, sources_BxT=first_BxT).log_prob_BxT)
        for row, index in enumerate(chosen):
            sums_C = np.bincount(segment_ids_BxT[row], log_prob_BxT[row])[1:]
            text_T = targets_BxT[row] < model.config.vocab_size
            counts_C = np.bincount(segment_ids_BxT[row], text_T)[1:].astype(int)
            results[index] = (sums_C, counts_C)
    return results


def unconditional(
    model: EncoderDecoder,
    inputs: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    vocabulary: Any,
    *,
    batch_size: int = 32,
) -> list[np.ndarray]:
    """Returns summed log-probabilities [C] of the choices of each question without its text.

    The neutral source is the question's with all its text taken out: sentinels, soft-prompt tokens
    and EOS stay. A choice that several questions share is scored once. Arguments as of
    `score_choices`.
    """
    sources = [_neutral(source, vocabulary) for source in inputs]
    distinct: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for source, options in zip(sources, choices, strict=True):
        distinct.setdefault(source, {}).update(dict.fromkeys(map(tuple, options)))
    groups = [
        (source, [*options][start : start + _CHOICES_AT_ONCE])
        for source, options in distinct.items()
        for start in range(0, len(options), _CHOICES_AT_ONCE)
    ]
    scored = score_choices(
        model, [s for s, _ in groups], [c for _, c in groups], vocabulary, batch_size=batch_size
    )
    known = {
        (source, choice): value
        for (source, group), (sums_C, _) in zip(groups, scored, strict=True)
        for choice, value in zip(group, sums_C, strict=True)
    }
    return [
        np.array([known[source, tuple(choice)] for choice in options])
        for source, options in zip(sources, choices, strict=True)
    ]


def _neutral(source: Sequence[int], vocabulary: Any) -> tuple[int, ...]:
    ids = np.asarray(source)
    frame = np.isin(ids, (*vocabulary.bos, vocabulary.eos_id))
    return tuple(ids[vocabulary.is_sentinel(ids) | frame].tolist())


def best_choices(
    sums_C: np.ndarray, counts_C: np.ndarray, unconditional_C: np.ndarray
) -> dict[str, int]:
    """Returns the index of the best choice by three rules.

    "sum": the most probable choice as a whole, which favours short ones. "mean": the best mean
    log-probability of a token, which takes the length out. "pmi": the choice whose probability the
    question raises most, log p(choice | question) - log p(choice), which takes out how common its
    words are (Brown et al., "Language Models are Few-Shot Learners", 2020, section 2.4; Holtzman et
    al., "Surface Form Competition", EMNLP 2021). The first of equals wins.

    >>> sums_C, unconditional_C = np.array([-4.0, -6.0, -9.0]), np.array([-3.0, -6.0, -15.0])
    >>> best_choices(sums_C, np.array([2, 6, 3]), unconditional_C)
    {'sum': 0, 'mean': 1, 'pmi': 2}
    """
    values = {"sum": sums_C, "mean": sums_C / counts_C, "pmi": sums_C - unconditional_C}
    return {name: int(np.argmax(value_C)) for name, value_C in values.items()}


@functools.partial(jax.jit, static_argnames=("mesh", "rivals"))
def _program(replicated, rows, *, mesh, rivals) -> TokenScores:
    """Scores rows, sharded over the devices of `mesh`, in a teacher-forced pass."""
    B = len(rows[0])

    def score(replicated, rows):
        return _scores(replicated.model(), *rows, rivals=rivals)

    # Rows of padding see nothing that counts.
    rows = jax.tree.map(
        lambda x: jnp.pad(x, ((0, -B % replicas.num_devices(mesh)), *[(0, 0)] * (x.ndim - 1))), rows
    )
    return jax.tree.map(lambda x: x[:B], replicas.shard_rows(mesh, score)(replicated, rows))


def _scores(
    model,
    source_BxS,
    source_segment_ids_BxS,
    inputs_BxT,
    segment_ids_BxT,
    targets_BxT,
    counted_BxT,
    sources_BxT,
    rivals,
) -> TokenScores:
    """Scores rows on a single device; a target token reads segment `sources_BxT` of the source."""
    hidden_BxTxD = model.decode(
        model.encode(source_BxS, source_segment_ids_BxS),
        source_segment_ids_BxS,
        inputs_BxT,
        segment_ids_BxT,
        sources_BxT=sources_BxT,
    )
    B, T, D = hidden_BxTxD.shape
    at_once = _LOGITS_AT_ONCE if platform() == "cpu" else _LOGITS_AT_ONCE_ON_ACCELERATORS
    N = min(B * T, max(1, at_once // model.config.vocab_size))
    # The positions of the tokens that count come first; those past the end are read as the last,
    # never written.
    positions = jnp.argsort(~counted_BxT.reshape(-1), stable=True)
    positions = jnp.pad(positions, (0, -(B * T) % N), constant_values=B * T)

    counted = slice(None) if rivals is None else slice(rivals.start, rivals.stop)

    def score(i, scores):
        position_N = jax.lax.dynamic_slice_in_dim(positions, i * N, N)
        hidden_NxD = hidden_BxTxD.reshape(-1, D).at[position_N].get(mode="clip")
        target_N = targets_BxT.reshape(-1).at[position_N].get(mode="clip")
        logits_NxV = model.logits(hidden_NxD).astype(jnp.float32)
        gold_Nx1 = jnp.take_along_axis(logits_NxV, target_N[:, None], axis=-1)
        new = (
            gold_Nx1[:, 0] - jax.nn.logsumexp(logits_NxV, axis=-1),
            # Counting the larger logits gives the rank without a sort.
            jnp.sum(logits_NxV[:, counted] > gold_Nx1, axis=-1, dtype=jnp.int32),
        )
        return tuple(x.at[position_N].set(y, mode="drop") for x, y in zip(scores, new, strict=True))

    empty = jnp.zeros(B * T, jnp.float32), jnp.zeros(B * T, jnp.int32)
    slices = -(-jnp.sum(counted_BxT) // N)
    scores = jax.lax.fori_loop(0, slices, score, empty)
    return TokenScores(*(jnp.where(counted_BxT, x.reshape(B, T), 0) for x in scores))
