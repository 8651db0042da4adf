# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The next token's scores: penalties and bans by the history, the candidates of sampling.

In names of arrays L counts the tokens so far, the start token and padding included.
"""

import math

import jax
import jax.numpy as jnp


def largest(scores_RxV: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Returns the `count` largest scores of a row, descending, and their ids: both [R, count].

    As `jax.lax.top_k`, but several times faster for a few of many: only the groups with the largest
    maxima are searched. (Of scores that are exactly equal another may come first.)
    """
    R, V = scores_RxV.shape
    size = max(d for d in range(1, math.isqrt(V) + 1) if V % d == 0)
    if size < count:  # and where it is not, there are as many groups, V / size >= size
        return jax.lax.top_k(scores_RxV, count)
    scores_RxGxN = scores_RxV.reshape(R, V // size, size)
    group_RxC = jax.lax.top_k(jnp.max(scores_RxGxN, axis=-1), count)[1]
    chosen_RxCxN = jnp.take_along_axis(scores_RxGxN, group_RxC[..., None], axis=1)
    largest_RxC, place_RxC = jax.lax.top_k(chosen_RxCxN.reshape(R, -1), count)
    ids_RxC = jnp.take_along_axis(group_RxC, place_RxC // size, axis=1) * size + place_RxC % size
    return largest_RxC, ids_RxC


def penalise_repetition(scores_RxV: jax.Array, history_RxL: jax.Array, penalty: float) -> jax.Array:
    """Returns scores, divided by `penalty` (if negative, multiplied) for tokens in the history.

    Keskar et al., "CTRL", 2019, section 4.1, with the rule for negative scores that became common
    after.
    """
    seen_RxL = jnp.take_along_axis(scores_RxV, history_RxL, axis=1)
    seen_RxL = jnp.where(seen_RxL < 0, seen_RxL * penalty, seen_RxL / penalty)
    return scores_RxV.at[jnp.arange(len(history_RxL))[:, None], history_RxL].set(seen_RxL)


def ban_repeated_ngrams(
    scores_RxV: jax.Array, history_RxL: jax.Array, count_R: jax.Array, size: int
) -> jax.Array:
    """Returns scores, -inf for tokens that would end an n-gram of `size` that the row has already.

    The first `count_R` tokens of a history count (Paulus et al., "A deep reinforced model for
    abstractive summarization", 2018, section 2.5).
    """
    R, L = history_RxL.shape
    starts = L - size + 1
    if starts < 1:
        return scores_RxV
    before = size - 1
    end_I = jnp.arange(before, L)
    repeats_RxI = end_I[None] < count_R[:, None]
    for j in range(before):
        last_Rx1 = jnp.take_along_axis(
            history_RxL, jnp.maximum(count_R - before + j, 0)[:, None], axis=1
        )
        repeats_RxI &= history_RxL[:, j : j + starts] == last_Rx1
    # An index past the vocabulary is dropped.
    banned_RxI = jnp.where(repeats_RxI, history_RxL[:, before:], scores_RxV.shape[1])
    return scores_RxV.at[jnp.arange(R)[:, None], banned_RxI].set(-jnp.inf, mode="drop")


def candidates(
    logits_RxV: jax.Array, temperature: float, top_k: int, top_p: float, least: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Returns sampling's candidates, C = `top_k` or V: logits_RxC (-inf for the excluded), ids_RxC.

    Logits are divided by the temperature, then the `top_k` largest are kept (0: all), then of these
    the nucleus: the smallest set of most likely tokens with a probability of at least `top_p`
    (Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020); `least` tokens
    always.
    """
    logits_RxV = logits_RxV / temperature
    R, V = logits_RxV.shape
    if not top_k and top_p == 1:
        return logits_RxV, jnp.broadcast_to(jnp.arange(V)[None], (R, V))
    logits_RxC, ids_RxC = largest(logits_RxV, min(max(top_k, least) if top_k else V, V))
    probabilities_RxC = jax.nn.softmax(logits_RxC)
    # A token stays if those before it hold less than top_p: the first always does.
    before_RxC = jnp.cumsum(probabilities_RxC, axis=-1) - probabilities_RxC
    stays_RxC = (before_RxC < top_p) | (jnp.arange(logits_RxC.shape[1]) < least)[None]
    return jnp.where(stays_RxC, logits_RxC, -jnp.inf), ids_RxC
