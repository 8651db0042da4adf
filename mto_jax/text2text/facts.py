# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that hold the facts of many relations: read once for the tasks of all of them."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable

from mto_jax.text2text import readers
from mto_jax.text2text.records import Triple


@dataclasses.dataclass(frozen=True)
class Relation:
    """The triples of one relation in one file; call it to read them.

    Attributes:
        relation: its name in the file.
        names: the file's name in MTO_DATA_DIR; when several are given, the first that exists is
            read.
        read: (relation, head, tail) of all facts of a file.
    """

    relation: str
    names: tuple[str, ...]
    read: Callable[[pathlib.Path], Iterable[tuple[str, str, str]]]

    def paths(self) -> list[pathlib.Path]:
        """The one file that a call reads."""
        paths = [readers.data_path(name) for name in self.names]
        return [next((path for path in paths if path.exists()), paths[0])]

    def __call__(self) -> list[Triple]:
        (path,) = self.paths()
        modified = path.stat().st_mtime if path.exists() else 0.0
        facts = _by_relation(self.read, path, modified).get(self.relation, [])
        return [Triple(self.relation, self.relation, head, (tail,)) for head, tail in facts]


@functools.lru_cache(maxsize=9)  # three splits of three knowledge bases
def _by_relation(read, path: pathlib.Path, modified: float) -> dict[str, list[tuple[str, str]]]:
    """The (head, tail) pairs of each relation of a file."""
    del modified  # only for the cache: a changed file is read again
    facts: dict[str, list[tuple[str, str]]] = {}
    for relation, head, tail in read(path):
        facts.setdefault(relation, []).append((head, tail))
    return facts
