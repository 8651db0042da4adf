# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics against published numbers, the libraries they come from, and cases worked by hand."""

import csv
import inspect
import json

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from mto_jax.errors import UserError
from mto_jax.metrics import labels, statistics, text

REFERENCES = [["to earn money", "to work"], ["a cup"], ["the red car", "a car", "red"]]
PREDICTIONS = ["to earn some money", "a cup of tea", "red bike"]


def test_rouge_by_hand():
    """Per example the best reference: L = 2*3/(4+3), 2*2/(4+2), 2*1/(2+1) ("red")."""
    expected = [6 / 7, 2 / 3, 2 / 3]
    known = text.rouge.statistics(REFERENCES, PREDICTIONS)
    np.testing.assert_allclose(known.per_example["rougeL"], expected)
    assert text.rouge(REFERENCES, PREDICTIONS)["rougeL"] == pytest.approx(np.mean(expected))
    # Bigrams: "to earn" of 3 and 2; "a cup" of 3 and 1; none.
    np.testing.assert_allclose(known.per_example["rouge2"], [2 / 5, 1 / 2, 0])


def test_rouge_equals_the_library():
    """Random texts of few words, so that they repeat and cross; cases, punctuation and empty ones
    too."""
    rng = np.random.default_rng(0)
    words = ["a", "B", "the", "cups", "cup", "of", "tea,", "-", "x2", "don't"]

    def random_text():
        return " ".join(rng.choice(words, rng.integers(0, 9)))

    targets = [[random_text() for _ in range(rng.integers(1, 4))] for _ in range(300)]
    predictions = [random_text() for _ in targets]
    found = text.rouge.statistics(targets, predictions).per_example
    scorer = rouge_scorer.RougeScorer([*found])
    expected = [scorer.score_multi(t, p) for t, p in zip(targets, predictions, strict=True)]
    for name, scores in found.items():
        np.testing.assert_array_equal(scores, [score[name].fmeasure for score in expected])


def test_rouge_equals_t5s_fixture(data_dir):
    """T5's values are ROUGE F without stemming (with it ROUGE-1 would be 40.5), times 100.

    They are medians of 1000 bootstrap resamples drawn without a seed, hence the tolerance of 0.1.
    The texts are single lines, where ROUGE-Lsum equals ROUGE-L.
    """
    folder = data_dir / "metric_fixtures" / "t5_rouge"
    expected = json.loads((folder / "expected_bootstrap_results.json").read_text())
    targets = [[line] for line in (folder / "target_large.txt").read_text().splitlines()]
    predictions = (folder / "prediction_large.txt").read_text().splitlines()
    found = text.rouge(targets, predictions)
    for ours, theirs in {"rouge1": "rouge1", "rouge2": "rouge2", "rougeL": "rougeLsum"}.items():
        assert 100 * found[ours] == pytest.approx(expected[theirs], abs=0.1)


def comet(data_dir):
    folder = data_dir / "metric_fixtures" / "comet_atomic2020"
    rows = [json.loads(line) for line in (folder / "comet-bart_gens.jsonl").open()]
    scores = json.loads((folder / "comet-bart_scores.jsonl").read_text())
    return [row["references"] for row in rows], [row["generation"] for row in rows], scores


def test_rouge_l_coco_equals_every_score_of_comet(data_dir):
    """COMET-ATOMIC 2020 used the COCO caption ROUGE-L: words between spaces, no stemming, beta 1.2,
    best precision and best recall. All 5000 scores agree to the 8 decimals that are stored.
    """
    targets, predictions, scores = comet(data_dir)
    known = text.rouge_l_coco.statistics(targets, predictions)
    expected = scores["all_scores"]["ROUGE_L"]
    np.testing.assert_allclose(known.per_example["rouge_l_coco"], expected, atol=6e-9)
    assert known.value()["rouge_l_coco"] == pytest.approx(
        float(scores["scores"]["ROUGE_L"]), abs=1e-8
    )


def test_bleu_equals_comet_on_its_words(data_dir):
    """COMET's BLEU-4 is ours (pooled counts, nearest reference length) on words between spaces.

    With 13a tokens, our default, the same texts score 3.53 instead of 3.45.
    """
    targets, predictions, scores = comet(data_dir)
    scorer = sacrebleu.metrics.BLEU(
        tokenize="none", smooth_method="none", force=True, effective_order=True
    )
    found = text._bleu(scorer, targets, predictions).value()["bleu"]
    assert found == pytest.approx(float(scores["scores"]["Bleu_4"]), rel=1e-6)
    assert text.bleu(targets, predictions)["bleu"] == pytest.approx(0.0353, abs=5e-5)


def test_mto_fixture_is_no_reference(data_dir):
    """The authors' own file holds 0 in every ROUGE and BERTScore cell: the columns were never
    filled.

    The predictions are those of an untrained model, so ours are 0 too, but for one row that
    repeats "PersonY" (1 common word of 32 and 4: F = 2 / 36).
    """
    csv.field_size_limit(1 << 20)
    path = data_dir / "metric_fixtures" / "mto" / "full_results_xNeed.tsv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {(row["rouge_score"], row["bert_score"]) for row in rows} == {("0.0", "0.0")}
    targets = [[row["target_text"].removesuffix("</s>")] for row in rows]
    predictions = [
        row["pred_text1"].replace("<pad>", "").partition("</s>")[0].strip() for row in rows
    ]
    found = text.rouge.statistics(targets, predictions).per_example["rougeL"]
    assert np.flatnonzero(found).tolist() == [31]
    assert found[31] == pytest.approx(2 / (32 + 4))


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_pooled_metrics_equal_sacrebleu_on_random_texts(name):
    """Texts of few words with 1 to 4 references, some empty; single examples are corpora too."""
    rng = np.random.default_rng(1)
    words = ["a", "cup", "of", "tea,", "the", "U.S.", "don't"]

    def random_text():
        return " ".join(rng.choice(words, rng.integers(0, 9)))

    targets = [[random_text() for _ in range(rng.integers(1, 5))] for _ in range(200)]
    predictions = [random_text() for _ in targets]
    for examples in (slice(None), *(slice(i, i + 1) for i in range(30))):
        expected = sacrebleu_score(name, targets[examples], predictions[examples])
        score = getattr(text, name)(targets[examples], predictions[examples])[name]
        assert score == pytest.approx(expected / 100)


def sacrebleu_score(name, targets, predictions) -> float:
    """sacrebleu wants the k-th references of all examples together; None fills where one has
    fewer."""
    padded = [
        [t[k] if k < len(t) else None for t in targets] for k in range(max(map(len, targets)))
    ]
    options = {"force": True} if name == "bleu" else {}
    return getattr(sacrebleu, f"corpus_{name}")(predictions, padded, **options).score


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_pooled_metrics_equal_sacrebleu(name):
    """Unequal numbers of references: each example is scored against its own, no empty ones
    added."""
    expected = sacrebleu_score(name, REFERENCES, PREDICTIONS)
    function = getattr(text, name)
    assert function(REFERENCES, PREDICTIONS)[name] == pytest.approx(expected / 100)
    # A repeated reference changes nothing, an empty one would (it shortens the nearest length).
    repeated = [[*r, r[0]] for r in REFERENCES]
    assert function(repeated, PREDICTIONS)[name] == pytest.approx(expected / 100)


def test_pooled_metrics_resample_as_if_scored_anew():
    known = text.bleu.statistics(REFERENCES * 2, PREDICTIONS * 2)
    drawn = [0, 0, 4, 2, 5, 1]
    sums = known.values_NxK[drawn].sum(axis=0)
    expected = text.bleu(
        [(REFERENCES * 2)[i] for i in drawn], [(PREDICTIONS * 2)[i] for i in drawn]
    )
    assert known.finish(sums, 6)["bleu"] == pytest.approx(expected["bleu"])


def test_exact_match_and_f1():
    targets = [["A coffee shop."], ["New York", "NYC"], ["no"]]
    predictions = ["the coffee shop", "in New York City", "No!"]
    assert text.exact_match(targets, predictions) == {"exact_match": pytest.approx(2 / 3)}
    # 2 common words of 4 and 2.
    assert text.token_f1.statistics(targets, predictions).per_example["token_f1"].tolist() == [
        1.0,
        pytest.approx(2 / 3),
        1.0,
    ]


def test_f1_where_no_word_is_left():
    """Articles do not count: two texts without words are equal, one is nothing of the other."""
    targets = [["the"], ["the"], ["cup"]]
    scores = text.token_f1.statistics(targets, ["a", "cup", "a"]).per_example["token_f1"]
    assert scores.tolist() == [1.0, 0.0, 0.0]


def test_accuracy_is_never_a_substring_match():
    targets = [["bank"], ["bank"], ["choice2 bank"]]
    assert text.accuracy(targets, ["river bank", "ban", "bank"]) == {"accuracy": 0.0}
    assert text.accuracy(targets, [" Bank", "bank", "choice2  bank"]) == {"accuracy": 1.0}


def test_diversity():
    found = text.diversity([["x"]] * 3, ["a b", "a b", "a c"])
    assert found == {"unique_predictions": 2, "distinct_1": 0.5, "distinct_2": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    "name", ["rouge", "rouge_l_coco", "bleu", "chrf", "exact_match", "token_f1", "accuracy"]
)
def test_perfect_and_empty_predictions(name):
    function = getattr(text, name)
    assert function.__name__ == name
    perfect = function([["to earn a lot of money"]] * 2, ["to earn a lot of money"] * 2)
    assert all(value == pytest.approx(1.0) for value in perfect.values())
    empty = function([["to earn a lot of money"]] * 2, ["", ""])
    assert all(value == 0.0 for value in empty.values())
    intervals = statistics.bootstrap(function.statistics(REFERENCES, PREDICTIONS), samples=50)
    assert intervals.keys() == perfect.keys()


def test_wrong_input_is_an_error_and_not_a_score():
    with pytest.raises(ValueError, match="2 predictions for 1"):
        text.rouge([["a"]], ["a", "b"])
    with pytest.raises(UserError, match="data set is empty"):
        text.bleu([], [])
    with pytest.raises(UserError, match="Example 1"):
        text.accuracy([["a"], []], ["a", "b"])
    with pytest.raises(ValueError, match="not one text"):
        text.accuracy(["a"], ["a"])
    with pytest.raises(Exception):  # noqa: B017 - any: what counts is that none of it becomes a 0
        text.rouge([["a"]], [None])


@pytest.mark.parametrize(
    "reference, prediction, rouge_l",
    [
        ("سلام دنیا", "سلام دنیا", 1),
        ("猫がいる", "猫がいる", 1),
        ("猫がいる", "犬がいる", 3 / 4),
        ("résumé à jour", "résumé en cours", 1 / 3),
        ("e\u0301te\u0301", "ÉTÉ", 1),
        ("हिन्दी भाषा", "हिन्दी", 2 / 3),
        ("To earn money.", "to earn some money", 6 / 7),
    ],
)
def test_rouge_of_other_scripts(reference, prediction, rouge_l):
    scores = text.rouge_unicode([[reference]], [prediction])
    assert scores["rougeL_unicode"] == pytest.approx(rouge_l)
    assert set(scores) == {"rouge1_unicode", "rouge2_unicode", "rougeL_unicode"}


def test_a_metric_of_a_users_has_seqios_form():
    """SeqIO tells by the names of the arguments what a metric wants."""

    @text.metric
    def brevity(references, answers):
        short = [len(a) <= min(map(len, r)) for r, a in zip(references, answers, strict=True)]
        return statistics.mean({"brevity": np.array(short, float)})

    assert list(inspect.signature(brevity).parameters) == ["targets", "predictions"]
    assert brevity(REFERENCES, PREDICTIONS) == {"brevity": 0}
    assert brevity([["ab", "c"], ["d"]], ["e", ""]) == {"brevity": 1}
    assert (brevity.__name__, brevity.__module__) == ("brevity", __name__)


def test_a_function_of_seqios_form_gets_one_text_for_each_target():
    def seen(targets, predictions):
        return {"seen": [targets, predictions]}

    assert text.on_texts(text.rouge) is text.rouge
    plain = text.on_texts(seen)
    assert plain([["a", "b"], ["c"]], ["d", "e"]) == {"seen": [["a", "c"], ["d", "e"]]}
    assert plain.__name__ == "seen"


def test_references_on_which_a_metric_means_little():
    functions = [text.rouge, text.rouge_unicode, text.exact_match, labels.matthews, len]
    assert text.doubts(functions, [["a cup"], ["to work", "b"]]) == []
    sentences = text.doubts(functions, [["سلام دنیا"], ["a", "سلام"]])
    assert sentences[0].startswith("2 of 3 references have no word in [a-z0-9]")
    assert "rouge_unicode" in sentences[0]
    assert sentences[1] == "1 of 3 references have no words for text:exact_match."
    assert text.doubts([text.rouge_unicode], [["..."]])
    for function in (labels.matthews, labels.correlation):
        assert "All references are '1'" in text.doubts([function], [["1"], ["1"]])[0]
