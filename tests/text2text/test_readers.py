# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every kind of value in every kind of field; rows that are no records, named by file and line."""

import gzip
import json

import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import readers, records
from mto_jax.text2text.records import LabelledText, MultipleChoice, Triple

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
    read_records = readers.RecordFile((str(path),), build)()
    if isinstance(right, str) and right.startswith("<"):
        with pytest.raises(UserError) as refusal:
            list(read_records)
        message = str(refusal.value)
        assert message.startswith(f"{path}, line 2: ")
        assert f"'{column}'" in message
        assert right[1:-1] in message
    else:
        assert read(list(read_records)[1]) == right


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


# ---- Rows of files -----------------------------------------------------------------------------


def write(path, text: str, encoding="utf-8"):
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


TRIPLES = readers.TripleRow("use", "use")
TEXTS = readers.LabelledTextRow("mood", (("0", "bad"), ("1", "good")))
CHOICES = readers.MultipleChoiceRow("quiz", choices=("a", "b"), first_answer=1)


@pytest.mark.parametrize(
    "build, header, row, message",
    [
        (TRIPLES, "head\ttail", "\tx", r"line 2: the field 'head' \(column 'head'\) is empty"),
        (TRIPLES, "head\ttail", "x\t ", r"line 2: the field 'tail' \(column 'tail'\) is empty"),
        (TRIPLES, "head\tobject", "x\ty", r"line 2: there is no column 'tail' .* head, object"),
        (TEXTS, "text\tlabel", "x\t2", r"line 2: the field 'label' .*'2'.*label set: '0', '1'"),
        (CHOICES, "question\ta\tb\tanswer", "x\ty\tz\t3", r"line 2: the field 'answer' is '3'"),
        (
            CHOICES,
            "question\ta\tb\tanswer",
            "x\ty\t\t1",
            r"line 2: the field 'choices' .* is empty",
        ),
        (
            CHOICES,
            "question\ta\tb\tanswer",
            "\ty\tz\t1",
            r"line 2: the field 'question' .* is empty",
        ),
    ],
)
def test_bad_rows_name_file_line_and_field(tmp_path, build, header, row, message):
    path = write(tmp_path / "own.tsv", f"{header}\n{row}\n")
    with pytest.raises(UserError, match=rf"own\.tsv, {message}"):
        list(readers.RecordFile((str(path),), build)())


def test_odd_unicode_is_one_text(tmp_path):
    """A byte order mark, decomposed letters, zero-width characters and CRLF change no record."""
    plain = write(tmp_path / "a.tsv", "head\ttail\ncafé\tcoffee\n")
    odd = write(tmp_path / "b.tsv", "\ufeffhead\ttail\r\n\u200bcafe\u0301\tcof\u00adfee\u200b\r\n")
    (record,) = readers.RecordFile((str(plain),), TRIPLES)()
    assert list(readers.RecordFile((str(odd),), TRIPLES)()) == [record]
    assert Triple("use", "use", "cafe\u0301", ("\ufeffcoffee",)) == record
    text = LabelledText("mood", "x", "gu\u0308t")
    assert (
        readers.LabelledTextRow("mood", (("gu\u0308t", "güt"),))({"text": "x", "label": "güt"})
        == text
    )
    assert readers.answer_number("cafe\u0301", ["bar", "café"]) == 1
    assert records.tidy("cut off: \ud83d") == "cut off: "
    # What joins letters and signs is a part of the text.
    assert records.tidy("می\u200cخواهم 👩\u200d🚀") == "می\u200cخواهم 👩\u200d🚀"
    blank = write(tmp_path / "c.tsv", "head\ttail\na\t\u200b\ufeff\n")
    with pytest.raises(UserError, match=r"c\.tsv, line 2: the field 'tail' .* is empty"):
        list(readers.RecordFile((str(blank),), TRIPLES)())


@pytest.mark.parametrize(
    "row", [{"q": None}, {"q": "x", "choices": 5}, {"q": "x", "choices": [None]}]
)
def test_rows_of_another_form_name_file_and_line(tmp_path, row):
    def build(row):
        return MultipleChoice("t", row["q"].strip(), tuple(c["text"] for c in row["choices"]), 0)

    path = write(tmp_path / "a.jsonl", json.dumps(row) + "\n")
    with pytest.raises(
        UserError, match=r"a\.jsonl, line 1: the row does not have the expected form"
    ):
        list(readers.RecordFile((str(path),), build)())


@pytest.mark.parametrize("answer, first", [("mall", 0), ("B", 0), ("1", 0), ("2", 1)])
def test_forms_of_an_answer(answer, first):
    assert readers.answer_number(answer, ["bank", "mall"], first) == 1


def test_lists_in_json_give_many_references(tmp_path):
    row = {"head": "a pen", "tail": ["writing", "drawing"]}
    path = write(tmp_path / "a.jsonl", json.dumps(row) + "\n")
    (record,) = readers.RecordFile((str(path),), TRIPLES)()
    assert record.tails == ("writing", "drawing")


def test_files_that_go_together_line_by_line(tmp_path):
    source = write(tmp_path / "src.txt", "dog catch\ncat sleep\n")
    target = write(tmp_path / "tgt.txt", "A dog catches.\nA cat sleeps.\n")
    file = readers.RecordFile(
        (str(source),), readers.GenerationRow("g"), ("source",), ("target", (str(target),))
    )
    assert [record.targets for record in file()] == [("A dog catches.",), ("A cat sleeps.",)]
    assert file.paths() == [source, target]
    write(target, "A dog catches.\nA cat sleeps.\nA third.\n")
    with pytest.raises(UserError, match=r"2 rows, .* has 3 lines"):
        list(file())


def test_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MTO_DATA_DIR", raising=False)
    file = readers.RecordFile(("set/a.tsv", "set/b.tsv"), TRIPLES)
    assert not file.exists()
    with pytest.raises(UserError, match="MTO_DATA_DIR is not set"):
        list(file())
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"no file .*set/a.tsv \(nor set/b.tsv\)"):
        list(file())
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "b.tsv", "head\ttail\nx\ty\n")
    assert [record.head for record in file()] == ["x"]


def test_a_missing_column_is_answered_by_who_can_mend_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("tool,use\npen,write\n")
    for own, advice in ((True, "fields={FIELD: COLUMN}"), (False, "as its authors publish it")):
        with pytest.raises(UserError, match=f"no column 'head'.*The row has: tool, use.*{advice}"):
            list(readers.RecordFile((str(path),), TRIPLE, own=own)())
