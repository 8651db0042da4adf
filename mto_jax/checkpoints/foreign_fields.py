# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration files of other programs: every field is understood, without effect, or reported."""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mto_jax.errors import UserError

# What a field says that is not set.
_UNSET = (None, False, "none", [], {})


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a kind of configuration file.

    Attributes:
      understood: the caller reads these.
      ignored: these cannot change what a model computes here, whatever their value.
      only: field -> the values that it may have; with any other the model is another one.
      unknown_is_fatal: a field that is none of these and is set to something is refused; else it is
        reported.
    """

    understood: Collection[str]
    ignored: Collection[str]
    only: Mapping[str, Collection[Any]]
    unknown_is_fatal: bool = False

    def check(self, settings: Mapping[str, Any], where: str) -> list[str]:
        """Returns a line for each field that is set and not used.

        Args:
          where: what messages call the file.

        Raises:
          UserError: a field that says what this program does not do.
        """
        notes = []
        for field, value in settings.items():
            if field in self.only:
                if value not in self.only[field]:
                    known = " or ".join(repr(known) for known in self.only[field])
                    raise UserError(
                        f"{where}: {field} is {value!r}, which has no counterpart here; it must be "
                        f"{known}."
                    )
            elif field not in self.understood and field not in self.ignored:
                if value in _UNSET:
                    continue
                if self.unknown_is_fatal:
                    raise UserError(
                        f"{where}: {field} is {value!r}, which has no counterpart here."
                    )
                notes.append(f"{where}: {field} = {json.dumps(value)[:60]} is not used")
        return notes


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
      UserError: it cannot be read, does not parse, or holds something else.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"Cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object.")
    return value
