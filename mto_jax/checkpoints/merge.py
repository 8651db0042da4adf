# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters merged into the weights of their base: a plain T5 that computes the same."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints.lazy import Index, Tensor
from mto_jax.models.adapters import Adapters, own_parameters
from mto_jax.models.adapters.base import Merge


def merge(
    tensors: Mapping[str, Tensor], adapters: Adapters, parameters: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The parameters of a T5 with its adapters merged in, computed when they are read.

    Args:
      tensors: of the plain T5, by name.
      parameters: of the folded adapters, by name; rows of soft prompts are left out.

    Raises:
      UserError: an adapter for which no weight can stand, such as prefixes.
    """
    values = {name: np.asarray(value, np.float32) for name, value in parameters.items()}
    merged = dict(tensors)
    for method in adapters.methods:
        for weight, change in method.merge(own_parameters(values, method)).items():
            merged[weight] = _changed(merged[weight], change)
    return merged


def _changed(weight: Tensor, change: Merge) -> Tensor:
    def read(index: Index) -> np.ndarray:
        return change(weight.read(index), index)

    return Tensor(weight.shape, np.dtype(np.float32), read)
