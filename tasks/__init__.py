# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO registrations: what the data is, and which objective or template it wears.

Each module here that registers tasks has a function `register()`; `register_all` calls them all.
Importing this package registers nothing and does not import TensorFlow.
"""

import importlib
import pkgutil


def register_all() -> None:
    """Register every task with SeqIO, under the present vocabulary and gin configuration.

    May be called again: the tasks are replaced.
    """
    for module in pkgutil.iter_modules(__path__):
        register = getattr(importlib.import_module(f"{__name__}.{module.name}"), "register", None)
        if register:
            register()
