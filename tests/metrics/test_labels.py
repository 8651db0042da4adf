# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of labels and numbers against closed forms, SciPy and plain resampling."""

import math

import numpy as np
import pytest
import scipy.stats

from mto_jax.errors import UserError
from mto_jax.metrics import labels, statistics

METRICS = ("matthews", "label_f1", "correlation")


def test_matthews_of_two_classes_by_its_counts():
    """TP 3, TN 2, FP 1, FN 2: (3 x 2 - 1 x 2) / sqrt(4 x 5 x 3 x 4)."""
    truth = ["yes"] * 5 + ["no"] * 3
    said = ["Yes", " yes ", "yes", "no", "no", "no", "no", "yes"]
    found = labels.matthews([[t] for t in truth], said)["matthews"]
    assert found == pytest.approx(4 / math.sqrt(4 * 5 * 3 * 4))


def test_matthews_of_many_classes_is_the_correlation_of_indicators():
    """R_K = cov(X, Y) / sqrt(cov(X, X) cov(Y, Y)), covariances summed over the classes, "none" one
    of them."""
    rng = np.random.default_rng(0)
    classes = np.array(["a", "b", "c", "none"])
    truth = rng.choice(classes[:3], 80)
    said = np.where(rng.random(80) < 0.5, truth, rng.choice(classes, 80))
    x, y = ((values[:, None] == classes).astype(float) for values in (truth, said))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = (x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum())
    found = labels.matthews([[t] for t in truth], said.tolist())["matthews"]
    assert found == pytest.approx(expected)


def test_matthews_is_0_without_any_difference():
    assert labels.matthews([["a"], ["b"]], ["a", "a"]) == {"matthews": 0.0}
    assert labels.matthews([["a"], ["a"]], ["a", "b"]) == {"matthews": 0.0}
    assert labels.matthews([["a"], ["b"]], ["x", "x"]) == {"matthews": 0.0}


def test_f1_of_every_label():
    """a: 2 right of 3 said and 2 true; "b c": 1 of 1 and 2. "ab" is no label: wrong, of no
    class."""
    targets = [["a"], ["A"], ["b c"], ["b c", "d"], ["d", "a"]]
    found = labels.label_f1(targets, ["a", "a ", "B  c", "ab", "a"])
    # The last prediction equals its second reference, which then is the truth: a is right 3 times
    # of 3.
    assert found == {
        "f1_a": pytest.approx(1.0),
        "f1_b_c": pytest.approx(2 / 3),
        "f1_macro": pytest.approx(5 / 6),
    }


def test_correlation_equals_scipy():
    """Ties in both, and predictions that are no number: one less than the least reference."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 26, 200) / 5
    said = [f"{round((t + rng.normal()) * 5) / 5:.1f}" for t in truth]
    said[3:5] = ["four", "nan"]
    numbers = [truth.min() - 1 if i in (3, 4) else float(s) for i, s in enumerate(said)]
    found = labels.correlation([[str(t)] for t in truth], said)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(truth, numbers).statistic)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(truth, numbers).statistic)
    assert found["not_a_number"] == pytest.approx(2 / 200)


def test_correlation_without_any_difference_is_0():
    for targets, predictions in (([["0.1"]] * 3, ["2", "3", "7"]), ([["1"], ["2"]], ["0.1"] * 2)):
        found = labels.correlation(targets, predictions)
        assert (found["pearson"], found["spearman"]) == (0.0, 0.0)


def test_references_of_a_correlation_are_numbers():
    with pytest.raises(UserError, match="Example 1: the reference 'many' is not a number"):
        labels.correlation([["1"], ["many"]], ["1", "2"])


@pytest.mark.parametrize("name", METRICS)
def test_resamples_are_scored_as_if_anew(name):
    """Drawing examples and scoring them gives what `finish` gives for the sums, ranks included."""
    function = getattr(labels, name)
    rng = np.random.default_rng(2)
    targets = [[str(t)] for t in rng.integers(0, 4, 30)]
    predictions = [str(p) for p in rng.integers(0, 5, 30)]
    known = function.statistics(targets, predictions)
    drawn = np.array([rng.integers(0, 30, 30) for _ in range(5)])
    counts = np.array([np.bincount(row, minlength=30) for row in drawn])
    found = known.finish(counts @ known.values_NxK, 30)
    for i, row in enumerate(drawn):
        anew = function([targets[j] for j in row], [predictions[j] for j in row])
        assert {name: values[i] for name, values in found.items()} == pytest.approx(anew)
    interval = statistics.bootstrap(known, samples=50)
    assert interval.keys() == found.keys()
