# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registrations: what the data are, and under which objectives or templates.

Each module here that registers tasks has a function `register()`, and one that mixes them
`register_mixtures()`; `register_all` calls them all. None of them imports TensorFlow: SeqIO learns
of what is registered where it is imported (`mto_jax.text2text.registry`).
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterable

from mto_jax.errors import importing
from mto_jax.text2text.objectives import OBJECTIVES
from mto_jax.text2text.templates import TEMPLATES

_registered_by: dict[str, str] = {}  # task or mixture -> the module here that registered it


def register_all(users: Iterable[str] = ()) -> None:
    """Register every data set, corpus and mixture, as gin has them now.

    May be called again: the tasks are replaced.

    Args:
        users: names of the user's modules; importing one registers what it wants to. Mixtures come
            after them, so that they may hold tasks of the user's.
    """
    _call("register")
    known = len(OBJECTIVES), len(TEMPLATES)
    for module in users:
        importing(module, "DatasetConfig.module")
    if (len(OBJECTIVES), len(TEMPLATES)) != known:  # our data under the user's as well
        _call("register")
    _call("register_mixtures")


def registered_by(name: str) -> str | None:
    """Return the module here that registered a task or mixture; None if none did."""
    return _registered_by.get(name)


def modules() -> list[str]:
    """Return the names of the modules here."""
    return [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]


def _call(function: str) -> None:
    seqio = sys.modules.get("seqio")
    registries = (seqio.TaskRegistry, seqio.MixtureRegistry) if seqio else ()
    for name in modules():
        before = {name for registry in registries for name in registry.names()}
        getattr(importlib.import_module(name), function, lambda: None)()
        after = {name for registry in registries for name in registry.names()}
        _registered_by.update(dict.fromkeys(after - before, name))
