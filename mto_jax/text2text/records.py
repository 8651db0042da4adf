# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The kinds of record that templates render: plain data, tidied and checked when built.

A record knows two things beside its fields: its `head`, by which few-shot sampling draws and by
which train and test are kept apart, and its `references`, the gold answers for evaluation.
"""

import dataclasses
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TypeGuard

from mto_jax.errors import UserError

# Soft hyphen, zero-width space, word joiner, byte order mark: seen by nobody, but part of a text.
# And halves of characters, which JSON can hold and UTF-8 cannot.
_INVISIBLE = dict.fromkeys([*map(ord, "\u00ad\u200b\u2060\ufeff"), *range(0xD800, 0xE000)])


def tidy(text: str) -> str:
    """Returns the text in Unicode's composed form (NFC), without invisible characters.

    >>> tidy("cafe\\u0301\\u200b") == "caf\\u00e9"
    True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_INVISIBLE))


def described(value: object) -> str:
    """Returns what a cell holds, in words, for an error that expected a text or a number.

    >>> described(None), described(float("nan")), described([1999]), described(" ")
    ('null', 'NaN', 'the list [1999]', 'an empty text')
    """
    match value:
        case None:
            return "null"
        case bool():
            return f"the truth value {json.dumps(value)}"
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case str():
            return repr(value) if value.strip() else "an empty text"
        case list() | tuple():
            return f"the list {str(list(value))[:60]}" if value else "an empty list"
        case dict():
            return f"the object {str(value)[:60]}"
    return f"{type(value).__name__} {str(value)[:60]}"


def _settle(record, *required: str) -> None:
    """Makes every text of the record tidy, and raises a UserError for what is no text or empty."""
    for field, value in vars(record).items():
        if isinstance(value, int):  # the number of an answer
            continue
        texts = value if isinstance(value, tuple) else (value,)
        if all(isinstance(text, str) for text in texts):
            texts = tuple(map(tidy, texts))
            object.__setattr__(record, field, texts if isinstance(value, tuple) else texts[0])
        bad = [t for t in texts if not isinstance(t, str) or (field in required and not t.strip())]
        if bad or (field in required and not texts):
            raise UserError(
                f"The field '{field}' of a {type(record).__name__} holds "
                f"{described(bad[0] if bad else texts)} ({record!r}). Give it a text or remove "
                "the row."
            )


@dataclasses.dataclass(frozen=True)
class Triple:
    """A fact of a knowledge base: head, relation, and every known tail of the two."""

    task: str
    relation: str
    head: str
    tails: tuple[str, ...]

    def __post_init__(self):
        _settle(self, "task", "head", "tails")

    @property
    def references(self) -> tuple[str, ...]:
        return self.tails

    def with_references(self, tails: tuple[str, ...]) -> "Triple":
        return dataclasses.replace(self, tails=tails)


@dataclasses.dataclass(frozen=True)
class MultipleChoice:
    """A question with its choices; `answer` is the zero-based number of the right one."""

    task: str
    question: str
    choices: tuple[str, ...]
    answer: int
    context: str = ""
    fact: str = ""

    def __post_init__(self):
        _settle(self, "task", "question", "choices")
        if type(self.answer) is not int or not 0 <= self.answer < len(self.choices):
            raise UserError(
                f"The answer {self.answer} of the question {self.question!r} is not among its "
                f"{len(self.choices)} choices: it must be a number from 0 to "
                f"{len(self.choices) - 1}."
            )

    @property
    def head(self) -> str:
        return f"{self.context} {self.question}".strip()

    @property
    def references(self) -> tuple[str, ...]:
        return (self.choices[self.answer],)


@dataclasses.dataclass(frozen=True)
class LabelledText:
    """A text, or a pair of texts, with the word that names its class."""

    task: str
    text: str
    label: str
    text2: str = ""

    def __post_init__(self):
        _settle(self, "task", "text", "label")

    @property
    def head(self) -> str:
        return f"{self.text} {self.text2}".strip()

    @property
    def references(self) -> tuple[str, ...]:
        return (self.label,)


@dataclasses.dataclass(frozen=True)
class Generation:
    """A source text and every accepted target text."""

    task: str
    source: str
    targets: tuple[str, ...]

    def __post_init__(self):
        _settle(self, "task", "source", "targets")

    @property
    def head(self) -> str:
        return self.source

    @property
    def references(self) -> tuple[str, ...]:
        return self.targets

    def with_references(self, targets: tuple[str, ...]) -> "Generation":
        return dataclasses.replace(self, targets=targets)


@dataclasses.dataclass(frozen=True)
class AsRegistered:
    """An example of a SeqIO task that has no records: its texts, whose sentinels are sentinels."""

    task: str
    source: str
    target: str
    references: tuple[str, ...]

    @property
    def head(self) -> str:
        return self.source


Record = Triple | MultipleChoice | LabelledText | Generation | AsRegistered

# The kinds that can be registered; the examples of a SeqIO task are of one more.
KINDS: dict[str, type] = {
    "triple": Triple,
    "multiple_choice": MultipleChoice,
    "labelled_text": LabelledText,
    "generation": Generation,
}
AS_REGISTERED = "as_registered"
KIND_NAMES = {record_type: name for name, record_type in KINDS.items()}
KIND_NAMES[AsRegistered] = AS_REGISTERED


def has_many_references(record: Record) -> TypeGuard["Triple | Generation"]:
    """Returns whether the record may hold several gold answers (triples, free generation)."""
    return hasattr(record, "with_references")


def one_per_reference(records: Iterable[Record]) -> Iterator[Record]:
    """Training examples: a record with n tails becomes n records with one tail each."""
    for record in records:
        if has_many_references(record):
            for reference in record.references:
                yield record.with_references((reference,))
        else:
            yield record


def one_per_head(records: Iterable[Record]) -> list[Record]:
    """Evaluation examples: records of one head and relation become one, with all references.

    Repeated references are kept once, and order is kept. Kinds with a single answer pass unchanged.

    >>> one_per_head([Triple("t", "r", "a", ("x",)), Triple("t", "r", "a", ("y", "x"))])
    [Triple(task='t', relation='r', head='a', tails=('x', 'y'))]
    """
    merged: dict[object, Record] = {}
    for record in records:
        key: object = len(merged)
        if has_many_references(record):
            key = (record.task, getattr(record, "relation", ""), record.head)
            known = merged.get(key)
            if known is not None and has_many_references(known):
                every = dict.fromkeys(known.references + record.references)
                record = known.with_references(tuple(every))
        merged[key] = record
    return list(merged.values())


def to_json(record: Record) -> str:
    """The record on one line of JSON, with its kind."""
    return json.dumps({"kind": KIND_NAMES[type(record)], **vars(record)}, ensure_ascii=False)


def from_json(text: str | bytes) -> Record:
    """The inverse of `to_json`."""
    values = json.loads(text)
    kind = values.pop("kind")
    record_type: type = AsRegistered if kind == AS_REGISTERED else KINDS[kind]
    return record_type(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
