# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Malformed input, a row each: the command, the files that it reads, what must be said."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Iterator, Mapping

from tests.campaign import process, world
from tests.campaign.trials import REFUSED, SILENT, TRACE, Trial
from tests.campaign.world import VERBS

COMMANDS = {verb.name: verb.argv for verb in VERBS}


@dataclasses.dataclass(frozen=True)
class Row:
    """A malformed input.

    Attributes:
      argv: the command.
      said: texts that the refusal must hold.
      files: the content of files, by name; None is a folder, a path a link to it.
    """

    argv: tuple[str, ...]
    said: tuple[str, ...]
    files: Mapping[str, str | bytes | pathlib.PurePath | None] = dataclasses.field(
        default_factory=dict
    )

    @property
    def name(self) -> str:
        files = ", ".join(f"{name} = {str(content)[:60]!r}" for name, content in self.files.items())
        return f"mto {self.argv[0]} ... {self.argv[-1][:80]} {files}".strip()


def of(rows: Iterable[Row], start: pathlib.Path) -> Iterator[Trial]:
    """A trial of each row in a copy of the folder `start`."""
    for row in rows:
        yield Trial("malformed", row.name, functools.partial(_try, row, start))


def _try(row: Row, start: pathlib.Path, folder: pathlib.Path) -> tuple[str, str]:
    world.copy(start, folder)
    for name, content in row.files.items():
        path = folder / name
        path.unlink(missing_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, pathlib.PurePath):
            path.symlink_to(content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = _visible(folder)
    outcome = process.run(row.argv, folder)
    seen = f"{row.files}\n{row.argv}\nstatus {outcome.status}\n{outcome.output}"
    if outcome.traced:
        return TRACE, seen
    if outcome.status == 0:
        return SILENT, seen
    text = outcome.output.rpartition("error: ")[2]
    missing = [words for words in row.said if words not in text]
    if not outcome.refused or missing:
        return TRACE, f"not said: {missing}\n{seen}"
    if made := _visible(folder) - before:
        return TRACE, f"made before the refusal: {sorted(made)}\n{seen}"
    return REFUSED, seen


def _visible(folder: pathlib.Path) -> set[str]:
    """The files in a folder but hidden ones (locks) and what Python has compiled."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {str(path) for path in paths if path.name[0] != "." and path.suffix != ".pyc"}
