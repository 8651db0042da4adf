# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows of TSV, CSV, JSON and text files (also .gz) by name; errors name file and line."""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import pathlib
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mto_jax.errors import UserError

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
    """Yields (line number from 1, line in UTF-8) of a file (.gz too), or of standard input ("-").

    Lines end in LF, CR LF or CR. A file that begins with the byte order mark of UTF-16, as
    spreadsheets write it, is read as such.

    Raises:
        UserError: no such file, a folder, a file without the right to read it, a line that is not
            UTF-8 or holds a zero byte, a damaged or truncated .gz.
    """
    name = "standard input" if path == "-" else os.fspath(path)
    number = 0
    try:
        with _opened(path) as file:
            raw: Iterable[bytes] = file
            if file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raw = (line.encode() for line in io.TextIOWrapper(file, "utf-16"))
            ended = (line.splitlines(True) if b"\r" in line else [line] for line in raw)
            for number, line in enumerate(itertools.chain.from_iterable(ended), 1):
                line.decode()
                if b"\0" in line:
                    raise UserError(
                        f"{name}, line {number}: a zero byte; this is no text in UTF-8. If it is "
                        "UTF-16, convert it: iconv -f UTF-16LE -t UTF-8 (or UTF-16BE)."
                    )
                yield number, line
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise UserError(f"{name} is damaged: it begins as UTF-16, but {error}.") from None
        raise UserError(
            f"{name}, line {number}: byte {error.start + 1} of the line "
            f"(0x{error.object[error.start]:02x}) is not valid UTF-8. Save the file as UTF-8, or "
            "convert it with iconv -f ENCODING -t UTF-8, where ENCODING is what it was saved in "
            "(often WINDOWS-1252), or mend the line."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{name} is not a whole gzip file ({error}; after line {number}). Copy it again, or "
            "drop the suffix .gz if it is plain text."
        ) from None
    except OSError as error:
        raise UserError(f"Cannot read {name}: {error.strerror or error}.") from None


def _opened(path: str | os.PathLike) -> contextlib.AbstractContextManager[Any]:
    if path == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a file.")
    if not path.exists():
        raise UserError(f"There is no file {path}. Check the path.")
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")


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
    one list of objects; .csv is comma-separated with quotes; .tsv and .txt are tab-separated, and a
    quote is ordinary text but in what pandas writes: a field in quotes with quotes inside that are
    doubled, or a file whose header is in quotes.

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
        table = _named(path, _quoted_cells(path, ","), columns, broken)
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
            twice = [name for name in columns if name and columns.count(name) > 1]
            if len(columns) == 1 and ";" in columns[0] and path.name.split(".")[1:2] == ["csv"]:
                raise UserError(
                    f"{path}, line {number}: the header {columns[0]!r} has semicolons, and a .csv "
                    "file has commas between its fields. Save it with commas."
                )
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


# A field with a quote inside, as pandas and spreadsheets write it; others keep their quotes.
_QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')


def _tab_cells(path: pathlib.Path, columns) -> Iterator[tuple[int, list[str]]]:
    most_tabs = 0 if columns is not None and len(columns) == 1 else -1
    for number, line in lines(path):
        if not line:
            continue
        cells = line.split("\t", most_tabs)
        if number == 1 and most_tabs != 0 and all(re.fullmatch('"[^"]+"', c) for c in cells):
            yield from _quoted_cells(path, "\t")
            return
        if '""' in line and most_tabs:
            cells = [c[1:-1].replace('""', '"') if _QUOTED.fullmatch(c) else c for c in cells]
        yield number, cells


def _quoted_cells(path: pathlib.Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    text = (line + "\n" for _, line in lines(path))
    table = csv.reader(text, strict=True, delimiter=delimiter)
    start = 1
    try:
        for cells in table:
            if any(cells):
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
        except (ValueError, RecursionError) as error:
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
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise UserError(f"{path}, line {line}: not JSON ({error}).") from None
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
