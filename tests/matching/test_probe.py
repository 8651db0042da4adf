# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The probe compares trained candidates on held-out records; all verdicts make a choice."""

import dataclasses

import gin
import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.matching import decide, outputs, probe
from mto_jax.matching.verdict import MAP_PHRASAL, MASK_FILLING, NO_WINNER, Verdict
from mto_jax.metrics import labels, statistics
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


def test_a_pair_is_asked_after_tuning_on_other_heads_every_seed(monkeypatch):
    seen = []

    def tune(origin, examples, *, seed):
        seen.append((seed, [VOCABULARY.decode(targets) for _, targets in examples]))
        return origin

    for seed in (0, 1):
        answers = probe.ask(
            model(),
            USES,
            TEMPLATES["Mapping"],
            VOCABULARY,
            LENGTHS,
            tune,
            shots=1,
            tails=2,
            seed=seed,
        )
    assert seen == [(0, ["cutting wood", "building"]), (1, ["drinking tea"])]
    frozen = probe.ask(
        model(), USES, TEMPLATES["Mapping"], VOCABULARY, LENGTHS, tune, shots=0, tails=2
    )
    assert len(seen) == 2
    assert frozen == answers == {"predictions": frozen["predictions"], "ranked": None}
    assert len(frozen["predictions"]) == len(USES.held_out)


def test_questions_are_asked_by_ranking_too():
    template = TEMPLATES["AnswerPrompting"]
    answers = probe.ask(model(), QUESTIONS, template, VOCABULARY, LENGTHS, None, shots=0)
    result = evaluate_records(model(), QUESTIONS, template, VOCABULARY, LENGTHS, rank=True)
    assert answers["ranked"] == result.scores["ranked_accuracy"]
    assert set(answers["ranked"]) <= {0.0, 1.0}


def predicted(*texts, ranked=None):
    return {"predictions": list(texts), "ranked": ranked}


RIGHT, HALF = ("cutting bread", "fishing", "eating a meal"), ("cutting", "fishing", "meal")
# ROUGE-L F: 2/3 of "cutting bread" from "cutting", 2/7 of "eating a meal at the table" from "meal".
RIGHT_SCORES, HALF_SCORES = [1.0, 1.0, 2 * 3 / (3 + 6)], [2 / 3, 1.0, 2 / 7]


def pairs(objectives=("none",)):
    return [Choice(o, t.name) for o in objectives for t in candidates(USES)]


def test_the_pair_that_answers_right_wins():
    """Masked answers are right, plain ones have one word of two or three."""
    answers = {
        pair: [predicted(*(RIGHT if TEMPLATES[pair.template].masked else HALF))] * 2
        for pair in pairs()
    }
    found = probe.probed(USES, answers)
    np.testing.assert_allclose(found.values["none MaskedPrompting"], np.mean(RIGHT_SCORES))
    np.testing.assert_allclose(found.values["none Mapping"], np.mean(HALF_SCORES))
    (verdict,) = found.verdicts
    np.testing.assert_allclose(verdict.value, np.mean(RIGHT_SCORES) - np.mean(HALF_SCORES))
    assert verdict.high >= verdict.low >= 0
    assert found.best in pairs()
    assert (found.distinct["none Mapping"], found.heads) == (3, 3)
    # "cutting" for all: 2/3 of "cutting bread", all of the third head's last reference.
    np.testing.assert_allclose(found.constant, (2 / 3 + 0 + 1) / 3)
    assert found.warnings("uses") == []


def test_an_objective_wins_where_its_pairs_do():
    objectives = ("none", "lm", "denoising")
    answers = {
        pair: [predicted(*(RIGHT if pair == Choice("lm", "Mapping") else ("no", "no", "no")))]
        for pair in pairs(objectives)
    }
    by_template, adaptation = probe.probed(USES, answers).verdicts
    assert (by_template.score, adaptation.score) == ("probe", "adaptation")
    assert by_template.value < 0 < adaptation.value
    np.testing.assert_allclose(adaptation.value, np.mean(RIGHT_SCORES))
    assert adaptation.decision == "lm"
    reverse = {
        pair: [predicted(*(RIGHT if pair.objective == "none" else ("no", "no", "no")))]
        for pair in pairs(objectives)
    }
    assert probe.probed(USES, reverse).verdicts[1].decision == "none"


def test_the_best_of_many_equal_pairs_is_not_ahead_by_chance():
    """Pairs that all answer half of the heads right, by chance: the best of thirty is well ahead of
    another one, but measured on other heads it is not."""
    rng = np.random.default_rng(0)
    gains, naive = [], []
    for _ in range(40):
        items = {Choice("none", str(i)): [rng.integers(0, 2, 100).tolist()] for i in range(31)}
        first, *others = items
        gains.append(probe.contrast(items, share, "x", others, [first]).value)
        naive.append(max(np.mean(items[pair]) for pair in others) - np.mean(items[first]))
    assert abs(np.mean(gains)) < 3 * 0.07 / np.sqrt(40)
    assert np.mean(naive) > 0.08


def share(scores):
    return statistics.mean({"x": np.array(scores)})


def test_intervals_cover_seeds():
    """Seeds that disagree make an interval wide that a steady gain on each head would make none."""
    left, right = Choice("none", "a"), Choice("none", "b")
    steady = {left: [[0.5] * 40] * 3, right: [[0.0] * 40] * 3}
    shaky = steady | {left: [[value] * 40 for value in (0.0, 0.5, 1.0)]}
    narrow = probe.contrast(steady, share, "x", [left], [right])
    wide = probe.contrast(shaky, share, "x", [left], [right])
    assert (narrow.value, narrow.low, narrow.high) == (0.5, 0.5, 0.5)
    assert wide.value == pytest.approx(0.5)
    assert wide.low < 0.2 < 0.8 < wide.high


def test_a_probe_of_zeros_and_equal_answers_is_said_in_words():
    answers = {pair: [predicted("no", "no", "no")] for pair in pairs()}
    zero, same = probe.probed(USES, answers).warnings("uses")
    assert "every template has rougeL 0" in zero
    assert "all 3 predictions are the same" in same


def test_scores_not_above_the_best_constant_answer_are_said_in_words():
    answers = {pair: [predicted("fishing", "fishing", "fishing")] for pair in pairs()}
    below, same = probe.probed(USES, answers).warnings("uses")
    assert "not above the" in below
    assert "all 3 predictions are the same" in same


def test_a_probe_of_zeros_is_said_in_one_sentence():
    answers = {pair: [predicted("zzz", "zz", "z")] for pair in pairs()}
    (text,) = probe.probed(USES, answers).warnings("uses")
    assert text.startswith("uses: every template has rougeL 0 under every objective, so the probe")


def test_the_head_of_a_score_says_what_its_values_are_compared_with():
    index = dataclasses.replace(verdict("MI(5)", 0.4, MASK_FILLING), threshold=0.25)
    rows = outputs.verdict_rows([index, verdict("expert", None, MAP_PHRASAL)], {})
    assert rows == [["task", "MI(5) (against 0.25)", "expert", "objective, template", "decided by"]]


def verdict(score, value, decision, templates=()):
    return Verdict("uses", score, value, value, value, 0.0, decision, dict(templates))


ORDER = ("probe", "expert", "MI(5)")


def test_the_first_clear_score_decides_and_the_probe_names_the_template():
    values = {"Mapping": 0.4, "Prompting": 0.3, "MaskedMapping": 0.2, "MaskedPrompting": 0.3}
    scores = {f"none {name}": value for name, value in values.items()}
    probed = verdict("probe", -0.1, NO_WINNER, scores)
    index = verdict("MI(5)", 0.4, MASK_FILLING)
    decision = decide.decide(USES, [index, probed], ORDER)
    assert decision[:2] == (Choice("denoising", "MaskedPrompting"), index)
    assert decision.decided_by == "template: MI(5); objective: template"
    clear = verdict("probe", -0.1, MAP_PHRASAL, scores)
    assert decide.decide(USES, [index, clear], ORDER).choice == Choice("lm", "Mapping")
    unclear = verdict("MI(5)", 0.4, NO_WINNER)
    decision = decide.decide(USES, [unclear, probed], ORDER)
    assert decision[:2] == (Choice("lm", "Mapping"), probed)
    assert "probe, not clear" in decision.decided_by
    gin.bind_parameter("mapping.tasks", {"uses": ("mixed", "Prompting")})
    expert = verdict("expert", None, MAP_PHRASAL)
    decision = decide.decide(USES, [expert, probed], ORDER)
    assert decision == (Choice("mixed", "Prompting"), expert, "expert")
    question = decide.decide(QUESTIONS, [index], ORDER)
    assert question.choice == Choice("denoising", "MaskedAnswerPrompting")


def test_ties_lean_nowhere():
    tie, index = verdict("probe", 0.0, NO_WINNER), verdict("MI(5)", 0.1, NO_WINNER)
    assert decide.decide(USES, [tie, index], ORDER).choice.template == "MaskedPrompting"
    alone = decide.decide(USES, [tie], ORDER)
    assert alone.choice.template == "Prompting"
    assert "no verdict (a tie of probe), the plain one by default" in alone.decided_by


def test_the_probe_of_objectives_decides_what_the_model_is_adapted_under():
    scores = {
        "none Prompting": 0.2,
        "lm Prompting": 0.3,
        "lm Mapping": 0.1,
        "mixed Mapping": 0.35,
        "denoising MaskedPrompting": 0.4,
    }
    gin.bind_parameter("mapping.tasks", {"uses": ("lm", "Prompting")})
    expert = verdict("expert", None, MAP_PHRASAL)
    plain = verdict("probe", -0.1, MAP_PHRASAL, scores)

    def decided(decision, order=ORDER, on_templates=plain):
        both = [on_templates, expert, verdict("adaptation", 0.1, decision, scores)]
        return decide.decide(USES, both, order)

    # Among plain templates "mixed Mapping" is the best that is adapted.
    assert decided("denoising") == (Choice("mixed", "Mapping"), plain, "probe")
    assert decided("none") == (Choice("none", "Prompting"), plain, "probe")
    assert decided(NO_WINNER) == (Choice("none", "Prompting"), plain, "no clear gain")
    unclear = verdict("probe", -0.1, NO_WINNER, scores)
    assert decided("mixed", on_templates=unclear) == (Choice("mixed", "Prompting"), expert, "probe")
    # Who trusts the expert first gets both of the expert.
    first = ("expert", "probe")
    assert decided("mixed", first) == (Choice("lm", "Prompting"), expert, "expert")


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


def test_the_metric_of_the_task_decides():
    """Matthews scores no single examples: masked answers are right, plain ones always the same."""
    answers = {}
    for template in candidates(SENTENCES):
        texts = ("wrong", "right", "wrong") if template.masked else ("wrong",) * 3
        answers[Choice("none", template.name)] = [predicted(*texts, ranked=[1.0, 0.0, 1.0])]
    found = probe.probed(SENTENCES, answers)
    assert found.metric == "matthews"
    assert (found.values["none MaskedPrompting"], found.values["none Prompting"]) == (1, 0)
    by_answers, ranked = found.verdicts
    assert (ranked.score, ranked.value, ranked.decision) == ("ranked probe", 0, NO_WINNER)
    assert by_answers.value == 1
    found = probe.probed(SENTENCES, answers, "accuracy")
    np.testing.assert_allclose(found.verdicts[0].value, 1 - 2 / 3)
    template = TEMPLATES["Prompting"]
    probe.check_metric(SENTENCES, template, "accuracy")
    with pytest.raises(UserError, match="Did you mean 'matthews'"):
        probe.check_metric(SENTENCES, template, "mathews")


def test_a_difference_of_metrics_that_are_no_means_is_resampled_as_a_whole():
    rng = np.random.default_rng(0)
    truth = [[word] for word in rng.choice(["a", "b"], 21)]
    said = [rng.choice(["a", "b"], 21).tolist() for _ in range(4)]
    left, right = Choice("none", "l"), Choice("none", "r")
    items = [[*zip(truth, words, strict=True)] for words in said]

    def measure(heads):
        return labels.matthews.statistics(*map(list, zip(*heads, strict=True)))

    found = probe.contrast(
        {left: items[:2], right: items[2:]}, measure, "matthews", [left], [right]
    )
    values = [labels.matthews(truth, words)["matthews"] for words in said]
    np.testing.assert_allclose(found.value, (sum(values[:2]) - sum(values[2:])) / 2)
    assert found.low < found.value < found.high
