# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of prepared tasks and of records: rows, metrics, choices, perplexity, errors."""

import gin
import numpy as np
import pytest

from mto_jax.decoding import scoring
from mto_jax.decoding.generation import Decoding, Output, decode
from mto_jax.errors import UserError
from mto_jax.evaluation import evaluator, result_files
from mto_jax.evaluation.result import doubts
from mto_jax.metrics import labels, statistics
from mto_jax.metrics import text as text_metrics
from mto_jax.text2text.task import example
from mto_jax.text2text.templates import TEMPLATES
from tests.decoding import tiny
from tests.matching import common

VOCABULARY = tiny.Numbers()
HOW = Decoding(max_length=6)
SOURCES = ["5 6 7", "8 9", "10 11 12 13", "14", "15 16"]


def predictions():
    inputs = [[*VOCABULARY.encode(text), 1] for text in SOURCES]
    outputs = decode(tiny.model(), inputs, HOW, VOCABULARY, batch_size=2)
    return [VOCABULARY.decode(found[0].tokens) for found in outputs]


def run(prepared, **options):
    return evaluator.evaluate_dataset(
        tiny.model(), prepared, VOCABULARY, HOW, batch_size=2, **options
    )


def test_rows_and_metrics(tmp_path):
    """Three of five references are what the model says; order, texts and scores are kept."""
    raw = predictions()
    right = [evaluator.answer(text) for text in raw]
    references = [["2", right[0]], [right[1]], ["3 3 3"], ["2 2", "3"], [right[4]]]
    texts = [
        {"inputs": source, "targets": "2", "references": refs}
        for source, refs in zip(SOURCES, references, strict=True)
    ]
    names = ["mto_jax.metrics.text:exact_match", "mto_jax.metrics.text:diversity"]
    done = []
    result = run(tiny.prepared(tmp_path, texts, names), progress=done.append)
    assert sum(done) == 5
    assert (result.task, result.split) == ("tiny", "test")
    assert [row["input"] for row in result.rows] == SOURCES
    assert [row["references"] for row in result.rows] == references
    assert [row["raw_prediction"] for row in result.rows] == raw
    assert [row["prediction"] for row in result.rows] == right
    assert [row["scores"]["exact_match"] for row in result.rows] == [1, 1, 0, 0, 1]
    interval = result.metrics["exact_match"]
    assert interval.value == pytest.approx(0.6)
    assert 0 <= interval.low < 0.6 < interval.high <= 1
    assert result.metrics["unique_predictions"].low is None
    assert result.values()["unique_predictions"] == len(set(right))
    assert result.jsonl().count("\n") == 5


def test_the_best_of_several_outputs_stands_beside_the_likeliest(tmp_path):
    """The authors' variant: an example counts if any of its outputs is right."""
    how = Decoding(method="beam", num_beams=2, num_outputs=2, max_length=6)
    inputs = [[*VOCABULARY.encode(text), 1] for text in SOURCES]
    outputs = decode(tiny.model(), inputs, how, VOCABULARY, batch_size=2)
    said = [[VOCABULARY.decode(output.tokens) for output in both] for both in outputs]
    gold = [said[0][0], said[1][1], "3 3 3", said[3][1], said[4][0]]
    texts = [
        {"inputs": source, "targets": "2", "references": [text]}
        for source, text in zip(SOURCES, map(evaluator.answer, gold), strict=True)
    ]
    prepared = tiny.prepared(tmp_path, texts)
    result = evaluator.evaluate_dataset(tiny.model(), prepared, VOCABULARY, how, batch_size=2)
    assert result.values()["exact_match"] == pytest.approx(2 / 5)
    assert result.values()["best_of_2_exact_match"] == pytest.approx(4 / 5)
    assert result.rows[0]["scores"].keys() == {"exact_match"}


def test_the_best_constant_answer_is_the_best_of_the_commonest_references():
    targets = [["a cup", "tea"], ["a cup"], ["tea"], ["tea"], ["milk"]]
    by_hand = {
        text: np.mean([text in references for references in targets])
        for text in ("a cup", "tea", "milk")
    }
    found = evaluator.best_constant(
        [text_metrics.rouge, text_metrics.exact_match], targets, "exact_match"
    )
    assert found.answer == max(by_hand, key=by_hand.get) == "tea"
    assert found.values["exact_match"].value == by_hand["tea"]
    assert next(iter(found.values)) == "exact_match"  # the one that decides comes first
    assert found.values.keys() > {"rougeL", "exact_match"}


def test_the_best_constant_answer_and_distinct_predictions_stand_beside_the_scores(tmp_path):
    right = [evaluator.answer(raw) for raw in predictions()]

    def result(name, references):
        (tmp_path / name).mkdir()
        texts = [
            {"inputs": source, "targets": "2", "references": refs}
            for source, refs in zip(SOURCES, references, strict=True)
        ]
        names = ["mto_jax.metrics.text:exact_match"]
        return run(tiny.prepared(tmp_path / name, texts, names))

    knows = result("knows", [[said] for said in right])
    assert knows.distinct == len({*right})
    assert knows.constant == {"exact_match": max(right.count(said) for said in right) / 5}
    assert knows.warnings() == []
    none = result("none", [["2 2"]] * 4 + [["3"]])
    assert none.constant == {"exact_match": 0.8}
    (warning,) = none.warnings()
    assert "exact_match 0.000 is not above the 0.800 of the best constant answer" in warning
    alike = doubts("uses", {"x": 1.0}, {"x": 0.5}, ["a cup"] * 3)
    assert alike == ["uses: all 3 predictions are the same."]


def test_log_likelihoods_of_beams_are_the_models_own(tmp_path):
    how = Decoding(method="beam", num_beams=2, max_length=6, length_penalty=2.0)
    texts = [{"inputs": source, "targets": "2", "references": ["2"]} for source in SOURCES]
    result = evaluator.evaluate_dataset(
        tiny.model(), tiny.prepared(tmp_path, texts), VOCABULARY, how, batch_size=2
    )
    for source, row in zip(SOURCES, result.rows, strict=True):
        (output,) = decode(
            tiny.model(), [[*VOCABULARY.encode(source), VOCABULARY.eos_id]], how, VOCABULARY
        )[0]
        assert row["log_likelihood"] == pytest.approx(output.log_likelihood, abs=1e-4)
        assert row["log_likelihood"] != pytest.approx(output.score, abs=1e-4)


def test_fewer_outputs_than_asked_for_are_scored(tmp_path, monkeypatch):
    """Beam sampling may find fewer: the last one stands for those that are missing."""
    found = [Output([5, 1], 0.0, 0.0)]
    monkeypatch.setattr(evaluator.decoding_lib, "decode", lambda *a, **b: [found] * 2)
    how = Decoding(method="beam_sample", num_beams=3, num_outputs=3, max_length=6)
    texts = [{"inputs": "5", "targets": "2", "references": [text]} for text in ("5", "6")]
    result = evaluator.evaluate_dataset(
        tiny.model(), tiny.prepared(tmp_path, texts), VOCABULARY, how
    )
    assert result.values()["best_of_3_exact_match"] == 0.5


def test_ranked_accuracy(tmp_path):
    """Choices are target texts; the ranking is that of brute-force scores."""
    choices = [["2 3", "4", "5 6 7"], ["8", "9 10"], ["11", "12", "13"]]
    inputs = [[*VOCABULARY.encode(text), 1] for text in SOURCES[:3]]
    coded = [[[*VOCABULARY.encode(c), 1] for c in options] for options in choices]
    scored = scoring.score_choices(tiny.model(), inputs, coded, VOCABULARY)
    best = [
        options[int(np.argmax(sums))] for options, (sums, _) in zip(choices, scored, strict=True)
    ]
    gold = [best[0], next(c for c in choices[1] if c != best[1]), best[2]]
    texts = [
        {"inputs": source, "targets": target, "references": [target], "choices": options}
        for source, target, options in zip(SOURCES[:3], gold, choices, strict=True)
    ]
    result = run(tiny.prepared(tmp_path, texts))
    assert result.values()["ranked_accuracy"] == pytest.approx(2 / 3)
    assert [row["ranked_prediction"] for row in result.rows] == best
    assert [row["scores"]["ranked_accuracy"] for row in result.rows] == [1, 0, 1]
    assert {"ranked_accuracy_mean", "ranked_accuracy_pmi"} < result.metrics.keys()


def test_an_objective_is_scored_by_perplexity(tmp_path):
    texts = [
        {"inputs": s, "targets": t} for s, t in zip(SOURCES, ["2", "3", "4", "5", "6"], strict=True)
    ]
    result = run(tiny.prepared(tmp_path, texts, metrics=()))
    total = sum(row["log_likelihood"] for row in result.rows)
    assert [row["tokens"] for row in result.rows] == [2] * 5  # the token and EOS
    interval = result.metrics["perplexity"]
    assert interval.value == pytest.approx(np.exp(-total / 10), rel=1e-6)
    assert interval.low < interval.value < interval.high


@pytest.mark.parametrize(
    "text, slots, expected",
    [
        ("a cup", 1, "a cup"),
        ("<extra_id_0> a cup", 1, "a cup"),
        ("<extra_id_0> a cup <extra_id_1> of <extra_id_2>", 1, "a cup"),
        ("<extra_id_0> bank<extra_id_1> choice2", 2, "bank choice2"),
        ("<extra_id_0> bank", 2, "bank"),
        ("<extra_id_0>", 1, ""),
        ("so <extra_id_0> a cup", 1, "so <extra_id_0> a cup"),
        ("", 1, ""),
    ],
)
def test_answer(text, slots, expected):
    assert evaluator.answer(text, slots) == expected


def test_target_decides_the_number_of_slots(tmp_path):
    texts = [
        {
            "inputs": "5 6 <extra_id_0> 7 <extra_id_1>",
            "targets": "<extra_id_0> 2 <extra_id_1> 3",
            "references": ["2 3"],
        }
    ]
    how = Decoding(max_length=6, prefix="<extra_id_0> 2 <extra_id_1>", stop_at_sentinel=False)
    result = evaluator.evaluate_dataset(
        tiny.model(), tiny.prepared(tmp_path, texts), VOCABULARY, how, batch_size=1
    )
    (row,) = result.rows
    assert row["raw_prediction"].startswith("<extra_id_0> 2 <extra_id_1>")
    assert row["prediction"].startswith("2")
    assert "<extra_id_1>" not in row["prediction"]


def broken(targets, predictions):
    """A metric with a bug."""
    raise ZeroDivisionError("a bug in the metric")


def plain(targets, predictions):
    """A user's metric without statistics of single examples."""
    return {"plain": 0.25}


def test_an_exception_in_a_metric_is_not_a_score(tmp_path):
    with pytest.raises(ZeroDivisionError):
        evaluator.score([broken], [["a"]], ["a"])
    values, scores = evaluator.score([plain, text_metrics.accuracy], [["a"]], ["a"])
    assert values["plain"] == statistics.Interval(0.25)
    assert scores.keys() == {"accuracy"}


def test_gin_adds_metrics_to_those_of_a_task(tmp_path):
    texts = [{"inputs": "5", "targets": "6", "references": ["6"]}]
    prepared = tiny.prepared(tmp_path, texts)
    origin = result_files.origin("digest", prepared, HOW)
    gin.bind_parameter("task_metrics.add", ["mto_jax.metrics.text:diversity"])
    assert result_files.origin("digest", prepared, HOW) != origin  # stored results do not serve
    found = run(prepared).values()
    assert {"exact_match", "unique_predictions"} <= found.keys()
    objective = tiny.prepared(tmp_path, texts, metrics=(), name="objective")
    assert run(objective).values().keys() == {"perplexity"}


def test_the_model_of_a_metric_is_asked_for_before_decoding(tmp_path, monkeypatch):
    texts = [{"inputs": "5", "targets": "6", "references": ["6"]}]
    prepared = tiny.prepared(tmp_path, texts, ["mto_jax.metrics.semantic:bleurt"])
    monkeypatch.setattr(evaluator.decoding_lib, "decode", None)
    with pytest.raises(UserError, match=r"bleurt\.model is not set"):
        run(prepared)


def test_other_vocabulary(tmp_path):
    class Other(tiny.Numbers):
        digest = "other"

    texts = [{"inputs": "5", "targets": "6", "references": ["6"]}]
    with pytest.raises(UserError, match="Set VOCABULARY"):
        run(tiny.prepared(tmp_path, texts, vocabulary=Other()))


def test_records_under_a_template_have_all_metrics_of_their_task():
    task, template = common.SENTENCES, TEMPLATES["MaskedPrompting"]
    result = evaluator.evaluate_records(
        common.model(), task, template, common.VOCABULARY, common.LENGTHS
    )
    assert result.references == [["wrong"], ["right"], ["wrong"]]
    assert result.values() == {
        **text_metrics.accuracy(result.references, result.predictions),
        **labels.matthews(result.references, result.predictions),
    }
    assert [*result.scores] == ["accuracy"]


def test_prepared_data_and_records_are_scored_alike():
    """The same example, as a record and as a line of prepared data."""
    template = TEMPLATES["Prompting"]
    how = Decoding.from_dict({"max_length": common.LENGTHS["targets"]})
    of_records = evaluator.evaluate_records(
        common.model(), common.USES, template, common.VOCABULARY, common.LENGTHS
    )
    examples = [
        example(template, r, common.USES.wording, common.VOCABULARY, common.LENGTHS)
        for r in common.USES.held_out
    ]
    functions = common.USES.metrics.functions
    of_examples = evaluator.evaluate_examples(
        common.model(), examples, functions, common.VOCABULARY, how
    )
    assert of_examples.rows == of_records.rows
    assert of_examples.metrics == of_records.metrics
