# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The bootstrap against closed forms and plain resampling."""

import numpy as np
import pytest
import scipy.sparse

from mto_jax.metrics import statistics


def test_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(2.0, 3.0, size=500)
    interval = statistics.bootstrap(statistics.mean({"x": values}), samples=4000)["x"]
    half = 1.96 * values.std() / np.sqrt(500)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_cover_the_truth_about_95_percent_of_the_time():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        sample = statistics.mean({"x": (rng.random(150) < 0.3).astype(float)})
        interval = statistics.bootstrap(sample, samples=300)["x"]
        hits += interval.low <= 0.3 <= interval.high
    assert 0.90 <= hits / 300 <= 0.99


@pytest.mark.parametrize("at_once", [1 << 22, 50])
def test_resampling_equals_drawing_examples_by_hand(monkeypatch, at_once):
    monkeypatch.setattr(statistics, "_COUNTS_AT_ONCE", at_once)
    rng = np.random.default_rng(2)
    pairs = rng.random((20, 2))

    def ratio(sums, num_examples):
        return {"ratio": sums[..., 0] / sums[..., 1]}

    known = statistics.Statistics(pairs, ratio)
    counts = np.concatenate(list(statistics._counts(20, 30, seed=5)))
    assert counts.shape == (30, 20)
    assert (counts.sum(axis=1) == 20).all()
    expected = []
    for row in counts:
        drawn = np.repeat(pairs, row, axis=0)
        expected.append(drawn[:, 0].sum() / drawn[:, 1].sum())
    low, high = np.quantile(expected, [0.025, 0.975])
    interval = statistics.bootstrap(known, samples=30, seed=5)["ratio"]
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_metrics_share_their_resamples():
    """Intervals of several metrics together are those of each alone; sparse values serve as dense
    ones."""
    rng = np.random.default_rng(7)
    one = statistics.mean({"x": rng.random(50), "y": rng.random(50)})
    dense = (rng.random((50, 4)) < 0.3).astype(float)

    def finish(sums, num_examples):
        return {"z": sums.max(axis=-1) / num_examples}

    another = statistics.Statistics(dense, finish)
    sparse = statistics.Statistics(scipy.sparse.csr_array(dense), finish)
    together = statistics.bootstrap(one, another, samples=40)
    assert [*together] == ["x", "y", "z"]
    assert together == statistics.bootstrap(one, sparse, samples=40)
    assert together == statistics.bootstrap(one, samples=40) | statistics.bootstrap(
        another, samples=40
    )


def test_same_seed_same_interval():
    known = statistics.mean({"x": np.arange(40.0)})
    assert statistics.bootstrap(known, seed=1) == statistics.bootstrap(known, seed=1)
    assert statistics.bootstrap(known, seed=1) != statistics.bootstrap(known, seed=2)


def test_comparison_is_paired():
    """A small steady gain is significant although each score varies far more than the gain."""
    rng = np.random.default_rng(3)
    hardness = rng.normal(0.5, 0.2, size=200)
    a = statistics.mean({"rouge": hardness + 0.02 + rng.normal(0, 0.01, 200)})
    b = statistics.mean({"rouge": hardness})
    found = statistics.compare(a, b)["rouge"]
    assert found.significant
    assert found.p < 0.01
    assert found.low <= found.difference <= found.high
    assert found.difference == pytest.approx(0.02, abs=0.003)
    assert "not significant" not in str(found)
    # No resample of 1,000 is on the other side: (0 + 1) of (1,000 + 1), on either side.
    assert found.p == pytest.approx(2 / 1001)
    reverse = statistics.compare(b, a)["rouge"]
    assert reverse.difference == pytest.approx(-found.difference)


def test_no_difference_is_called_not_significant():
    rng = np.random.default_rng(4)
    a, b = (statistics.mean({"x": rng.random(100)}) for _ in range(2))
    found = statistics.compare(a, b)["x"]
    assert not found.significant
    assert str(found).endswith("not significant")
    same = statistics.compare(a, a)["x"]
    assert (same.difference, same.p, same.significant) == (0.0, 1.0, False)


def test_p_is_uniform_when_nothing_differs():
    rng = np.random.default_rng(5)
    wrong = sum(
        statistics.compare(
            statistics.mean({"x": rng.random(80)}),
            statistics.mean({"x": rng.random(80)}),
            samples=200,
        )["x"].significant
        for _ in range(300)
    )
    assert wrong / 300 < 0.10


def test_different_examples_cannot_be_paired():
    a, b = (statistics.mean({"x": np.zeros(n)}) for n in (3, 4))
    with pytest.raises(ValueError, match="same examples"):
        statistics.compare(a, b)


# ---- Several levels ----------------------------------------------------------------------------


def test_interval_over_crossed_levels_covers_the_spread_of_both():
    """Seeds and heads with effects of their own: the variance of the mean is the sum of both
    levels' (and the noise's), whereas resampling heads alone sees theirs only."""
    rng = np.random.default_rng(0)
    S, N = 20, 60
    values = rng.normal(0, 1.0, (S, 1)) + rng.normal(0, 1.0, (1, N)) + rng.normal(0, 0.1, (S, N))
    interval = statistics.hierarchical_interval(values, ("seed", "head"), samples=4000)
    variance = values.mean(axis=1).var() / S + values.mean(axis=0).var() / N
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.08)
    heads_only = statistics.bootstrap(statistics.mean({"x": values.mean(axis=0)}))["x"]
    assert heads_only.high - heads_only.low < 0.7 * (interval.high - interval.low)


def test_one_level_is_the_plain_bootstrap():
    values = np.random.default_rng(1).exponential(size=200)
    plain = statistics.bootstrap(statistics.mean({"x": values}), samples=4000)["x"]
    several = statistics.hierarchical_interval(values, ["head"], samples=4000)
    assert several.value == pytest.approx(plain.value)
    width = plain.high - plain.low
    assert (several.low, several.high) == pytest.approx((plain.low, plain.high), abs=0.06 * width)


def test_members_of_an_outer_level_count_the_same_whatever_they_hold():
    values = np.full((2, 1, 4), np.nan)
    values[0, 0] = 1.0
    values[1, 0, :1] = 3.0  # a relation with a single head
    interval = statistics.hierarchical_interval(
        values, ("relation", "seed", "head"), nested={"head": "relation"}
    )
    assert (interval.value, interval.low, interval.high) == (2.0, 1.0, 3.0)


def test_nested_members_are_drawn_apart_and_crossed_ones_together():
    """Each of 40 relations has the same 25 values: draws of their own average out over relations,
    a shared draw does not."""
    head_N = np.random.default_rng(2).normal(size=25)
    values = np.tile(head_N, (40, 1))
    half = 1.96 * head_N.std() / np.sqrt(25)
    levels = ("relation", "head")
    crossed = statistics.hierarchical_interval(values, levels)
    assert (crossed.high - crossed.low) / 2 == pytest.approx(half, rel=0.1)
    nested = statistics.hierarchical_interval(values, levels, nested={"head": "relation"})
    # A relation that is drawn twice comes with the same heads.
    assert (nested.high - nested.low) / 2 == pytest.approx(half * np.sqrt(2 / 40), rel=0.1)


def test_metric_that_is_no_mean_is_finished_per_member_of_the_outer_levels():
    rng = np.random.default_rng(3)
    parts_SxNx2 = rng.random((3, 30, 2))

    def finish(sums, count):
        assert sums.shape[:-1] == np.shape(count)
        return sums[..., 0] / sums[..., 1]

    interval = statistics.hierarchical_interval(
        parts_SxNx2, ("seed", "head"), finish=finish, samples=200
    )
    sums_Sx2 = parts_SxNx2.sum(axis=1)
    assert interval.value == pytest.approx((sums_Sx2[:, 0] / sums_Sx2[:, 1]).mean())
    assert interval.low < interval.value < interval.high


@pytest.mark.parametrize(
    "shape, levels, nested",
    [
        ((2, 3), ("seed",), {}),
        ((2, 3), ("head", "head"), {}),
        ((2, 3), ("head", "relation"), {"head": "relation"}),
        ((2, 3), ("relation", "head"), {"heads": "relation"}),
    ],
)
def test_levels_that_do_not_fit(shape, levels, nested):
    with pytest.raises(ValueError, match="levels|nested"):
        statistics.hierarchical_interval(np.zeros(shape), levels, nested=nested)


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="no values"):
        statistics.hierarchical_interval(np.full((2, 2), np.nan), ("seed", "head"))
