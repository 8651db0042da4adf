# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a folder holds of scores and predictions, read while grids and evaluations still write.

>>> rows = predictions("runs/tables")  # or a run directory, or a folder of several
>>> side_by_side(rows, "fine_tune, seed 0", "frozen")
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mto_jax.errors import UserError
from mto_jax.experiments.grid import AXES, Cell, Grid
from mto_jax.experiments.results import Results
from mto_jax.files import canonical, read_record
from mto_jax.text2text.templates import TEMPLATES

Row = dict[str, Any]


def is_grid(folder: str | os.PathLike) -> bool:
    """Returns whether `folder` is the results folder of a grid."""
    return (pathlib.Path(folder) / "grid.json").is_file()


def check_folder(folder: str | os.PathLike) -> None:
    """Raises a UserError unless `folder` is that of a grid, or has runs or evaluations in it."""
    place = pathlib.Path(folder)
    if not place.is_dir():
        raise UserError(f"{folder} is not there.")
    runs = next(place.rglob("checkpoints"), None)
    if not is_grid(place) and not runs and not next(_evaluations(place), None):
        raise UserError(
            f"{folder} is no results folder of a grid (mto tables, mto tune), and has no run and "
            "no predictions of mto evaluate in it."
        )


def finished(folder: str | os.PathLike) -> tuple[Grid, Results] | None:
    """The cells of a grid that are done, as a grid of their own; None before the first.

    The metric is the first that all of them have.

    Raises:
      UserError: a damaged file.
    """
    results = {}
    for path in sorted((pathlib.Path(folder) / "cells").glob("*.json")):
        content = read_record(path)
        values = content["values"]
        own = {axis: value for axis, value in values.items() if axis in AXES}
        extra = tuple((axis, value) for axis, value in values.items() if axis not in AXES)
        cell = Cell(**own, extra=extra, settings=canonical(content["settings"]))
        results[cell] = content["result"]
    if not results:
        return None
    axes: dict[str, Any] = {
        axis: list(dict.fromkeys(cell.values[axis] for cell in results))
        for axis in next(iter(results)).values
    }
    known = [list(result["values"]) for result in results.values()]
    shared = [metric for metric in known[0] if all(metric in names for names in known)]
    if not shared:
        tasks = ", ".join(axes["task"])
        raise UserError(f"The cells of {folder} ({tasks}) have no metric in common.")
    grid = Grid(
        name=read_record(pathlib.Path(folder) / "grid.json", unsigned=True)["grid"],
        metric=shared[0],
        extra={axis: values for axis, values in axes.items() if axis not in AXES},
        **{axis: values for axis, values in axes.items() if axis in AXES},
    )
    return grid, Results(list(results), results)


def predictions(folder: str | os.PathLike) -> list[Row]:
    """A row for each prediction: model, task, template, number, source, references, prediction,
    score.

    In a grid the model is what a cell has on the axes beside task and template, as far as cells
    differ there; else it is the folder of the evaluation, within `folder`. The score is the grid's
    metric, or the first one of the evaluation that scores single examples.
    """
    place = pathlib.Path(folder)
    if not is_grid(place):
        return [row for path in _evaluations(place) for row in _of_evaluation(place, path)]
    done = finished(place)
    return [row for cell in done[1].cells for row in _of_cell(*done, cell)] if done else []


def side_by_side(rows: Sequence[Row], first: str, second: str) -> list[Row]:
    """A row for each example that both models were asked, with both predictions and scores."""

    def of(model: str) -> dict[tuple, Row]:
        chosen = (row for row in rows if row["model"] == model)
        return {(r["task"], r["template"], r["number"], r["source"]): r for r in chosen}

    others = of(second)
    return [
        {
            "source": row["source"],
            "references": row["references"],
            "first": row["prediction"],
            "second": others[place]["prediction"],
            "score of first": row["score"],
            "score of second": others[place]["score"],
            "task": row["task"],
            "template": row["template"],
        }
        for place, row in of(first).items()
        if place in others
    ]


def _of_cell(grid: Grid, results: Results, cell: Cell) -> Iterator[Row]:
    result = results.results[cell]
    info: Mapping[str, Any] = result["info"]
    answers = info.get("predictions") or []
    named = {a: v for a, v in cell.values.items() if a not in ("task", "template")}
    shown = {a: v for a, v in named.items() if len(grid.axes[a]) > 1}
    words = (
        str(v) if a in ("model", "method") else f"{a} {grid.label(v)}" for a, v in shown.items()
    )
    model = ", ".join(words) or cell.method
    nothing = [None] * len(answers)
    scores = result["scores"].get(grid.metric) or nothing
    sources, references = (info.get(key) or nothing for key in ("sources", "references"))
    for i, answer in enumerate(answers):
        yield {
            "model": model,
            "task": cell.asked.task,
            "template": cell.asked.template,
            "number": i,
            "source": sources[i] or f"head {i + 1}",
            "references": " | ".join(references[i] or []),
            "prediction": answer,
            "score": scores[i],
        }


def _evaluations(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files of predictions that `mto evaluate` left somewhere in a folder."""
    return iter(sorted(folder.rglob("predictions-*.jsonl")))


def _of_evaluation(folder: pathlib.Path, path: pathlib.Path) -> Iterator[Row]:
    name = path.stem.removeprefix("predictions-")
    task, _, split = name.rpartition("-")
    endings = {f"_{template.snake_name}": template.name for template in TEMPLATES.values()}
    fitting = [ending for ending in endings if task.endswith(ending)]
    ending = max(fitting, key=len, default="")
    model = str(path.parent.relative_to(folder)).replace("evaluation/", "")
    for i, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        scores = row.get("scores") or {}
        yield {
            "model": f"{model}, {split}",
            "task": task.removesuffix(ending),
            "template": endings.get(ending, ""),
            "number": i,
            "source": row["input"],
            "references": " | ".join(row["references"]),
            "prediction": row["prediction"],
            "score": next(iter(scores.values()), None),
        }
