# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Learning curves: what is known beforehand is fitted, read off and drawn."""

import numpy as np
import pytest

from mto_jax.experiments.learning_curve import LearningCurve, replicates

SHOTS = [3, 10, 30, 100]


def law(n, c=0.8, a=0.6, b=0.4):
    return c - a * float(n) ** -b


def test_a_power_law_is_found_from_its_points():
    curve = LearningCurve(SHOTS, np.array([[law(n)] * 2 for n in SHOTS]))
    assert curve.at(10_000)[0] == pytest.approx(law(10_000), abs=5e-3)
    assert curve.extrapolated(101)
    assert not curve.extrapolated(100)
    assert curve.at(30)[0] == pytest.approx(law(30))
    assert law(30) < curve.at(55)[0] < law(100)
    assert curve.at(1)[0] == curve.at(3)[0]


def test_a_curve_neither_falls_nor_rises_above_the_ceiling():
    falling = LearningCurve(SHOTS, np.array([[0.5], [0.4], [0.3], [0.2]]))
    assert falling.at(10**6)[0] == pytest.approx(0.35)
    steep = LearningCurve(SHOTS, np.array([[0.1], [0.4], [0.7], [0.98]]))
    assert steep.at(10**6)[0] <= 1.0
    percent = LearningCurve(SHOTS, np.array([[10.0], [20.0], [25.0], [28.0]]))
    assert 28 < percent.at(10**6)[0] < 60


def test_what_is_flat_or_has_two_points_stays_where_it_is():
    assert LearningCurve([1], np.array([[0.3]]), flat=True).at(10**5)[0] == 0.3
    two = LearningCurve([3, 10], np.array([[0.3], [0.6]]))
    assert two.at(100)[0] == 0.6
    assert two.extrapolated(100)


def test_uncertainty_grows_with_the_distance():
    rng = np.random.default_rng(0)
    values = np.array([[law(n)] * 500 for n in SHOTS])
    values[:, 1:] += rng.normal(0, 0.02, (4, 499))
    curve = LearningCurve(SHOTS, values)
    spread = [np.std(curve.at(n)[1:]) for n in (101, 1000, 100_000)]
    assert spread[0] < spread[1] < spread[2]


def test_replicates_have_the_standard_error_of_the_mean_and_are_paired():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 0.2, (1, 400))
    drawn = replicates(scores, 4000)
    assert drawn[0] == pytest.approx(scores.mean())
    assert np.std(drawn[1:]) == pytest.approx(0.2 / 20, rel=0.1)
    shifted = replicates(scores + 0.1, 4000)
    np.testing.assert_allclose(shifted - drawn, 0.1)
    seeds = replicates(np.array([[0.0] * 5, [1.0] * 5]), 4000)
    assert np.std(seeds[1:]) == pytest.approx(0.5 / 2**0.5, rel=0.05)
