# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packed, jitted scores against one row at a time, full logits and a sort, in numpy."""

import numpy as np

from mto_jax.matching import depth_rank, teacher_forcing
from mto_jax.text2text.task import tokenise
from mto_jax.text2text.templates import TEMPLATES

from .common import LENGTHS, QUESTIONS, USES, VOCABULARY, brute_force, model

EOS = VOCABULARY.eos_id


def test_scores_of_packed_rows(monkeypatch):
    monkeypatch.setattr(teacher_forcing, "ROWS", 1)  # several batches of a few packed examples
    monkeypatch.setattr(teacher_forcing, "SOURCE_LENGTH", 32)
    for name in ("Prompting", "MaskedPrompting"):
        examples = tokenise(TEMPLATES[name], USES.held_out, USES, VOCABULARY, LENGTHS)
        assert len(examples) == 6
        found = teacher_forcing.tail_scores(model(), examples, VOCABULARY)
        for (inputs, targets), scores in zip(examples, found, strict=True):
            log_probs, ranks = brute_force(inputs, targets)
            np.testing.assert_allclose(scores.log_prob_N, log_probs, atol=1e-4)
            np.testing.assert_array_equal(scores.rank_N, ranks)


def test_a_tail_longer_than_its_share_of_a_row(monkeypatch):
    monkeypatch.setattr(teacher_forcing, "SOURCE_LENGTH", 16)
    rng = np.random.default_rng(0)
    examples = [([5, EOS], [*rng.integers(3, 90, 12).tolist(), EOS]), ([6, 7, EOS], [8, EOS])]
    examples += [([9] * 14 + [EOS], [4, EOS])]
    found = teacher_forcing.tail_scores(model(), examples, VOCABULARY)
    for (inputs, targets), scores in zip(examples, found, strict=True):
        log_probs, ranks = brute_force(inputs, targets)
        np.testing.assert_allclose(scores.log_prob_N, log_probs, atol=1e-4)
        np.testing.assert_array_equal(scores.rank_N, ranks)


def test_sentences_are_grouped_by_head_and_know_the_headless_ranks():
    template = TEMPLATES["MaskedPrompting"]
    heads = teacher_forcing.sentences(model(), USES, template, VOCABULARY, LENGTHS)
    assert [len(tails) for tails in heads] == [2, 1, 3]
    source = [*VOCABULARY.encode("ObjectUse:"), *VOCABULARY.encode("is used for")]
    source += [VOCABULARY.sentinel_id(0), EOS]
    for tails, record in zip(heads, USES.held_out, strict=True):
        for sentence, tail in zip(tails, record.tails, strict=True):
            target = [VOCABULARY.sentinel_id(0), *VOCABULARY.encode(tail), EOS]
            _, ranks = brute_force(source, target)
            np.testing.assert_array_equal(sentence.headless.rank_N, ranks)
            with_head_N = sentence.scores.rank_N
            expected = np.log2((1 + with_head_N) / (1 + ranks)).mean()
            assert depth_rank.normalised_depth_rank(sentence) == np.float64(expected)


def test_a_question_without_its_head_keeps_its_choices():
    template = TEMPLATES["MaskedAnswerPrompting"]
    (inputs, _), *_ = tokenise(
        template, QUESTIONS.held_out, QUESTIONS, VOCABULARY, LENGTHS, with_head=False
    )
    text = "qa: choice1: bed, choice2: the big old house <extra_id_0>"
    assert VOCABULARY.decode(inputs) == text
