# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of every score, by hand and by closed form."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from mto_jax.matching import (
    agreement,
    depth_rank,
    length_rule,
    likelihood,
    outputs,
    unlabelled,
    verdict,
)
from mto_jax.matching.teacher_forcing import ScoredSentence, TailScores
from mto_jax.matching.verdict import MAP_PHRASAL, MASK_FILLING, NO_WINNER, Verdict
from tests import tiny

from .common import QUESTIONS, VOCABULARY, brute_force, model


def sentence(ranks, headless=None, log_probs=None):
    def scores(of):
        return TailScores(np.array(log_probs or [0.0] * len(of)), np.array(of))

    return ScoredSentence(scores(ranks), scores(headless or ranks))


def test_the_published_worked_example():
    """ "PersonX works as a waitress", xIntent, "to earn money": ranks 1, 53, 1."""
    assert depth_rank.depth_rank(sentence([1, 53, 1])) == pytest.approx(18.33, abs=0.005)


def test_maskability_is_the_relative_fall_of_the_mean_depth_rank():
    plain = [[sentence([10, 20]), sentence([5])], [sentence([30, 40, 20])]]  # 15, 5, 30
    masked = [[sentence([6, 6]), sentence([9])], [sentence([10, 20, 15])]]  # 6, 9, 15
    found = depth_rank.maskability("t", 5, plain, masked)
    assert found.templates == pytest.approx({"plain": 50 / 3, "masked": 10.0})
    assert found.value == pytest.approx((50 - 30) / 50)
    assert (found.score, found.threshold) == ("MI(5)", 0.30)


@pytest.mark.parametrize(
    "masked, decision",
    [
        ([40, 42, 44, 46], MASK_FILLING),
        ([90, 95, 98, 99], MAP_PHRASAL),
        ([50, 85, 65, 75], NO_WINNER),  # 0.3125: above 0.30, but its interval straddles it
        ([200, 250, 210, 230], MAP_PHRASAL),
    ],
)
def test_maskability_is_decided_at_the_published_threshold(masked, decision):
    plain = [[sentence([100])] for _ in masked]
    found = depth_rank.maskability("t", 0, plain, [[sentence([rank])] for rank in masked])
    assert found.value == pytest.approx(1 - np.mean(masked) / 100)
    assert found.decision == decision


def test_tokens_that_need_no_head_do_not_count_in_the_normalised_rank():
    # "to" has rank 0 with the head or without; the head takes "earn" from 63 to 7: three halvings.
    assert depth_rank.normalised_depth_rank(sentence([0, 7], [0, 63])) == pytest.approx(-1.5)
    plain = [[sentence([0, 7], [0, 63])], [sentence([3], [3])]]
    masked = [[sentence([0, 0], [0, 63])], [sentence([1], [3])]]
    found = depth_rank.normalised("t", 5, plain, masked)
    assert found.templates == pytest.approx({"plain": -0.75, "masked": -2.0})
    assert (found.value, found.decision) == (pytest.approx(1.25), MASK_FILLING)


def test_likelihood_weighs_every_sentence_alike():
    plain = [[sentence([0, 0], log_probs=[-2.0, -4.0])], [sentence([0], log_probs=[-1.0])]]
    masked = [[sentence([0, 0], log_probs=[-1.0, -3.0])], [sentence([0], log_probs=[-4.0])]]
    found = likelihood.likelihood("t", 0, plain, masked)
    assert found.templates == pytest.approx({"plain": -2.0, "masked": -3.0})
    assert (found.value, found.decision) == (pytest.approx(-1.0), NO_WINNER)


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    found = verdict.judge("t", "s", verdict.ratio(values, np.ones(400)))
    error = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - error, abs=0.03)
    assert found.high == pytest.approx(values.mean() + error, abs=0.03)
    assert found.decision == MASK_FILLING


def test_an_interval_that_touches_the_threshold_is_no_decision_and_a_tie_leans_nowhere():
    tie = verdict.judge("t", "probe", verdict.ratio(np.zeros(9), np.ones(9)))
    assert (tie.low, tie.high, tie.decision, tie.leaning) == (0.0, 0.0, NO_WINNER, NO_WINNER)
    for sign, leaning in ((1, MASK_FILLING), (-1, MAP_PHRASAL)):
        values = sign * np.array([1.0, 1.0, -1.5])
        found = verdict.judge("t", "probe", verdict.ratio(values, np.ones(3)))
        assert (found.decision, found.leaning) == (NO_WINNER, leaning)


def test_the_published_threshold_is_for_models_of_t5_bases_size_alone():
    base = dataclasses.replace(
        tiny.CONFIG, d_model=768, num_encoder_layers=12, num_decoder_layers=12
    )
    assert depth_rank.threshold(base) == 0.30
    assert depth_rank.threshold(tiny.CONFIG) == 0
    heads = [[sentence([100])]] * 4, [[sentence([80])]] * 4
    assert depth_rank.maskability("t", 5, *heads).decision == MAP_PHRASAL
    calibrated = depth_rank.maskability("t", 5, *heads, depth_rank.threshold(tiny.CONFIG))
    assert (calibrated.decision, calibrated.threshold) == (MASK_FILLING, 0)


def test_length_rule():
    question, statement = QUESTIONS.held_out
    assert length_rule.wants_mask(question)  # (1 + 4) / 2 words
    assert not length_rule.wants_mask(statement)
    long = dataclasses.replace(question, choices=("in the bed", "in the big old house"))
    assert not length_rule.wants_mask(long)  # (3 + 5) / 2 = 4: not under four
    found = length_rule.length_rule("qa", [question, question, question, statement])
    assert found.value == 0.5
    assert length_rule.length_rule("qa", [statement]).decision == MAP_PHRASAL


def test_sentences_are_cut_behind_the_phrase():
    sentence = "a knife is used for cutting bread"
    assert unlabelled.cut_at(sentence, "is used for") == ("a knife is used for", "cutting bread")
    wrapped = "After PersonX runs , PersonX would want a rest"
    body = "After PersonX runs , PersonX would want"
    assert unlabelled.cut_at(wrapped, "After H , PersonX would want") == (body, "a rest")
    for without in ("a knife cuts bread", "is used for cutting", "a knife is used for "):
        assert unlabelled.cut_at(without, "is used for") is None


def test_the_other_cut_has_a_tail_of_as_many_words():
    rng = np.random.default_rng(0)
    found = {
        unlabelled.cut_elsewhere(("a knife is used for", "cutting bread"), rng) for _ in range(50)
    }
    assert found == {
        ("a", "knife is"),
        ("a knife", "is used"),
        ("a knife is", "used for"),
        ("a knife is used", "for cutting"),
    }
    assert unlabelled.cut_elsewhere(("knives", "cut bread"), rng) is None


def test_preferences_compare_the_same_tail_in_two_forms():
    cuts = [("a knife is used for", "cutting bread"), ("a boat is used for", "fishing")]
    found = unlabelled.preferences(model(), cuts, VOCABULARY)
    sentinel, eos = VOCABULARY.sentinel_id(0), VOCABULARY.eos_id
    for (body, tail), value in zip(cuts, found, strict=True):
        body, tail = VOCABULARY.encode(body), VOCABULARY.encode(tail)
        plain, _ = brute_force([*body, eos], [*tail, eos])
        masked, _ = brute_force([*body, sentinel, eos], [sentinel, *tail, eos])
        assert value == pytest.approx(masked.mean() - plain.mean(), abs=1e-4)


def test_spearman_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 30), rng.integers(0, 5, 30)
    expected = scipy.stats.spearmanr(a, b).statistic
    assert agreement.spearman(a, b) == pytest.approx(expected)
    assert agreement.spearman([1, 1, 1], [1, 2, 3]) is None


def test_agreement_with_the_probe():
    def judged(task, score, value, decision):
        return Verdict(task, score, value, value, value, 0.0, decision)

    verdicts = [
        judged("a", "MI", 0.5, MASK_FILLING),
        judged("b", "MI", 0.2, NO_WINNER),
        judged("c", "MI", -0.2, MAP_PHRASAL),
        judged("d", "MI", 0.1, MASK_FILLING),
        judged("a", "probe", 0.4, MASK_FILLING),
        judged("b", "probe", 0.3, MASK_FILLING),
        judged("c", "probe", -0.1, MAP_PHRASAL),
        judged("d", "probe", -0.2, MAP_PHRASAL),
        judged("d", "adaptation", 0.2, "mixed"),  # is about something else
    ]
    (found,) = agreement.agreements(verdicts)
    assert found == agreement.Agreement("MI", 4, clear=3, same=2, same_leaning=3, correlation=0.8)
    ties = [judged("a", "MI", 0.0, NO_WINNER), judged("a", "probe", 0.0, NO_WINNER)]
    (tied,) = agreement.agreements(ties)
    assert tied.same_leaning == 0
    assert outputs.agreement_rows([tied])[1] == ["MI", "none is clear", "0 of 1", ""]
    apart = [judged("a", "MI", 0.1, MASK_FILLING), judged("b", "probe", 0.1, MASK_FILLING)]
    assert agreement.agreements(apart) == []


def test_the_classifiers_vote_counts_pairs():
    found = verdict.vote("t", np.array([2.0, 0.1, 3.0, -4.0] * 10))
    assert (found.value, found.decision) == (0.5, MASK_FILLING)
    assert verdict.vote("t", np.array([2.0, 0.0])).value == 0.5  # who is undecided has no vote
