# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Grids of experiments: cells computed once and kept, tables and figures of them."""
