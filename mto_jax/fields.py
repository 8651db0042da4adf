# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Dataclasses from what JSON holds of them."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from mto_jax import errors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def from_dict(cls: type[T], fields: Mapping[str, Any]) -> T:
    """Returns the dataclass of `dataclasses.asdict`; absent fields take its defaults, never gin's.

    Raises:
      UserError: a field that the class does not have.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    for name in fields:
        if name not in defaults:
            raise errors.unknown(f"field of {cls.__name__}", name, defaults)
    return cls(**(defaults | dict(fields)))
