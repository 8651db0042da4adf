# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""(IA)^3: learned scales of activations (Liu et al. 2022, https://arxiv.org/abs/2205.05638)."""

import dataclasses

import gin
import jax.numpy as jnp
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.models.adapters.base import AdapterModule, Method, register_adapter


@register_adapter
@gin.configurable
@dataclasses.dataclass(frozen=True)
class IA3(Method):
    """A scale, one at first, for each channel of keys, values and hidden activations."""

    name = "ia3"
    peft_types = ("IA3",)
    peft_fields = ("feedforward_modules", "init_ia3_weights")
    absent = 1.0

    def in_layer(self, weights, kv_heads, num_layers, rngs):
        widths = {name: E for name, (_, E) in weights.items() if name in ("key", "value")}
        return _IA3(widths or {"hidden": weights["wo"][0]}, num_layers)

    def merge(self, parameters):
        """Columns of the weights of keys and values and rows of `wo` are scaled."""
        changes = {}
        for name, scale_LxE in parameters.items():
            layer, own = name.split(".ia3.")
            rows = own == "hidden"

            def scaled(weight, index, scale=scale_LxE, rows=rows):
                scale = scale[index[0], index[1 if rows else 2]]
                return weight * (scale[:, :, None] if rows else scale[:, None])

            changes[f"{layer}.{'wo' if rows else own}"] = scaled
        return changes

    def to_peft(self, parameters):
        tensors = {}
        for name, value in parameters.items():
            layer, own = name.split(".ia3.")
            if own == "hidden":
                tensors[f"{layer}.wo.ia3_l"] = value[:, None]
            else:
                tensors[f"{layer}.{own}.ia3_l"] = value[:, :, None]
        return {"peft_type": "IA3", "feedforward_modules": ["wo"]}, tensors

    @classmethod
    def from_peft(cls, config, tensors, where):
        # The output of wi_1 (PEFT's choice for mT5) is a factor of the input of wo.
        forms = {
            "key": ("key", 2),
            "value": ("value", 2),
            "wo": ("hidden", 1),
            "wi_1": ("hidden", 2),
        }
        parameters = {}
        for name, value in tensors.items():
            layer, _, own = name.removesuffix(".ia3_l").rpartition(".")
            own, axis = forms.get(own, ("", 0))
            name_here = f"{layer}.ia3.{own}"
            if not own or value.ndim != 3 or value.shape[axis] != 1 or name_here in parameters:
                raise UserError(
                    f"{where}: {name} {list(value.shape)} has no counterpart here, where (IA)^3 "
                    "scales the output of k and v and the input of wo, once each (target_modules "
                    "k, v, wo; feedforward_modules wo)."
                )
            parameters[name_here] = value.reshape(len(value), -1)
        for own in ("key", "value", "hidden"):
            if not any(name.endswith(f".{own}") for name in parameters):
                raise UserError(f"{where} has no scales of {own}: (IA)^3 has them here.")
        return cls(), parameters


class _IA3(AdapterModule):
    """Scales [L, E] of a layer's activations."""

    hidden: nnx.Param

    def __init__(self, widths, num_layers: int):
        for name, width in widths.items():
            setattr(self, name, nnx.Param(jnp.ones((num_layers, width)), axes=("layers", None)))

    def projection(self, name, x_BxTxD, y_BxTxE):
        scale_E = getattr(self, name, None)
        return y_BxTxE if scale_E is None else y_BxTxE * scale_E[None, None].astype(y_BxTxE.dtype)

    def activation(self, h_BxTxF):
        return h_BxTxF * self.hidden[None, None].astype(h_BxTxF.dtype)
