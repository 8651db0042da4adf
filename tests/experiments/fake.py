# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A grid without models: results are drawn from a generator seeded by the cell. For tests in this
process or

python -m tests.experiments.fake FOLDER LOG SECONDS_PER_CELL TOGETHER PARTNERS
"""

import dataclasses
import hashlib
import os
import sys
import time

import numpy as np

from mto_jax.errors import unknown
from mto_jax.experiments.engine import Stage
from mto_jax.experiments.figures import Figure
from mto_jax.experiments.grid import Grid
from mto_jax.experiments.run import run_grid
from mto_jax.experiments.tables import Table

TEMPLATES = ("Mapping", "MaskedMapping", "Prompting", "MaskedPrompting")
OBJECTIVES = ("none", "lm", "denoising", "mixed")
TASKS = {"AtLocation": 30, "xIntent": 25, "xNeed": 40}  # test examples
EFFECTS = {"Mapping": 0.0, "MaskedMapping": 0.02, "Prompting": 0.08, "MaskedPrompting": 0.15}


@dataclasses.dataclass
class FakeRunner:
    """Computes nothing, slowly; `together` cells form a group; cells of `bad` tasks and seeds fail.

    The first cell waits until `partners` processes have started one.
    """

    log: str | None = None
    seconds: float = 0.0
    together: int = 1
    partners: int = 1
    rate: float = 0.1
    bad: tuple = ()
    missing_models: tuple = ()

    def make_models(self):
        pass

    def known(self):
        return {
            "template": TEMPLATES,
            "objective": OBJECTIVES,
            "method": ("fine_tune",),
            "metric": ("rougeL", "bleu"),
        }

    def work(self, cells):
        return [f"{len(cells)} trainings"]

    def check(self, cells):
        for cell in cells:
            if cell.task not in TASKS:
                raise unknown("task", cell.task, TASKS)

    def metrics(self, cell):
        return ("rougeL", "bleu")

    def settings(self, cell):
        return {"optimizer": {"name": "sgd", "rate": self.rate}, "examples": TASKS[cell.task]}

    def groups(self, cells):
        return [cells[i : i + self.together] for i in range(0, len(cells), self.together)]

    def run(self, group, progress):
        for cell in group:
            self._note("start", cell)
            while self.partners > 1 and len(self._processes()) < self.partners:
                time.sleep(0.01)
            if cell.task in self.bad or cell.seed in self.bad:
                raise ValueError(f"bad luck with {cell.task}")
            progress(cell, 2, 2, lambda: 3.0)
            time.sleep(self.seconds)
            self._note("end", cell)
            yield cell, result(cell)

    def stages(self, cells):
        return [Stage("cells", 2.0 * len(cells), 3000 * len(cells))]

    def _processes(self):
        with open(self.log) as file:
            return {line.split()[2] for line in file if line.endswith("\n")}

    def _note(self, what, cell):
        if self.log:
            with open(
                self.log, "a"
            ) as file:  # one small write: lines of several processes stay whole
                file.write(f"{what} {cell.key} {os.getpid()}\n")


class Poor(FakeRunner):
    """Its tasks lack the metric that the grid is about."""

    def metrics(self, cell):
        return ("bleu",)


def result(cell):
    """The same for the same place on the axes."""
    seed = hashlib.sha256(repr(cell.values).encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    examples = np.random.default_rng(len(cell.task)).random(TASKS[cell.task])
    scores = 0.6 * examples + EFFECTS[cell.template] + 0.02 * OBJECTIVES.index(cell.objective)
    scores = scores + 0.1 * rng.random(len(scores)) + 0.0005 * (cell.shots or 200)
    if cell.task == "xIntent" and cell.template.startswith("Masked"):
        scores = scores - 0.12 * rng.random(len(scores))
    return {
        "scores": {"rougeL": scores.tolist()},
        "values": {"rougeL": float(scores.mean()), "bleu": float(scores.max())},
        "info": {"examples": cell.task},
    }


def grid(**changes) -> Grid:
    """Small: 3 tasks, 3 seeds, 4 templates, 2 objectives."""
    options = {
        "name": "fake",
        "model": ["tiny"],
        "template": TEMPLATES,
        "objective": ["none", "denoising"],
        "task": list(TASKS),
        "seed": [0, 1, 2],
        "metric": "rougeL",
        "baseline": {"template": "Mapping"},
        "labels": {"none": "---"},
    }
    return Grid(**(options | changes))


def run(folder, runner=None, **changes):
    """`tables` on the fake grid."""
    options = {"grid": grid(), "runner": runner or FakeRunner(), "output_dir": str(folder)}
    return run_grid(**(options | changes))


FIGURE = Figure(name="bars", kind="bars", x="objective", series="template")
TABLE = Table(name="main", rows=("objective", "template"), block="objective")

if __name__ == "__main__":
    run(
        sys.argv[1],
        FakeRunner(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])),
        tables=[TABLE],
        figures=[FIGURE],
    )
