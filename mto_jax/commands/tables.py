# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compute a grid of experiments, cell by cell, and print its tables and figures.

    mto tables --gin_file=tables/demo.gin --gin.OUTPUT_DIR=runs/tables

OUTPUT_DIR keeps a file for every cell, so the same command resumes where it was interrupted, and
computes only what is new after the grid has grown. Several processes, on several hosts, may run it
on one folder.
"""

from collections.abc import Sequence

import gin

from mto_jax.experiments.correlation import GainFigure
from mto_jax.experiments.engine import Runner
from mto_jax.experiments.figures import Figure
from mto_jax.experiments.grid import Grid
from mto_jax.experiments.results import Results
from mto_jax.experiments.run import run_grid
from mto_jax.experiments.tables import Table


def add_flags(parser) -> None:
    parser.add_argument(
        "--dry_run",
        action="store_true",
        default=None,
        help="print the cells and what they will cost, and compute nothing",
    )
    parser.add_argument(
        "--retry_failed",
        action="store_true",
        default=None,
        help="compute the cells that failed before once more",
    )


@gin.configurable
def tables(
    *,
    grid: Grid,
    runner: Runner,
    output_dir: str,
    tables: Sequence[Table] | None = None,
    figures: Sequence[Figure | GainFigure] | None = None,
    dry_run: bool = False,
    retry_failed: bool = False,
    lease_duration: float = 300.0,
) -> Results:
    """Compute what is missing, then write tables, figures and a page; returns the results.

    The arguments are those of `experiments.run.run_grid`.
    """
    return run_grid(
        grid,
        runner,
        output_dir,
        tables=tables,
        figures=figures,
        dry_run=dry_run,
        retry_failed=retry_failed,
        lease_duration=lease_duration,
    )
