# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding: from source tokens to the tokens that a model predicts.

`decode` takes any number of inputs of any length, sorts them by length, pads them to one of a few
bucket lengths and so runs one compiled program per bucket (`search.program`).

    decode(model, inputs, Decoding(max_length=32), vocabulary)          # greedy
    decode(model, inputs, Decoding(preset="beam", num_outputs=3), vocabulary)
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import gin
import jax
import numpy as np

from mto_jax import checks, errors, fields
from mto_jax.data.packing import bucket
from mto_jax.decoding import replicas, search
from mto_jax.models.encoder_decoder import EncoderDecoder

DECODING_METHODS = ("greedy", "sample", "beam", "beam_sample")
_BEAMS, _DRAWS = ("beam", "beam_sample"), ("sample", "beam_sample")
# What a preset says in place of the defaults of `Decoding`.
PRESETS: dict[str, dict[str, Any]] = {
    "greedy": {"method": "greedy"},
    "beam": {"method": "beam"},
    # As the authors of MTO decoded.
    "authors": {
        "method": "beam_sample",
        "num_beams": 5,
        "top_k": 10,
        "top_p": 0.9,
        "repetition_penalty": 5.5,
    },
}
# Sources that one call of the program takes, in batches: slots that become free are refilled from
# them.
BATCHES_PER_CALL = 8


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Decoding:
    """Settings of decoding. The defaults are greedy and deterministic; lengths count tokens.

    A token of the vocabulary counts towards `max_length` and `min_length` whether it was forced by
    `prefix` or chosen, the final EOS towards `max_length` alone (Hugging Face counts the start
    token as well: its lengths are ours plus one). The options mean what they mean to Hugging Face
    `generate`.

    Raises:
      UserError: a value is out of range, or an option has no effect with the method.
    """

    preset: str = "greedy"  # "greedy", "beam" or "authors": what is None below comes from there
    method: str | None = None  # "greedy", "sample", "beam" or "beam_sample"
    max_length: checks.Count = 64
    min_length: checks.Natural = 0  # EOS (and other ends) cannot come before so many tokens
    prefix: str = ""  # text that every output starts with, e.g. "<extra_id_0>"
    stop_at_sentinel: bool = False  # <extra_id_1>, <extra_id_2>, ... end an output as EOS does
    num_outputs: checks.Count = 1  # outputs for each input, best first; "greedy" has one
    repetition_penalty: float | None = None  # above 1: tokens that came before are less likely
    no_repeat_ngram_size: int = 0  # no output has an n-gram of this size twice; 0: it may
    num_beams: int | None = None  # beams: hypotheses of each input, 5 by default
    length_penalty: float = 1.0  # beams: scores are divided by length ** length_penalty
    early_stopping: bool | str = False  # beams: True, False or "never", see `search`
    temperature: float = 1.0  # sampling: logits are divided by it
    top_k: int | None = None  # sampling: only the k most likely tokens; 0 for all
    top_p: float | None = None  # sampling: only the likeliest tokens with so much probability
    seed: checks.Seed = 0  # sampling

    def __post_init__(self):
        checks.check_fields(self)
        if self.preset not in PRESETS:
            raise errors.unknown("decoding preset", self.preset, PRESETS)
        fallback = {"repetition_penalty": 1.0, "top_k": 0, "top_p": 1.0} | PRESETS[self.preset]
        method = self.method or fallback["method"]
        if method not in DECODING_METHODS:
            raise errors.unknown("decoding method", method, DECODING_METHODS)
        fallback = {"num_beams": 5 if method in _BEAMS else 1} | fallback
        for name, value in fallback.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check_ranges()
        for name, neutral, methods in (
            ("num_beams", 1, _BEAMS),
            ("length_penalty", 1.0, _BEAMS),
            ("early_stopping", False, _BEAMS),
            ("temperature", 1.0, _DRAWS),
            ("top_k", 0, _DRAWS),
            ("top_p", 1.0, _DRAWS),
        ):
            if method not in methods and getattr(self, name) != neutral:
                raise errors.UserError(
                    f"Decoding.{name}={getattr(self, name)!r} has no effect with method "
                    f"{method!r}: leave it out (or set it to {neutral!r}), or set Decoding.method "
                    f"to {' or '.join(methods)}."
                )

    def _check_ranges(self):
        of: Any = self  # what was None has its value by now
        most = {"greedy": 1, "sample": 1 << 16}.get(of.method, of.num_beams)
        for name, valid, rule in (
            ("max_length", of.max_length >= 1, "at least 1"),
            ("min_length", 0 <= of.min_length < of.max_length, "between 0 and max_length - 1"),
            ("repetition_penalty", of.repetition_penalty > 0, "above 0 (1 for none)"),
            ("no_repeat_ngram_size", of.no_repeat_ngram_size >= 0, "0 (none) or more"),
            ("num_beams", of.num_beams >= 1, "at least 1"),
            ("num_outputs", 1 <= of.num_outputs <= most, f"1 to {most} with {of.method!r}"),
            (
                "early_stopping",
                of.early_stopping == "never" or isinstance(of.early_stopping, bool),
                "True, False or 'never'",
            ),
            ("temperature", of.temperature > 0, "above 0 (or use method='greedy')"),
            ("top_k", of.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < of.top_p <= 1, "above 0 and at most 1"),
        ):
            if not valid:
                raise errors.UserError(
                    f"Decoding.{name} is {getattr(self, name)!r}; it must be {rule}."
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, see `fields.from_dict`."""
        return fields.from_dict(cls, values)

    @property
    def rows(self) -> int:
        """W: hypotheses that are decoded for each source."""
        return (self.num_beams or 1) if self.method in _BEAMS else self.num_outputs

    def __str__(self) -> str:
        """Returns method, length and what differs from greedy decoding, as keyword arguments."""
        plain = dataclasses.asdict(Decoding.from_dict({})) | {"method": None, "max_length": None}
        options = {
            name: value for name, value in dataclasses.asdict(self).items() if name != "preset"
        }
        return ", ".join(f"{k}={v!r}" for k, v in options.items() if v != plain[k])


class Output(NamedTuple):
    """An output of the decoder.

    Attributes:
      tokens: the ids, forced prefix and end token included, padding removed.
      score: what the outputs of an input are ordered by: the log-likelihood, or with beams the sum
        of the log-probabilities after penalties (and, when beams are sampled, after temperature),
        divided by the number of chosen tokens to the power of the length penalty.
      log_likelihood: log-probability of the chosen tokens under the model (natural logarithm, the
        forced prefix not counted).
    """

    tokens: list[int]
    score: float
    log_likelihood: float


def decode(
    model: EncoderDecoder,
    inputs: Sequence[Sequence[int]],
    decoding: Decoding,
    vocabulary: Any,
    *,
    soft_prefix: Sequence[int] = (),
    batch_size: int = 32,
    first_index: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> list[list[Output]]:
    """Returns `num_outputs` outputs for each input, in the order of the inputs.

    (Beam sampling may find fewer outputs where very few tokens may be drawn.)

    Args:
      model: a `T5`.
      inputs: token ids of each source, with EOS. One of several pieces, each with the model's EOS
        at its end, is encoded piece by piece, and the decoder reads them all.
      vocabulary: a `Vocabulary`; it gives the ids of padding, EOS and the sentinels.
      soft_prefix: ids of soft tokens that the decoder reads before the first token of every output.
        They are no part of the outputs, and no length counts them.
      batch_size: sources at once, on all devices together (see `replicas`); a program is compiled
        for this size (or for the next power of two above the number of inputs, if that is smaller)
        and each bucket length that occurs.
      first_index: number of the first input in the whole job; what is sampled for an input depends
        on `Decoding.seed` and its number, not on its batch.
      progress: called with the number of inputs just done.
    """
    text_prefix, soft = vocabulary.encode(decoding.prefix), len(soft_prefix)
    if len(text_prefix) >= decoding.max_length:
        raise errors.UserError(
            f"Decoding.prefix {decoding.prefix!r} has {len(text_prefix)} tokens, which leaves "
            f"nothing to decode within Decoding.max_length={decoding.max_length}. Raise max_length."
        )
    prefix = (*map(int, soft_prefix), *text_prefix)
    steps = dataclasses.replace(
        decoding,
        preset="greedy",
        prefix="",
        seed=0,
        max_length=decoding.max_length + soft,
        min_length=decoding.min_length and decoding.min_length + soft,
    )
    stops = [model.config.eos_id]
    if decoding.stop_at_sentinel:
        stops += [vocabulary.sentinel_id(i) for i in range(1, vocabulary.extra_ids)]
    replicated, mesh = replicas.replicate(model, min(len(inputs), batch_size), incremental=True)
    devices = replicas.num_devices(mesh)
    outputs: list[list[Output]] = [[] for _ in inputs]
    for chosen, tokens_MxS, lengths_M in bucketed(
        inputs, batch_size, vocabulary.pad_id, batches=BATCHES_PER_CALL, multiple=devices
    ):
        keys_M = keys(decoding.seed, first_index + np.resize(chosen, len(tokens_MxS)))
        hypotheses = search.program(
            replicated,
            tokens_MxS,
            lengths_M,
            keys_M,
            np.array(stops, np.int32),
            vocabulary.size,
            decoding=steps,
            prefix=prefix,
            start_id=model.config.decoder_start_id,
            slots=-(-min(batch_size, len(tokens_MxS)) // devices),
            mesh=mesh,
        )
        hypotheses = jax.device_get(hypotheses)
        for row, index in enumerate(chosen):
            outputs[index] = [
                Output(
                    _trim(tokens_T, len(prefix), stops, vocabulary.eos_id)[soft:],
                    float(score),
                    float(log_likelihood),
                )
                for tokens_T, score, log_likelihood in zip(
                    *(x[row] for x in hypotheses), strict=True
                )
                if score > search.NEG_INF / 2
            ]
            if not outputs[index]:
                raise errors.UserError(
                    f"The model's scores for input {first_index + index} are not finite: its "
                    "weights are damaged, or the input has an id that the model has no embedding "
                    "for."
                )
        progress(len(chosen))
    return outputs


def bucketed(
    sequences: Sequence[Sequence[int]],
    batch_size: int,
    pad_id: int = 0,
    *,
    batches: int = 1,
    multiple: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields rows of similar length, longest first: (indices [n], tokens_MxS, lengths_M).

    M is `batch_size * batches`. S is the least bucket length that holds the rows. Rows past the
    n-th are padding of length 0. Rows that would do with a smaller bucket wait for one, unless a
    batch is not full without them. A set that fits in one batch comes in one, of the next power of
    two (at most `batch_size`) rows. Either is rounded up to a `multiple`.
    Longest first, so that a program too large for the memory fails at once.
    """
    if len(sequences) <= batch_size:
        batch_size, batches = min(batch_size, 1 << max(len(sequences) - 1, 0).bit_length()), 1
    batch_size += -batch_size % multiple
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    start = 0
    while start < len(order):
        chosen = np.array(order[start : start + batch_size * batches])
        buckets = np.array([bucket(len(sequences[i])) for i in chosen])
        chosen = chosen[: max(batch_size, np.sum(buckets == buckets[0]))]
        tokens_MxS = np.full((batch_size * batches, buckets[0]), pad_id, np.int32)
        lengths_M = np.zeros(batch_size * batches, np.int32)
        for row, index in enumerate(chosen):
            lengths_M[row] = len(sequences[index])
            tokens_MxS[row, : lengths_M[row]] = sequences[index]
        yield chosen, tokens_MxS, lengths_M
        start += len(chosen)


def _trim(tokens_T: np.ndarray, start: int, stops: Sequence[int], eos_id: int) -> list[int]:
    """Returns the tokens up to and with the first end token from index `start` on.

    The model's own EOS, the first of the `stops`, becomes the vocabulary's.
    """
    ends = np.flatnonzero(np.isin(tokens_T[start:], stops))
    tokens = tokens_T[: start + ends[0] + 1 if len(ends) else None].tolist()
    return [*tokens[:-1], eos_id] if len(ends) and tokens[-1] == stops[0] else tokens


@jax.jit
def keys(seed: jax.Array, indices_M: jax.Array) -> jax.Array:
    """Returns the key of each input, for sampling."""
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(indices_M)
