# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compute a grid of experiments, cell by cell, and print its tables and figures.

    mto tables --gin_file=tables/demo.gin --gin.OUTPUT_DIR=runs/tables

OUTPUT_DIR keeps a file for every cell, so the same command resumes where it was interrupted, and
computes only what is new after the grid has grown. Several processes, on several hosts, may run it
on one folder; --engine=ray lets workers of Ray compute the cells.
"""

from mto_jax.commands import retrying
from mto_jax.experiments.run import run_grid as tables

__all__ = ["add_flags", "tables"]


def add_flags(parser) -> None:
    parser.add_argument(
        "--dry_run",
        action="store_true",
        default=None,
        help="print the cells and what they will cost, and compute nothing",
    )
    parser.add_argument(
        "--engine",
        metavar="ray[://HEAD:PORT]",
        help="compute on workers of Ray, of this machine or of a cluster, each with "
        "--gin.RayWorkers.cpus=1 and --gin.RayWorkers.gpus=0",
    )
    retrying.add_flags(parser)
