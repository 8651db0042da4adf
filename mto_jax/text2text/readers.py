# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows of TSV, CSV, JSONL and text files (also .gz), and records; errors name file and line."""

import csv
import dataclasses
import gzip
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mto_jax.errors import UserError
from mto_jax.text2text.records import Generation, LabelledText, MultipleChoice, Record, Triple, tidy

Row = dict[str, Any]

csv.field_size_limit(1 << 30)


def data_path(relative: str) -> pathlib.Path:
    """A file of the user's data folder (MTO_DATA_DIR); an absolute path stays as it is.

    Raises:
        UserError: the path is relative and MTO_DATA_DIR is not set.
    """
    path = pathlib.Path(relative).expanduser()
    if path.is_absolute():
        return path
    folder = os.environ.get("MTO_DATA_DIR")
    if not folder:
        raise UserError(
            f"The environment variable MTO_DATA_DIR is not set. Set it to the folder that holds "
            f"'{relative}', for example: export MTO_DATA_DIR=$HOME/data"
        )
    return pathlib.Path(folder) / path


def raw_lines(path: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """Yields (line number from 1, line) of a file (.gz too), each checked to be UTF-8.

    Raises:
        UserError: no such file, a folder, a file without the right to read it, a line that is not
            UTF-8, a damaged or truncated .gz.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a file.")
    if not path.exists():
        raise UserError(f"There is no file {path}. Check the path.")
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line.decode()
                yield number, line
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: byte {error.start + 1} of the line "
            f"(0x{error.object[error.start]:02x}) is not valid UTF-8. Save the file as UTF-8, for "
            "example with iconv -t UTF-8, or mend the line."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is not a whole gzip file ({error}; after line {number}). Copy it again, or "
            "drop the suffix .gz if it is plain text."
        ) from None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None


def lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end and without a byte order mark) of a text file.

    Raises:
        UserError: see `raw_lines`; an empty file.
    """
    number = 0
    for number, raw in raw_lines(path):
        yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    if number == 0:
        raise UserError(f"{path} is empty. Expected at least one row.")


def rows(
    path: str | os.PathLike, columns: Sequence[str] | None = None, *, broken: bool = False
) -> Iterator[tuple[int, Row]]:
    """(line number, fields by name) of every row of a table.

    The format follows the suffix (before .gz): .jsonl holds an object per line; .json the same or
    one list of objects; .csv is comma-separated with quotes; .tsv and .txt are tab-separated and
    quotes are ordinary text.

    Args:
        path: the file.
        columns: the names of the columns; None takes them from the first line. Not used for JSON. A
            tab-separated file of one named column is plain text: a tab is no end of a field.
        broken: leave out rows with another number of fields.

    Raises:
        UserError: see `lines`; no row; a column named twice; a row with another number of fields; a
            quote that does not end; what is no JSON object.
    """
    path = pathlib.Path(path)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix in (".jsonl", ".json"):
        table = _json_rows(path) if suffix == ".jsonl" else _json_list_or_rows(path)
    elif suffix == ".csv":
        table = _named(path, _csv_cells(path), columns, broken)
    elif suffix in (".tsv", ".txt"):
        table = _named(path, _tab_cells(path, columns), columns, broken)
    else:
        raise UserError(
            f"{path}: the format of a table is known by its suffix, .tsv, .csv, .jsonl or .txt "
            f"(also followed by .gz), not '{suffix}'. Rename the file."
        )
    number = 0
    for number, row in table:
        yield number, row
    if number == 0:
        raise UserError(f"{path} has no rows. Expected at least one (below a header line, if any).")


def _named(
    path, table: Iterator[tuple[int, list[str]]], columns, broken: bool
) -> Iterator[tuple[int, Row]]:
    for number, cells in table:
        if columns is None:
            columns = cells
            twice = [name for name in columns if columns.count(name) > 1]
            if twice:
                raise UserError(
                    f"{path}, line {number}: the header names the column '{twice[0]}' twice. "
                    "Rename one."
                )
        elif len(cells) == len(columns):
            yield number, dict(zip(columns, cells, strict=True))
        elif not broken:
            raise UserError(
                f"{path}, line {number}: {len(cells)} fields, expected {len(columns)} "
                f"({', '.join(columns)})."
            )


def _tab_cells(path: pathlib.Path, columns) -> Iterator[tuple[int, list[str]]]:
    most_tabs = 0 if columns is not None and len(columns) == 1 else -1
    for number, line in lines(path):
        if line:
            yield number, line.split("\t", most_tabs)


def _csv_cells(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    table = csv.reader((line + "\n" for _, line in lines(path)), strict=True)
    start = 1
    try:
        for cells in table:
            if cells:
                yield start, cells
            start = table.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start}: the row that begins here has bad quotes ({error}). Write "
            'a quote inside a quoted field twice: "".'
        ) from None


def _json_rows(path: pathlib.Path) -> Iterator[tuple[int, Row]]:
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}).") from None
        yield number, _object(row, f"{path}, line {number}")


def _json_list_or_rows(path: pathlib.Path) -> Iterator[tuple[int, Row]]:
    """Yields a list of objects over any number of lines, or, without "[", an object per line."""
    opening = next((line.lstrip()[0] for _, line in lines(path) if line.strip()), "")
    if opening != "[":
        yield from _json_rows(path)
        return
    text = "\n".join(line for _, line in lines(path))
    try:
        count = len(json.loads(text))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error}).") from None
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,\[]*")
    number, end = 1, 0
    for _ in range(count):  # once more one by one, for the line on which each object begins
        start = next(between.finditer(text, end)).end()
        number += text.count("\n", end, start)
        row, stop = decoder.raw_decode(text, start)
        yield number, _object(row, f"{path}, line {number}")
        number, end = number + text.count("\n", start, stop), stop


def _object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{place}: expected a JSON object, found {json.dumps(row)[:60]}.")
    return row


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
    """

    names: tuple[str, ...]
    build: Callable[[Row], Record | None]
    columns: tuple[str, ...] | None = None
    beside: tuple[str, tuple[str, ...]] = ("", ())
    broken: bool = False

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
                missing = column and not beside and column not in row
                hint = f" There is no file {names[0]} with it, either." if missing else ""
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


def cell(row: Row, field: str, column: str) -> Any:
    """The value of a record's field in a row.

    Raises:
        UserError: the row has no such column, or its text is empty.
    """
    if column not in row:
        raise UserError(
            f"there is no column '{column}' for the field '{field}'. The row has: "
            f"{', '.join(row)}. Name the right one with fields={{'{field}': ...}}."
        )
    value = row[column]
    if isinstance(value, str):
        value = tidy(value).strip()
    if value in ("", [], None):
        raise UserError(
            f"the field '{field}' (column '{column}') is empty. Fill it or remove the row."
        )
    return value


@dataclasses.dataclass(frozen=True)
class TripleRow:
    """A row -> a triple. A cell that holds a list (JSON) gives several tails."""

    task: str
    relation: str
    head: str = "head"
    tail: str = "tail"

    def __call__(self, row: Row) -> Triple:
        tails = cell(row, "tail", self.tail)
        tails = tuple(tails) if isinstance(tails, list) else (str(tails),)
        return Triple(self.task, self.relation, str(cell(row, "head", self.head)), tails)


@dataclasses.dataclass(frozen=True)
class GenerationRow:
    """A row -> a free generation. A cell that holds a list (JSON) gives several targets."""

    task: str
    source: str = "source"
    target: str = "target"

    def __call__(self, row: Row) -> Generation:
        targets = cell(row, "target", self.target)
        targets = tuple(targets) if isinstance(targets, list) else (str(targets),)
        return Generation(self.task, str(cell(row, "source", self.source)), targets)


@dataclasses.dataclass(frozen=True)
class LabelledTextRow:
    """A row -> a labelled text; `labels` maps what the file says to the label words."""

    task: str
    labels: tuple[tuple[str, str], ...]
    text: str = "text"
    label: str = "label"
    text2: str = ""

    def __call__(self, row: Row) -> LabelledText:
        raw = str(cell(row, "label", self.label))
        words = {tidy(said): word for said, word in self.labels}
        if raw not in words:
            raise UserError(
                f"the field 'label' (column '{self.label}') is {raw!r}, which is not in the label "
                f"set: {', '.join(map(repr, words))}. Correct the row or add it to labels."
            )
        text2 = str(cell(row, "text2", self.text2)) if self.text2 else ""
        return LabelledText(self.task, str(cell(row, "text", self.text)), words[raw], text2)


@dataclasses.dataclass(frozen=True)
class MultipleChoiceRow:
    """A row -> a question with choices.

    Attributes:
        choices: the column of a list of choices (JSON), or the columns that hold one choice each.
        answer: the column of the right one: its text, its letter (A, B, ...) or its number.
        first_answer: the number of the first choice in that column, 0 or 1.
        context, fact: columns of the optional fields; "" where there are none.
    """

    task: str
    question: str = "question"
    choices: str | tuple[str, ...] = "choices"
    answer: str = "answer"
    first_answer: int = 0
    context: str = ""
    fact: str = ""

    def __call__(self, row: Row) -> MultipleChoice:
        if isinstance(self.choices, str):
            listed = cell(row, "choices", self.choices)
            if not isinstance(listed, list):
                raise UserError(
                    f"the field 'choices' (column '{self.choices}') is no list. Give one column "
                    "for each choice: fields={'choices': ('choice1', 'choice2')}."
                )
        else:
            listed = [cell(row, "choices", column) for column in self.choices]
        choices = tuple(str(choice).strip() for choice in listed)
        number = answer_number(cell(row, "answer", self.answer), choices, self.first_answer)
        context = str(row.get(self.context, "")).strip() if self.context else ""
        fact = str(row.get(self.fact, "")).strip() if self.fact else ""
        question = str(cell(row, "question", self.question))
        return MultipleChoice(self.task, question, choices, number, context, fact)


def answer_number(answer: Any, choices: Sequence[str], first: int = 0) -> int:
    """The zero-based number of an answer given as text of a choice, letter or number.

    >>> answer_number("B", ["bank", "mall"]), answer_number("mall", ["bank", "mall"])
    (1, 1)
    >>> answer_number("2", ["bank", "mall"], first=1)
    1

    Raises:
        UserError: it names none of the choices.
    """
    text = tidy(str(answer)).strip()
    choices = [tidy(choice) for choice in choices]
    if text in choices and not isinstance(answer, int):  # a number of JSON is never a text
        return choices.index(text)
    letters = [chr(ord("A") + i) for i in range(len(choices))]
    numbers = [str(first + i) for i in range(len(choices))]
    for names in (letters, numbers):
        if text in names:
            return names.index(text)
    raise UserError(
        f"the field 'answer' is {text!r}, which is not among the choices: neither one of their "
        f"texts ({', '.join(map(repr, choices))}) nor {letters[0]} to {letters[-1]} nor "
        f"{numbers[0]} to {numbers[-1]}."
    )
