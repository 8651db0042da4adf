# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records of the rows of tables; errors name file, line, field and what was found."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mto_jax.errors import UserError
from mto_jax.text2text.records import (
    Generation,
    LabelledText,
    MultipleChoice,
    Record,
    Triple,
    described,
    tidy,
)
from mto_jax.text2text.tables import Row, data_path, lines, rows

_RENAME = " Name the right one with fields={FIELD: COLUMN}."
_OTHER_FORM = (
    " This data set is read as its authors publish it; register_file reads it in another form."
)


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """Records of one file: call it to read them.

    Attributes:
        names: the file's path; when several are given, the first that exists is read. Relative ones
            lie in MTO_DATA_DIR.
        build: makes a record of a row, or None to leave the row out.
        columns: names of the columns of a file without a header line.
        beside: (column, paths) of a text file whose lines belong to the rows one by one, such as
            labels; read when it exists.
        broken: rows with another number of fields are left out.
        own: the user said which columns hold the fields, and may say it otherwise.
    """

    names: tuple[str, ...]
    build: Callable[[Row], Record | None]
    columns: tuple[str, ...] | None = None
    beside: tuple[str, tuple[str, ...]] = ("", ())
    broken: bool = False
    own: bool = False

    def exists(self) -> bool:
        return bool(_existing(self.names))

    def paths(self) -> list[pathlib.Path]:
        """The files that a call reads, as far as they exist."""
        return _existing(self.names)[:1] + _existing(self.beside[1])[:1]

    def check(self) -> None:
        """Raises a UserError if there is no file."""
        if not self.exists():
            first = data_path(self.names[0])
            raise UserError(
                (
                    f"{first} is a folder; expected a file"
                    if first.is_dir()
                    else f"There is no file {first}"
                )
                + "".join(f" (nor {name})" for name in self.names[1:])
                + ". Check MTO_DATA_DIR and the path."
            )

    def __call__(self) -> Iterator[Record]:
        self.check()
        path, *beside = self.paths()
        extra = [text for _, text in lines(beside[0])] if beside else []
        position = -1
        for position, (number, row) in enumerate(rows(path, self.columns, broken=self.broken)):
            if beside and position < len(extra):
                row[self.beside[0]] = extra[position]
            try:
                record = self.build(row)
            except UserError as error:
                column, names = self.beside
                hint = ""
                if column and not beside and column not in row:
                    hint = f" There is no file {names[0]} with it, either."
                elif isinstance(error, MissingColumn):
                    hint = _RENAME if self.own else _OTHER_FORM
                raise UserError(f"{path}, line {number}: {error}{hint}") from None
            except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path}, line {number}: the row does not have the expected form ({error!r}). "
                    f"It has the fields: {', '.join(row)}."
                ) from None
            if record is not None:
                yield record
        if beside and position + 1 != len(extra):
            raise UserError(
                f"{path} has {position + 1} rows, {beside[0]} has {len(extra)} lines: they must go "
                "together line by line."
            )


def _existing(names: Sequence[str]) -> list[pathlib.Path]:
    if not os.environ.get("MTO_DATA_DIR"):
        names = [name for name in names if os.path.isabs(name)]
    return [path for path in map(data_path, names) if path.is_file()]


class MissingColumn(UserError):
    """A row without the column of a field."""


def _cell(row: Row, field: str, column: str) -> Any:
    if column not in row:
        raise MissingColumn(
            f"there is no column '{column}' for the field '{field}'. The row has: {', '.join(row)}."
        )
    return row[column]


def _text(value: Any, place: str) -> str:
    """The text of a value: a text, tidied, or a number as JSON writes it."""
    if isinstance(value, str) and (text := tidy(value).strip()):
        return text
    if isinstance(value, int | float) and type(value) is not bool and math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, str):
        raise UserError(f"{place} is empty. Fill it or remove the row.")
    raise UserError(f"{place} holds {described(value)}; expected a text or a number.")


def _place(field: str, column: str) -> str:
    return f"the field '{field}' (column '{column}')"


def cell(row: Row, field: str, column: str) -> str:
    """Returns the text, or the number as a text, of a record's field in a row.

    Raises:
        UserError: the row has no such column, its text is empty, or it holds null, NaN, a truth
            value, a list or an object.
    """
    return _text(_cell(row, field, column), _place(field, column))


def optional_cell(row: Row, field: str, column: str) -> str:
    """Returns `cell`, or "" where `column` is "" or the row has null, NaN or an empty text."""
    value = _cell(row, field, column) if column else ""
    nothing = (
        value is None or value != value or (isinstance(value, str) and not tidy(value).strip())
    )
    return "" if nothing else _text(value, _place(field, column))


def cells(row: Row, field: str, column: str) -> tuple[str, ...]:
    """Returns the texts of a field that takes several: a list (JSON) of them, or `cell` alone.

    Raises:
        UserError: as `cell`; an empty list.
    """
    value, place = _cell(row, field, column), _place(field, column)
    if not isinstance(value, list):
        return (_text(value, place),)
    if not value:
        raise UserError(f"{place} holds an empty list. Fill it or remove the row.")
    return tuple(_text(entry, f"entry {i} of {place}") for i, entry in enumerate(value, 1))


@dataclasses.dataclass(frozen=True)
class TripleRow:
    """A row -> a triple. A cell that holds a list (JSON) gives several tails."""

    task: str
    relation: str
    head: str = "head"
    tail: str = "tail"

    def __call__(self, row: Row) -> Triple:
        head, tails = cell(row, "head", self.head), cells(row, "tail", self.tail)
        return Triple(self.task, self.relation, head, tails)


@dataclasses.dataclass(frozen=True)
class GenerationRow:
    """A row -> a free generation. A cell that holds a list (JSON) gives several targets."""

    task: str
    source: str = "source"
    target: str = "target"

    def __call__(self, row: Row) -> Generation:
        source, targets = cell(row, "source", self.source), cells(row, "target", self.target)
        return Generation(self.task, source, targets)


@dataclasses.dataclass(frozen=True)
class LabelledTextRow:
    """A row -> a labelled text; `labels` maps what the file says to the label words.

    A truth value (JSON) is looked up as "true" or "false", or else as "True" or "False".
    """

    task: str
    labels: tuple[tuple[str, str], ...]
    text: str = "text"
    label: str = "label"
    text2: str = ""

    def __call__(self, row: Row) -> LabelledText:
        words = {tidy(said).strip(): word for said, word in self.labels}
        raw = _cell(row, "label", self.label)
        if isinstance(raw, bool):
            raw = json.dumps(raw) if json.dumps(raw) in words else str(raw)
        raw = _text(raw, _place("label", self.label))
        if raw not in words:
            raise UserError(
                f"the field 'label' (column '{self.label}') is {raw!r}, which is not in the label "
                f"set: {', '.join(map(repr, words))}. Correct the row or add it to labels."
            )
        text2 = cell(row, "text2", self.text2) if self.text2 else ""
        return LabelledText(self.task, cell(row, "text", self.text), words[raw], text2)


ANSWERS = ("text", "letter", "number")


@dataclasses.dataclass(frozen=True)
class MultipleChoiceRow:
    """A row -> a question with choices.

    Attributes:
        choices: the column of a list of choices (JSON), or the columns that hold one choice each.
        answer: the column of the right one: its text, its letter (A, B, ...) or its number.
        first_answer: the number of the first choice in that column, 0 or 1.
        answer_is: which of `ANSWERS` that column holds; "" for whichever fits alone.
        context, fact: columns of the optional fields; "" where there are none.
    """

    task: str
    question: str = "question"
    choices: str | tuple[str, ...] = "choices"
    answer: str = "answer"
    first_answer: int = 0
    context: str = ""
    fact: str = ""
    answer_is: str = ""

    def __call__(self, row: Row) -> MultipleChoice:
        if isinstance(self.choices, str):
            listed = _cell(row, "choices", self.choices)
            if not isinstance(listed, list):
                raise UserError(
                    f"{_place('choices', self.choices)} holds {described(listed)}; expected a "
                    "list. Or give one column for each choice: "
                    "fields={'choices': ('choice1', 'choice2')}."
                )
            choices = cells(row, "choices", self.choices)
        else:
            listed = [_cell(row, "choices", column) for column in self.choices]
            choices = tuple(cell(row, "choices", column) for column in self.choices)
        answer = cell(row, "answer", self.answer)
        # A number of JSON is the text of a choice only where the choices are numbers, too.
        is_text = isinstance(row[self.answer], str) or not any(isinstance(c, str) for c in listed)
        kinds = (self.answer_is,) if self.answer_is else ANSWERS if is_text else ANSWERS[1:]
        return MultipleChoice(
            self.task,
            cell(row, "question", self.question),
            choices,
            answer_number(answer, choices, self.first_answer, kinds),
            optional_cell(row, "context", self.context),
            optional_cell(row, "fact", self.fact),
        )


def answer_number(
    answer: str, choices: Sequence[str], first: int = 0, kinds: Sequence[str] = ANSWERS
) -> int:
    """The zero-based number of an answer given as text of a choice, letter or number.

    >>> answer_number("B", ["bank", "mall"]), answer_number("mall", ["bank", "mall"])
    (1, 1)
    >>> answer_number("2", ["bank", "mall"], first=1)
    1

    Args:
        answer: what the row says.
        choices: their texts.
        first: the number of the first choice.
        kinds: what the answer may be, of `ANSWERS`.

    Raises:
        UserError: it names none of the choices, or may mean several.
    """
    answer, choices = tidy(answer).strip(), [tidy(choice).strip() for choice in choices]
    names = {
        "text": choices,
        "letter": [chr(ord("A") + i) for i in range(len(choices))],
        "number": [str(first + i) for i in range(len(choices))],
    }
    meant = [(kind, i) for kind in kinds for i, name in enumerate(names[kind]) if name == answer]
    if len({i for _, i in meant}) > 1:
        raise UserError(
            f"the answer {answer!r} is "
            + " and ".join(f"the {kind} of choice {i + 1}" for kind, i in meant)
            + ". Say which is meant with answer_is='text', 'letter' or 'number'; texts must differ."
        )
    if not meant:
        shown = [
            f"one of their texts ({', '.join(map(repr, choices))})"
            if kind == "text"
            else f"{names[kind][0]} to {names[kind][-1]}"
            for kind in kinds
        ]
        raise UserError(
            f"the field 'answer' is {answer!r}, which is not among the choices: neither "
            f"{' nor '.join(shown)}."
        )
    return meant[0][1]
