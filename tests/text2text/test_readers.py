# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every kind of value in every kind of field; tables as spreadsheets and pandas write them."""

import csv
import io
import json
import re

import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import readers

FACT = {"head": "a pen", "tail": "write"}
REVIEW = {"text": "fine", "label": "1"}
QUESTION = {"question": "why?", "choices": ["so", "no"], "answer": "so"}
ASKED = {"question": "why?", "a": "so", "b": "no", "answer": "so", "context": ""}
TRIPLE = readers.TripleRow("t", "r")
MOOD = readers.LabelledTextRow("t", (("1", "good"), ("true", "yes"), ("x", "no")))
QUIZ = readers.MultipleChoiceRow("t")
COLUMNS = readers.MultipleChoiceRow("t", choices=("a", "b"), context="context")

# Field -> (reader, row, column, how the value is put there, what is read of the record).
FIELDS = {
    "scalar": (TRIPLE, FACT, "head", lambda v: v, lambda r: r.head),
    "several": (TRIPLE, FACT, "tail", lambda v: v, lambda r: r.tails),
    "entry": (TRIPLE, FACT, "tail", lambda v: ["write", v], lambda r: r.tails[1]),
    "label": (MOOD, REVIEW, "label", lambda v: v, lambda r: r.label),
    "choice": (QUIZ, QUESTION, "choices", lambda v: ["so", v], lambda r: r.choices[1]),
    "choice column": (COLUMNS, ASKED, "b", lambda v: v, lambda r: r.choices[1]),
    "answer": (QUIZ, QUESTION, "answer", lambda v: v, lambda r: r.answer),
    "optional": (COLUMNS, ASKED, "context", lambda v: v, lambda r: r.context),
}
# Value -> what each field reads, None for all others; in angle brackets, what a refusal says.
VALUES = {
    "text": (
        "x",
        {None: "x", "several": ("x",), "label": "no", "answer": "<is 'x', which is not among>"},
    ),
    "number": (1, {None: "1", "several": ("1",), "label": "good", "answer": 1}),
    "fraction": (
        0.5,
        {
            None: "0.5",
            "several": ("0.5",),
            "label": "<is '0.5', which is not in the label set>",
            "answer": "<is '0.5', which is not among>",
        },
    ),
    "truth value": (True, {None: "<holds the truth value true>", "label": "yes"}),
    "null": (None, {None: "<holds null>", "optional": ""}),
    "NaN": (float("nan"), {None: "<holds NaN>", "optional": ""}),
    "infinity": (float("inf"), {None: "<holds Infinity>"}),
    "empty text": (" ", {None: "<is empty>", "optional": ""}),
    "list": (["x"], {None: "<holds the list ['x']>", "several": ("x",)}),
    "empty list": ([], {None: "<holds an empty list>"}),
    "object": ({"a": 1}, {None: "<holds the object {'a': 1}>"}),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("field", FIELDS)
def test_values_and_fields(tmp_path, value, field):
    content, expected = VALUES[value]
    build, row, column, put, read = FIELDS[field]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {column: put(content)}) + "\n")
    right = expected.get(field, expected[None])
    records = readers.RecordFile((str(path),), build)()
    if isinstance(right, str) and right.startswith("<"):
        with pytest.raises(UserError) as refusal:
            list(records)
        message = str(refusal.value)
        assert message.startswith(f"{path}, line 2: ")
        assert f"'{column}'" in message
        assert right[1:-1] in message
    else:
        assert read(list(records)[1]) == right


# ---- Answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices, answer, message",
    [
        ("3210", "1", "the text of choice 3 and the number of choice 2"),
        ([3, 2, 1, 0], 1, "the text of choice 3 and the number of choice 2"),
        ("BA", "A", "the text of choice 2 and the letter of choice 1"),
        (["so", "so"], "so", "the text of choice 1 and the text of choice 2"),
    ],
)
def test_an_answer_that_may_mean_several_is_refused(choices, answer, message):
    row = {"question": "1 + 1 = ?", "choices": list(choices), "answer": answer}
    with pytest.raises(UserError, match=message):
        QUIZ(row)


@pytest.mark.parametrize(
    "answer_is, answer, number", [("text", "1", 2), ("number", "1", 1), ("letter", "B", 1)]
)
def test_a_field_says_what_answers_are(answer_is, answer, number):
    build = readers.MultipleChoiceRow("t", answer_is=answer_is)
    row = {"question": "1 + 1 = ?", "choices": ["3", "2", "1", "0"], "answer": answer}
    assert build(row).answer == number
    with pytest.raises(UserError, match="which is not among the choices"):
        build(row | {"answer": "Z"})


def test_what_can_mean_one_thing_only_is_read():
    row = {"question": "?", "choices": ["1", "0"]}
    assert QUIZ(row | {"answer": 1}).answer == 1, "a number of JSON is no text"
    assert QUIZ(row | {"choices": ["5", "1"], "answer": "1"}).answer == 1, "both are the same"


# ---- Tables as programs write them --------------------------------------------------------------

TABLE = [
    {"head": 'say "hi"', "tail": "a, b"},
    {"head": "«été»", "tail": "tab\tand\nline"},
    {"head": '"a" knife', "tail": "cut"},
]


def written(rows=TABLE, index=False, **how) -> str:
    """The table as pandas writes it: by Python's csv, quotes where they are needed."""
    text = io.StringIO()
    table = csv.writer(text, **{"lineterminator": "\n"} | how)
    for number, cells in enumerate([("head", "tail"), *(row.values() for row in rows)], -1):
        table.writerow(["" if number < 0 else number, *cells] if index else cells)
    return text.getvalue()


@pytest.mark.parametrize(
    "name, content",
    [
        ("pandas.csv", written().encode()),
        ("index.csv", written(index=True).encode()),
        ("excel.csv", written(lineterminator="\r\n").encode("utf-8-sig")),
        ("mac.csv", written(lineterminator="\r", quoting=csv.QUOTE_ALL).encode()),
        ("utf16.csv", written().encode("utf-16")),
        ("big_endian.csv", ("\ufeff" + written()).encode("utf-16-be")),
        ("blank.csv", written().encode() + b",\n,\n"),
        ("all_quoted.tsv", written(delimiter="\t", quoting=csv.QUOTE_ALL).encode()),
    ],
)
def test_spreadsheets_and_pandas(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    rows = [{k: row[k] for k in ("head", "tail")} for _, row in readers.rows(path)]
    assert rows == TABLE


def test_tab_separated_files_of_pandas_and_of_others(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(written([TABLE[0], TABLE[2]], delimiter="\t"))
    assert [row["head"] for _, row in readers.rows(path)] == ['say "hi"', '"a" knife']
    path.write_text('head\ttail\n"a" knife\t"cut"\nsize 5"\t""\n')
    assert [[*row.values()] for _, row in readers.rows(path)] == [
        ['"a" knife', '"cut"'],
        ['size 5"', '""'],
    ]


def test_a_spreadsheet_saved_in_another_encoding_says_how_to_convert_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("head,tail\nété,b\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"a\.csv, line 2: byte 1 .*iconv -f ENCODING -t UTF-8"):
        list(readers.rows(path))
    path.write_bytes("head,tail\n".encode("utf-16") + b"x")
    with pytest.raises(UserError, match=r"a\.csv is damaged: it begins as UTF-16"):
        list(readers.rows(path))


def test_deep_json_is_refused_in_words(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"head": ' + "[" * 200_000 + "\n")
    with pytest.raises(UserError, match=re.escape("a.jsonl, line 1: not JSON")):
        list(readers.rows(path))


def test_a_missing_column_is_answered_by_who_can_mend_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("tool,use\npen,write\n")
    for own, advice in ((True, "fields={FIELD: COLUMN}"), (False, "as its authors publish it")):
        with pytest.raises(UserError, match=f"no column 'head'.*The row has: tool, use.*{advice}"):
            list(readers.RecordFile((str(path),), TRIPLE, own=own)())
