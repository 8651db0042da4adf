# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mixtures that gin defines (`mixtures.rates`)."""

from mto_jax.text2text.mixtures import register_mixtures

__all__ = ["register_mixtures"]
