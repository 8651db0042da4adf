# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO registrations: what the data is, and which objective or template it wears.

Each module here that registers tasks has a function `register()`, and one that mixes them
`register_mixtures()`; `register_all` calls them all. Importing this package registers nothing and does
not import TensorFlow.
"""

import importlib
import pkgutil
from collections.abc import Iterable


def register_all(modules: Iterable[str] = ()) -> None:
    """Register every task with SeqIO, under the present vocabulary and gin configuration.

    May be called again: the tasks are replaced.

    Args:
        modules: of the user; importing one registers what it wants to. Mixtures come after them, so that
            they may hold tasks of the user's.
    """
    ours = [
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
    ]
    _call("register", ours)
    for module in modules:
        importlib.import_module(module)
    _call("register_mixtures", ours)


def _call(function: str, modules: Iterable) -> None:
    for module in modules:
        getattr(module, function, lambda: None)()
