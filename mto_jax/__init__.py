# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""MTO-JAX: match tasks to pre-training objectives, adapt and tune T5, print the tables."""

__version__ = "0.1.0"
