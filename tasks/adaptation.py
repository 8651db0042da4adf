# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of pairs that gin names (`adaptation_pairs`), under the pair objectives."""

from mto_jax.adaptation.tasks import register, register_mixtures

__all__ = ["register", "register_mixtures"]
