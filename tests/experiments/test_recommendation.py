# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What adaptation and tuning forget, against scores that are known."""

import types

import pytest

from mto_jax.experiments.grid import Cell
from mto_jax.experiments.halving import Candidate
from mto_jax.experiments.recommendation import Adviser
from mto_jax.experiments.results import Results

SCORES = {  # (objective, method, asked) -> of the two examples of the task to be kept
    ("none", "frozen", None): [0.6, 0.2],
    ("lm", "frozen", None): [0.2, 0.4],  # -1/4
    ("none", "full", "kept"): [0.2, 0.2],  # -1/2
    ("lm", "full", "kept"): [0.7, 0.5],
}


def forgotten(candidate: Candidate, keep=("kept",)) -> float:
    cells = {}
    for (objective, method, asked), scores in SCORES.items():
        task = "kept" if asked is None else "own"
        extra = (("learning_rate", None), ("asked", asked))
        cell = Cell("base", objective, "Prompting", task, 0, 0, method, extra)
        value = sum(scores) / len(scores)
        cells[cell] = {"scores": {"rougeL": scores}, "values": {"rougeL": value}, "info": {}}

    def place(candidate, shots, rate):
        return {"task": "own", "shots": shots, "learning_rate": rate, **candidate._asdict()}

    question = types.SimpleNamespace(keep=keep, place=place, metric="rougeL")
    adviser = types.SimpleNamespace(question=question)
    measured = types.SimpleNamespace(
        results=Results([*cells], cells), rate=lambda candidate, shots: None
    )
    return Adviser._forgotten(adviser, measured, candidate, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "objective", "share"),
    [
        ("frozen", "none", 0),
        ("lora", "none", 0),
        ("full", "none", 1 / 2),
        ("frozen", "lm", 1 / 4),
        ("lora", "lm", 1 / 4),  # on the adapted model
        ("full", "lm", 0),  # which gains
    ],
)
def test_what_is_lost_is_of_the_model_before_any_adaptation(method, objective, share):
    candidate = Candidate(method, objective)
    assert forgotten(candidate) == pytest.approx(share)
    assert forgotten(candidate, keep=()) == 0
