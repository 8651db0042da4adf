# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The compiled part of decoding: greedy search, sampling, beam search and beam sampling.

Continuous batching: one program encodes M sources and decodes them in B slots. A source whose
outputs are complete leaves its slot to one that waits, so that short outputs cost no more than
their own steps; slots are refilled N at a time, and the device never waits for the host. Sources
are sharded over devices, with B slots on each.

In names of arrays M counts the sources, B the slots, N the slots that are refilled together.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mto_jax.decoding import replicas, sampling

NEG_INF = -1e9  # the score of an absent hypothesis; finite, so that differences are


class Hypotheses(NamedTuple):
    """W hypotheses of each of B sources.

    Attributes:
      tokens: [B, W, T].
      score: [B, W] what they are ordered by: sums of log-probabilities after penalties; once a beam
        has ended, with the length penalty.
      log_likelihood: [B, W] sums of the model's log-probabilities.
    """

    tokens: jax.Array
    score: jax.Array
    log_likelihood: jax.Array


class _State(NamedTuple):
    """The state of B slots.

    Attributes:
      waiting: number of the first source that has had no slot yet.
      source_B: number of the source in each slot; M if there never was any.
      active_B: whether its outputs are incomplete.
      length_B: tokens of its outputs so far, the forced prefix included.
      key_B: keys for sampling.
      token_BxW: the newest tokens.
      running, ended: with beams, the hypotheses that go on and the best that have ended, best
        first; without, both are the samples.
      ended_BxW: which of `ended` exist; without beams, which samples have ended.
      cache: a `t5.Cache`.
    """

    waiting: jax.Array
    source_B: jax.Array
    active_B: jax.Array
    length_B: jax.Array
    key_B: jax.Array
    token_BxW: jax.Array
    running: Hypotheses
    ended: Hypotheses
    ended_BxW: jax.Array
    cache: Any


class _Rules(NamedTuple):
    """The tokens that end an output and those that may be chosen."""

    stops: jax.Array  # ids that end an output
    is_stop_V: jax.Array
    is_id_V: jax.Array  # False for the padding of the embedding
    start: int  # the token that the decoder starts with
    prefix: tuple[int, ...]  # forced ids


@functools.partial(jax.jit, static_argnames=("decoding", "prefix", "start_id", "slots", "mesh"))
def program(
    replicated,
    tokens_MxS,
    lengths_M,
    key_M,
    stops,
    num_ids,
    *,
    decoding,
    prefix,
    start_id,
    slots,
    mesh=None,
) -> Hypotheses:
    """Returns `num_outputs` hypotheses of M sources; those of length 0, at the end, are skipped.

    Args:
      replicated: the model, see `replicas.replicate`.
      key_M: for sampling.
      stops: ids that end an output.
      num_ids: ids from here on (padding of the embedding) are never chosen.
      decoding: a `Decoding`; its prefix and seed are not read.
      prefix: ids that every output starts with.
      start_id: what the decoder reads before the prefix.
      slots: B, on each device.
      mesh: devices over which the sources are sharded.
    """

    def decode(shared, rows):
        replicated, stops, num_ids = shared
        ids_V = jnp.arange(replicated.model().config.vocab_size)
        rules = _Rules(stops, jnp.isin(ids_V, stops), ids_V < num_ids, start_id, prefix)
        tokens_MxS, lengths_M, key_M = rows
        return _decode(replicated, tokens_MxS, lengths_M, key_M, rules, decoding, slots)

    return replicas.shard_rows(mesh, decode)(
        (replicated, stops, num_ids), (tokens_MxS, lengths_M, key_M)
    )


def _decode(replicated, tokens_MxS, lengths_M, key_M, rules, decoding, slots) -> Hypotheses:
    """`program` on a single device."""
    T, W = decoding.max_length, decoding.rows
    (M, S), B = tokens_MxS.shape, slots
    N = B if M == B else max(1, B // 4)
    count = jnp.sum(lengths_M > 0)
    beams = decoding.method in ("beam", "beam_sample")
    advance = functools.partial(_advance_beams if beams else _advance_samples, decoding, rules)

    def read(tokens_NxS, lengths_N):
        # What is past the last source reads one token of padding, so that no attention is over
        # nothing.
        is_token_NxS = jnp.arange(S)[None] < jnp.maximum(lengths_N, 1)[:, None]
        model = replicated.model()
        # Behind an EOS begins another piece of the source, encoded apart from those before.
        is_eos_NxS = tokens_NxS == model.config.eos_id
        pieces_NxS = 1 + jnp.cumsum(is_eos_NxS, axis=1, dtype=jnp.int32) - is_eos_NxS
        segments_NxS = jnp.where(is_token_NxS, pieces_NxS, 0)
        return model.read(model.encode(tokens_NxS, segments_NxS), segments_NxS)

    def fresh(size):
        # With beams all hypotheses start alike: only the first is extended in the first step.
        alone_W = jnp.where(jnp.arange(W) == 0, 0.0, NEG_INF if beams else 0.0)
        score_BxW = jnp.broadcast_to(alone_W[None], (size, W))
        nothing_BxW = jnp.zeros((size, W))
        tokens_BxWxT = jnp.full((size, W, T), rules.start, jnp.int32)
        return {
            "length_B": jnp.zeros(size, jnp.int32),
            "token_BxW": tokens_BxWxT[:, :, 0],
            "running": Hypotheses(tokens_BxWxT, score_BxW, nothing_BxW),
            "ended": Hypotheses(tokens_BxWxT, nothing_BxW + NEG_INF, nothing_BxW),
            "ended_BxW": jnp.zeros((size, W), bool),
        }

    def fill(state):
        """Puts the next N sources in slots that are free."""
        slot_N = jnp.argsort(state.active_B)[:N]
        number_N = state.waiting + jnp.arange(N)
        row_N = jnp.minimum(number_N, M - 1)

        def put(old, new):
            return jax.tree.map(lambda x, y: x.at[slot_N].set(y), old, new)

        new = fresh(N)
        cache = dataclasses.replace(
            state.cache,
            source=put(state.cache.source, read(tokens_MxS[row_N], lengths_M[row_N])),
            ancestors=state.cache.ancestors.at[slot_N].set(-1),
        )
        return state._replace(
            waiting=state.waiting + N,
            source_B=put(state.source_B, jnp.where(number_N < count, number_N, M)),
            active_B=put(state.active_B, number_N < count),
            key_B=put(state.key_B, key_M[row_N]),
            cache=cache,
            **{name: put(getattr(state, name), value) for name, value in new.items()},
        )

    def step(state):
        model = replicated.model()
        logits_RxV, cache = model.decode_step(state.token_BxW.ravel(), state.cache)
        return advance(state._replace(cache=cache), logits_RxV)

    def needs_filling(state):
        """Returns whether enough slots are free to be refilled, or all are."""
        refillable = (jnp.sum(~state.active_B) >= N) & (state.waiting < count)
        return refillable | ~jnp.any(state.active_B)

    def fill_and_decode(carry):
        state, outputs = carry
        state = jax.lax.while_loop(lambda s: ~needs_filling(s), step, fill(state))
        # Unfinished outputs are written as well, and again when they are complete.
        outputs = jax.tree.map(
            lambda x, y: x.at[state.source_B].set(y[:, : decoding.num_outputs], mode="drop"),
            outputs,
            _best_first(state.ended, W)[0],
        )
        return state, outputs

    empty = jax.eval_shape(read, tokens_MxS[:B], lengths_M[:B])
    source = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), empty)
    state = _State(
        waiting=jnp.int32(0),
        source_B=jnp.full(B, M),
        active_B=jnp.zeros(B, bool),
        key_B=key_M[:B],
        cache=replicated.model().start_cache(source, T, W, common=beams),
        **fresh(B),
    )
    outputs = jax.tree.map(
        lambda x: jnp.zeros((M, decoding.num_outputs, *x.shape[2:]), x.dtype), state.ended
    )
    return jax.lax.while_loop(
        lambda carry: (carry[0].waiting < count) | jnp.any(carry[0].active_B),
        fill_and_decode,
        (state, outputs),
    )[1]


def _advance_samples(decoding, rules, state, logits_RxV) -> _State:
    """Adds a token to each of the samples, the most likely or a drawn token."""
    B, W = state.token_BxW.shape
    scores_RxV = _allowed(decoding, rules, state, logits_RxV)
    if decoding.method == "greedy":
        token_R = sampling.largest(scores_RxV, 1)[1]
    else:
        logits_RxC, ids_RxC = sampling.candidates(
            scores_RxV, decoding.temperature, decoding.top_k, decoding.top_p
        )
        fold = jax.vmap(jax.random.fold_in)
        keys_R = fold(jnp.repeat(fold(state.key_B, state.length_B), W), jnp.tile(jnp.arange(W), B))
        choice_R = jax.vmap(jax.random.categorical)(keys_R, logits_RxC)
        token_R = jnp.take_along_axis(ids_RxC, choice_R[:, None], axis=-1)[:, 0]
    token_BxW = _forced(rules, state, token_R.reshape(B, W).astype(jnp.int32))
    own_BxW = jnp.broadcast_to(jnp.arange(W)[None], (B, W))
    gained_BxW = _log_probs(rules, state, logits_RxV, own_BxW, token_BxW)
    frozen_BxW = state.ended_BxW | ~state.active_B[:, None]
    old = state.running
    log_likelihood_BxW = old.log_likelihood + jnp.where(frozen_BxW, 0.0, gained_BxW)
    tokens_BxWxT = jnp.where(
        frozen_BxW[..., None], old.tokens, _written(old.tokens, token_BxW, state.length_B)
    )
    samples = Hypotheses(tokens_BxWxT, log_likelihood_BxW, log_likelihood_BxW)
    ended_BxW = frozen_BxW | _ends(rules, state, token_BxW)
    return state._replace(
        active_B=~jnp.all(ended_BxW, axis=1),
        length_B=state.length_B + 1,
        token_BxW=token_BxW,
        running=samples,
        ended=samples,
        ended_BxW=ended_BxW,
    )


def _advance_beams(decoding, rules, state, logits_RxV) -> _State:
    """Takes a step of beam search by the rules of Hugging Face `generate`.

    Every running hypothesis is extended by every token. Of all extensions, those that end and are
    among the W best compete, with the length penalty (score / length ** penalty), for the W slots
    of ended hypotheses; the W best of the others run on. `early_stopping` decides when a source is
    done, once its W slots are taken: True, at once; False, when the best running hypothesis, at
    its present length, is no better than the worst ended one; "never", when it could not become
    better at any length (exact for a penalty >= 0). Beam sampling draws 2 W extensions without
    replacement: the W drawn first count as the best, and the rest are those that may run on.
    """
    W, T = state.running.tokens.shape[1:]
    length_B, old = state.length_B, state.running
    log_probs_RxV = jax.nn.log_softmax(logits_RxV)
    scores_RxV = _allowed(decoding, rules, state, log_probs_RxV)
    extend = _drawn if decoding.method == "beam_sample" else _largest
    best, rest = (
        extensions._replace(token=_forced(rules, state, extensions.token))
        for extensions in extend(decoding, rules, state, scores_RxV)
    )

    def grown(extensions):
        score_BxC, beam_BxC, token_BxC = extensions
        gained_BxC = _log_probs(rules, state, logits_RxV, beam_BxC, token_BxC)
        return Hypotheses(
            _written(
                jnp.take_along_axis(old.tokens, beam_BxC[..., None], axis=1), token_BxC, length_B
            ),
            score_BxC,
            jnp.take_along_axis(old.log_likelihood, beam_BxC, axis=1) + gained_BxC,
        )

    # The prefix does not count as length.
    length_Bx1 = jnp.maximum(length_B + 1 - len(rules.prefix), 1).astype(jnp.float32)[:, None]
    penalty, early = decoding.length_penalty, decoding.early_stopping
    new = grown(best)
    ends_BxW = _ends(rules, state, best.token) & (new.score > NEG_INF / 2) & state.active_B[:, None]
    new = new._replace(score=jnp.where(ends_BxW, new.score / length_Bx1**penalty, NEG_INF))
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), state.ended, new)
    ended, index_BxW = _best_first(both, W)
    taken_Bx2W = jnp.concatenate([state.ended_BxW, ends_BxW], axis=1)
    ended_BxW = jnp.take_along_axis(taken_Bx2W, index_BxW, axis=1)

    running = grown(rest)
    running = running._replace(score=jnp.maximum(running.score, NEG_INF))
    ancestors_BxWxT = jnp.take_along_axis(state.cache.ancestors, rest.beam[..., None], axis=1)
    longest = jnp.float32(T - len(rules.prefix)) if early == "never" and penalty > 0 else length_Bx1
    attainable_B = (running.score[:, :1] / longest**penalty)[:, 0]
    full_B = jnp.all(ended_BxW, axis=1)
    better_B = ~full_B | (attainable_B > ended.score[:, -1])
    return state._replace(
        active_B=state.active_B & better_B & ~(full_B & (early is True)) & (length_B + 1 < T),
        length_B=length_B + 1,
        token_BxW=rest.token,
        running=running,
        ended=ended,
        ended_BxW=ended_BxW,
        cache=dataclasses.replace(state.cache, ancestors=ancestors_BxWxT),
    )


class _Extensions(NamedTuple):
    """Running hypotheses, each extended by a token."""

    score: jax.Array  # [B, C]
    beam: jax.Array  # [B, C] of which of the W hypotheses
    token: jax.Array  # [B, C]

    def take(self, index_BxC: jax.Array) -> "_Extensions":
        return jax.tree.map(lambda x: jnp.take_along_axis(x, index_BxC, axis=1), self)


def _largest(decoding, rules, state, scores_RxV) -> tuple[_Extensions, _Extensions]:
    """Returns the W best extensions, and the W best of those that do not end."""
    del decoding
    B, W = state.token_BxW.shape
    total_RxV = state.running.score.reshape(-1, 1) + scores_RxV
    ends_BxV = rules.is_stop_V[None] & (state.length_B >= len(rules.prefix))[:, None]
    # First within each hypothesis, then among the winners: far cheaper than one search over W * V.
    on_RxW, token_RxW = sampling.largest(
        jnp.where(jnp.repeat(ends_BxV, W, axis=0), -jnp.inf, total_RxV), W
    )
    on = _Extensions(
        on_RxW.reshape(B, W * W),
        jnp.broadcast_to(jnp.repeat(jnp.arange(W), W)[None], (B, W * W)),
        token_RxW.reshape(B, W * W),
    )
    stops = len(rules.stops)
    over = _Extensions(
        total_RxV[:, rules.stops].reshape(B, W * stops),
        jnp.broadcast_to(jnp.repeat(jnp.arange(W), stops)[None], (B, W * stops)),
        jnp.broadcast_to(jnp.tile(rules.stops, W)[None], (B, W * stops)),
    )
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), on, over)
    return both.take(jax.lax.top_k(both.score, W)[1]), on.take(jax.lax.top_k(on.score, W)[1])


def _drawn(decoding, rules, state, scores_RxV) -> tuple[_Extensions, _Extensions]:
    """Returns the W extensions drawn first, and the W best of 2 W drawn ones that do not end.

    Drawn without replacement with probabilities in proportion to exp(score): the largest after
    adding Gumbel noise (Kool et al., "Stochastic Beams and Where to Find Them", ICML 2019).
    """
    B, W = state.token_BxW.shape
    # Two for each hypothesis, so that one can run on if the other ends.
    logits_RxC, ids_RxC = sampling.candidates(
        scores_RxV, decoding.temperature, decoding.top_k, decoding.top_p, least=2
    )
    C = logits_RxC.shape[1]
    total_BxWC = (state.running.score[..., None] + logits_RxC.reshape(B, W, C)).reshape(B, W * C)
    keys_B = jax.vmap(jax.random.fold_in)(state.key_B, state.length_B)
    noise_BxWC = jax.vmap(lambda key: jax.random.gumbel(key, (W * C,)))(keys_B)
    beam_WC = jnp.repeat(jnp.arange(W), C)
    every = _Extensions(
        total_BxWC, jnp.broadcast_to(beam_WC[None], (B, W * C)), ids_RxC.reshape(B, W * C)
    )
    drawn = every.take(jax.lax.top_k(total_BxWC + noise_BxWC, 2 * W)[1])
    on = drawn._replace(score=jnp.where(_ends(rules, state, drawn.token), NEG_INF, drawn.score))
    return jax.tree.map(lambda x: x[:, :W], drawn), on.take(jax.lax.top_k(on.score, W)[1])


def _allowed(decoding, rules, state, scores_RxV):
    """Returns the scores of the next tokens after penalties, -inf where not allowed."""
    B, W, T = state.running.tokens.shape
    length_R = jnp.repeat(state.length_B, W)
    # Beyond its length a row holds the start token, which every history has.
    history_RxL = jnp.pad(
        state.running.tokens.reshape(B * W, T), [(0, 0), (1, 0)], constant_values=rules.start
    )
    if decoding.repetition_penalty != 1:
        scores_RxV = sampling.penalise_repetition(
            scores_RxV, history_RxL, decoding.repetition_penalty
        )
    if decoding.no_repeat_ngram_size:
        scores_RxV = sampling.ban_repeated_ngrams(
            scores_RxV, history_RxL, length_R + 1, decoding.no_repeat_ngram_size
        )
    banned_RxV = ~rules.is_id_V[None]
    if decoding.min_length:
        banned_RxV |= rules.is_stop_V[None] & (length_R < decoding.min_length)[:, None]
    scores_RxV = jnp.where(banned_RxV, -jnp.inf, scores_RxV)
    if not rules.prefix:
        return scores_RxV
    # Only id 0 is left; `_forced` puts the prefix's token in its place, which may be past the
    # vocabulary.
    alone_1xV = jnp.where(jnp.arange(scores_RxV.shape[1])[None] == 0, 0.0, -jnp.inf)
    return jnp.where((length_R < len(rules.prefix))[:, None], alone_1xV, scores_RxV)


def _forced(rules, state, token_BxC):
    """Returns the tokens, or in the first steps the next token of the prefix."""
    if not rules.prefix:
        return token_BxC
    next_B = jnp.array(rules.prefix)[jnp.minimum(state.length_B, len(rules.prefix) - 1)]
    return jnp.where((state.length_B < len(rules.prefix))[:, None], next_B[:, None], token_BxC)


def _log_probs(rules, state, logits_RxV, beam_BxC, token_BxC):
    """Returns the model's log-probabilities [B, C] of tokens after hypotheses; 0 if forced."""
    B = len(beam_BxC)
    logits_BxWxV = logits_RxV.reshape(B, -1, logits_RxV.shape[1])
    norm_BxW = jax.nn.logsumexp(logits_BxWxV, axis=-1)
    log_probs_BxC = logits_BxWxV[jnp.arange(B)[:, None], beam_BxC, token_BxC]
    log_probs_BxC -= jnp.take_along_axis(norm_BxW, beam_BxC, axis=1)
    return jnp.where((state.length_B >= len(rules.prefix))[:, None], log_probs_BxC, 0.0)


def _ends(rules, state, token_BxC):
    """Returns whether tokens end their outputs: as stops, or as the last that fit."""
    stops_BxC = rules.is_stop_V[token_BxC] & (state.length_B >= len(rules.prefix))[:, None]
    return stops_BxC | (state.length_B + 1 == state.running.tokens.shape[2])[:, None]


def _written(tokens_BxCxT, token_BxC, length_B):
    """Returns the tokens with the newest at the end of each."""
    here_BxT = jnp.arange(tokens_BxCxT.shape[2])[None] == length_B[:, None]
    return jnp.where(here_BxT[:, None], token_BxC[..., None], tokens_BxCxT)


def _best_first(hypotheses: Hypotheses, count: int) -> tuple[Hypotheses, jax.Array]:
    """Returns the `count` best, and their indices [B, count]."""
    index_BxW = jax.lax.top_k(hypotheses.score, count)[1]
    return Hypotheses(
        jnp.take_along_axis(hypotheses.tokens, index_BxW[..., None], axis=1),
        jnp.take_along_axis(hypotheses.score, index_BxW, axis=1),
        jnp.take_along_axis(hypotheses.log_likelihood, index_BxW, axis=1),
    ), index_BxW
