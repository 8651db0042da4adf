# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can mend: one paragraph that says what is wrong and what to change."""

import difflib
import importlib
import re
import sys
import traceback
from collections.abc import Iterable
from typing import NoReturn


class UserError(ValueError):
    """Wrong input, configuration or environment. The CLI prints its text alone, without a trace."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Returns a `UserError` for a name that does not exist, which suggests the nearest ones.

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


# Packages of a full installation that most verbs do without (requirements/light.txt).
_FULL = ("seqio", "tensorflow", "tensorflow_datasets", "tensorflow_text", "transformers")


def missing_package(error: ModuleNotFoundError) -> UserError:
    """Returns a `UserError` that says how to install a package that this verb needs.

    Raises:
      ModuleNotFoundError: `error` itself, if the package belongs to no installation of MTO-JAX.
    """
    # gin raises a copy of the error, without its `name`.
    package = re.search(r"No module named '(\w+)", str(error))
    if package is None or package[1] not in _FULL:
        raise error
    return UserError(
        f"This needs {package[1]}, which is not installed here: pip install mto-jax installs it."
    )


def importing(module: str, place: str) -> None:
    """Imports a user's module; one that is not there is left to others.

    Args:
      module: its dotted name.
      place: where it is named, for the message.

    Raises:
      UserError: its code fails; names the line.
    """
    try:
        importlib.import_module(module)
    except UserError:
        raise
    except Exception as error:
        absent = isinstance(error, ModuleNotFoundError)
        if absent and f"{module}.".startswith(f"{error.name}."):
            return
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}, line {frame.lineno}"
        if isinstance(error, SyntaxError):
            where = f"{error.filename}, line {error.lineno}"
        raise UserError(
            f"The module {module!r} ({place}) does not import: {type(error).__name__}: {error} "
            f"({where})."
        ) from error


def of_process(stderr: str, what: str) -> UserError:
    """Returns the error of a process that ended with `fail`, or else of what its trace says.

    Args:
      stderr: the standard error of the process.
      what: what it was doing, as the beginning of a sentence: "Preparing sst2".
    """
    _, separator, reason = f"\n{stderr}".rpartition("\nerror: ")
    if not separator:  # not a mistake of the user's that was foreseen: show all there is
        print(stderr, file=sys.stderr)
        raised = re.findall(r"^[\w.]*(?:Error|Exception)\b.*", stderr, re.MULTILINE)
        reason = f"{what} failed: "
        reason += raised[-1] if raised else "no reason given (killed? out of memory?)"
    return UserError(reason.strip())


def message(error: Exception) -> str:
    """Returns the text of `error` without gin's trace, which says nothing to a user."""
    return str(error).split("\n  In call to configurable")[0]


def first_line(error: Exception) -> str:
    """Returns the first line of the text of `error`, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def fail(error: Exception) -> NoReturn:
    """Prints `error` as one paragraph on standard error and exits with status 2."""
    print(f"error: {message(error)}", file=sys.stderr)
    sys.exit(2)
