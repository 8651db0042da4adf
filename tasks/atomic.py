# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""ATOMIC-2020 (`atomic_<relation>`) and the original ATOMIC (`atomic2019_<relation>`).

Files, in MTO_DATA_DIR:
    atomic2020/{train,dev,test}.tsv                  head, relation, tail; the official folder
    atomic_v4/v4_atomic_{trn,dev,tst}.csv (or .gz)   one row per annotator, cells are JSON lists

The phrases are postfix or wrap ones: `relation_phrase.style`.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator

from mto_jax import phrases, readers
from mto_jax.errors import UserError
from mto_jax.records import Triple
from mto_jax.tasks import register as tasks

FILES = {"train": "train", "validation": "dev", "test": "test"}
FILES_2019 = {"train": "trn", "validation": "dev", "test": "tst"}
RELATIONS_2019 = (
    "oEffect",
    "oReact",
    "oWant",
    "xAttr",
    "xEffect",
    "xIntent",
    "xNeed",
    "xReact",
    "xWant",
)

Facts = dict[str, list[Triple]]


@dataclasses.dataclass(frozen=True)
class Relation:
    """The triples of one relation in one split."""

    relation: str
    split: str

    def paths(self) -> list[pathlib.Path]:
        return [readers.data_path(f"atomic2020/{FILES[self.split]}.tsv")]

    def __call__(self) -> list[Triple]:
        (path,) = self.paths()
        return _facts(path, path.stat().st_mtime if path.exists() else 0.0).get(self.relation, [])


@dataclasses.dataclass(frozen=True)
class Relation2019:
    """The triples of one relation in one split of the original ATOMIC."""

    relation: str
    split: str

    def paths(self) -> list[pathlib.Path]:
        path = readers.data_path(f"atomic_v4/v4_atomic_{FILES_2019[self.split]}.csv")
        packed = path.with_suffix(".csv.gz")
        return [packed if packed.exists() else path]

    def __call__(self) -> list[Triple]:
        (path,) = self.paths()
        return _facts_2019(path, path.stat().st_mtime if path.exists() else 0.0)[self.relation]


def _triple(relation: str, head: str, tail: str) -> Triple:
    # The official files have tails that are empty, where an annotator named none: count them as such.
    return Triple(relation, relation, head.strip(), (tail.strip() or "none",))


@functools.lru_cache(maxsize=3)
def _facts(path: pathlib.Path, modified: float) -> Facts:
    """All triples of a file by relation; read once for the tasks of all relations."""
    del modified  # only for the cache: a changed file is read again
    facts: Facts = {}
    for number, row in readers.rows(path, columns=("head", "relation", "tail")):
        relation = row["relation"]
        if relation not in phrases.POSTFIX:
            raise UserError(
                f"{path}, line {number}: the field 'relation' is {relation!r}, which has no phrase. Expected "
                f"one of the 23 relations of ATOMIC-2020: {', '.join(phrases.RELATIONS)}."
            )
        if not row["head"].strip():
            raise UserError(f"{path}, line {number}: the field 'head' is empty. Remove the row.")
        facts.setdefault(relation, []).append(_triple(relation, row["head"], row["tail"]))
    return facts


@functools.lru_cache(maxsize=3)
def _facts_2019(path: pathlib.Path, modified: float) -> Facts:
    del modified
    facts: Facts = {relation: [] for relation in RELATIONS_2019}
    for number, row in readers.rows(path):
        for relation in RELATIONS_2019:
            facts[relation] += _annotations(path, number, row, relation)
    return facts


def _annotations(
    path: pathlib.Path, number: int, row: readers.Row, relation: str
) -> Iterator[Triple]:
    for field in ("event", relation):
        if not row.get(field, "").strip():
            raise UserError(f"{path}, line {number}: the field '{field}' is missing or empty.")
    try:
        tails = json.loads(row[relation])
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {number}: the field '{relation}' is no JSON list ({error})."
        ) from None
    for tail in tails:
        yield _triple(relation, row["event"], tail)


def register() -> None:
    """Registers all relations under all templates for triples; reads no file."""
    for prefix, relations, reader in (
        ("atomic", phrases.RELATIONS, Relation),
        ("atomic2019", RELATIONS_2019, Relation2019),
    ):
        for relation in relations:
            tasks.register_records(
                f"{prefix}_{relation}",
                kind="triple",
                splits={split: reader(relation, split) for split in FILES},
                phrase=_Phrase(relation),
            )


@dataclasses.dataclass(frozen=True)
class _Phrase:
    """The phrase of a relation, in the style that gin says when the data are made."""

    relation: str

    def __call__(self) -> str:
        return phrases.relation_phrase(self.relation)
