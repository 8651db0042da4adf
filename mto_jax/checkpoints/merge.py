# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA and (IA)^3 computed into the weights that they accompany: a plain T5 that answers the same."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints.lazy import Index, Tensor
from mto_jax.errors import UserError
from mto_jax.models.adapters import Adapters


def merge(
    tensors: Mapping[str, Tensor], adapters: Adapters, parameters: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The parameters of a T5 with LoRA and (IA)^3 merged in, computed when they are read.

    A weight W becomes W + (alpha / r) A B; then (IA)^3 multiplies its columns (key, value) or, in
    `wo`, its rows.

    Args:
      tensors: of the plain T5, by name.
      parameters: of the adapter, by name; those of a soft prompt are left alone.

    Raises:
      UserError: there are prefixes, which no weight can stand for.
    """
    if adapters.prefix_length:
        raise UserError(
            f"The adapter has prefixes (Adapters.prefix_length = {adapters.prefix_length}), which cannot be "
            "merged into weights. mto convert --to=peft writes the adapter by itself."
        )
    values = {n: np.asarray(v, np.float32) for n, v in parameters.items() if ".layers." in n}
    merged = dict(tensors)
    for name, a_LxDxr in values.items():
        if ".lora." in name and name.endswith("_a"):
            weight = name.replace(".lora.", ".")[:-2]
            b_LxrxE = (adapters.lora_alpha / adapters.lora_rank) * values[f"{name[:-1]}b"]
            merged[weight] = _added(merged[weight], a_LxDxr, b_LxrxE)
    for name, scale_LxE in values.items():
        if ".ia3." in name:
            layer, own = name.split(".ia3.")
            rows = own == "hidden"
            weight = f"{layer}.{'wo' if rows else own}"
            scale = scale_LxE[:, :, None] if rows else scale_LxE[:, None]
            merged[weight] = _scaled(merged[weight], scale)
    return merged


def _added(weight: Tensor, a_LxDxr: np.ndarray, b_LxrxE: np.ndarray) -> Tensor:
    def read(index: Index) -> np.ndarray:
        layers, rows, columns = index
        product = a_LxDxr[layers, rows] @ b_LxrxE[layers, :, columns]
        return weight.read(index).astype(np.float32) + product

    return Tensor(weight.shape, np.dtype(np.float32), read)


def _scaled(weight: Tensor, scale: np.ndarray) -> Tensor:
    """`weight` [L, D, E] times `scale`, [L, D, 1] or [L, 1, E]."""

    def read(index: Index) -> np.ndarray:
        own = tuple(i if n > 1 else slice(None) for i, n in zip(index, scale.shape, strict=True))
        return weight.read(index) * scale[own]

    return Tensor(weight.shape, np.dtype(np.float32), read)
