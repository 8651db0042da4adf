# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What stands beside the tables of a grid: best constant answers and distinct predictions."""

import collections
from typing import Any

import numpy as np

from mto_jax.experiments.grid import Grid
from mto_jax.experiments.results import Results


def notes(grid: Grid, results: Results) -> list[str]:
    """Returns a sentence for each task: its best constant answer and the cells not above it."""
    by_task: dict[str, list[tuple[float, float, list[str]]]] = collections.defaultdict(list)
    for cell, result in results.results.items():
        info: Any = result["info"]
        constant = info.get("best constant answer", {}).get(grid.metric)
        if constant is not None:
            score = result["values"][grid.metric]
            by_task[cell.asked.task].append((constant, score, info["predictions"]))
    texts = []
    for task, cells in by_task.items():
        below = sum(score <= constant for constant, score, _ in cells)
        alike = sum(len({*answers}) == 1 < len(answers) for _, _, answers in cells)
        share = np.mean([len({*answers}) / len(answers) for _, _, answers in cells])
        texts.append(
            f"{grid.label(task)}: the best constant answer has {grid.label(grid.metric)} "
            f"{max(constant for constant, *_ in cells):.3f}, and {below} of {len(cells)} cells are "
            f"not above it; {share:.0%} of a cell's predictions are distinct"
            + (f", {alike} cells give one answer to everything." if alike else ".")
        )
    return texts
