# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A sentence cut in two, (body, tail), and files of such pairs.

The body holds `<extra_id_0>` where the tail was, so that the sentence can be put together again and
the in-place objectives know the gap; the others (`mto_jax.text2text.objectives`) take the mark out
or move it.
"""

import json
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mto_jax.errors import UserError
from mto_jax.files import short_hash
from mto_jax.text2text import phrases as phrase_sets
from mto_jax.text2text import readers

GAP = "<extra_id_0>"
LABELS = ("Filling", "Mapping")

Cut = tuple[int, int]  # where the tail begins and ends in its sentence, in characters


class Pair(NamedTuple):
    """One row of a file of pairs.

    Attributes:
      body: the sentence with `<extra_id_0>` in place of the tail.
      tail: what was cut out.
      label: "Filling" or "Mapping", which decides the objective under `mixed`.
      source: where the sentence comes from, "FILE:LINE".
    """

    body: str
    tail: str
    label: str
    source: str


def cut_out(sentence: str, cut: Cut) -> tuple[str, str]:
    """(body, tail) of a sentence.

    >>> cut_out("a bee makes honey", (12, 17))
    ('a bee makes <extra_id_0>', 'honey')
    """
    start, end = cut
    return f"{sentence[:start]}{GAP}{sentence[end:]}", sentence[start:end]


def restore(body: str, tail: str) -> str:
    """The sentence: the tail back in the gap; a body without a gap is followed by its tail."""
    return body.replace(GAP, tail, 1) if GAP in body else f"{body} {tail}"


class Word(NamedTuple):
    """Offsets in a sentence: a word between spaces, and its core without punctuation around it."""

    start: int
    core_start: int
    core_end: int
    end: int


def words(sentence: str) -> list[Word]:
    """The words of a sentence; one of punctuation alone is its own core.

    >>> words("(dog's) -")
    [Word(start=0, core_start=1, core_end=6, end=7), Word(start=8, core_start=8, core_end=9, end=9)]
    """
    spans = []
    for match in re.finditer(r"\S+", sentence):
        core = [
            i
            for i in range(match.start(), match.end())
            if not unicodedata.category(sentence[i]).startswith("P")
        ]
        first, last = (core[0], core[-1] + 1) if core else match.span()
        spans.append(Word(match.start(), first, last, match.end()))
    return spans


# ------------------------------------------------------------------------------ where to cut
# Each function gives a cut, or says why there is none.


def at_prediction(sentence: str, prediction: str) -> Cut | str:
    """The last place where a splitter's prediction stands in the sentence as whole words.

    >>> at_prediction("an ant carries an ant's egg", "ant")
    (3, 6)
    """
    if not prediction:
        return "the splitter predicts nothing"
    if prediction not in sentence:
        return "the prediction is not in the sentence"
    starts, ends = set(), set()
    for word in words(sentence):
        starts |= {word.start, word.core_start}
        ends |= {word.core_end, word.end}
    start, size = sentence.rfind(prediction), len(prediction)
    while start >= 0 and not (start in starts and start + size in ends):
        start = sentence.rfind(prediction, 0, start + size - 1)
    if start < 0:
        return "the prediction begins or ends inside a word"
    if not any(map(str.isalnum, sentence[:start] + sentence[start + size :])):
        return "the prediction is the whole sentence"
    return start, start + size


def suffixes(sentence: str) -> list[str]:
    """Every tail that begins at a word after the first and goes to the end, the longest first.

    >>> suffixes("a bee makes (sweet) honey.")
    ['bee makes (sweet) honey', 'makes (sweet) honey', 'sweet) honey', 'honey']
    """
    spans = words(sentence)
    return [sentence[word.core_start : spans[-1].core_end] for word in spans[1:]]


def at_random(sentence: str, seed: int, max_words: int) -> Cut | str:
    """A random span of 1 to `max_words` words, at most half of the sentence, all lengths alike.

    The span follows from (seed, sentence) alone. Punctuation around it stays in the body.
    """
    spans = words(sentence)
    if len(spans) < 2:
        return "fewer than two words"
    digest = short_hash(f"{seed}\0span\0{sentence}")
    size = 1 + int.from_bytes(digest[:8], "big") % min(max_words, len(spans) // 2)
    first = int.from_bytes(digest[8:], "big") % (len(spans) - size + 1)
    return spans[first].core_start, spans[first + size - 1].core_end


def phrase_patterns(phrases: Iterable[str] | None) -> list[re.Pattern[str]]:
    """Patterns that find templates' phrases in a sentence, the longest phrase first.

    Args:
      phrases: "is used for", or with the head's place: "you are likely to find H in"; the tail
        follows the phrase, or stands at the word T. None takes those of all ATOMIC-2020 relations.

    Raises:
      UserError: no phrase, one without words, or with two places for the head or the tail.
    """
    if phrases is None:
        phrases = map(phrase_sets.relation_phrase, phrase_sets.RELATIONS)
    patterns = [_pattern(phrase) for phrase in sorted(set(phrases), key=lambda p: (-len(p), p))]
    if not patterns:
        raise UserError(
            "PairConfig.phrases is empty: name at least one phrase, or None for ATOMIC's."
        )
    return patterns


def _pattern(phrase: str) -> re.Pattern[str]:
    pieces = re.split(r"\b([HT])\b", " ".join(phrase.split()))
    if "H" not in pieces:
        pieces = ["", "H", f" {pieces[0]}", *pieces[1:]]
    if "T" not in pieces:
        pieces = [*pieces[:-1], f"{pieces[-1]} ", "T", ""]
    if pieces.count("H") > 1 or pieces.count("T") > 1 or not any(map(str.strip, pieces[::2])):
        raise UserError(
            f"The phrase {phrase!r} cannot be looked for: it needs words, and at most one place "
            "for the head (H) and one for the tail (T)."
        )
    pattern = "".join(
        f"(?P<{piece}>.+?)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)
    )
    first = "^" if not pieces[0] else r"(?<!\w)"
    last = "$" if not pieces[-1] else r"(?!\w)"
    return re.compile(first + pattern + last, re.IGNORECASE)


def at_phrase(sentence: str, patterns: Iterable[re.Pattern[str]]) -> Cut | str:
    """The tail of the first pattern that the sentence fits: what follows the phrase.

    >>> at_phrase("a knife is used for cutting", phrase_patterns(["is used for"]))
    (20, 27)
    """
    for pattern in patterns:
        match = pattern.search(sentence)
        if match and any(map(str.isalnum, match["T"])):
            return match.span("T")
    return "no phrase between a head and a tail"


# ------------------------------------------------------------------------------ files


def to_jsonl(pairs: Iterable[Pair]) -> str:
    """The pairs, one JSON object a line."""
    return "".join(json.dumps(pair._asdict(), ensure_ascii=False) + "\n" for pair in pairs)


def read(path: str | os.PathLike) -> Iterator[Pair]:
    """Return the pairs of a JSONL file: body, tail and, for `mixed`, label; source is optional.

    Raises:
      UserError: no such file, or a row that is no pair; file, line and field are named.
    """
    path = pathlib.Path(path)
    if path.suffix not in (".jsonl", ".gz"):
        raise UserError(f"{path}: a file of pairs is JSONL, its name ends in .jsonl or .jsonl.gz.")
    for number, row in readers.rows(path):
        _check(row, f"{path}, line {number}")
        yield Pair(row["body"], row["tail"], row.get("label", ""), str(row.get("source", "")))


def _check(row: Mapping, place: str) -> None:
    for field in ("body", "tail"):
        value = row.get(field)
        if not isinstance(value, str) or not value.replace(GAP, "").strip():
            raise UserError(f"{place}: the field {field!r} must be a text, but is {value!r}.")
    if row["body"].count(GAP) > 1 or GAP in row["tail"]:
        raise UserError(
            f"{place}: {GAP} marks the gap, once in the body or not at all, and never in the tail."
        )
    if row.get("label", "") not in ("", *LABELS):
        raise UserError(
            f"{place}: the field 'label' is {row['label']!r}; expected {' or '.join(LABELS)}."
        )
