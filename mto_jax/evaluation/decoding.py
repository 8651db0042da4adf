# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding: from source tokens to the tokens that a model answers.

`decode` takes any number of inputs of any length, sorts them by length, pads each batch to one of a
few bucket lengths and so runs one compiled program per bucket. A program encodes once, keeps
the decoder's keys and values in a cache and ends as soon as every row has ended.

Letters: B sources, W hypotheses (beams or samples) of each, R = B * W rows, S source, T output, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gin
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mto_jax import errors

METHODS = ("greedy", "beam", "sample")
_NEVER = -1e9  # A score so low that the hypothesis is as good as absent, yet finite.


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Decoding:
    """How to decode. The defaults are greedy and deterministic; lengths count tokens.

    A token of the vocabulary counts towards `max_length` and `min_length` whether it was forced by
    `prefix` or chosen, and so does the final EOS (Hugging Face counts the start token as well: its
    `max_length` is ours plus one).
    """

    method: str = "greedy"  # "greedy", "beam" or "sample"
    max_length: int = 64
    min_length: int = 0  # EOS (and other ends) cannot come before so many tokens
    prefix: str = ""  # text that every output starts with, e.g. "<extra_id_0>"
    stop_at_sentinel: bool = False  # <extra_id_1>, <extra_id_2>, ... end an output as EOS does
    num_outputs: int = 1  # outputs for each input, best first; "greedy" has one
    num_beams: int = 4  # beam
    length_penalty: float = 1.0  # beam: scores are divided by length ** length_penalty
    early_stopping: bool | str = False  # beam: True, False or "never", see `_beam`
    temperature: float = 1.0  # sample: logits are divided by it
    top_k: int = 0  # sample: only the k most likely tokens; 0 for all
    top_p: float = 1.0  # sample: only the most likely tokens that hold so much probability
    seed: int = 0  # sample

    def __post_init__(self):
        if self.method not in METHODS:
            raise errors.unknown("decoding method", self.method, METHODS)
        sampling = self.method == "sample"
        most = {"greedy": 1, "beam": self.num_beams, "sample": 1 << 16}[self.method]
        for name, valid, rule in (
            ("max_length", self.max_length >= 1, "at least 1"),
            ("min_length", 0 <= self.min_length < self.max_length, "between 0 and max_length - 1"),
            ("num_beams", self.num_beams >= 1, "at least 1"),
            ("num_outputs", 1 <= self.num_outputs <= most, f"1 to {most} with {self.method!r}"),
            (
                "early_stopping",
                self.early_stopping in (True, False, "never"),
                "True, False or 'never'",
            ),
            (
                "temperature",
                not sampling or self.temperature > 0,
                "above 0 (or use method='greedy')",
            ),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
        ):
            if not valid:
                raise errors.UserError(
                    f"Decoding.{name} is {getattr(self, name)!r}; it must be {rule}."
                )

    @property
    def rows(self) -> int:
        """Hypotheses that are decoded for each source (W)."""
        return self.num_beams if self.method == "beam" else self.num_outputs


class Output(NamedTuple):
    """One answer.

    Attributes:
      tokens: the ids, forced prefix and end token included, padding removed.
      score: log-probability of the chosen tokens under the model (natural logarithm, the forced prefix
        not counted); with beams, divided by their number to the power of the length penalty.
    """

    tokens: list[int]
    score: float


def decode(
    model: nnx.Module,
    inputs: Sequence[Sequence[int]],
    decoding: Decoding,
    vocabulary: Any,
    *,
    batch_size: int = 32,
    first_index: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> list[list[Output]]:
    """Decode every input; the result has `num_outputs` answers for each, in the order of the inputs.

    Args:
      model: a `T5`.
      inputs: token ids of each source, with EOS.
      vocabulary: a `Vocabulary`; it gives the ids of padding, EOS and the sentinels.
      batch_size: sources at once; a program is compiled for this size (or for the next power of two
        above the number of inputs, if that is smaller) and each bucket length that occurs.
      first_index: number of the first input in the whole job; what is sampled for an input depends on
        `Decoding.seed` and its number, not on its batch.
      progress: called with the number of inputs just done.
    """
    prefix = tuple(vocabulary.encode(decoding.prefix))
    if len(prefix) >= decoding.max_length:
        raise errors.UserError(
            f"Decoding.prefix {decoding.prefix!r} has {len(prefix)} tokens, which leaves nothing to "
            f"decode within Decoding.max_length={decoding.max_length}. Raise max_length."
        )
    stops = [vocabulary.eos_id]
    if decoding.stop_at_sentinel:
        stops += [vocabulary.sentinel_id(i) for i in range(1, vocabulary.extra_ids)]
    graphdef, params = nnx.split(model)
    outputs: list[list[Output]] = [[] for _ in inputs]
    for chosen, tokens_BxS, lengths_B in bucketed(inputs, batch_size, vocabulary.pad_id):
        keys_B = _keys(decoding.seed, first_index + np.resize(chosen, len(tokens_BxS)))
        tokens_BxWxT, scores_BxW = jax.device_get(
            _program(
                graphdef,
                params,
                tokens_BxS,
                lengths_B,
                keys_B,
                np.array(stops, np.int32),
                vocabulary.size,
                decoding=dataclasses.replace(decoding, seed=0, prefix=""),
                prefix=prefix,
                pad_id=vocabulary.pad_id,
            )
        )
        for row, index in enumerate(chosen):
            outputs[index] = [
                Output(_trim(tokens_T, len(prefix), stops), float(score))
                for tokens_T, score in zip(tokens_BxWxT[row], scores_BxW[row], strict=True)
            ]
        progress(len(chosen))
    return outputs


def bucketed(
    sequences: Sequence[Sequence[int]], batch_size: int, pad_id: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of similar length, longest first: (indices [n], tokens_BxS, lengths_B).

    S is the least bucket length that holds the batch. Rows past the n-th are padding of length 0.
    Longest first, so that a program too large for the memory fails at once.
    """
    batch_size = min(batch_size, 1 << (len(sequences) - 1).bit_length()) if len(sequences) else 1
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    for start in range(0, len(order), batch_size):
        chosen = np.array(order[start : start + batch_size])
        tokens_BxS = np.full((batch_size, bucket(len(sequences[chosen[0]]))), pad_id, np.int32)
        lengths_B = np.zeros(batch_size, np.int32)
        for row, index in enumerate(chosen):
            lengths_B[row] = len(sequences[index])
            tokens_BxS[row, : lengths_B[row]] = sequences[index]
        yield chosen, tokens_BxS, lengths_B


def bucket(length: int) -> int:
    """The padded length: a power of two from 16 on, or one and a half times one from 64 on.

    >>> [bucket(n) for n in (1, 17, 64, 65, 97)]
    [16, 32, 64, 96, 128]
    """
    power = max(16, 1 << (length - 1).bit_length())
    return power * 3 // 4 if power >= 128 and length <= power * 3 // 4 else power


def _trim(tokens_T: np.ndarray, start: int, stops: Sequence[int]) -> list[int]:
    """The tokens up to and with the first end token from place `start` on."""
    ends = np.flatnonzero(np.isin(tokens_T[start:], stops))
    return tokens_T[: start + ends[0] + 1 if len(ends) else None].tolist()


@jax.jit
def _keys(seed: jax.Array, indices_B: jax.Array) -> jax.Array:
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(indices_B)


@functools.partial(jax.jit, static_argnames=("graphdef", "decoding", "prefix", "pad_id"))
def _program(
    graphdef, params, tokens_BxS, lengths_B, keys_B, stops, num_ids, *, decoding, prefix, pad_id
):
    """Decodes one batch -> tokens_BxWxT, scores_BxW, W = `num_outputs`, T = `max_length`.

    `stops` are the ids that end an output; ids from `num_ids` on (padding of the embedding) are never
    chosen; `keys_B` are used by sampling. Rows of length 0 are padding and come out arbitrary.
    """
    model = nnx.merge(graphdef, params)
    # A padding row sees one token of padding, so that no attention is over nothing.
    segment_ids_BxS = (
        jnp.arange(tokens_BxS.shape[1])[None] < jnp.maximum(lengths_B, 1)[:, None]
    ).astype(jnp.int32)
    encoded_BxSxD = model.encode(tokens_BxS, segment_ids_BxS)
    cache = model.start_cache(
        encoded_BxSxD, segment_ids_BxS, decoding.max_length, num_beams=decoding.rows
    )
    rows = len(tokens_BxS) * decoding.rows
    ids_V = jnp.arange(model.config.vocab_size)
    is_stop_V = jnp.isin(ids_V, stops)
    # T5 starts its decoder with the padding id.
    forced = jnp.array([pad_id, *prefix], jnp.int32)

    def feed(i, cache):
        return model.decode_step(jnp.full((rows,), forced[i]), cache)[1]

    if prefix:
        cache = jax.lax.fori_loop(0, len(prefix), feed, cache)
    first_R = jnp.full((rows,), forced[-1])

    def step(token_R, cache, t):
        """Feeds a token -> log-probabilities of the t-th choice (the prefix not counted)."""
        logits_RxV, cache = model.decode_step(token_R, cache)
        banned_V = (ids_V >= num_ids) | (is_stop_V & (t + len(prefix) < decoding.min_length))
        log_probs_RxV = jax.nn.log_softmax(logits_RxV.astype(jnp.float32))
        return jnp.where(banned_V[None], -jnp.inf, log_probs_RxV), cache

    search = {"greedy": _greedy, "sample": _sample, "beam": _beam}[decoding.method]
    length = decoding.max_length - len(prefix)
    tokens_BxWxT, scores_BxW = search(
        step, cache, first_R, lengths_B > 0, is_stop_V, keys_B, decoding, length, pad_id
    )
    forced_BxWxP = jnp.broadcast_to(forced[1:], (*tokens_BxWxT.shape[:2], len(prefix)))
    return jnp.concatenate([forced_BxWxP, tokens_BxWxT], axis=-1), scores_BxW


def _greedy(step, cache, first_R, valid_B, is_stop_V, keys_B, decoding, length, pad_id):
    """The most likely token at every step."""
    del keys_B, decoding

    def choose(log_probs_RxV, t):
        del t
        return jnp.argmax(log_probs_RxV, axis=-1)

    return _one_by_one(step, choose, cache, first_R, valid_B, is_stop_V, 1, length, pad_id)


def _sample(step, cache, first_R, valid_B, is_stop_V, keys_B, decoding, length, pad_id):
    """A token drawn at every step, after temperature, top-k and top-p, in this order."""
    outputs = jnp.arange(decoding.num_outputs)
    keys_R = jax.vmap(lambda key: jax.vmap(functools.partial(jax.random.fold_in, key))(outputs))(
        keys_B
    ).ravel()

    def choose(log_probs_RxV, t):
        logits_RxK, ids_RxK = candidates(
            log_probs_RxV, decoding.temperature, decoding.top_k, decoding.top_p
        )
        step_keys_R = jax.vmap(jax.random.fold_in, (0, None))(keys_R, t)
        place_R = jax.vmap(jax.random.categorical)(step_keys_R, logits_RxK)
        return jnp.take_along_axis(ids_RxK, place_R[:, None], axis=-1)[:, 0]

    tokens_BxWxT, scores_BxW = _one_by_one(
        step, choose, cache, first_R, valid_B, is_stop_V, decoding.num_outputs, length, pad_id
    )
    best_BxW = jnp.argsort(-scores_BxW, axis=-1)
    return (
        jnp.take_along_axis(tokens_BxWxT, best_BxW[..., None], axis=1),
        jnp.take_along_axis(scores_BxW, best_BxW, axis=1),
    )


def candidates(
    logits_RxV: jax.Array, temperature: float, top_k: int, top_p: float
) -> tuple[jax.Array, jax.Array]:
    """What may be drawn: logits_RxK (-inf for what may not) and ids_RxK, K = `top_k` or V.

    Logits are divided by the temperature, then the `top_k` largest are kept (0: all), then of these
    the nucleus: the smallest set of most likely tokens with a probability of at least `top_p`
    (Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020).
    """
    logits_RxV = logits_RxV / temperature
    R, V = logits_RxV.shape
    if not top_k and top_p == 1:
        return logits_RxV, jnp.broadcast_to(jnp.arange(V)[None], (R, V))
    logits_RxK, ids_RxK = jax.lax.top_k(logits_RxV, min(top_k or V, V))
    probabilities_RxK = jax.nn.softmax(logits_RxK)
    # A token stays if those before it hold less than top_p: the first always does.
    before_RxK = jnp.cumsum(probabilities_RxK, axis=-1) - probabilities_RxK
    return jnp.where(before_RxK < top_p, logits_RxK, -jnp.inf), ids_RxK


def _one_by_one(step, choose, cache, first_R, valid_B, is_stop_V, width, length, pad_id):
    """Rows that never mix: `choose(log_probs_RxV, t) -> token_R` until all have ended."""
    R = len(first_R)
    start = (
        0,
        first_R,
        jnp.repeat(~valid_B, width, total_repeat_length=R),
        jnp.full((R, length), pad_id, jnp.int32),
        jnp.zeros(R),
        cache,
    )

    def unfinished(state):
        t, _, finished_R, *_ = state
        return (t < length) & ~jnp.all(finished_R)

    def advance(state):
        t, token_R, finished_R, tokens_RxT, scores_R, cache = state
        log_probs_RxV, cache = step(token_R, cache, t)
        chosen_R = choose(log_probs_RxV, t).astype(jnp.int32)
        gained_R = jnp.take_along_axis(log_probs_RxV, chosen_R[:, None], axis=-1)[:, 0]
        token_R = jnp.where(finished_R, pad_id, chosen_R)
        scores_R = scores_R + jnp.where(finished_R, 0.0, gained_R)
        tokens_RxT = tokens_RxT.at[:, t].set(token_R)
        return t + 1, token_R, finished_R | is_stop_V[chosen_R], tokens_RxT, scores_R, cache

    _, _, _, tokens_RxT, scores_R, _ = jax.lax.while_loop(unfinished, advance, start)
    return tokens_RxT.reshape(-1, width, length), scores_R.reshape(-1, width)


class _Beams(NamedTuple):
    """State of a beam search: W running and W ended hypotheses of each of B sources."""

    t: jax.Array  # tokens chosen so far
    tokens_BxWxT: jax.Array
    scores_BxW: jax.Array  # sums of log-probabilities, best first
    ended_tokens_BxWxT: jax.Array
    ended_scores_BxW: jax.Array  # with the length penalty, best first
    ended_BxW: jax.Array  # whether the place holds an ended hypothesis
    open_B: jax.Array  # whether a running hypothesis may still beat an ended one
    cache: Any


def _beam(step, cache, first_R, valid_B, is_stop_V, keys_B, decoding, length, pad_id):
    """Beam search with the rules of Hugging Face `generate`.

    Each step extends every running hypothesis by every token. Of all extensions, those that end and are
    among the W best compete, with the length penalty (log-probability / length ** penalty), for the W
    places of ended hypotheses; the W best of the others run on. `early_stopping` decides when a source
    is done, once its W places are taken: True, at once; False, when the best running
    hypothesis, at its present length, is no better than the worst ended one; "never", when it could
    not become better at any length (exact for a penalty >= 0).
    """
    del keys_B
    B, W = len(valid_B), decoding.num_beams
    penalty, early = decoding.length_penalty, decoding.early_stopping
    empty_BxWxT = jnp.full((B, W, length), pad_id, jnp.int32)
    # All hypotheses start alike: only the first is extended in the first step.
    first_alone_W = jnp.where(jnp.arange(W) == 0, 0.0, _NEVER)
    start = _Beams(
        t=jnp.int32(0),
        tokens_BxWxT=empty_BxWxT,
        scores_BxW=jnp.broadcast_to(first_alone_W, (B, W)),
        ended_tokens_BxWxT=empty_BxWxT,
        ended_scores_BxW=jnp.full((B, W), _NEVER),
        ended_BxW=jnp.zeros((B, W), bool),
        open_B=valid_B,
        cache=cache,
    )

    def unfinished(state):
        return (state.t < length) & jnp.any(state.open_B)

    def advance(state):
        t = state.t
        last_R = state.tokens_BxWxT.reshape(B * W, length)[:, jnp.maximum(t - 1, 0)]
        token_R = jnp.where(t == 0, first_R, last_R)
        log_probs_RxV, cache = step(token_R, state.cache, t)
        scores_BxWxV = state.scores_BxW[..., None] + log_probs_RxV.reshape(B, W, -1)
        ends_V = is_stop_V | (t + 1 == length)

        best_BxW, tokens_BxWxT, _, token_BxW = _extend(state.tokens_BxWxT, scores_BxWxV, t)
        ends_BxW = ends_V[token_BxW] & state.open_B[:, None]
        penalised_BxW = jnp.where(ends_BxW, best_BxW / (t + 1.0) ** penalty, _NEVER)
        ended_scores_BxW, place_BxW = jax.lax.top_k(
            jnp.concatenate([state.ended_scores_BxW, penalised_BxW], axis=1), W
        )
        ended_tokens_BxWxT = jnp.take_along_axis(
            jnp.concatenate([state.ended_tokens_BxWxT, tokens_BxWxT], axis=1),
            place_BxW[..., None],
            axis=1,
        )
        ended_BxW = jnp.take_along_axis(
            jnp.concatenate([state.ended_BxW, ends_BxW], axis=1), place_BxW, axis=1
        )

        running_BxWxV = jnp.where(is_stop_V[None, None], _NEVER, scores_BxWxV)
        scores_BxW, tokens_BxWxT, beam_BxW, _ = _extend(state.tokens_BxWxT, running_BxWxV, t)
        rows_R = (W * jnp.arange(B)[:, None] + beam_BxW).ravel()
        past = jax.tree.map(lambda x: x[rows_R], cache.self_attention)

        hopeful = length if early == "never" and penalty > 0 else t + 1
        hope_B = scores_BxW[:, 0] / jnp.float32(hopeful) ** penalty
        full_B = jnp.all(ended_BxW, axis=1)
        better_B = ~full_B | (hope_B > ended_scores_BxW[:, -1])
        return _Beams(
            t=t + 1,
            tokens_BxWxT=tokens_BxWxT,
            scores_BxW=scores_BxW,
            ended_tokens_BxWxT=ended_tokens_BxWxT,
            ended_scores_BxW=ended_scores_BxW,
            ended_BxW=ended_BxW,
            open_B=state.open_B & better_B & ~(full_B & (early is True)),
            cache=dataclasses.replace(cache, self_attention=past),
        )

    state = jax.lax.while_loop(unfinished, advance, start)
    W = decoding.num_outputs
    return state.ended_tokens_BxWxT[:, :W], state.ended_scores_BxW[:, :W]


def _extend(tokens_BxWxT, scores_BxWxV, t):
    """The W best extensions: scores_BxW, tokens_BxWxT, and of each its beam and its last token [B, W]."""
    B, W = scores_BxWxV.shape[:2]
    # First within each beam, then among the W * W winners: far cheaper than one search over W * V.
    within_BxWxW, token_BxWxW = jax.lax.top_k(scores_BxWxV, W)
    best_BxW, flat_BxW = jax.lax.top_k(within_BxWxW.reshape(B, W * W), W)
    beam_BxW = flat_BxW // W
    token_BxW = jnp.take_along_axis(token_BxWxW.reshape(B, W * W), flat_BxW, axis=1)
    tokens_BxWxT = jnp.take_along_axis(tokens_BxWxT, beam_BxW[..., None], axis=1)
    return best_BxW, tokens_BxWxT.at[:, :, t].set(token_BxW), beam_BxW, token_BxW
