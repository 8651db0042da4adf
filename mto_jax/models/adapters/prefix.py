# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prefix tuning: learned keys and values (Li & Liang 2021, https://arxiv.org/abs/2101.00190)."""

import dataclasses

import gin
import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.adapters.base import AdapterModule, Method, register_adapter


@register_adapter
@gin.configurable
@dataclasses.dataclass(frozen=True)
class PrefixTuning(Method):
    """Keys and values that every query of an attention sees first, without a bias of distance.

    Attributes:
      length: P, keys and values in front of those of every attention.
    """

    length: int = 10

    name = "prefix"

    def __post_init__(self) -> None:
        self.require_count("length")

    def in_layer(self, weights, kv_heads, num_layers, rngs):
        return _Prefix((num_layers, self.length, *kv_heads), rngs) if kv_heads else None


class _Prefix(AdapterModule):
    """Keys and values [L, P, H, K] of the attentions of a stack."""

    def __init__(self, shape: tuple[int, ...], rngs: nnx.Rngs):
        axes = ("layers", None, None, None)
        # Keys as large as T5's own queries want them; values small, so that little changes at
        # first.
        self.key = nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32), axes=axes)
        value = 0.02 * jax.random.normal(rngs.params(), shape, jnp.float32)
        self.value = nnx.Param(value, axes=axes)

    def keys_values(self):
        return self.key[...], self.value[...]
