# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adaptation: unlabelled sentences become task-like pairs (body, tail) to go on training with."""
