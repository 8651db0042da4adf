# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values against annotations: what fits, and what is said of what does not."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import gin
import numpy as np
import pytest

from mto_jax import checks
from mto_jax.errors import UserError


class _Runner(Protocol):
    def run(self) -> None: ...


@pytest.mark.parametrize(
    ("hint", "good", "bad", "words"),
    [
        (int, [0, -3, np.int32(2)], [True, 1.0, "1", None], "a whole number"),
        (float, [0, 1.5, math.inf, np.float32(2)], [True, math.nan, "1"], "a number"),
        (bool, [True, False], [0, 1, "True", None], "True or False"),
        (str, ["", "a"], [1, None, b"a"], "a text"),
        (int | None, [1, None], ["", False], "a whole number or None"),
        (checks.Count, [1, 7], [0, -1, True, 1.0], "a whole number of 1 or more"),
        (checks.Natural, [0], [-1], "a whole number of 0 or more"),
        (checks.Seed, [0, 2**31 - 1], [-1, 2**31], "a whole number from 0 to 2147483647"),
        (checks.Positive, [1e-9, 3], [0, -1, math.inf, math.nan], "a number above 0"),
        (checks.Share, [0, 0.5], [1, -0.1, 2], "a number of 0 or more and below 1"),
        (checks.Name, ["a"], ["", " ", 3], "a text that is not empty"),
        (checks.Place, ["a", pathlib.Path("a")], ["", 3], "a path"),
        (checks.Count | None, [None, 2], [0], "a whole number of 1 or more or None"),
        (
            Annotated[str | Sequence[str], checks.NonEmpty],
            ["all", ["a", "b"], ("a",)],
            [[], "", [1], {"a"}],
            "a text or a list of which each item is a text that is not empty",
        ),
        (
            Mapping[str, checks.Count],
            [{}, {"inputs": 3}],
            [{"inputs": 0}, {1: 1}, [("a", 1)]],
            "a dictionary of which each value is a whole number of 1 or more",
        ),
        (Literal["a", "b"], ["a"], ["c"], "'a' or 'b'"),
        (pathlib.Path, [pathlib.Path("a")], ["a"], "a Path"),
        (_Runner, [1], [], ""),
        (Any, [1, None], [], ""),
        (Callable[[int], int], [abs], [3], "a Callable"),
    ],
)  # fmt: skip
def test_values_fit_or_are_refused_in_words(hint, good, bad, words):
    def function(value):
        checks.check(function, locals())

    function.__annotations__["value"] = hint
    for value in good:
        function(value)
    for value in bad:
        with pytest.raises(UserError) as error:
            function(value)
        assert str(error.value).startswith(f"function.value is {value!r}; it must be {words}.")


def test_what_gin_binds_is_checked_and_other_locals_are_not():
    @gin.configurable(module="checked")
    def verb(count: checks.Count, free=3):
        other = "x"
        checks.check(verb, locals())
        return count, free, other

    assert verb(2, free=None) == (2, None, "x")
    gin.bind_parameter("checked.verb.count", "eight")
    with pytest.raises(UserError, match=r"verb\.count is 'eight'; it must be a whole number of 1"):
        verb()


def test_fields_of_dataclasses():
    @dataclasses.dataclass(frozen=True)
    class Settings:
        rate: checks.Positive
        note: str | None = None
        cache: dict = dataclasses.field(default_factory=dict, init=False)

        def __post_init__(self):
            checks.check_fields(self)

    assert Settings(1).rate == 1
    with pytest.raises(UserError, match=r"Settings\.rate is -1; it must be a number above 0"):
        Settings(-1)
    with pytest.raises(UserError, match=r"Settings\.note is 3; it must be a text or None"):
        Settings(1, note=3)
