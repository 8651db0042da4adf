# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a corpus to pairs: counts that add up, no work done twice, splitter and classifier, real
sentences."""

import dataclasses

import gin
import jax
import numpy as np
import pytest
from flax import nnx

from mto_jax import checkpoints
from mto_jax.adaptation import make, pairs, teaching
from mto_jax.adaptation.make import PairConfig
from mto_jax.errors import UserError
from mto_jax.models.t5 import T5
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.text2text.records import Triple
from mto_jax.text2text.templates import Wording
from mto_jax.text2text.vocabulary import vocabulary
from mto_jax.training.finetune import Tuning
from mto_jax.training.optimizers import Optimizer
from tests import tiny

# Teach two kinds of fact that even a tiny model tells apart: where, in a word, and why, in a
# phrase.
PLACES = tuple(Triple("p", "p", f"thing {i}", ("the sea",)) for i in range(8))
REASONS = tuple(Triple("r", "r", f"thing {i}", ("to see it all again",)) for i in range(8))
FACTS = [
    RecordSet("places", "triple", Wording("is found in"), PLACES),
    RecordSet("reasons", "triple", Wording("comes"), REASONS),
]
GROUPS = {"places": "Filling", "reasons": "Mapping"}
SENTENCES = """thing 1 is found in the sea.
thing 2 comes to see it all again.
thing 3 is found in the sea.
"""
HARD = Tuning(40, 8, Optimizer("adam", 1e-2, schedule="linear", warmup=0, clip_norm=1.0))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint."""
    folder = tmp_path_factory.mktemp("base")
    tiny.write(folder)
    return checkpoints.open(folder)


@pytest.fixture
def demo_vocabulary():
    gin.bind_parameter("vocabulary.name", "demo")
    return vocabulary("demo")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCES)
    return str(path)


def test_report_and_pairs_of_the_demo(tmp_path):
    config = PairConfig("demo", method="phrases", groups="length", max_pairs=50)
    path, report = make.ensure(config, tmp_path, tmp_path)
    rows = list(pairs.read(path))
    assert len(rows) == report.kept == 50
    assert report.read == report.kept + report.dropped.total()
    assert report.labels == {
        label: sum(row.label == label for row in rows) for label in {row.label for row in rows}
    }
    assert all((row.label == "Filling") == (len(row.tail.split()) < 4) for row in rows)
    text = path.read_text()

    path.with_name("pairs.jsonl").touch()  # the same request makes nothing
    before = path.stat().st_mtime_ns
    assert make.ensure(config, tmp_path, tmp_path) == (path, report)
    assert path.stat().st_mtime_ns == before

    other, _ = make.ensure(dataclasses.replace(config, seed=1), tmp_path, tmp_path)
    assert other.read_text() != text
    again, _ = make.ensure(config, tmp_path, tmp_path)
    assert again.read_text() == text
    path.write_text(text[:-20])  # damaged
    again, _ = make.ensure(config, tmp_path, tmp_path)
    assert again.read_text() == text


def test_a_changed_corpus_makes_other_pairs(tmp_path, corpus):
    config = PairConfig(corpus, method="spans", groups="length")
    assert make.ensure(config, tmp_path, tmp_path)[1].read == 3
    with open(corpus, "a") as file:
        file.write("one sentence more is here.\n")
    assert make.ensure(config, tmp_path, tmp_path)[1].read == 4


def test_splitter_and_classifier_learn_and_are_remembered(
    tmp_path, corpus, base, demo_vocabulary, monkeypatch
):
    monkeypatch.setattr(teaching, "read_facts", lambda groups, count, module: FACTS)
    config = PairConfig(corpus, facts=GROUPS, facts_per_task=8, splitter=HARD, classifier=HARD)
    path, report = make.ensure(config, tmp_path, base)
    assert report.kept == 3, report.reasons()
    found = {row.source: row for row in pairs.read(path)}
    assert found["sentences.txt:1"][:3] == (
        "thing 1 is found in <extra_id_0>",
        "the sea",
        "Filling",
    )
    assert found["sentences.txt:2"][:3] == (
        "thing 2 comes <extra_id_0>",
        "to see it all again",
        "Mapping",
    )

    def no_fit(*arguments, **settings):
        raise AssertionError("trained again")

    monkeypatch.setattr(teaching, "fit", no_fit)
    shorter = dataclasses.replace(config, max_pairs=2)
    assert make.ensure(shorter, tmp_path, base)[1].kept == 2
    with pytest.raises(AssertionError, match="trained again"):
        make.ensure(dataclasses.replace(config, seed=1), tmp_path, base)


def test_a_splitter_held_to_the_sentence_finds_tails_it_cannot_write(
    tmp_path, base, demo_vocabulary, monkeypatch
):
    """Taught tails of two words and of five, asked about words that no lesson had."""
    monkeypatch.setattr(teaching, "read_facts", lambda groups, count, module: FACTS)
    path = tmp_path / "new.txt"
    path.write_text("thing 1 is found in the garden.\nthing 2 is found in the kitchen.\n")
    config = PairConfig(
        str(path), groups="length", facts=GROUPS, facts_per_task=8, splitter=HARD, search="suffix"
    )
    found, report = make.ensure(config, tmp_path / "suffix", base)
    assert report.kept == 2
    assert {(row.body, row.tail) for row in pairs.read(found)} == {
        ("thing 1 is found in <extra_id_0>", "the garden"),
        ("thing 2 is found in <extra_id_0>", "the kitchen"),
    }
    with pytest.raises(UserError, match="gave 0 pairs .* 2 the prediction is not in the sentence"):
        make.ensure(dataclasses.replace(config, search="generate"), tmp_path / "generate", base)


def test_the_best_suffix_is_the_likeliest_by_token(demo_vocabulary, monkeypatch):
    """Against each suffix by itself, from the model's full logits."""
    model = T5(tiny.CONFIG, nnx.Rngs(3))
    sentences = ["a bee makes honey in the hive", "it rains", "word"]

    graphdef, parameters = nnx.split(model)
    forward = jax.jit(lambda batch: nnx.merge(graphdef, parameters)(batch))

    def mean(source, target):
        def row(ids, length):
            return np.array([ids + [0] * (length - len(ids))])

        batch = {
            "encoder_input_tokens": row(source, 32),
            "encoder_segment_ids": row([1] * len(source), 32),
            "decoder_input_tokens": row([0, *target[:-1]], 9),
            "decoder_segment_ids": row([1] * len(target), 9),
        }
        logits_TxV = np.asarray(forward(batch), np.float64)[0, : len(target)]
        log_prob_TxV = logits_TxV - np.log(np.exp(logits_TxV).sum(axis=-1, keepdims=True))
        return log_prob_TxV[np.arange(len(target)), target].mean()

    monkeypatch.setattr(teaching, "CHUNK", 2)  # the third sentence comes alone
    monkeypatch.setattr(teaching, "MAX_TOKENS", {"inputs": 64, "targets": 9})
    expected = []
    for sentence in sentences:
        scores = {"": -np.inf}
        for tail in pairs.suffixes(sentence):
            source, target = (
                [*demo_vocabulary.encode(text), demo_vocabulary.eos_id]
                for text in (f"{sentence} <extra_id_0>", f"<extra_id_0> {tail}")
            )
            if len(target) <= 9:
                scores[tail] = mean(source, target)
        expected.append(max(scores, key=scores.get))
    assert teaching.best_suffixes(model, sentences, demo_vocabulary) == expected
    assert expected[0]
    assert expected[1:] == ["rains", ""]


def test_an_untrained_splitter_keeps_nothing(tmp_path, corpus, base, demo_vocabulary, monkeypatch):
    monkeypatch.setattr(teaching, "read_facts", lambda groups, count, module: FACTS)
    splitter = Tuning(epochs=1, optimizer=Optimizer("sgd", 0.0))
    config = PairConfig(corpus, groups="length", facts=GROUPS, splitter=splitter)
    with pytest.raises(
        UserError, match=r"gave 0 pairs .* 3 sentences read; dropped: 3 the prediction"
    ):
        make.ensure(config, tmp_path, base)
    assert not (tmp_path / "pairs.jsonl").exists()


def test_facts_become_examples(demo_vocabulary):
    inside = RecordSet("x", "triple", Wording("T is where you find H"), PLACES[:1])
    (pair,) = teaching.fact_pairs(inside, 5, seed=0)
    assert pair == ("<extra_id_0> is where you find thing 0", "the sea")
    ((inputs, targets),) = teaching.splitter_examples([pair, ("long " * 99, "x")], demo_vocabulary)
    assert demo_vocabulary.decode(inputs) == "the sea is where you find thing 0 <extra_id_0>"
    assert demo_vocabulary.decode(targets) == "<extra_id_0> the sea"
    assert inputs[-1] == targets[-1] == demo_vocabulary.eos_id
    drawn = teaching.fact_pairs(FACTS[0], 3, seed=0)
    assert len(drawn) == 3
    assert drawn != teaching.fact_pairs(FACTS[0], 3, seed=1)


def test_the_length_rule_counts_words():
    tails = ["a", "a b c", "a b c d"]
    assert teaching.by_length([("", tail) for tail in tails]) == ["Filling", "Filling", "Mapping"]


def test_bad_settings(tmp_path, base, demo_vocabulary, monkeypatch):
    for settings, told in (
        ({"method": "split"}, "Did you mean 'splitter'"),
        ({"groups": "lenght"}, "Did you mean 'length'"),
        ({"search": "sufix"}, "Did you mean 'suffix'"),
        ({"min_words": 1}, "at least 2 words"),
        ({"min_words": 9, "max_words": 8}, "min <= max"),
        ({"max_pairs": 0}, "max_pairs is 0"),
    ):
        with pytest.raises(UserError, match=told):
            PairConfig("demo", **settings)
    with pytest.raises(UserError, match="facts is empty"):
        teaching.read_facts({}, 5)
    with pytest.raises(UserError, match="Did you mean 'Filling'"):
        teaching.read_facts({"demo_AtLocation": "filling"}, 5)
    monkeypatch.setattr(teaching, "read_facts", lambda groups, count, module: FACTS[:1])
    with pytest.raises(UserError, match="of the group Mapping"):
        make.ensure(PairConfig("demo", method="spans", facts=GROUPS), tmp_path, base)


def test_gin_reaches_the_phrases(tmp_path):
    config = PairConfig("demo", method="phrases", groups="length")
    postfix, _ = make.ensure(config, tmp_path, tmp_path)
    text = postfix.read_text()
    gin.bind_parameter("relation_phrase.style", "wrap")
    assert make.ensure(config, tmp_path, tmp_path)[0].read_text() != text


@pytest.mark.parametrize(
    "corpus, method, least",
    [("openbookqa/openbook.txt", "phrases", 100), ("text/wordnet_glosses.txt.gz", "spans", 8000)],
)
def test_real_sentences(data_dir, tmp_path, corpus, method, least):
    config = PairConfig(str(data_dir / corpus), method=method, groups="length")
    path, report = make.ensure(config, tmp_path, tmp_path)
    rows = list(pairs.read(path))
    assert least <= len(rows) == report.kept
    assert report.read == report.kept + report.dropped.total()
    assert len({pairs.restore(row.body, row.tail) for row in rows}) == len(rows)
    assert 0.1 < report.labels["Filling"] / report.kept < 0.9
