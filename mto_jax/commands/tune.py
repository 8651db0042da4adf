# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tune many prompts, LoRAs, ... on a frozen model, and evaluate each on heads that it has not seen.

    mto tune --gin_file=runs/prompt_tune.gin --gin.TASKS="['atomic_xIntent', 'atomic_xAttr']" \\
      --gin.INITIAL_CHECKPOINT_PATH=runs/base --gin.OUTPUT_DIR=runs/prompts

The short way into a grid of experiments with the axes task, template, adapter, learning rate and
seed, beside the frozen model. OUTPUT_DIR gets a folder for every adapter (as `mto convert` reads
it), a table (table.md), a figure (figure.png), and all that `mto tables` writes. The same command
resumes where it was interrupted; what is there is not computed again.
"""

from mto_jax.commands.retrying import add_flags
from mto_jax.experiments.tune import tune

__all__ = ["add_flags", "tune"]
