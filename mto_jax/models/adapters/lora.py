# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA: low-rank updates of weights (Hu et al. 2022, https://arxiv.org/abs/2106.09685)."""

import dataclasses
from collections.abc import Sequence

import gin
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mto_jax import errors
from mto_jax.errors import UserError
from mto_jax.models.adapters.base import AdapterModule, Method, register_adapter

PROJECTIONS = ("query", "key", "value", "out", "wi", "wi_0", "wi_1", "wo")


@register_adapter
@gin.configurable
@dataclasses.dataclass(frozen=True)
class LoRA(Method):
    """x W becomes x W + (alpha / rank) (x A) B; B is zero at first.

    Attributes:
      rank: r.
      alpha: the update is scaled by alpha / r.
      targets: the weights that have an update, of `PROJECTIONS`, in every layer of both stacks.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: Sequence[str] = ("query", "value")

    name = "lora"
    peft_types = ("LORA",)
    peft_fields = (
        *("r", "lora_alpha", "lora_dropout", "init_lora_weights", "megatron_core"),
        *("qalora_group_size", "use_rslora"),
    )
    absent = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        self.require_count("rank")
        self.require("targets", bool(self.targets), "names of weights such as ('query', 'value')")
        for target in self.targets:
            if target not in PROJECTIONS:
                raise errors.unknown("name in LoRA.targets", target, PROJECTIONS)

    def in_layer(self, weights, kv_heads, num_layers, rngs):
        shapes = {name: shape for name, shape in weights.items() if name in self.targets}
        return _LoRA(self, shapes, num_layers, rngs) if shapes else None

    def merge(self, parameters):
        changes = {}
        for name, a_LxDxr in parameters.items():
            if name.endswith("_a"):
                b_LxrxE = (self.alpha / self.rank) * parameters[f"{name[:-1]}b"]

                def added(weight, index, a=a_LxDxr, b=b_LxrxE):
                    layers, rows, columns = index
                    return weight.astype(np.float32) + a[layers, rows] @ b[layers, :, columns]

                changes[name.replace(".lora.", ".")[:-2]] = added
        return changes

    def to_peft(self, parameters):
        tensors = {}
        for name, value in parameters.items():
            weight, side = name.replace(".lora.", ".")[:-2], name[-1].upper()
            tensors[f"{weight}.lora_{side}.weight"] = value.swapaxes(1, 2)  # as PyTorch's linear
        return {"peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha}, tensors

    @classmethod
    def from_peft(cls, config, tensors, where):
        # These leave the base as it is; others (PiSSA, OLoRA, LoftQ, ...) change its weights.
        start = config.get("init_lora_weights")
        if start not in (None, True, False, "gaussian", "orthogonal", "eva"):
            raise UserError(f"{where}: init_lora_weights is {start!r}, which changes the base.")
        rank, axes, parameters = config.get("r", 0), {"A": 1, "B": 2}, {}
        for name, value in tensors.items():
            weight, _, side = name.removesuffix(".weight").rpartition(".lora_")
            layer, _, own = weight.rpartition(".")
            fits = own in PROJECTIONS and side in axes and value.ndim == 3
            if not fits or value.shape[axes[side]] != rank:
                raise UserError(
                    f"{where}: the tensor {name} {list(value.shape)} is none of LoRA of the rank "
                    f"r = {rank} on a weight of the layers."
                )
            parameters[f"{layer}.lora.{own}_{side.lower()}"] = value.swapaxes(1, 2)
        for name in parameters:
            if (other := name[:-1] + ("b" if name[-1] == "a" else "a")) not in parameters:
                raise UserError(f"{where} has {name} without {other}.")
        own_names = {name.rpartition(".")[2][:-2] for name in parameters}
        targets = tuple(name for name in PROJECTIONS if name in own_names)
        alpha = float(config.get("lora_alpha", 8))
        # Rank-stabilised LoRA scales by alpha / sqrt(r) (https://arxiv.org/abs/2312.03732).
        alpha *= rank**0.5 if config.get("use_rslora") else 1.0
        return cls(rank, alpha, targets), parameters


class _LoRA(AdapterModule):
    """A [L, D, r] and B [L, r, E] of the target weights of a layer."""

    def __init__(self, method: LoRA, shapes, num_layers: int, rngs: nnx.Rngs):
        L, r = num_layers, method.rank
        self.targets = tuple(shapes)
        self.scale = method.alpha / r
        for name, (D, E) in shapes.items():
            bound = D**-0.5
            a = jax.random.uniform(rngs.params(), (L, D, r), jnp.float32, -bound, bound)
            setattr(self, f"{name}_a", nnx.Param(a, axes=("layers", None, None)))
            b = jnp.zeros((L, r, E), jnp.float32)
            setattr(self, f"{name}_b", nnx.Param(b, axes=("layers", None, None)))

    def projection(self, name, x_BxTxD, y_BxTxE):
        if name not in self.targets:
            return y_BxTxE
        a_Dxr = getattr(self, f"{name}_a")[...].astype(x_BxTxD.dtype)
        b_rxE = (self.scale * getattr(self, f"{name}_b")[...]).astype(x_BxTxD.dtype)
        return y_BxTxE + (x_BxTxD @ a_Dxr) @ b_rxE
