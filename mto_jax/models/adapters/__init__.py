# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters: parameters added to a frozen model and trained in its place; a file per method.

Parameters of an adapter are ordinary parameters of the model, with the method's name in theirs:
`prompt.*`, `*.lora.*`, `*.ia3.*`, `*.prefix.*`. A model without adapters has none of them.
"""

from mto_jax.models.adapters.base import (
    METHODS,
    NONE,
    AdapterModule,
    Adapters,
    Method,
    attach,
    attached,
    example,
    fold,
    is_adapter,
    own_parameters,
    penalty,
    register_adapter,
    trains,
)
from mto_jax.models.adapters.ia3 import IA3
from mto_jax.models.adapters.lora import LoRA
from mto_jax.models.adapters.prefix import PrefixTuning
from mto_jax.models.adapters.prompt import PromptTuning

__all__ = [
    "IA3",
    "METHODS",
    "NONE",
    "AdapterModule",
    "Adapters",
    "LoRA",
    "Method",
    "PrefixTuning",
    "PromptTuning",
    "attach",
    "attached",
    "example",
    "fold",
    "is_adapter",
    "own_parameters",
    "penalty",
    "register_adapter",
    "trains",
]
