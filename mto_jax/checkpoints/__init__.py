# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: ours, verified on restore; Hugging Face's, T5X's and PEFT's, read and written."""
