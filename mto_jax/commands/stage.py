# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A verb that another one runs, as the command that a person would type."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin

from mto_jax import config


@dataclasses.dataclass(frozen=True)
class Stage:
    """A command of `mto`.

    Attributes:
      verb: its name.
      files: gin files.
      macros: {name: value} of macros and parameters.
      function: what runs it, called without arguments.
    """

    verb: str
    files: Sequence[str]
    macros: Mapping[str, Any]
    function: Callable[..., Any]

    @property
    def command(self) -> str:
        """The command line."""
        flags = [f"--gin_file={file}" for file in self.files]
        flags += [f"--gin.{name}={value}" for name, value in self.macros.items()]
        return f"mto {self.verb} {shlex.join(flags)}"

    def run(self) -> Any:
        """Prints the command, runs it in this process and returns what it returns."""
        print(f"\n$ {self.command}", flush=True)
        gin.clear_config()
        config.load(self.files, [f"{name} = {value!r}" for name, value in self.macros.items()])
        return self.function()
