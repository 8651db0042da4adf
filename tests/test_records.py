# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records and the files that they are read from: round trips and errors that name file, line, field."""

import gzip
import json

import pytest

from mto_jax import readers, records
from mto_jax.errors import UserError
from mto_jax.records import Generation, LabelledText, MultipleChoice, Triple

EVERY_KIND = [
    Triple("xIntent", "xIntent", "PersonX sings", ("be happy", 'to be "heard"\n')),
    MultipleChoice("csqa", "where?", ("a", "b"), 1, fact="ü"),
    LabelledText("rte", "It rains.", "entailment", "It is wet."),
    Generation("commongen", "dog catch", ("A dog catches.",)),
]


@pytest.mark.parametrize("record", EVERY_KIND)
def test_json_round_trip(record):
    line = records.to_json(record)
    assert "\n" not in line
    assert records.from_json(line) == record
    assert records.from_json(line.encode()) == record


def test_heads_and_references():
    assert [record.head for record in EVERY_KIND] == [
        "PersonX sings",
        "where?",
        "It rains. It is wet.",
        "dog catch",
    ]
    assert [record.references[-1] for record in EVERY_KIND] == [
        'to be "heard"\n',
        "b",
        "entailment",
        "A dog catches.",
    ]


def test_one_per_reference_and_one_per_head_are_inverse():
    merged = records.one_per_head(records.one_per_reference(EVERY_KIND))
    assert merged == EVERY_KIND
    # Questions and texts are never merged, not even equal ones: a test set keeps its size.
    assert len(records.one_per_head([EVERY_KIND[1]] * 2)) == 2


@pytest.mark.parametrize(
    "make, field",
    [
        (lambda: Triple("t", "r", " ", ("x",)), "head"),
        (lambda: Triple("t", "r", "h", ("x", "")), "tails"),
        (lambda: Triple("t", "r", "h", ()), "tails"),
        (lambda: MultipleChoice("t", "", ("a",), 0), "question"),
        (lambda: LabelledText("t", "text", ""), "label"),
        (lambda: Generation("t", "source", ("",)), "targets"),
    ],
)
def test_an_empty_field_is_named(make, field):
    with pytest.raises(UserError, match=f"'{field}'.*is empty"):
        make()


def test_an_answer_outside_the_choices():
    with pytest.raises(UserError, match=r"answer 2 .* 0 to 1"):
        MultipleChoice("t", "where?", ("a", "b"), 2)


# ---- Files ------------------------------------------------------------------------------------


def write(path, text: str, encoding="utf-8"):
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.tsv", 'head\ttail\n"a" knife\tcutting\na pen\twriting\n'),
        ("a.tsv", '\ufeffhead\ttail\r\n"a" knife\tcutting\r\n\r\na pen\twriting'),
        ("a.csv", 'head,tail\n"""a"" knife",cutting\na pen,"writing"\n'),
        (
            "a.jsonl",
            '{"head": "\\"a\\" knife", "tail": "cutting"}\n{"head": "a pen", "tail": "writing"}\n',
        ),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_formats_agree(tmp_path, name, text, packed):
    path = write(tmp_path / (name + packed), text)
    rows = [row for _, row in readers.rows(path)]
    assert rows == [{"head": '"a" knife', "tail": "cutting"}, {"head": "a pen", "tail": "writing"}]
    numbers = [number for number, _ in readers.rows(path)]
    assert numbers[0] == (1 if ".jsonl" in name else 2)


def test_columns_of_a_file_without_header(tmp_path):
    path = write(tmp_path / "a.tsv", "a knife\tcutting\n")
    assert list(readers.rows(path, ("head", "tail"))) == [
        (1, {"head": "a knife", "tail": "cutting"})
    ]


@pytest.mark.parametrize(
    "name, text, encoding, message",
    [
        (
            "a.tsv",
            "head\ttail\na\tb\nc\n",
            "utf-8",
            r"a\.tsv, line 3: 1 fields, expected 2 \(head, tail\)",
        ),
        ("a.tsv", "head\ttail\na\tb\né\td\n", "latin-1", r"a\.tsv, line 3: not valid UTF-8"),
        ("a.tsv", "", "utf-8", r"a\.tsv is empty"),
        ("a.tsv.gz", "", "utf-8", r"a\.tsv\.gz is empty"),
        ("a.jsonl", '{"head": 1}\n{"head"\n', "utf-8", r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", "[1]\n", "utf-8", r"a\.jsonl, line 1: expected a JSON object"),
        ("a.xlsx", "x", "utf-8", r"a\.xlsx: the format .* suffix"),
    ],
)
def test_bad_files(tmp_path, name, text, encoding, message):
    path = write(tmp_path / name, text, encoding)
    with pytest.raises(UserError, match=message):
        list(readers.rows(path))


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


@pytest.mark.parametrize("answer, first", [("mall", 0), ("B", 0), ("1", 0), (1, 0), ("2", 1)])
def test_forms_of_an_answer(answer, first):
    assert readers.answer_number(answer, ["bank", "mall"], first) == 1


def test_a_text_that_is_a_number_goes_before_its_number():
    assert readers.answer_number("1", ["1", "0"]) == 0
    assert readers.answer_number(1, ["1", "0"]) == 1


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
