# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo's facts, splits, corpus and vocabulary."""

import collections
import hashlib
import os
import re
import subprocess
import sys

import pytest
import sentencepiece

from mto_jax.errors import UserError
from mto_jax.text2text import demo, phrases
from mto_jax.text2text.few_shot import normal
from mto_jax.text2text.vocabulary import vocabulary

MAIN_RELATIONS = ("AtLocation", "ObjectUse", "HasProperty", "xIntent", "xNeed")


def split_sentences(document: str) -> list[str]:
    return re.split(r"(?<=[.?!]) ", document)


@pytest.fixture(scope="module")
def told() -> list[str]:
    """Every sentence of the demo."""
    return [s for document in demo.documents() for s in split_sentences(document)]


def test_the_demo_is_always_the_same():
    """Results and the vocabulary that comes along belong to this very text."""
    texts = {
        "facts": "\n".join("\t".join(fact) for fact in demo.facts()),
        "splits": "\n".join("\t".join(item) for item in sorted(demo.head_splits().items())),
        "corpus": "\n".join(demo.documents()),
    }
    digests = {name: hashlib.sha256(t.encode()).hexdigest()[:16] for name, t in texts.items()}
    assert digests == {
        "facts": "90ed0c375d5b6016",
        "splits": "1058f15e22468299",
        "corpus": "2366b6be22972b00",
    }


# ---- Knowledge --------------------------------------------------------------------------------


def test_facts_are_distinct_and_clean():
    facts = demo.facts()
    assert 1500 <= len(facts) <= 4000
    assert len({(f.head, f.relation, f.tail) for f in facts}) == len(facts)
    for fact in facts:
        for text in (fact.head, fact.tail):
            assert text
            assert text.isascii()
            assert text == " ".join(text.split())
    tails = collections.Counter((f.head, f.relation) for f in facts)
    assert set(tails.values()) <= {1, 2, 3}


def test_a_head_stands_in_one_table():
    tables = collections.defaultdict(set)
    for fact in demo.facts():
        tables[fact.head].add(fact.category)
    assert [head for head, names in tables.items() if len(names) > 1] == []
    assert len({normal(head) for head in tables}) == len(tables)


def test_articles_fit_the_word_that_follows():
    texts = [text for fact in demo.facts() for text in (fact.head, fact.tail)]
    wrong = [
        text
        for text in texts
        for article, word in re.findall(r"\b(an?) (\w+)", text)
        if (article == "an") != (word[0] in "aeiouAEIOU") and not word.startswith(("uni", "use"))
    ]
    assert set(wrong) == set()


def test_splits_are_disjoint_by_head_whatever_the_relation():
    seen: dict[str, str] = {}
    for relation in demo.RELATIONS:
        for split in demo.SPLITS:
            for triple in demo.triples(relation, split):
                assert seen.setdefault(triple.head, split) == split
    assert seen == demo.head_splits()
    counts = collections.Counter(seen.values())
    for split, share in zip(demo.SPLITS, (0.4, 0.2, 0.4), strict=True):
        assert counts[split] / len(seen) == pytest.approx(share, abs=0.005)


def test_splits_hold_every_fact_once():
    split = [
        (t.head, relation, tail)
        for relation in demo.RELATIONS
        for name in demo.SPLITS
        for t in demo.triples(relation, name)
        for tail in t.tails
    ]
    assert sorted(split) == sorted((f.head, f.relation, f.tail) for f in demo.facts())


@pytest.mark.parametrize("relation", MAIN_RELATIONS)
def test_main_relations_have_heads_enough(relation):
    assert len(demo.triples(relation, "train")) >= 40
    assert len(demo.triples(relation, "validation")) >= 20
    assert len(demo.triples(relation, "test")) >= 40


@pytest.mark.parametrize("split", demo.SPLITS)
def test_every_category_is_in_every_split(split):
    splits = demo.head_splits()
    categories = {f.category for f in demo.facts()}
    assert {f.category for f in demo.facts() if splits[f.head] == split} == categories


@pytest.mark.parametrize(
    "table, message",
    [
        ("cups\tAtLocation\na cup\tshelf\ttea", "has 3 columns"),
        ("cups\tAtLocation\na cup\tshelf, shelf", "must be distinct"),
        ("cups\tAtLocation\na cup\ta, b, c, d", "at most 3"),
        ("cups\tAtLocation\na cup\tshelf,", "not empty"),
        ("cups\tAtLocaton\na cup\tshelf", "Did you mean 'AtLocation'"),
    ],
)
def test_a_wrong_table_is_an_error(table, message):
    with pytest.raises(UserError, match=message):
        demo.read_table(table)


def test_unknown_relation_and_split_are_errors():
    with pytest.raises(UserError, match="xIntent"):
        demo.triples("xIntend", "train")
    with pytest.raises(UserError, match="'test'"):
        demo.triples("xIntent", "tests")


# ---- Corpus -----------------------------------------------------------------------------------


def test_every_fact_is_told_in_two_sentences_or_more(told):
    by_word = collections.defaultdict(set)
    lowered = [sentence.lower() for sentence in told]
    for i, sentence in enumerate(lowered):
        for word in re.findall(r"[\w_]+", sentence):
            by_word[word].add(i)
    for fact in demo.facts():
        head, tail = fact.head.lower(), fact.tail.lower()
        candidates = set.intersection(
            *(by_word[w] for w in re.findall(r"[\w_]+", f"{head} {tail}"))
        )
        together = [i for i in candidates if head in lowered[i] and tail in lowered[i]]
        assert len(together) >= 2, fact


@pytest.mark.parametrize("relation", demo.RELATIONS)
def test_the_first_wording_is_the_standard_phrase(relation):
    standard, *others = demo.WORDINGS[relation]
    assert phrases.POSTFIX[relation] in standard
    assert standard.index("{h}") < standard.index("{t}")
    assert not any(phrases.POSTFIX[relation] in wording for wording in others)
    assert len(others) > demo.SENTENCES_PER_FACT
    assert any("{t}" in w and not w.endswith(("{t}.", '{t}".')) for w in others), "a tail inside"


@pytest.mark.parametrize("relation", demo.RELATIONS)
def test_every_fact_is_told_in_the_standard_phrase(relation):
    text = " ".join(demo.documents()).lower()
    for fact in demo.facts():
        if fact.relation == relation:
            assert demo.verbalise(fact, demo.WORDINGS[relation][0]).lower() in text


def test_sentences_are_well_formed(told):
    for sentence in told:
        assert re.fullmatch(r'["A-Za-z].*[.?!]', sentence), sentence
        assert "  " not in sentence
        assert "{" not in sentence
        assert not re.search(r"\ba [aeio]\w", sentence), sentence
        assert not re.search(r"\b(\w+) \1\b", sentence), sentence


def test_size_and_shape_of_the_corpus():
    documents = demo.documents()
    assert 60_000 <= sum(len(document.split()) for document in documents) <= 150_000
    assert len(set(documents)) == len(documents)
    assert max(len(document.split()) for document in documents) <= 80


def test_every_preposition_is_of_a_place_that_is_there():
    places = {f.tail for f in demo.facts() if f.relation == "AtLocation"}
    assert set(demo.PREPOSITIONS) <= places


@pytest.mark.parametrize(
    "event, expected",
    [
        ("PersonX bakes a cake", "bake a cake"),
        ("PersonX washes the dishes", "wash the dishes"),
        ("PersonX goes to bed", "go to bed"),
        ("PersonX carries water", "carry water"),
        ("PersonX ties a knot", "tie a knot"),
        ("PersonX passes the exam", "pass the exam"),
        ("PersonX has a picnic", "have a picnic"),
        ("PersonX retires", "retire"),
    ],
)
def test_infinitive(event, expected):
    assert demo.infinitive(event) == expected


def test_another_process_makes_the_same_corpus_and_splits():
    code = (
        "import hashlib; from mto_jax.text2text import demo;"
        "text = repr((demo.documents(), sorted(demo.head_splits().items())));"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


# ---- Vocabulary -------------------------------------------------------------------------------


def test_vocabulary_spells_the_whole_corpus():
    vocab = vocabulary("demo")
    for document in demo.documents():
        ids = vocab.encode(document)
        assert vocab.unk_id not in ids
        assert vocab.decode(ids) == document


def test_vocabulary_spells_ascii():
    vocab = vocabulary("demo")
    text = "choice1: \"It's 7:05, isn't it?\" [x_y] {z} ~50% @ #3 & (a+b)*c = $9 \\ | ^ ` < >; Q!"
    assert vocab.unk_id not in vocab.encode(text)
    assert vocab.decode(vocab.encode(text)) == text


def test_vocabulary_size_and_ids():
    vocab = vocabulary("demo")
    assert vocab.size == vocab.padded_size == demo.NUM_PIECES + 100
    assert demo.VOCABULARY.stat().st_size < 100_000
    assert vocab.decode([vocab.sentinel_id(0), *vocab.encode("heavy")]) == "<extra_id_0> heavy"


def test_vocabulary_is_made_of_this_corpus():
    # Versions of SentencePiece may differ in a few pieces; an old file differs in many.
    pieces = [
        {processor.id_to_piece(i) for i in range(processor.get_piece_size())}
        for processor in (
            sentencepiece.SentencePieceProcessor(model_proto=model)
            for model in (demo.train_vocabulary(), demo.VOCABULARY.read_bytes())
        )
    ]
    assert len(pieces[0] & pieces[1]) > 0.99 * demo.NUM_PIECES
