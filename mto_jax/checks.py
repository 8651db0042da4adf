# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values of parameters, checked against their annotations before any work.

A function says `check(train, locals())` in its first line, a dataclass `check_fields(self)` in its
`__post_init__`. `Annotated[int, Rule(...)]` narrows a type; the common ones have names here.
"""

import collections.abc
import dataclasses
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from mto_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rule:
    """A condition on values of a type.

    Attributes:
      holds: whether a value of the type satisfies it.
      text: the condition in words, behind those of the type: "of 1 or more".
    """

    holds: Callable[[Any], bool]
    text: str


Count = Annotated[int, Rule(lambda n: n >= 1, "of 1 or more")]
Natural = Annotated[int, Rule(lambda n: n >= 0, "of 0 or more")]
Seed = Annotated[int, Rule(lambda n: 0 <= n < 1 << 31, "from 0 to 2147483647")]
Positive = Annotated[float, Rule(lambda x: 0 < x < math.inf, "above 0")]
NonNegative = Annotated[float, Rule(lambda x: x >= 0, "of 0 or more")]  # not NaN
Share = Annotated[float, Rule(lambda x: 0 <= x < 1, "of 0 or more and below 1")]
Name = Annotated[str, Rule(lambda text: bool(text.strip()), "that is not empty")]
Place = Annotated[
    Any,
    Rule(lambda p: isinstance(p, str | os.PathLike) and bool(os.fspath(p).strip()), "a path"),
]
NonEmpty = Rule(bool, "that is not empty")

_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    Any: "",
    str: "a text",
    type(None): "None",
}
_SEQUENCES = (collections.abc.Sequence, list, tuple)


def check(function: Callable, values: Mapping[str, Any], name: str | None = None) -> None:
    """Checks the arguments of a call.

    Args:
      function: whose parameters they are; what gin has wrapped is unwrapped.
      values: by parameter; others are not looked at.
      name: of the function for a user; None is its own.

    Raises:
      UserError: a value is not of its parameter's type, or breaks a rule.
    """
    plain = inspect.unwrap(function)
    hints = typing.get_type_hints(plain, include_extras=True)
    for parameter in inspect.signature(plain).parameters:
        place = f"{name or plain.__name__}.{parameter}"
        _check(place, values[parameter], hints.get(parameter, Any))


def check_fields(instance: Any) -> None:
    """Checks the fields of a dataclass, as `check` does arguments; those without init are left."""
    cls = type(instance)
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(instance):
        if field.init:
            _check(f"{cls.__name__}.{field.name}", getattr(instance, field.name), hints[field.name])


def _check(name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        raise UserError(f"{name} is {value!r}; it must be {_words(hint)}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return _fits(value, arguments[0]) and all(rule.holds(value) for rule in arguments[1:])
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, item) for item in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin in _SEQUENCES:
        fits = isinstance(value, origin) and not isinstance(value, str | bytes)
        items = [item for item in arguments if item is not Ellipsis][:1]
        return fits and all(_fits(item, hint) for hint in items for item in value)
    if origin in (collections.abc.Mapping, dict):
        return isinstance(value, Mapping) and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        return (
            isinstance(value, numbers.Real)
            and not isinstance(value, bool)
            and not math.isnan(float(value))
        )
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    kind = origin or hint
    # Protocols and type variables are not decided here.
    decided = isinstance(kind, type) and not getattr(kind, "_is_protocol", False)
    return not decided or isinstance(value, kind)


def _words(hint: Any) -> str:
    """The values that an annotation allows, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return " ".join((_words(arguments[0]), *(rule.text for rule in arguments[1:]))).strip()
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in _SEQUENCES:
        return f"a list of which each item is {_words(arguments[0])}"
    if origin in (collections.abc.Mapping, dict):
        return f"a dictionary of which each value is {_words(arguments[1])}"
    return _WORDS[hint] if hint in _WORDS else f"a {getattr(hint, '__name__', hint)}"
