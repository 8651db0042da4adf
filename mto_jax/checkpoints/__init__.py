# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints, ours and those of other programs: `open(path)` gives one as a `Checkpoint`."""

from mto_jax.checkpoints.checkpoint import Checkpoint, UnknownVocabulary
from mto_jax.checkpoints.contents import Options
from mto_jax.checkpoints.opening import Run, base_checkpoint, open, open_all, open_base

__all__ = [
    "Checkpoint",
    "Options",
    "Run",
    "UnknownVocabulary",
    "base_checkpoint",
    "open",
    "open_all",
    "open_base",
]
