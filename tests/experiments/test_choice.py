# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The choice, on invented curves and costs with known answers."""

import numpy as np
import pytest

from mto_jax.experiments.choice import DEVICES, Limits, Option, choose, flips, running
from mto_jax.experiments.learning_curve import LearningCurve

NONE = Limits()


def option(name, scores, minutes=0.0, stored=0.0, memory=1.0, answer=1.0, noise=0.01, **more):
    """Scores at 3, 10, 30, ... shots; the noise of two options is that of different draws."""
    shots = [3, 10, 30, 100][: len(scores)]
    rng = np.random.default_rng(len(name))
    drawn = np.array(scores)[:, None] + rng.normal(0, noise, (len(scores), 400))
    values = np.concatenate([np.array(scores)[:, None], drawn], axis=1)
    curve = LearningCurve(shots, values, flat=len(scores) == 1)
    return Option(name, memory, stored, lambda n: answer, lambda n: minutes * n / 30, curve, **more)


FROZEN = option("frozen", [0.5])
LORA = option("a lora", [0.4, 0.55, 0.7], minutes=2, stored=10, memory=3)
FULL = option("the full one", [0.2, 0.5, 0.705], minutes=3, stored=1000, memory=9)
ALL = [FROZEN, LORA, FULL]


def test_the_cheapest_within_a_standard_error_of_the_best():
    choice = choose(ALL, 30, NONE)
    assert (choice.chosen, choice.best) == (LORA, FULL)
    assert choice.as_good == [LORA, FULL]
    certain = [option(o.name, list(o.curve.values_RxB[:, 0]), noise=1e-6) for o in ALL]
    assert choose(certain, 30, NONE).chosen.name == "the full one"
    assert choose(ALL, 3, NONE).chosen is FROZEN


def test_what_is_served_together_is_cheap_by_its_bytes():
    quick = option("quick", [0.7], minutes=0.1, stored=500)
    small = option("small one", [0.7], minutes=9, stored=1)
    assert choose([quick, small], 30, NONE, served=1).chosen is quick
    assert choose([quick, small], 30, NONE, served=50).chosen is small
    dear = option("dear", [0.7], minutes=0.1, stored=500, answer=2.0)
    assert choose([dear, quick], 30, NONE).chosen is quick


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        (Limits(memory=2.0), FROZEN),
        (Limits(memory=5.0), LORA),
        (Limits(minutes=1.0), FROZEN),
        (Limits(minutes=2.5), LORA),
        (Limits(memory=0.5), None),
    ],
)
def test_limits_leave_out_what_is_above_them(limits, chosen):
    choice = choose(ALL, 30, limits)
    assert (choice.chosen if choice else None) is chosen


def test_what_forgets_too_much_is_out():
    forgetful = option("forgetful", [0.9], forgotten=0.2)
    assert choose([FROZEN, forgetful], 30, Limits(forgotten=0.05)).chosen is FROZEN
    assert "20%" in forgetful.excess(30, Limits(forgotten=0.05))
    assert choose([FROZEN, forgetful], 30, Limits(forgotten=0.3)).chosen is forgetful


def test_the_order_flips_where_curves_cross():
    rising = option("rising", [0.2, 0.6, 0.8, 0.9], minutes=1, noise=1e-4)
    steady = option("steady", [0.5], noise=1e-4)
    changes = flips([rising, steady], 3, 100, NONE)
    assert [name for _, name in changes] == ["steady", "rising"]
    assert 3 < changes[1][0] < 10  # a line over the logarithm crosses 0.5 at 7.4


def test_what_was_left_behind_does_not_come_back():
    early = option("early", [0.6, 0.9], noise=1e-4)
    late = option("late one", [0.2, 0.5, 0.7], noise=1e-4)
    assert running([early, late], 30) == [late]
    assert [name for _, name in flips([early, late], 3, 30, NONE)] == ["early", "late one"]


def test_devices_have_the_memory_of_their_data_sheets():
    assert DEVICES["v5e"].memory == 16e9
    assert DEVICES["h100"].flops == pytest.approx(0.3 * 989e12)
    assert DEVICES["cpu"].flops is None
