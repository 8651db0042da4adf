# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tune every checkpoint of a run: what it knows, what tuning adds, and what tuning makes it forget.

    mto trajectory --gin_file=runs/trajectory.gin --gin.RUN=runs/base --gin.STEPS=log:8 \\
      --gin.TASKS="['atomic_xIntent', 'atomic_AtLocation']" --gin.OUTPUT_DIR=runs/trajectory

OUTPUT_DIR gets trajectory.json and all that `mto tables` writes: tables, figures, one HTML page.
The same command resumes where it was interrupted; what is there is not computed again.
"""

from mto_jax.commands.retrying import add_flags
from mto_jax.experiments.trajectory import trajectory

__all__ = ["add_flags", "trajectory"]
