# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pre-training objectives: how raw text becomes a pair (inputs, targets).

Every objective is a plain numpy function, deterministic in its random generator:

    corrupt(example, rng, vocab, lengths, **parameters) -> (inputs, targets)

(or None, which leaves the example out).
`example` is the tokens of a text, int32 [n] with n >= 2 and no sentinel among them, or a
`TextPair`. `lengths` are the feature lengths {"inputs": S, "targets": T}, EOS included. The results
are int32 without EOS; they fit the lengths whenever the text is no longer than the objective's raw
length. Keyword-only parameters are gin parameters of the function's name
(`span_corruption.noise_density = 0.3`).

Sentinels count up in the order of the text, the same in inputs and targets: `<extra_id_0>` stands
for the first gap, and in the targets it *precedes* the tokens of that gap. No closing sentinel is
written.

`OBJECTIVES` is the table of all, to which `register_objective` adds a user's;
`preprocessing.preprocessor(name)` makes a SeqIO preprocessor of a row.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import gin
import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.text2text.vocabulary import Vocabulary

Lengths = Mapping[str, int]
Corrupted = tuple[np.ndarray, np.ndarray]

SHORTEST = 2  # tokens: one to see and one to predict


@dataclass(frozen=True)
class Objective:
    """A row of `OBJECTIVES`.

    Attributes:
      corrupt: the gin-configurable function; None leaves the example out.
      raw_length: (lengths, vocab, **parameters of `corrupt`) -> the longest text whose pair fits
        the lengths. Longer documents are cut into chunks of it.
      fields: string fields that a dataset has to have: a text, or the parts of a `TextPair`.
    """

    corrupt: Callable[..., Corrupted | None]
    raw_length: Callable[..., int]
    fields: tuple[str, ...] = ("text",)


TEXT, PAIR = ("text",), ("body", "tail")
OBJECTIVES: dict[str, Objective] = {}


def same_length(lengths: Lengths, vocab: Vocabulary, **parameters) -> int:
    """Raw length where neither inputs nor targets are longer than the text."""
    if "noise_density" in parameters:
        _check(parameters["noise_density"])
    return min(lengths["inputs"], lengths["targets"]) - 1


def register_objective(
    *, raw_length: Callable[..., int] = same_length, fields: tuple[str, ...] = TEXT
) -> Callable[[Callable], Callable]:
    """Returns a decorator that makes a function an objective of its name, and gin-configurable.

    Tasks `<data>_<name>` exist of data that is registered afterwards, and of that of MTO-JAX.
    `fields` ("body", "tail") make it an objective of `mto adapt`, mappings and grids.

    Raises:
      UserError: there is another objective of that name.
    """

    def register(corrupt: Callable) -> Callable:
        name = corrupt.__name__
        if name in OBJECTIVES:
            raise UserError(f"There is an objective {name!r} already: rename the function.")
        OBJECTIVES[name] = Objective(gin.configurable(corrupt), raw_length, fields)
        return OBJECTIVES[name].corrupt

    return register


# ------------------------------------------------------------------------------ spans


def span_counts(
    length: int, noise_density: float, mean_span_length: float, sentinels: int = 100
) -> tuple[int, int]:
    """Returns how many of `length` >= 2 tokens are noise, and in how many spans.

    Noise tokens: length * density, rounded (halves to even), at least 1 and at most length - 1.
    Spans: noise / mean span length, rounded, at least 1; never more than there are noise tokens,
    kept tokens or sentinels. So a long text that wants more spans than there are sentinels gets
    fewer, longer spans of the same total.

    >>> span_counts(568, 0.15, 3.0)
    (85, 28)
    """
    noise = min(max(round(length * noise_density), 1), length - 1)
    spans = max(round(noise / mean_span_length), 1)
    return noise, min(spans, noise, length - noise, sentinels)


def span_corruption_lengths(
    inputs_length: int, noise_density: float = 0.15, mean_span_length: float = 3.0
) -> tuple[int, int]:
    """Raw length whose corruption fills `inputs_length`, and the targets' length (with EOS).

    As T5 chooses them (Raffel et al. 2020, section 3.1.4).

    >>> span_corruption_lengths(512)
    (568, 114)
    """
    _check(noise_density, mean_span_length)

    def sizes(length: int) -> tuple[int, int]:
        return _sizes(length, noise_density, mean_span_length, 100)

    raw = _longest(lambda length: sizes(length)[0] <= inputs_length)
    return raw, sizes(raw)[1]


def _sizes(length: int, *noise) -> tuple[int, int]:
    """Lengths of inputs and targets, EOS included, of `length` tokens with such `span_counts`."""
    noise_tokens, spans = span_counts(length, *noise)
    return length - noise_tokens + spans + 1, noise_tokens + spans + 1


def _longest(fits: Callable[[int], bool]) -> int:
    """The largest length that fits, where all shorter ones do; 1 if not even two tokens fit."""
    length = 1
    while fits(length + 1):
        length += 1
    return length


def _check(fraction: float, mean_span_length: float = 1.0) -> None:
    if not 0 < fraction < 1:
        raise UserError(
            f"An objective's noise_density or prefix_fraction is {fraction}, but must lie between "
            "0 and 1."
        )
    if mean_span_length < 1:
        raise UserError(f"mean_span_length is {mean_span_length} tokens, but must be at least 1.")


def _span_raw_length(
    lengths: Lengths,
    vocab: Vocabulary,
    *,
    noise_density: float,
    mean_span_length: float,
    anywhere: bool = False,
) -> int:
    _check(noise_density, mean_span_length)

    def fits(length: int) -> bool:
        inputs, targets = _sizes(length, noise_density, mean_span_length, vocab.extra_ids)
        return inputs <= lengths["inputs"] and targets <= lengths["targets"]

    return _longest(fits)


def _segment_ends(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Ends of `count` non-empty segments of `total` items, every such division equally likely."""
    ends = np.full(count, total)
    ends[:-1] = rng.permutation(total - 1)[: count - 1] + 1
    ends.sort()
    return ends


def _insert(tokens: np.ndarray, at: np.ndarray, inserted: np.ndarray) -> np.ndarray:
    """`inserted` at the positions `at` of the result, `tokens` in order at all others."""
    result = np.empty(len(tokens) + len(inserted), np.int32)
    from_tokens = np.ones(len(result), bool)
    from_tokens[at] = False
    result[at] = inserted
    result[from_tokens] = tokens
    return result


def _corrupt_spans(
    tokens: np.ndarray,
    rng: np.random.Generator,
    vocab: Vocabulary,
    noise_density: float,
    mean_span_length: float,
    anywhere: bool = False,
) -> Corrupted:
    vocab.sentinel_id(0)  # raises where there are none
    noise, spans = span_counts(len(tokens), noise_density, mean_span_length, vocab.extra_ids)
    kept = len(tokens) - noise
    if anywhere:  # one kept segment more; the two outer ones may be empty
        kept_ends = _segment_ends(kept + 2, spans + 1, rng)[:-1] - 1
    else:
        kept_ends = _segment_ends(kept, spans, rng)
    noise_ends = _segment_ends(noise, spans, rng)
    noise_starts = np.zeros(spans, np.int64)
    noise_starts[1:] = noise_ends[:-1]
    # +1 where a noise span begins in the text, -1 after its end: the running sum is 1 inside.
    step = np.zeros(len(tokens) + 1, np.int8)
    step[kept_ends + noise_starts] = 1
    step[kept_ends + noise_ends] = -1
    is_noise = np.cumsum(step[:-1], dtype=np.int8).view(bool)
    order = np.arange(spans)
    sentinels = vocab.sentinels[:spans]
    inputs = _insert(tokens[~is_noise], kept_ends + order, sentinels)
    targets = _insert(tokens[is_noise], noise_starts + order, sentinels)
    return inputs, targets


@register_objective(raw_length=_span_raw_length)
def span_corruption(
    tokens: np.ndarray,
    rng: np.random.Generator,
    vocab: Vocabulary,
    lengths: Lengths,
    *,
    noise_density: float = 0.15,
    mean_span_length: float = 3.0,
    anywhere: bool = False,
) -> Corrupted:
    """T5's objective: a sentinel in place of each cut span (Raffel et al. 2020, section 3.1.4).

    `span_counts` noise tokens in as many spans. Kept and noise spans take turns, a kept one first,
    so the text ends with a noise span; the lengths of both are random divisions of their totals.
    That is T5's rule, and in a text so short that it has a single span the noise is always its end.
    With `anywhere` the text may also begin with noise and end with kept tokens, every arrangement
    being equally likely: the better choice where documents are short sentences. The lengths are the
    same.

        text     Thank you for inviting me to your party last week
        inputs   Thank you <extra_id_0> me to your party <extra_id_1>
        targets  <extra_id_0> for inviting <extra_id_1> last week
    """
    return _corrupt_spans(tokens, rng, vocab, noise_density, mean_span_length, anywhere)


def _single_span_raw_length(
    lengths: Lengths, vocab: Vocabulary, *, noise_density: float, sentinel: str
) -> int:
    if sentinel not in ("in_place", "end"):
        raise unknown("single_span_denoising.sentinel", sentinel, ("in_place", "end"))
    return _span_raw_length(
        lengths, vocab, noise_density=noise_density, mean_span_length=float("inf")
    )


@register_objective(raw_length=_single_span_raw_length)
def single_span_denoising(
    tokens: np.ndarray,
    rng: np.random.Generator,
    vocab: Vocabulary,
    lengths: Lengths,
    *,
    noise_density: float = 0.15,
    sentinel: str = "in_place",
) -> Corrupted:
    """One span, anywhere in the text, is cut out; its sentinel stands at the gap or at the end.

        text      a b c d e
        in_place  a <extra_id_0> d e  ->  <extra_id_0> b c
        end       a d e <extra_id_0>  ->  <extra_id_0> b c

    "end" is the denoising of the paper's authors (method.md section 2).
    """
    noise, _ = span_counts(len(tokens), noise_density, np.inf)
    start = rng.integers(len(tokens) - noise + 1)
    left, span, right = np.split(tokens, [start, start + noise])
    mark = np.array([vocab.sentinel_id(0)], np.int32)
    inputs = [left, mark, right] if sentinel == "in_place" else [left, right, mark]
    return np.concatenate(inputs), np.concatenate([mark, span])


# ------------------------------------------------------------------------------ language models


def _prefix_raw_length(
    lengths: Lengths, vocab: Vocabulary, *, prefix_fraction: float | None
) -> int:
    if prefix_fraction is None:
        inputs, targets = lengths["inputs"], lengths["targets"]
        return max(inputs, targets) if min(inputs, targets) >= 2 else 0
    _check(prefix_fraction)

    def fits(length: int) -> bool:
        prefix = _prefix_tokens(length, prefix_fraction)
        return prefix + 1 <= lengths["inputs"] and length - prefix + 1 <= lengths["targets"]

    return _longest(fits)


@register_objective(raw_length=_prefix_raw_length)
def prefix_lm(
    tokens: np.ndarray,
    rng: np.random.Generator,
    vocab: Vocabulary,
    lengths: Lengths,
    *,
    prefix_fraction: float | None = None,
) -> Corrupted:
    """The text's beginning -> its continuation, each at least one token long.

    `prefix_fraction` None: the split is random, uniform over all places where both sides fit the
    lengths. Else the prefix is that share of the text. Raw length: the greatest that fits, for a
    random split max(S, T), with which the shorter side takes every length from 1 to its limit.
    """
    n = len(tokens)
    if prefix_fraction is None:
        low, high = max(1, n - lengths["targets"] + 1), min(n - 1, lengths["inputs"] - 1)
        split = rng.integers(low, high + 1)
    else:
        split = _prefix_tokens(n, prefix_fraction)
    return tokens[:split], tokens[split:]


def _prefix_tokens(length: int, fraction: float) -> int:
    return min(max(round(length * fraction), 1), length - 1)


@register_objective(raw_length=lambda lengths, vocab: lengths["targets"] - 1)
def full_lm(
    tokens: np.ndarray, rng: np.random.Generator, vocab: Vocabulary, lengths: Lengths
) -> Corrupted:
    """Nothing (the inputs are EOS alone) -> the whole text."""
    return tokens[:0], tokens


# ------------------------------------------------------------------------------ token by token


@register_objective()
def iid_denoising(
    tokens: np.ndarray,
    rng: np.random.Generator,
    vocab: Vocabulary,
    lengths: Lengths,
    *,
    noise_density: float = 0.15,
    masked: float = 0.8,
    randomised: float = 0.1,
) -> Corrupted:
    """BERT-style: a token is noise with probability `noise_density`; the target is the text.

    A noise token becomes `<extra_id_0>`, the one mask, with probability `masked`; a random piece
    (uniform, no special id) with probability `randomised`; else it stays (Devlin et al. 2019, 3.1).
    """
    noise = rng.random(len(tokens)) < noise_density
    fate = rng.random(len(tokens))
    words = vocab.words
    pieces = rng.integers(words.start, words.stop, len(tokens), dtype=np.int32)
    inputs = np.where(noise & (fate < masked + randomised), pieces, tokens)
    inputs = np.where(noise & (fate < masked), np.int32(vocab.sentinel_id(0)), inputs)
    return inputs, tokens


@register_objective()
def mass_denoising(
    tokens: np.ndarray,
    rng: np.random.Generator,
    vocab: Vocabulary,
    lengths: Lengths,
    *,
    noise_density: float = 0.15,
) -> Corrupted:
    """MASS-style, as in the T5 paper (table 3): every noise token becomes the mask `<extra_id_0>`.

    Noise tokens are independent and the target is the whole text: `iid_denoising` with nothing
    random.
    """
    mask = rng.random(len(tokens)) < noise_density
    return np.where(mask, np.int32(vocab.sentinel_id(0)), tokens), tokens


@register_objective()
def deshuffling(
    tokens: np.ndarray, rng: np.random.Generator, vocab: Vocabulary, lengths: Lengths
) -> Corrupted:
    """The tokens in random order -> the text."""
    return rng.permutation(tokens), tokens


# ------------------------------------------------------------------------------ UL2

# Mode, noise density, mean span length; None: the last `density` of the text follows its beginning.
UL2_DENOISERS = (
    ("[NLU]", 0.15, 3.0),
    ("[NLU]", 0.15, 8.0),
    ("[NLG]", 0.5, 3.0),
    ("[NLG]", 0.5, 8.0),
    ("[NLG]", 0.5, 64.0),
    ("[NLG]", 0.15, 64.0),
    ("[S2S]", 0.25, None),
)


def _ul2_raw_length(
    lengths: Lengths, vocab: Vocabulary, *, denoisers: Sequence[tuple[str, float, float | None]]
) -> int:
    raw_lengths = []
    for mode, density, mean in denoisers:
        room = {**lengths, "inputs": lengths["inputs"] - len(_mode_tokens(vocab, mode))}
        if mean is None:
            raw = _prefix_raw_length(room, vocab, prefix_fraction=1 - density)
        else:
            raw = _span_raw_length(room, vocab, noise_density=density, mean_span_length=mean)
        raw_lengths.append(raw)
    return min(raw_lengths)


@register_objective(raw_length=_ul2_raw_length)
def ul2(
    tokens: np.ndarray,
    rng: np.random.Generator,
    vocab: Vocabulary,
    lengths: Lengths,
    *,
    denoisers: Sequence[tuple[str, float, float | None]] = UL2_DENOISERS,
) -> Corrupted:
    """UL2's mixture of denoisers (Tay et al. 2022, table 1): each example draws one row, all alike.

    R (short spans, little noise), X (long spans or much noise) and S (prefix LM). The mode token
    opens the inputs as *text* ("[NLU]" for R, "[NLG]" for X, "[S2S]" for S), tokenised like any
    other, which is how UL2 and Flan-UL2 checkpoints are prompted. A row named twice is drawn twice
    as often. Raw length: the smallest among the rows', since the row is drawn after the text is
    cut.
    """
    mode, density, mean_span_length = denoisers[int(rng.integers(len(denoisers)))]
    if mean_span_length is None:
        split = _prefix_tokens(len(tokens), 1 - density)
        inputs, targets = tokens[:split], tokens[split:]
    else:
        inputs, targets = _corrupt_spans(tokens, rng, vocab, density, mean_span_length)
    return np.concatenate([_mode_tokens(vocab, mode), inputs]), targets


@functools.cache
def _mode_tokens(vocab: Vocabulary, mode: str) -> np.ndarray:
    return np.asarray(vocab.encode(mode), np.int32)


# ------------------------------------------------------------------------------ body and tail


class TextPair(NamedTuple):
    """A sentence split in two (method.md sections 2 and 4): what is given and what is predicted.

    Attributes:
      body: int32 [n], the sentence without its tail. One `<extra_id_0>` in it marks the place that
        the tail was cut from; without the mark, the tail followed the body.
      tail: int32 [m].
      label: "Filling" or "Mapping"; only `mixed` reads it.
    """

    body: np.ndarray
    tail: np.ndarray
    label: str = ""


def _around(tokens: np.ndarray, place: int, room: int) -> np.ndarray:
    """At most `room` tokens in a row, with `place` near their middle where the text allows it."""
    start = max(min(place - room // 2, len(tokens) - room), 0)
    return tokens[start : start + room]


def _gap(pair: TextPair, vocab: Vocabulary) -> int:
    """The place in the body that the tail was cut from."""
    gaps = np.flatnonzero(pair.body == vocab.sentinel_id(0))
    return int(gaps[0]) if len(gaps) else len(pair.body)


def _body(pair: TextPair, vocab: Vocabulary, room: int, in_place: bool) -> np.ndarray:
    """The body with its sentinel at the gap or at the end.

    A body longer than `room` keeps what stands nearest to the gap.
    """
    sentinel, gap = vocab.sentinel_id(0), _gap(pair, vocab)
    text = pair.body[pair.body != sentinel]
    if in_place:
        return _around(np.insert(text, gap, sentinel), gap, room)
    return np.append(_around(text, gap, room - 1), np.int32(sentinel))


@register_objective(fields=PAIR)
def lm(
    pair: TextPair, rng: np.random.Generator, vocab: Vocabulary, lengths: Lengths
) -> Corrupted | None:
    """`body` -> `tail`; None where words follow the gap, for then the tail does not go on from it.

    A full stop and the like may follow; it is left out.
    """
    gap = _gap(pair, vocab)
    if any(map(str.isalnum, vocab.decode(pair.body[gap + 1 :]))):
        return None
    return pair.body[:gap][-(lengths["inputs"] - 1) :], pair.tail[: lengths["targets"] - 1]


@register_objective(fields=PAIR)
def denoising(
    pair: TextPair, rng: np.random.Generator, vocab: Vocabulary, lengths: Lengths
) -> Corrupted:
    """`body <extra_id_0>` -> `<extra_id_0> tail`: the authors' form, with the sentinel last."""
    return _body(pair, vocab, lengths["inputs"] - 1, False), _marked_tail(pair, vocab, lengths)


@register_objective(fields=PAIR)
def in_place_denoising(
    pair: TextPair, rng: np.random.Generator, vocab: Vocabulary, lengths: Lengths
) -> Corrupted:
    """As `denoising`, but the sentinel stands where the tail was cut out."""
    return _body(pair, vocab, lengths["inputs"] - 1, True), _marked_tail(pair, vocab, lengths)


def _marked_tail(pair: TextPair, vocab: Vocabulary, lengths: Lengths) -> np.ndarray:
    return np.insert(pair.tail, 0, vocab.sentinel_id(0))[: lengths["targets"] - 1]


MIXED_OBJECTIVES = {"Filling": "denoising", "Mapping": "lm"}
MIXED_IN_PLACE = {"Filling": "in_place_denoising", "Mapping": "lm"}


@register_objective(fields=(*PAIR, "label"))
def mixed(
    pair: TextPair,
    rng: np.random.Generator,
    vocab: Vocabulary,
    lengths: Lengths,
    *,
    objectives: Mapping[str, str] = MIXED_OBJECTIVES,
) -> Corrupted | None:
    """Each pair under the objective that its label chooses (method.md section 2, "Mixed").

    Raises:
      UserError: a label that `objectives` does not name.
    """
    if pair.label not in objectives:
        raise unknown("label of a mixed pair", pair.label, objectives)
    return OBJECTIVES[objectives[pair.label]].corrupt(pair, rng, vocab, lengths)


@register_objective(fields=(*PAIR, "label"))
def in_place_mixed(
    pair: TextPair, rng: np.random.Generator, vocab: Vocabulary, lengths: Lengths
) -> Corrupted | None:
    """As `mixed`, with `in_place_denoising` in place of `denoising`."""
    return mixed(pair, rng, vocab, lengths, objectives=MIXED_IN_PLACE)


# ------------------------------------------------------------------------------ the table


def pair_objectives() -> list[str]:
    """The objectives of a `TextPair`, which `mto adapt` trains with."""
    return [name for name, row in OBJECTIVES.items() if set(PAIR) <= set(row.fields)]


def parameters(name: str) -> dict:
    """The parameters of an objective: its defaults, overridden by gin."""
    function = OBJECTIVES[name].corrupt
    signature = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
    return defaults | gin.get_bindings(function)


def raw_length(name: str, lengths: Lengths, vocab: Vocabulary) -> int:
    """The most tokens of a text whose pair fits `lengths` (EOS included), with gin's parameters.

    Raises:
      UserError: the lengths are too short for the objective; it says how long they must be.
    """
    longest = functools.partial(OBJECTIVES[name].raw_length, vocab=vocab, **parameters(name))
    # One token more than the shortest text: else three tokens could not be cut without leaving one.
    enough = SHORTEST + 1
    if longest(lengths) >= enough:
        return longest(lengths)
    minimum = next(n for n in range(10_000) if longest({"inputs": n, "targets": n}) >= enough)
    raise UserError(
        f"The feature lengths inputs = {lengths['inputs']}, targets = {lengths['targets']} are too "
        f"short for the objective {name!r}: it is sure to work with {minimum} tokens for each. "
        "Raise TASK_FEATURE_LENGTHS."
    )
