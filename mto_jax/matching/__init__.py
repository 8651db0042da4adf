# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores that match a task with a pre-training objective and its templates."""
