# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo's facts, splits, corpus and vocabulary."""

import collections
import os
import re
import subprocess
import sys

import gin
import pytest
import sentencepiece

from mto_jax.errors import UserError
from mto_jax.tasks.demo import corpus, knowledge, train_vocabulary
from mto_jax.text2text import phrases
from mto_jax.text2text.few_shot import normal
from mto_jax.text2text.vocabulary import vocabulary

MAIN_RELATIONS = ("AtLocation", "ObjectUse", "HasProperty", "xIntent", "xNeed")


def split_sentences(document: str) -> list[str]:
    return re.split(r"(?<=[.?!]) ", document)


@pytest.fixture(scope="module")
def told() -> list[str]:
    """Every sentence of the corpus."""
    return [s for document in corpus.sentences() for s in split_sentences(document)]


# ---- Knowledge --------------------------------------------------------------------------------


def test_facts_are_distinct_and_clean():
    facts = knowledge.facts()
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
    for fact in knowledge.facts():
        tables[fact.head].add(fact.category)
    assert [head for head, names in tables.items() if len(names) > 1] == []
    assert len({normal(head) for head in tables}) == len(tables)


def test_articles_fit_the_word_that_follows():
    texts = [text for fact in knowledge.facts() for text in (fact.head, fact.tail)]
    wrong = [
        text
        for text in texts
        for article, word in re.findall(r"\b(an?) (\w+)", text)
        if (article == "an") != (word[0] in "aeiouAEIOU") and not word.startswith(("uni", "use"))
    ]
    assert set(wrong) == set()


def test_splits_are_disjoint_by_head_whatever_the_relation():
    seen: dict[str, str] = {}
    for relation in knowledge.RELATIONS:
        for split in knowledge.SPLITS:
            for triple in knowledge.triples(relation, split):
                assert seen.setdefault(triple.head, split) == split
    assert seen == knowledge.head_splits()
    counts = collections.Counter(seen.values())
    for split, share in zip(knowledge.SPLITS, (0.4, 0.2, 0.4), strict=True):
        assert counts[split] / len(seen) == pytest.approx(share, abs=0.005)


def test_splits_hold_every_fact_once():
    split = [
        (t.head, relation, tail)
        for relation in knowledge.RELATIONS
        for name in knowledge.SPLITS
        for t in knowledge.triples(relation, name)
        for tail in t.tails
    ]
    assert sorted(split) == sorted((f.head, f.relation, f.tail) for f in knowledge.facts())


@pytest.mark.parametrize("relation", MAIN_RELATIONS)
def test_main_relations_have_heads_enough(relation):
    assert len(knowledge.triples(relation, "train")) >= 40
    assert len(knowledge.triples(relation, "validation")) >= 20
    assert len(knowledge.triples(relation, "test")) >= 40


@pytest.mark.parametrize("split", knowledge.SPLITS)
def test_every_category_is_in_every_split(split):
    splits = knowledge.head_splits()
    categories = {f.category for f in knowledge.facts()}
    assert {f.category for f in knowledge.facts() if splits[f.head] == split} == categories


@pytest.mark.parametrize(
    "table, message",
    [
        ("head | AtLocation\na cup | shelf | tea", "has 3 columns"),
        ("head | AtLocation\na cup | shelf, shelf", "must be distinct"),
        ("head | AtLocation\na cup | a, b, c, d", "at most 3"),
        ("head | AtLocation\na cup | shelf,", "not empty"),
        ("head | AtLocaton\na cup | shelf", "Did you mean 'AtLocation'"),
    ],
)
def test_a_wrong_table_is_an_error(table, message):
    with pytest.raises(UserError, match=message):
        knowledge.read_table("cups", table)


def test_unknown_relation_and_split_are_errors():
    with pytest.raises(UserError, match="xIntent"):
        knowledge.triples("xIntend", "train")
    with pytest.raises(UserError, match="'test'"):
        knowledge.triples("xIntent", "tests")


# ---- Corpus -----------------------------------------------------------------------------------


def test_every_fact_is_told_in_two_sentences_or_more(told):
    by_word = collections.defaultdict(set)
    lowered = [sentence.lower() for sentence in told]
    for i, sentence in enumerate(lowered):
        for word in re.findall(r"[\w_]+", sentence):
            by_word[word].add(i)
    for fact in knowledge.facts():
        head, tail = fact.head.lower(), fact.tail.lower()
        candidates = set.intersection(
            *(by_word[w] for w in re.findall(r"[\w_]+", f"{head} {tail}"))
        )
        together = [i for i in candidates if head in lowered[i] and tail in lowered[i]]
        assert len(together) >= 2, fact


@pytest.mark.parametrize("relation", knowledge.RELATIONS)
def test_the_first_wording_is_the_standard_phrase(relation):
    standard, *others = corpus.WORDINGS[relation]
    assert phrases.POSTFIX[relation] in standard
    assert standard.index("{h}") < standard.index("{t}")
    assert not any(phrases.POSTFIX[relation] in wording for wording in others)
    assert len(others) > corpus.SENTENCES_PER_FACT
    assert any("{t}" in w and not w.endswith(("{t}.", '{t}".')) for w in others), "a tail inside"


@pytest.mark.parametrize("relation", knowledge.RELATIONS)
def test_every_fact_is_told_in_the_standard_phrase(relation):
    text = " ".join(corpus.sentences()).lower()
    for fact in knowledge.facts():
        if fact.relation == relation:
            assert corpus.verbalise(fact, corpus.WORDINGS[relation][0]).lower() in text


def test_sentences_are_well_formed(told):
    for sentence in told:
        assert re.fullmatch(r'["A-Za-z].*[.?!]', sentence), sentence
        assert "  " not in sentence
        assert "{" not in sentence
        assert not re.search(r"\ba [aeio]\w", sentence), sentence
        assert not re.search(r"\b(\w+) \1\b", sentence), sentence


def test_size_and_shape_of_the_corpus():
    documents = corpus.sentences()
    assert 60_000 <= sum(len(document.split()) for document in documents) <= 150_000
    assert len(set(documents)) == len(documents)
    assert max(len(document.split()) for document in documents) <= 80


def test_every_preposition_is_of_a_place_that_is_there():
    places = {f.tail for f in knowledge.facts() if f.relation == "AtLocation"}
    assert set(corpus.PREPOSITIONS) <= places


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
    assert corpus.infinitive(event) == expected


def test_another_process_makes_the_same_corpus_and_splits():
    code = (
        "import hashlib; from mto_jax.tasks.demo import corpus, knowledge as k;"
        "text = repr((corpus.sentences(), sorted(k.head_splits().items())));"
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
    for document in corpus.sentences():
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
    assert vocab.size == vocab.padded_size == train_vocabulary.NUM_PIECES + 100
    assert train_vocabulary.PATH.stat().st_size < 100_000
    assert vocab.decode([vocab.sentinel_id(0), *vocab.encode("heavy")]) == "<extra_id_0> heavy"


def test_vocabulary_is_made_of_this_corpus():
    # Versions of SentencePiece may differ in a few pieces; an old file differs in many.
    pieces = [
        {processor.id_to_piece(i) for i in range(processor.get_piece_size())}
        for processor in (
            sentencepiece.SentencePieceProcessor(model_proto=model)
            for model in (train_vocabulary.train(), train_vocabulary.PATH.read_bytes())
        )
    ]
    assert len(pieces[0] & pieces[1]) > 0.99 * train_vocabulary.NUM_PIECES


# ---- Tasks ------------------------------------------------------------------------------------


def test_tasks_hold_the_splits():
    seqio = pytest.importorskip("seqio")
    from mto_jax.tasks import demo

    gin.bind_parameter("vocabulary.name", "demo")
    names = demo.register()
    assert demo.register() == names, "registering again changes nothing"
    task = seqio.get_mixture_or_task("demo_AtLocation_masked_prompting")
    lengths = {"inputs": 64, "targets": 16}
    rows = list(task.get_dataset(lengths, "test", shuffle=False).as_numpy_iterator())
    expected = knowledge.triples("AtLocation", "test")
    assert len(rows) == len(expected)
    assert tuple(t.decode() for t in rows[0]["references"]) == expected[0].tails
    source = rows[0]["inputs_pretokenized"].decode()
    assert source.startswith("AtLocation: ")
    assert source.endswith(f"{expected[0].head} is located at <extra_id_0>")
