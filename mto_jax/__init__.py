# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""MTO-JAX: match tasks to pre-training objectives, adapt and tune T5, print the tables.

>>> import mto_jax as mto
>>> model = mto.load("hf://google/flan-t5-small")

`mto_jax.api` holds what is here; it is imported, and JAX with it, when the first of it is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mto_jax.api import *

__version__ = "0.1.0"
__all__ = [
    "Advice",
    "Matching",
    "Model",
    "Prediction",
    "Predictions",
    "Prepared",
    "Result",
    "Results",
    "Run",
    "T5Config",
    "T5GemmaConfig",
    "Trajectory",
    "adapt",
    "advise",
    "evaluate",
    "fine_tune",
    "load",
    "match",
    "prepare",
    "register_file",
    "register_records",
    "train",
    "trajectory",
    "tune",
]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'mto_jax' has no attribute {name!r}")
    from mto_jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
