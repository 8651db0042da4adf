# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prepared data: SeqIO tasks written once as ArrayRecord files, then fed by Grain without TensorFlow."""
