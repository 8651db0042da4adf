# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can mend: one paragraph that says what is wrong and what to change."""

import difflib
import sys
from collections.abc import Iterable
from typing import NoReturn


class UserError(ValueError):
    """Wrong input, configuration or environment. The CLI prints its text alone, without a trace."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """A `UserError` for a name that does not exist, which suggests the nearest ones.

    >>> str(unknown("objective", "span_coruption", ["span_corruption", "prefix_lm"]))
    "There is no objective 'span_coruption'. Did you mean 'span_corruption'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    else:
        shown = known if len(known) <= 20 else [*known[:20], f"... ({len(known)} in all)"]
        hint = "Known: " + (", ".join(shown) or "none") + "."
    return UserError(f"There is no {kind} {name!r}. {hint}")


def message(error: Exception) -> str:
    """Returns the text of `error` without gin's trace, which says nothing to a user."""
    return str(error).split("\n  In call to configurable")[0]


def fail(error: Exception) -> NoReturn:
    """Prints `error` as one paragraph on standard error and exits with status 2."""
    print(f"error: {message(error)}", file=sys.stderr)
    sys.exit(2)
