# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prepared data: SeqIO tasks as ArrayRecord files, fed by Grain without TensorFlow."""
