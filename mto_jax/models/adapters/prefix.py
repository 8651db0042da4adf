# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prefix tuning: learned keys and values (Li & Liang 2021, https://arxiv.org/abs/2101.00190)."""

import dataclasses

import gin
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mto_jax import fields
from mto_jax.errors import UserError
from mto_jax.models.adapters.base import AdapterModule, Method, register_adapter

_PEFT_ROWS = "prompt_embeddings"


@register_adapter
@gin.configurable
@dataclasses.dataclass(frozen=True)
class PrefixTuning(Method):
    """Keys and values that every query of an attention sees first.

    Attributes:
      length: P, keys and values in front of those of an attention.
      past: False: in every attention of both stacks, without a bias of distance. True, as in
        Hugging Face PEFT: in the decoder's self-attention alone, as P tokens before the first, with
        T5's bias of their distance.
    """

    length: int = 10
    past: bool = False

    name = "prefix"
    peft_types = ("PREFIX_TUNING",)
    peft_fields = (
        *("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads"),
        *("num_layers", "encoder_hidden_size", "prefix_projection", "init_weights"),
    )

    def __post_init__(self) -> None:
        self.require_count("length")
        self.require("past", isinstance(self.past, bool), "True or False")

    def in_layer(self, weights, kv_heads, num_layers, rngs):
        if kv_heads is None:
            return None
        return _Prefix((num_layers, self.length, *kv_heads), self.past, rngs)

    @classmethod
    def from_peft(cls, config, tensors, where):
        """PEFT stores [P, 2 L H K], also where a projection has made it.

        It repeats the 2 L keys and values [P, H, K] behind themselves and takes four for each
        layer: key and value of self-attention, and two of cross-attention, which it throws away. So
        layers see the first half of the tensor, or all of it in another order if L is odd.
        """
        sizes = ("num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim")
        P, L, H, D = (config.get(name) or 0 for name in sizes)
        rows = tensors.get(_PEFT_ROWS, np.empty(0))
        fits = P and H and D % H == 0 and rows.shape == (P, 2 * L * D)
        if set(tensors) != {_PEFT_ROWS} or not fits:
            present = ", ".join(f"{name} {list(value.shape)}" for name, value in tensors.items())
            raise UserError(
                f"{where} holds {present or 'no tensors'}; expected {_PEFT_ROWS} with {P} rows of "
                f"2 x {L} x {D} (num_virtual_tokens, num_layers, token_dim), in {H} heads."
            )
        if config.get("num_transformer_submodules") != 2:
            raise UserError(
                f"{where}: num_transformer_submodules is "
                f"{config.get('num_transformer_submodules')!r}; PEFT itself computes with 2 alone "
                "for an encoder-decoder."
            )
        x_2LxPxHxK = rows.reshape(P, 2 * L, H, D // H).swapaxes(0, 1)
        first_L = [4 * layer % (2 * L) for layer in range(L)]
        parameters = {
            f"decoder.layers.self_attention.prefix.{name}": x_2LxPxHxK[[i + k for i in first_L]]
            for k, name in enumerate(("key", "value"))
        }
        return fields.from_dict(cls, {"length": P, "past": True}), parameters


class _Prefix(AdapterModule):
    """Keys and values [L, P, H, K] of the attentions of a stack."""

    def __init__(self, shape: tuple[int, ...], past: bool, rngs: nnx.Rngs):
        axes = ("layers", None, None, None)
        self.past = past
        # Keys as large as T5's own queries want them; values small, so that little changes at
        # first.
        self.key = nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32), axes=axes)
        value = 0.02 * jax.random.normal(rngs.params(), shape, jnp.float32)
        self.value = nnx.Param(value, axes=axes)

    def keys_values(self):
        return self.key[...], self.value[...]
