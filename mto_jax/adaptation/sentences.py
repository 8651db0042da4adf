# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A corpus as clean sentences: reading, splitting into sentences, a seeded sample."""

import heapq
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mto_jax.adaptation.counts import Counts
from mto_jax.errors import UserError, unknown
from mto_jax.files import short_hash
from mto_jax.text2text import readers, text_files


class Sentence(NamedTuple):
    """A sentence, and where it comes from: "FILE:LINE"."""

    text: str
    source: str


def corpus_files(corpus: str, format: str) -> tuple[list[str], str]:
    """The text files of a corpus, and their format.

    Args:
      corpus: a file or folder, or a name of `text_files.text_corpora` or `text_files.GENERATED`;
        the latter have no file.
      format: of a file or folder: "lines" or "paragraphs".

    Raises:
      UserError: no such corpus, file or format.
    """
    if format not in text_files.FORMATS:
        raise unknown("format of text files", format, text_files.FORMATS)
    known = text_files.text_corpora()
    if corpus in text_files.GENERATED:
        return [], format
    if corpus in known:
        path, format = known[corpus]
        return text_files.text_files(path), format
    try:
        return text_files.text_files(corpus), format
    except UserError as error:
        names = unknown("corpus", corpus, [*text_files.GENERATED, *known])
        raise UserError(f"{error} A corpus is a path or a name. {names}") from None


def documents(corpus: str, format: str) -> Iterator[Sentence]:
    """The documents of a corpus (see `corpus_files`) with their places; blank lines are skipped.

    Raises:
      UserError: no such corpus; a file that is empty, not UTF-8 or a damaged gzip file.
    """
    files, format = corpus_files(corpus, format)
    if corpus in text_files.GENERATED:
        for number, text in enumerate(text_files.GENERATED[corpus](), 1):
            yield Sentence(text, f"{corpus}:{number}")
    for file in files:
        name = file.rpartition("/")[2]
        for filled, lines in itertools.groupby(readers.lines(file), lambda x: bool(x[1].strip())):
            if filled and format == "paragraphs":
                numbers, texts = zip(*lines, strict=True)
                lines = [(numbers[0], " ".join(texts))]
            for number, text in lines if filled else ():
                yield Sentence(text, f"{name}:{number}")


# An end mark, closing quotes, space, and (looked at only) opening quotes and the next letter or
# digit.
_END = re.compile(r"[.!?]+[\"')\]’”]*\s+(?=[\"'(\[‘“]*([^\W_]))")
_ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Mt|Fig|No|Gen|Col|Sen|Rep|Gov|Capt|Lt|Jr|Sr"
    r"|vs?|cf|e\.g|i\.e)\.$"
)


def split_sentences(document: str) -> list[str]:
    """Return the sentences of a text; no end mark before a small letter or after an abbreviation.

    >>> split_sentences("Dr. Lee came. He sat down! Was it 3 p.m. then?")
    ['Dr. Lee came.', 'He sat down!', 'Was it 3 p.m. then?']
    """
    sentences, start = [], 0
    for end in _END.finditer(document):
        before = document[max(start, end.start() - 6) : end.start() + 1]
        if not end[1].islower() and not _ABBREVIATION.search(before):
            sentences.append(document[start : end.end()].strip())
            start = end.end()
    return [*sentences, document[start:].strip()]


def clean(text: str) -> str:
    """A sentence as the pairs hold it: Unicode form NFKC, single spaces, no full stop at the end.

    T5's vocabulary reads text in the form NFKC, so what a model says can be found in the sentence;
    the tails of knowledge bases have no full stop. A sentence wholly in double quotes loses them.

    >>> clean('"A  bee is a ﬂying animal."')
    'A bee is a flying animal'
    """
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    if text[:1] == text[-1:] == '"' and text.count('"') == 2:
        text = text[1:-1].strip()
    return text.rstrip(". ")


def draw(
    documents: Iterable[Sentence],
    report: Counts,
    *,
    min_words: int,
    max_words: int,
    count: int | None,
    seed: int,
) -> list[Sentence]:
    """A seeded sample of the distinct sentences of the right length, in random order.

    Every choice follows from a digest of (seed, sentence), not from the order of the corpus. A
    corpus of any size is read as a stream; what stays is the sample, and some 100 bytes for each
    distinct sentence.

    Args:
      documents: texts of any length.
      report: receives what was read and dropped.
      min_words: shorter sentences are dropped.
      max_words: longer ones are.
      count: most sentences to draw; None takes all.
    """

    def candidates() -> Iterator[tuple[bytes, Sentence]]:
        seen = set()
        for document, source in documents:
            for text in map(clean, split_sentences(document)):
                report.read += 1
                words = len(text.split())
                digest = short_hash(f"{seed}\0{text}")
                if words < min_words:
                    report.drop(f"fewer than {min_words} words", text)
                elif words > max_words:
                    report.drop(f"more than {max_words} words", text)
                elif "<extra_id_" in text:
                    report.drop("a sentinel in the text", text)
                elif digest in seen:
                    report.drop("repeated", text)
                else:
                    seen.add(digest)
                    yield digest, Sentence(text, source)

    before = report.dropped.total()
    ranked = sorted(candidates()) if count is None else heapq.nsmallest(count, candidates())
    drawn = [sentence for _, sentence in ranked]
    left = report.read - (report.dropped.total() - before) - len(drawn)
    if left:
        report.dropped[f"not among the {count} sentences drawn"] += left
    return drawn
