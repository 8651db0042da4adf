# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Timing of rivals in turns: those that fail are reported, the others are timed."""

import functools
import os
import time

import pytest
import rivals


def test_failures_are_reported_and_the_others_timed():
    sleep = functools.partial(time.sleep, 0.02)
    builders = {
        "works": (tuple, ([sleep, {"flops": 7}],)),
        "raises": (int, ("no number",)),
        "raises later": (tuple, ([functools.partial(int, "no number"), {}],)),
        "dies": (os._exit, (3,)),
        "only facts": (tuple, ([None, {"kind": "none"}],)),
        "hangs": (time.sleep, (600,)),
    }
    start = time.monotonic()
    found = rivals.race(builders, rounds=3, limit=20)
    assert time.monotonic() - start < 40
    assert len(found["works"]["seconds"]) == 3
    assert min(found["works"]["seconds"]) >= 0.02
    assert found["works"]["flops"] == 7
    for name in ("raises", "raises later"):
        assert "invalid literal for int() with base 10: 'no number'" in found[name]["error"]
    assert found["dies"] == {"error": "its process died"}
    assert found["only facts"]["kind"] == "none"
    assert "seconds" not in found["only facts"]
    assert "time limit" in found["hangs"]["error"]


def test_ratios_are_those_of_rounds():
    ours, theirs = {"seconds": [1.0, 2.0, 4.0]}, {"seconds": [2.0, 3.0, 8.0, 99.0]}
    assert rivals.ratios(ours, theirs) == [2.0, 1.5, 2.0]
    spread = rivals.Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spread == pytest.approx((3.0, 2.0, 4.0))
    assert str(spread) == "3.00 (2.00 to 4.00)"
