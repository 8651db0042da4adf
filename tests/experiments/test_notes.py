# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The sentences beside the tables of a grid."""

from mto_jax.experiments.grid import Grid
from mto_jax.experiments.notes import notes
from mto_jax.experiments.results import Results

GRID = Grid(
    name="g",
    model=["m"],
    template=["Mapping", "Prompting"],
    task=["uses", "wants"],
    metric="rougeL",
    labels={"rougeL": "ROUGE-L"},
)


def result(value, *answers, **constant):
    info = {"best constant answer": constant, "predictions": [*answers]}
    return {"scores": {}, "values": {"rougeL": value}, "info": info}


def test_each_task_has_its_constant_and_the_cells_that_are_not_above_it():
    by_place = {
        ("uses", "Mapping"): result(0.3, "a", "b", "b", "c", rougeL=0.2),
        ("uses", "Prompting"): result(0.2, "a", "a", "a", "a", rougeL=0.2),
        ("wants", "Mapping"): result(0.5, "a", "b", rougeL=0.125),
        ("wants", "Prompting"): result(0.9, "a", "a"),  # such as recall: no predictions to compare
    }
    cells = {cell: by_place[cell.task, cell.template] for cell in GRID.cells()}
    assert notes(GRID, Results([*cells], cells)) == [
        "uses: the best constant answer has ROUGE-L 0.200, and 1 of 2 cells are not above it; 50% "
        "of a cell's predictions are distinct, 1 cells give one answer to everything.",
        "wants: the best constant answer has ROUGE-L 0.125, and 0 of 1 cells are not above it; "
        "100% of a cell's predictions are distinct.",
    ]
