# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
# gin has no annotations: a decorated function or class keeps its type.
from collections.abc import Callable
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

@overload
def configurable(name_or_fn: F, /) -> F: ...
@overload
def configurable(name_or_fn: str, /, **options: Any) -> Callable[[F], F]: ...
def __getattr__(name: str) -> Any: ...
