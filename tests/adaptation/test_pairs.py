# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cutting sentences in two: nothing is lost, cuts fall between words, files are checked."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mto_jax.adaptation import pairs
from mto_jax.adaptation.sentences import clean
from mto_jax.errors import UserError
from mto_jax.text2text import phrases

SENTENCES = st.text(min_size=1).map(clean).filter(lambda text: len(text.split()) > 1)
PATTERNS = pairs.phrase_patterns(None)


def is_between_words(sentence, cut):
    """No letter or digit on both sides of either end."""
    return not any(
        0 < place < len(sentence) and sentence[place - 1].isalnum() and sentence[place].isalnum()
        for place in cut
    )


@given(SENTENCES)
def test_every_suffix_is_an_end_of_the_sentence(sentence):
    tails = pairs.suffixes(sentence)
    assert len(tails) == len(pairs.words(sentence)) - 1
    assert all(sentence[: pairs.words(sentence)[-1].core_end].endswith(tail) for tail in tails)
    lengths = [len(tail) for tail in tails]
    assert lengths == sorted(lengths, reverse=True)
    for tail in tails:
        cut = pairs.at_prediction(sentence, tail)
        assert isinstance(cut, str) or sentence[slice(*cut)] == tail


@given(SENTENCES, st.integers(0, 9), st.integers(1, 8))
def test_a_random_span_and_its_body_are_the_sentence(sentence, seed, max_words):
    assume(pairs.GAP not in sentence)
    cut = pairs.at_random(sentence, seed, max_words)
    body, tail = pairs.cut_out(sentence, cut)
    assert pairs.restore(body, tail) == sentence
    assert body.count(pairs.GAP) == 1
    assert 1 <= len(tail.split()) <= min(max_words, len(sentence.split()) // 2)
    assert tail == tail.strip()
    assert is_between_words(sentence, cut)
    assert pairs.at_random(sentence, seed, max_words) == cut


def test_random_spans_are_everywhere_and_of_all_lengths():
    sentence = "a b c d e f g h"
    cuts = {pairs.at_random(sentence, seed, 3) for seed in range(400)}
    every = {(2 * i, 2 * i + 2 * n - 1) for n in (1, 2, 3) for i in range(8 - n + 1)}
    assert cuts == every
    sizes = [
        len(pairs.cut_out(sentence, pairs.at_random(sentence, s, 3))[1].split()) for s in range(600)
    ]
    assert all(150 < sizes.count(n) < 250 for n in (1, 2, 3))
    assert pairs.at_random("word", 0, 3) == "fewer than two words"


@given(SENTENCES, st.data())
def test_words_of_a_sentence_are_found_again(sentence, data):
    found = pairs.words(sentence)
    first = data.draw(st.integers(0, len(found) - 1))
    last = data.draw(st.integers(first, len(found) - 1))
    tail = sentence[found[first].core_start : found[last].core_end]
    cut = pairs.at_prediction(sentence, tail)
    if isinstance(cut, str):
        assert cut == "the prediction is the whole sentence"
    else:
        assert sentence[slice(*cut)] == tail
        assert pairs.restore(*pairs.cut_out(sentence, cut)) == sentence


@pytest.mark.parametrize(
    "sentence, prediction, expected",
    [
        ("paper is made of wood", "wood", "wood"),
        ("wood floats as wood does", "wood", (15, 19)),  # the last of two
        ("an ant likes ants", "ant", (3, 6)),  # no part of a word
        ("the dog's tail", "dog", "inside a word"),
        ("a well-known fact", "known fact", "inside a word"),
        ("she sang (softly) again", "softly", "softly"),
        ("she sang (softly) again", "(softly) again", "(softly) again"),
        ("she sang (softly) again", "g (softly)", "inside a word"),
        ("le café crème est là", "crème est", "crème est"),
        ("le café est là", "cafe", "not in the sentence"),
        ("кошка ест рыбу", "рыбу", "рыбу"),
        ("нерыбу ест рыбу2", "рыбу", "inside a word"),
        ("paper is wood", "stone", "not in the sentence"),
        ("paper is wood", "", "predicts nothing"),
        ("paper is wood!", "paper is wood", "whole sentence"),
    ],
)
def test_predictions(sentence, prediction, expected):
    cut = pairs.at_prediction(sentence, prediction)
    if isinstance(cut, str):
        assert expected in cut
    else:
        assert expected in (cut, sentence[slice(*cut)])


@pytest.mark.parametrize(
    "phrase, sentence, body",
    [
        ("is used for", "A knife is used for cutting", "A knife is used for <extra_id_0>"),
        ("is used for", "it is  used for", None),
        ("is used for", "this used for that", None),
        ("H is used for", "One Is Used For two", "One Is Used For <extra_id_0>"),
        (
            "you are likely to find H in",
            "In town, you are likely to find a cat in every house in May",
            "In town, you are likely to find a cat in <extra_id_0>",
        ),
        (
            "as a result of H, others will",
            "as a result of this, others will pay (a lot)",
            "as a result of this, others will <extra_id_0>",
        ),
        (
            "T is where you find H",
            "The sea is where you find fish",
            "<extra_id_0> is where you find fish",
        ),
        ("H can", "you cannot can", None),
        (
            "H is like T in that",
            "love is like oxygen in that you need it",
            "love is like <extra_id_0> in that you need it",
        ),
    ],
)
def test_phrases(phrase, sentence, body):
    cut = pairs.at_phrase(sentence, pairs.phrase_patterns([phrase]))
    assert (None if isinstance(cut, str) else pairs.cut_out(sentence, cut)[0]) == body


def test_the_longest_phrase_goes_first():
    patterns = pairs.phrase_patterns(["is", "is made of"])
    assert pairs.at_phrase("paper is made of wood", patterns) == (17, 21)


@pytest.mark.parametrize("style", ["postfix", "wrap"])
def test_every_relation_finds_its_own_verbalised_fact(style):
    for relation, phrase in phrases.STYLES[style].items():
        wrapped = phrase if "H" in phrase.split() or style == "wrap" else f"H {phrase}"
        sentence = wrapped.replace("H", "some thing", 1) + " what comes"
        cut = pairs.at_phrase(sentence, pairs.phrase_patterns([phrase]))
        assert sentence[slice(*cut)] == "what comes", relation


@pytest.mark.parametrize("phrase", ["", "H T", "H is H", "T is T"])
def test_phrases_that_cannot_be_found(phrase):
    with pytest.raises(UserError, match="cannot be looked for"):
        pairs.phrase_patterns([phrase])
    with pytest.raises(UserError, match="at least one phrase"):
        pairs.phrase_patterns([])


def test_files(tmp_path):
    rows = [
        pairs.Pair("a <extra_id_0> c", "b", "Filling", "x:1"),
        pairs.Pair("é body", "a ‘tail’", "Mapping", "x:2"),
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(pairs.to_jsonl(rows))
    assert list(pairs.read(path)) == rows
    assert pairs.restore(rows[1].body, rows[1].tail) == "é body a ‘tail’"


@pytest.mark.parametrize(
    "row, told",
    [
        ({"body": "a", "tail": " "}, "'tail'"),
        ({"tail": "b"}, "'body'"),
        ({"body": "<extra_id_0>", "tail": "b"}, "'body'"),
        ({"body": "<extra_id_0> a <extra_id_0>", "tail": "b"}, "once in the body"),
        ({"body": "a", "tail": "b <extra_id_0>"}, "never in the tail"),
        ({"body": "a", "tail": "b", "label": "Fillings"}, "Filling or Mapping"),
    ],
)
def test_rows_that_are_no_pairs(tmp_path, row, told):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"body": "a", "tail": "b"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=rf"a\.jsonl, line 2.*{told}"):
        list(pairs.read(path))
    with pytest.raises(UserError, match="JSONL"):
        next(pairs.read(tmp_path / "a.tsv"))
