# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Queries: what is typed and what stands in rows becomes a record without its answer."""

import itertools

import gin
import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import queries, records, registration

MODELS = {
    "triple": records.Triple("uses", "uses", "cup", ("tea",)),
    "multiple_choice": records.MultipleChoice("qa", "where?", ("here", "there"), 1, "A cup.", "So"),
    "labelled_text": records.LabelledText("films", "fine", "good"),
    "generation": records.Generation("tell", "a dog", ("A dog.",)),
    "as_registered": records.AsRegistered("plain", "ask: a dog", "A dog.", ("A dog.",)),
}


@pytest.fixture(autouse=True)
def _vocabulary():
    gin.bind_parameter("vocabulary.name", "demo")  # where SeqIO is loaded, its tasks are added


@pytest.mark.parametrize(
    "kind, line, fields",
    [
        ("triple", "a | b", {"head": "a | b"}),
        ("generation", "a, b", {"source": "a, b"}),
        ("as_registered", "who <extra_id_0>?", {"source": "who <extra_id_0>?"}),
        ("labelled_text", "so good", {"text": "so good", "text2": ""}),
        ("labelled_text", "so | then", {"text": "so", "text2": "then"}),
        (
            "multiple_choice",
            "who? | me| you | they",
            {"question": "who?", "choices": ("me", "you", "they"), "context": "", "fact": ""},
        ),
    ],
)
def test_what_is_typed_becomes_a_record(kind, line, fields):
    record = queries.of_line(line, MODELS[kind])
    assert {name: getattr(record, name) for name in fields} == fields
    assert record.task == MODELS[kind].task


@pytest.mark.parametrize(
    "kind, line",
    [("labelled_text", "a | b | c"), ("multiple_choice", "who? | me"), ("labelled_text", " | b")],
)
def test_a_line_with_other_fields_is_refused(kind, line):
    with pytest.raises(UserError, match=r"choice \||second text|empty"):
        queries.of_line(line, MODELS[kind])


NUMBERS = itertools.count()


def data_set(monkeypatch, tmp_path, kind, fields, **options):
    monkeypatch.setattr(registration, "DATA_SETS", {})
    (tmp_path / "rows.jsonl").write_text("{}")
    name = f"mine_{next(NUMBERS)}"  # where SeqIO is imported, its registry keeps every name
    registration.register_file(name, tmp_path / "rows.jsonl", kind=kind, fields=fields, **options)
    return registration.DATA_SETS[name]


@pytest.mark.parametrize(
    "kind, fields, options, row, expected",
    [
        ("triple", {"head": "tool", "tail": "use"}, {"phrase": "is for"}, {"tool": "cup"}, "cup"),
        ("generation", {}, {}, {"source": "a b", "target": None}, "a b"),
        (
            "labelled_text",
            {"text": "first", "text2": "second"},
            {"labels": ("no", "yes")},
            {"first": "a", "second": "b", "label": "of no set"},
            "a b",
        ),
        (
            "multiple_choice",
            {"question": "ask", "choices": ("a", "b"), "context": "about"},
            {},
            {"ask": "who?", "a": "me", "b": "you", "about": "We."},
            "We. who?",
        ),
    ],
)
def test_a_row_needs_the_columns_of_its_data_set_and_no_answer(
    monkeypatch, tmp_path, kind, fields, options, row, expected
):
    data = data_set(monkeypatch, tmp_path, kind, fields, **options)
    where = queries.columns(data)
    record = queries.of_row(row, MODELS[kind], where)
    assert record.head == expected
    for column in row:
        less = {name: value for name, value in row.items() if name != column}
        if column in ("target", "label"):
            assert queries.of_row(less, MODELS[kind], where) == record
        else:
            with pytest.raises(UserError, match=f"no column '{column}' for the field"):
                queries.of_row(less, MODELS[kind], where)


def test_choices_of_json_are_a_list(monkeypatch, tmp_path):
    data = data_set(monkeypatch, tmp_path, "multiple_choice", {})
    row = {"question": "who?", "choices": ["me", "you", "they"]}
    record = queries.of_row(row, MODELS["multiple_choice"], queries.columns(data))
    assert record.choices == ("me", "you", "they")
    assert record.context == record.fact == ""


def test_columns_can_be_called_otherwise(monkeypatch, tmp_path):
    data = data_set(monkeypatch, tmp_path, "triple", {"head": "tool"}, phrase="is for")
    assert queries.columns(data) == {"head": "tool"}
    assert queries.columns(data, {"head": "thing"}) == {"head": "thing"}
    with pytest.raises(UserError, match="no field of a triple record called 'haed'"):
        queries.columns(data, {"haed": "thing"})
