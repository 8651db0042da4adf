# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records and the files that they are read from: round trips and errors that name file, line,
field."""

import gzip
import json

import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import readers, records
from mto_jax.text2text.records import Generation, LabelledText, MultipleChoice, Triple

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
    "make, field, what",
    [
        (lambda: Triple("t", "r", " ", ("x",)), "head", "an empty text"),
        (lambda: Triple("t", "r", "h", ("x", "")), "tails", "an empty text"),
        (lambda: Triple("t", "r", "h", ()), "tails", "an empty list"),
        (lambda: Triple("t", "r", float("nan"), ("x",)), "head", "NaN"),
        (lambda: MultipleChoice("t", "", ("a",), 0), "question", "an empty text"),
        (lambda: MultipleChoice("t", "q", ("a", None), 0), "choices", "null"),
        (lambda: MultipleChoice("t", "q", ("a",), 0, context=None), "context", "null"),
        (lambda: LabelledText("t", "text", ""), "label", "an empty text"),
        (lambda: LabelledText("t", {"a": 1}, "x"), "text", "the object"),
        (lambda: Generation("t", "source", ("",)), "targets", "an empty text"),
    ],
)
def test_a_field_that_is_no_text_is_named(make, field, what):
    with pytest.raises(UserError, match=f"'{field}'.*holds {what}"):
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
        ("a.tsv", "head\ttail\na\tb\né\td\n", "latin-1", r"a\.tsv, line 3: byte 1 .*\(0xe9\)"),
        ("a.tsv", "head\ttail\n", "utf-16-le", r"a\.tsv, line 1: a zero byte.*iconv -f UTF-16LE"),
        ("a.csv", "head;tail\na;b\n", "utf-8", r"a\.csv, line 1: .*semicolons.* with commas"),
        ("a.tsv", "head\ttail\r\n\r\n", "utf-8", r"a\.tsv has no rows"),
        ("a.csv", "head,tail\n", "utf-8", r"a\.csv has no rows"),
        ("a.jsonl", "\n\n", "utf-8", r"a\.jsonl has no rows"),
        ("a.json", "[]", "utf-8", r"a\.json has no rows"),
        ("a.tsv", "head\ttail\thead\n1\t2\t3\n", "utf-8", r"line 1: .* column 'head' twice"),
        ("a.csv", 'head,tail\na,b\n"c,d\ne,f\n', "utf-8", r"a\.csv, line 3: .*bad quotes"),
        ("a.csv", 'head,tail\n"a" b,c\n', "utf-8", r"a\.csv, line 2: .*bad quotes"),
        ("a.json", '[\n {"head": 1},\n {"head" 2}\n]', "utf-8", r"a\.json, line 3: not JSON"),
        ("a.json", '[\n {"head": 1},\n\n 5]', "utf-8", r"a\.json, line 4: expected a JSON object"),
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


def test_broken_rows_are_left_out_where_a_file_is_known_to_have_them(tmp_path):
    path = write(tmp_path / "a.tsv", "head\ttail\na\tb\nc\nd\te\tf\ng\th\n")
    assert [number for number, _ in readers.rows(path, broken=True)] == [2, 5]


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path):
    path = write(tmp_path / "a.csv", 'head,tail\n"a\nb\nc",d\ne,f\n')
    assert [number for number, _ in readers.rows(path)] == [2, 5]


def test_damaged_files_are_named(tmp_path):
    whole = gzip.compress(b"head\ttail\n" + b"a\tb\n" * 999)
    for name, content in {
        "cut": whole[:-9],
        "changed": whole[:30] + bytes([whole[30] ^ 0xFF]) + whole[31:],
        "plain": b"head\ttail\na\tb\n",
        "short": whole[:5],
    }.items():
        path = tmp_path / f"{name}.tsv.gz"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.tsv\.gz is not a whole gzip file \("):
            list(readers.rows(path))
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(UserError, match=r"folder\.tsv is a folder; expected a file"):
        list(readers.rows(tmp_path / "folder.tsv"))
    with pytest.raises(UserError, match=r"folder\.tsv is a folder; expected a file"):
        readers.RecordFile((str(tmp_path / "folder.tsv"),), TRIPLES).check()
    with pytest.raises(UserError, match=r"no file .*none\.tsv"):
        list(readers.rows(tmp_path / "none.tsv"))
    loop = tmp_path / "loop.tsv"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match=r"loop\.tsv"):
        list(readers.rows(loop))


def test_json_lists_and_lines_agree(tmp_path):
    objects = [{"head": f"{i}\n[", "tail": [{"x": "]"}]} for i in range(3)]
    listed = write(tmp_path / "a.json", json.dumps(objects, indent=2))
    by_line = write(tmp_path / "b.json", "".join(json.dumps(o) + "\n" for o in objects))
    assert [row for _, row in readers.rows(listed)] == objects
    assert [row for _, row in readers.rows(by_line)] == objects
    text = listed.read_text().split("\n")
    assert all(text[number - 1].strip() == "{" for number, _ in readers.rows(listed))


def test_one_column_is_plain_text(tmp_path):
    path = write(tmp_path / "a.txt", 'a\ttab "and" so\n\nmore\n')
    assert [row for _, row in readers.rows(path, ("text",))] == [
        {"text": 'a\ttab "and" so'},
        {"text": "more"},
    ]


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
