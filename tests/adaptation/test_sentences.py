# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Corpora as sentences: places, splitting, cleaning, a sample that no order changes."""

import gzip

import gin
import pytest

from mto_jax.adaptation.counts import Counts
from mto_jax.adaptation.sentences import Sentence, clean, documents, draw, split_sentences
from mto_jax.errors import UserError

LIMITS = {"min_words": 2, "max_words": 6, "count": 100, "seed": 0}


def drawn(texts, **changes):
    report = Counts()
    found = draw([Sentence(text, "x") for text in texts], report, **{**LIMITS, **changes})
    assert report.read == len(found) + report.dropped.total()
    return [sentence.text for sentence in found], report


@pytest.mark.parametrize(
    "document, sentences",
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Go." Then (all) left.', ['He said "Go."', "Then (all) left."]),
        ("Mr. J. R. Ewing vs. Dr. No. Who won?", ["Mr. J. R. Ewing vs. Dr. No. Who won?"]),
        (
            "Fruits, e.g. apples, cost 3.50 now. 2 are left.",
            ["Fruits, e.g. apples, cost 3.50 now.", "2 are left."],
        ),
        ("It is 3 p.m. now. Élan vital. Ça va?", ["It is 3 p.m. now.", "Élan vital.", "Ça va?"]),
        ("", [""]),
    ],
)
def test_splitting(document, sentences):
    assert split_sentences(document) == sentences


@pytest.mark.parametrize(
    "raw, text",
    [
        ("  a\tb\u00a0c. ", "a b c"),
        ('"All of it."', "All of it"),
        ('"One" and "two".', '"One" and "two"'),
        ("cafe\u0301 ﬁne…", "café fine"),
        ("Why?", "Why?"),
    ],
)
def test_cleaning(raw, text):
    assert clean(raw) == text
    assert clean(text) == text


def test_places_of_lines_and_paragraphs(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\n\n\ntwo\nmore\n"))
    assert list(documents(str(path), "lines")) == [
        ("one", "a.txt.gz:1"),
        ("two", "a.txt.gz:4"),
        ("more", "a.txt.gz:5"),
    ]
    assert list(documents(str(path), "paragraphs")) == [
        ("one", "a.txt.gz:1"),
        ("two more", "a.txt.gz:4"),
    ]


def test_names_of_corpora(tmp_path):
    assert next(documents("demo", "lines")).source == "demo:1"
    (tmp_path / "notes.txt").write_text("first\n\nsecond\n")
    gin.bind_parameter("text_corpora.paragraphs", {"notes": str(tmp_path / "notes.txt")})
    assert [text for text, _ in documents("notes", "lines")] == ["first", "second"]


def test_every_drop_has_its_reason():
    texts = ["one", "a b c d e f g", "two words", "Two words. Two words.", "it <extra_id_3> is"]
    found, report = drawn(texts)
    assert sorted(found) == ["Two words", "two words"]
    assert report.dropped == {
        "fewer than 2 words": 1,
        "more than 6 words": 1,
        "repeated": 1,
        "a sentinel in the text": 1,
    }
    assert report.examples["fewer than 2 words"] == "one"
    assert Counts.from_json(report.to_json()) == report


def test_the_sample_depends_on_the_seed_and_the_texts_alone():
    texts = [f"sentence number {i}" for i in range(50)]
    every, _ = drawn(texts)
    few, report = drawn(reversed(texts), count=7)
    assert few == every[:7]
    assert report.dropped == {"not among the 7 sentences drawn": 43}
    assert drawn(texts, seed=1)[0] != every
    assert drawn(texts, count=None)[0] == every


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\n")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"a b c\n" * 99)[:-9])
    for name, told in {
        "empty.txt": "empty",
        "bad.txt": r"bad\.txt, line 2",
        "cut.txt.gz": "not a whole gzip file",
        "none.txt": "no text file or folder",
    }.items():
        with pytest.raises(UserError, match=told):
            list(documents(str(tmp_path / name), "lines"))
    with pytest.raises(UserError, match="Did you mean 'demo'"):
        list(documents("demos", "lines"))
    with pytest.raises(UserError, match="Did you mean 'lines'"):
        list(documents("demo", "line"))
