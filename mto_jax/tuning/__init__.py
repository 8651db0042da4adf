# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tuning of adapters on a frozen model: what is tuned, what is told about it."""
