# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The probe compares trained candidates on held-out records; all verdicts make a choice."""

import dataclasses

import gin
import numpy as np
import pytest

from mto_jax.decoding.generation import Output
from mto_jax.errors import UserError
from mto_jax.evaluation import evaluator
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.matching import decide, probe
from mto_jax.matching.verdict import MAP_PHRASAL, MASK_FILLING, NO_WINNER, Verdict
from mto_jax.metrics import labels
from mto_jax.text2text.mapping import Choice
from mto_jax.text2text.task import candidates
from mto_jax.text2text.templates import TEMPLATES, Wording

from .common import LENGTHS, QUESTIONS, SENTENCES, USES, VOCABULARY, model


def names(task):
    return {template.name for template in candidates(task)}


def test_candidates():
    assert names(USES) == {"Mapping", "MaskedMapping", "Prompting", "MaskedPrompting"}
    assert names(QUESTIONS) == {
        "ChoicePrompting",
        "MaskedChoicePrompting",
        "AnswerPrompting",
        "MaskedAnswerPrompting",
    }


def test_shots_are_heads():
    chosen = USES.shots(2, 3)
    assert [(record.head, record.tails) for record in chosen] == [
        ("a saw", ("cutting wood",)),
        ("a saw", ("building",)),
        ("a cup", ("drinking tea",)),
    ]
    assert [record.head for record in USES.shots(2, 1, skip=1)] == ["a cup", "a pen"]
    assert [record.head for record in USES.shots(2, 1, skip=2)] == ["a pen", "a saw"]


def test_the_form_that_answers_right_wins(monkeypatch):
    """Trained on masked examples the stand-in answers right, else with one word of two or three."""
    sentinel = VOCABULARY.sentinel_id(0)
    seen = []

    def tune(model, examples, *, seed):
        seen.append((seed, len(examples)))
        return examples[0][1][0] == sentinel

    def decode(masked, inputs, decoding, vocabulary, **options):
        answers = [
            "<extra_id_0> cutting bread",
            "<extra_id_0> fishing",
            "<extra_id_0> eating a meal",
        ]
        plain = ["cutting", "fishing", "meal"]
        assert decoding.max_length == LENGTHS["targets"]
        return [
            [Output([*vocabulary.encode(text), vocabulary.eos_id], 0.0, 0.0)]
            for text in (answers if masked else plain)
        ]

    monkeypatch.setattr(evaluator.decoding_lib, "decode", decode)
    found = probe.probe(model(), USES, VOCABULARY, LENGTHS, tune, shots=1, tails=2, seeds=2)
    assert seen == [(0, 2), (1, 1)] * 4  # "a saw" has two tails, "a cup" one
    # ROUGE-L F: 2/3 of "cutting bread" from "cutting"; "meal" against "eating a meal at the table":
    # 2/7.
    masked, plain = [1.0, 1.0, 2 * 3 / (3 + 6)], [2 / 3, 1.0, 2 / 7]
    np.testing.assert_allclose(found.templates["MaskedPrompting"], np.mean(masked))
    np.testing.assert_allclose(found.templates["Mapping"], np.mean(plain))
    np.testing.assert_allclose(found.value, np.mean(masked) - np.mean(plain))
    assert found.high >= found.low >= 0


def verdict(score, value, decision, templates=()):
    return Verdict("uses", score, value, value, value, 0.0, decision, dict(templates))


def test_the_first_clear_score_decides_and_the_probe_names_the_template():
    scores = {"Mapping": 0.4, "Prompting": 0.3, "MaskedMapping": 0.2, "MaskedPrompting": 0.3}
    probed = verdict("probe", -0.1, NO_WINNER, scores)
    index = verdict("MI(5)", 0.4, MASK_FILLING)
    order = ("probe", "expert", "MI(5)")
    assert decide.decide(USES, [index, probed], order) == (
        Choice("denoising", "MaskedPrompting"),
        index,
    )
    clear = verdict("probe", -0.1, MAP_PHRASAL, scores)
    assert decide.decide(USES, [index, clear], order).choice == Choice("lm", "Mapping")
    unclear = verdict("MI(5)", 0.4, NO_WINNER)
    assert decide.decide(USES, [unclear, probed], order) == (Choice("lm", "Mapping"), probed)
    expert = verdict("expert", None, MAP_PHRASAL)
    assert decide.decide(USES, [expert, probed], order) == (Choice("lm", "Prompting"), expert)
    question = decide.decide(QUESTIONS, [index], order)
    assert question.choice == Choice("denoising", "MaskedAnswerPrompting")


def test_held_out_records_are_asked_greedily_whatever_gin_says():
    template = TEMPLATES["Prompting"]
    expected = evaluate_records(model(), USES, template, VOCABULARY, LENGTHS)
    gin.bind_parameter("Decoding.num_beams", 4)
    gin.bind_parameter("Decoding.prefix", "a")
    assert evaluate_records(model(), USES, template, VOCABULARY, LENGTHS).predictions == (
        expected.predictions
    )


def test_a_template_of_two_answers_does_not_compete():
    words = Wording("It was", labels=("bad", "good"), related={"bad": "awful", "good": "great"})
    texts = dataclasses.replace(USES, kind="labelled_text", wording=words)
    assert names(texts) == {"Mapping", "MaskedMapping", "Prompting", "MaskedPrompting"}


def test_the_metric_of_the_task_decides(monkeypatch):
    """Matthews scores no single examples: masked answers are right, plain ones always the same."""
    sentinel = VOCABULARY.sentinel_id(0)

    def decode(masked, inputs, decoding, vocabulary, **options):
        right = ["<extra_id_0> wrong", "<extra_id_0> right", "<extra_id_0> wrong"]
        texts = right if masked else ["wrong"] * 3
        return [[Output([*vocabulary.encode(text), vocabulary.eos_id], 0.0, 0.0)] for text in texts]

    def tune(model, examples, *, seed):
        return examples[0][1][0] == sentinel

    monkeypatch.setattr(evaluator.decoding_lib, "decode", decode)
    options = {"shots": 1, "tails": 1}
    found = probe.probe(model(), SENTENCES, VOCABULARY, LENGTHS, tune, **options)
    assert (found.templates["MaskedPrompting"], found.templates["Prompting"]) == (1, 0)
    assert found.value == 1
    found = probe.probe(model(), SENTENCES, VOCABULARY, LENGTHS, tune, **options, metric="accuracy")
    np.testing.assert_allclose(found.value, 1 - 2 / 3)
    with pytest.raises(UserError, match="Did you mean 'matthews'"):
        probe.probe(model(), SENTENCES, VOCABULARY, LENGTHS, tune, **options, metric="mathews")


def test_a_difference_of_means_is_resampled_as_a_whole():
    rng = np.random.default_rng(0)
    truth = [[word] for word in rng.choice(["a", "b"], 20)]
    said = [rng.choice(["a", "b"], 20).tolist() for _ in range(3)]
    known = [("matthews", labels.matthews.statistics(truth, words)) for words in said]
    mean = probe.mean_of(known[:2], known[2:])
    drawn = rng.integers(0, 20, 20)
    counts = np.bincount(drawn, minlength=20)
    values = [
        labels.matthews([truth[i] for i in drawn], [words[i] for i in drawn])["matthews"]
        for words in said
    ]
    expected = (values[0] + values[1]) / 2 - values[2]
    np.testing.assert_allclose(mean.finish(counts @ mean.values_NxK, 20)["value"], expected)
