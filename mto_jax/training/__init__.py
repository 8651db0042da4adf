# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training: one jitted, sharded step; optimizers; checkpoints that verify; the loop."""
