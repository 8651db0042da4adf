# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The page of an invented advice: what it has to say, and where."""

import pytest

from mto_jax.experiments.advice_page import page, sentence


def row(value, rate=None, extrapolated=False, measured=(3,), **more):
    score = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {
        "learning_rate": rate,
        "measured": [{"shots": shots, **score} for shots in measured],
        "in the end": {**score, "extrapolated": extrapolated},
        "trained_parameters": 1500,
        "stored_bytes": 6000,
        "memory_bytes": 2.5e9,
        "minutes": 3.0,
        "answer_flops": 2e9,
        "forgotten": 0.125,
        **more,
    }


@pytest.fixture
def summary():
    return {
        "task": "uses",
        "model": "runs/base",
        "metric": "rougeL",
        "shots": 100,
        "device": "a chip of TPU v5e",
        "limits": {"minutes": 30.0, "memory": 16e9, "forgotten": None},
        "tasks_served": 1,
        "keep": [],
        "recommended": "lora",
        "best": "full",
        "runner_up": "full",
        "flips": [{"from": 3, "choice": "frozen"}, {"from": 20, "choice": "lora"}],
        "strategies": {
            "frozen": row(0.3, measured=(0,)),
            "lora": row(0.6, 1e-3, True, (3, 10)),
            "full": row(0.62, 5e-4, True, (3, 10)),
        },
        "left out": {"prefix": "needs 20 GB of 16"},
        "command": "mto tune --gin_file=advice.gin",
    }


def test_the_first_sentence_says_what_to_take_and_why_not_the_best(summary):
    text = sentence(summary)
    assert "take lora at the learning rate 0.001: rougeL 0.600 [0.500, 0.700]" in text
    assert "extrapolated" in text
    assert "the best, full (0.620" in text
    summary["recommended"] = "full"
    assert "standard error" not in sentence(summary)


def test_what_is_no_better_than_a_constant_is_said_to_be(summary):
    assert "constant" not in sentence(summary)
    summary["best constant answer"] = 0.55
    assert "not clearly above the best constant answer, 0.550" in sentence(summary)
    summary["best constant answer"] = 0.45
    assert "clearly" not in sentence(summary)


def test_the_page_has_scores_costs_flips_and_what_was_left_out(summary):
    text = page(summary)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0].split(" | ")[2:5] == ["3 heads", "10 heads", "100 heads"]
    lora = next(line for line in rows if "lora" in line)
    assert "**lora**" in lora
    assert "*0.600 [0.500, 0.700]*" in lora
    assert "1,500 | 6 kB | 2.5 GB | 3 | 2 GFLOP" in lora
    assert "frozen from 3 to 19 heads, lora from 20 to 100 heads" in text
    assert "Runner-up: full at the learning rate 0.0005" in text
    assert "prefix: needs 20 GB of 16" in text
    assert "at most 16 GB, 30 minutes; cheapest is the shortest training" in text
    assert "mto tune --gin_file=advice.gin" in text
    assert "Forgotten" not in text
    assert "Forgotten of places: frozen 12%" in page({**summary, "keep": ["places"]})
