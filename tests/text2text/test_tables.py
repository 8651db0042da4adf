# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables in all their formats, as people, spreadsheets and pandas write them; damaged files."""

import csv
import gzip
import io
import json
import re

import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import readers, tables


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
    rows = [row for _, row in tables.rows(path)]
    assert rows == [{"head": '"a" knife', "tail": "cutting"}, {"head": "a pen", "tail": "writing"}]
    numbers = [number for number, _ in tables.rows(path)]
    assert numbers[0] == (1 if ".jsonl" in name else 2)


def test_columns_of_a_file_without_header(tmp_path):
    path = write(tmp_path / "a.tsv", "a knife\tcutting\n")
    assert list(tables.rows(path, ("head", "tail"))) == [
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
        list(tables.rows(path))


def test_broken_rows_are_left_out_where_a_file_is_known_to_have_them(tmp_path):
    path = write(tmp_path / "a.tsv", "head\ttail\na\tb\nc\nd\te\tf\ng\th\n")
    assert [number for number, _ in tables.rows(path, broken=True)] == [2, 5]


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path):
    path = write(tmp_path / "a.csv", 'head,tail\n"a\nb\nc",d\ne,f\n')
    assert [number for number, _ in tables.rows(path)] == [2, 5]


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
            list(tables.rows(path))
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(UserError, match=r"folder\.tsv is a folder; expected a file"):
        list(tables.rows(tmp_path / "folder.tsv"))
    with pytest.raises(UserError, match=r"folder\.tsv is a folder; expected a file"):
        readers.RecordFile((str(tmp_path / "folder.tsv"),), readers.TripleRow("t", "r")).check()
    with pytest.raises(UserError, match=r"no file .*none\.tsv"):
        list(tables.rows(tmp_path / "none.tsv"))
    loop = tmp_path / "loop.tsv"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match=r"loop\.tsv"):
        list(tables.rows(loop))


def test_json_lists_and_lines_agree(tmp_path):
    objects = [{"head": f"{i}\n[", "tail": [{"x": "]"}]} for i in range(3)]
    listed = write(tmp_path / "a.json", json.dumps(objects, indent=2))
    by_line = write(tmp_path / "b.json", "".join(json.dumps(o) + "\n" for o in objects))
    assert [row for _, row in tables.rows(listed)] == objects
    assert [row for _, row in tables.rows(by_line)] == objects
    text = listed.read_text().split("\n")
    assert all(text[number - 1].strip() == "{" for number, _ in tables.rows(listed))


def test_one_column_is_plain_text(tmp_path):
    path = write(tmp_path / "a.txt", 'a\ttab "and" so\n\nmore\n')
    assert [row for _, row in tables.rows(path, ("text",))] == [
        {"text": 'a\ttab "and" so'},
        {"text": "more"},
    ]


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
    rows = [{k: row[k] for k in ("head", "tail")} for _, row in tables.rows(path)]
    assert rows == TABLE


def test_tab_separated_files_of_pandas_and_of_others(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(written([TABLE[0], TABLE[2]], delimiter="\t"))
    assert [row["head"] for _, row in tables.rows(path)] == ['say "hi"', '"a" knife']
    path.write_text('head\ttail\n"a" knife\t"cut"\nsize 5"\t""\n')
    assert [[*row.values()] for _, row in tables.rows(path)] == [
        ['"a" knife', '"cut"'],
        ['size 5"', '""'],
    ]


def test_a_spreadsheet_saved_in_another_encoding_says_how_to_convert_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("head,tail\nété,b\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"a\.csv, line 2: byte 1 .*iconv -f ENCODING -t UTF-8"):
        list(tables.rows(path))
    path.write_bytes("head,tail\n".encode("utf-16") + b"x")
    with pytest.raises(UserError, match=r"a\.csv is damaged: it begins as UTF-16"):
        list(tables.rows(path))


def test_deep_json_is_refused_in_words(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"head": ' + "[" * 200_000 + "\n")
    with pytest.raises(UserError, match=re.escape("a.jsonl, line 1: not JSON")):
        list(tables.rows(path))
