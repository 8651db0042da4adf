# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores and predictions of folders that grids and evaluations are still writing."""

import json

import pytest

from mto_jax.errors import UserError
from mto_jax.experiments import predictions
from mto_jax.experiments.store import CellStore
from tests.experiments import fake

GRID = fake.grid(task=["AtLocation", "xIntent"], seed=[0])


def written(folder, cells) -> CellStore:
    """A store with these cells done, two predictions each."""
    store = CellStore(folder)
    store.create(GRID)
    for cell in cells:
        cell = cell.with_settings({"rate": 0.1})
        result = {
            "scores": {"rougeL": [0.0, 1.0]},
            "values": {"rougeL": 0.5, "bleu": 0.1},
            "info": {
                "examples": cell.task,
                "predictions": [f"{cell.objective} a", f"{cell.objective} b"],
                "sources": [f"{cell.task}: one", f"{cell.task}: two"],
                "references": [["gold"], ["g1", "g2"]],
            },
        }
        store.write(cell, result, 1.0)
    return store


def test_a_grid_grows_as_cells_finish(tmp_path):
    cells = GRID.cells()
    store = written(tmp_path / "grid", [])
    assert predictions.finished(tmp_path / "grid") is None
    assert predictions.predictions(tmp_path / "grid") == []
    for count in (1, len(cells)):
        written(tmp_path / "grid", cells[:count])
        grid, results = predictions.finished(tmp_path / "grid")
        assert (len(results.cells), grid.metric, grid.name) == (count, "rougeL", GRID.name)
        assert {(c.task, c.objective) for c in results.cells} == {
            (c.task, c.objective) for c in cells[:count]
        }
    rows = predictions.predictions(tmp_path / "grid")
    assert len(rows) == 2 * len(cells)
    first = next(r for r in rows if r["task"] == "xIntent" and "denoising" in r["model"])
    assert first["source"] == "xIntent: one"
    assert (first["references"], first["score"], first["prediction"]) == (
        "gold",
        0.0,
        "denoising a",
    )
    (path, *_) = (store.folder / "cells").glob("*.json")
    path.write_text(path.read_text().replace("gold", "lead"))
    with pytest.raises(UserError, match=path.name):
        predictions.finished(tmp_path / "grid")


def test_two_models_side_by_side(tmp_path):
    written(tmp_path / "grid", GRID.cells())
    rows = predictions.predictions(tmp_path / "grid")
    models = sorted({row["model"] for row in rows})
    assert models == ["objective denoising", "objective none"]
    paired = predictions.side_by_side(rows, *models)
    assert len(paired) == len(rows) / 2
    for row in paired:
        letter = row["first"][-1]
        assert (row["first"], row["second"]) == (f"denoising {letter}", f"none {letter}")
        assert row["score of second"] == (letter == "b")


def test_evaluations_of_a_run(tmp_path):
    for step in (10, 20):
        folder = tmp_path / "evaluation" / str(step)
        folder.mkdir(parents=True)
        row = {
            "input": "uses: a cup",
            "references": ["tea", "milk"],
            "prediction": f"tea {step}",
            "scores": {"rougeL": step / 100},
        }
        name = "predictions-my_uses_masked_first_pt-test.jsonl"
        (folder / name).write_text(json.dumps(row) + "\n")
    predictions.check_folder(tmp_path)
    rows = predictions.predictions(tmp_path)
    assert [row["model"] for row in rows] == ["10, test", "20, test"]
    assert (rows[0]["task"], rows[0]["template"]) == ("my_uses", "MaskedFirstPT")
    (pair,) = predictions.side_by_side(rows, "10, test", "20, test")
    assert (pair["references"], pair["second"], pair["score of second"]) == (
        "tea | milk",
        "tea 20",
        0.2,
    )


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        predictions.check_folder(tmp_path / "absent")
    with pytest.raises(UserError, match="no results folder of a grid"):
        predictions.check_folder(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    predictions.check_folder(tmp_path)  # a model to try
    assert predictions.predictions(tmp_path) == []
