# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records whose answer is asked for: of typed lines, and of the rows of a file.

A query is a record like those of its data set, whose answer is that of some other record: what a
template makes of it has the right source, and a target that says nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mto_jax.errors import UserError, unknown
from mto_jax.text2text import records, registration
from mto_jax.text2text.readers import cell, cells, optional_cell
from mto_jax.text2text.records import Record
from mto_jax.text2text.tables import Row

# How a record of each kind is typed on one line.
FORMS = {
    "triple": "head",
    "multiple_choice": "question | choice | choice ...",
    "labelled_text": "text, or: text | second text",
    "generation": "source",
    records.AS_REGISTERED: "the whole source",
}
# The fields of a query, and whether a row must have them.
_FIELDS: Mapping[str, Mapping[str, bool]] = {
    "triple": {"head": True},
    "multiple_choice": {"question": True, "choices": True, "context": False, "fact": False},
    "labelled_text": {"text": True, "text2": False},
    "generation": {"source": True},
    records.AS_REGISTERED: {"source": True},
}

Columns = Mapping[str, Any]  # of a field: a column, or a tuple of them for choices; "" for none


def of_line(line: str, model: Record) -> Record:
    """Returns the query that a typed line means, a record like `model`.

    Raises:
      UserError: the line has not the fields of the model's kind.
    """
    fields = [field.strip() for field in line.split("|")]
    match model:
        case records.Triple():
            return dataclasses.replace(model, head=line)
        case records.Generation() | records.AsRegistered():
            return dataclasses.replace(model, source=line)
        case records.LabelledText() if len(fields) <= 2:
            return dataclasses.replace(model, text=fields[0], text2="".join(fields[1:]))
        case records.MultipleChoice() if len(fields) >= 3:
            question, *choices = fields
            return dataclasses.replace(
                model, question=question, choices=tuple(choices), answer=0, context="", fact=""
            )
    kind = records.KIND_NAMES[type(model)]
    raise UserError(f"A line of the kind '{kind}' is: {FORMS[kind]} (fields are divided by '|').")


def columns(data: registration.DataSet, named: Columns | None = None) -> dict[str, Any]:
    """Returns the column of each field of a query.

    Args:
      data: a data set; the columns are those of its own files, as far as it names them, else they
        are called like the fields.
      named: columns that are called otherwise.

    Raises:
      UserError: its kind has no such field.
    """
    fields = _FIELDS[data.kind]
    for field in named or ():
        if field not in fields:
            raise unknown(f"field of a {data.kind} record called", field, fields)
    reader = next(iter(data.readers.values()))
    build = getattr(reader, "build", None)
    return {field: getattr(build, field, field) for field in fields} | dict(named or {})


def of_row(row: Row, model: Record, where: Columns) -> Record:
    """Returns the query in a row, a record like `model`; other columns are not looked at.

    Args:
      where: from `columns`.

    Raises:
      UserError: the row lacks the column of a field, or holds no text there.
    """
    values: dict[str, Any] = {}
    for field, required in _FIELDS[records.KIND_NAMES[type(model)]].items():
        column = where[field]
        if field == "choices":
            several = not isinstance(column, str)
            values[field] = (
                tuple(cell(row, field, name) for name in column)
                if several
                else cells(row, field, column)
            )
            values["answer"] = 0
        elif required:
            values[field] = cell(row, field, column)
        elif column in row or column not in ("", field):  # a column that was named has to be there
            values[field] = optional_cell(row, field, column)
        else:
            values[field] = ""
    return dataclasses.replace(model, **values)
