# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""ATOMIC-2020 (`atomic_<relation>`) and the original ATOMIC (`atomic2019_<relation>`).

Files, in MTO_DATA_DIR:
    atomic2020/{train,dev,test}.tsv                  head, relation, tail; the official folder
    atomic_v4/v4_atomic_{trn,dev,tst}.csv (or .gz)   one row per annotator, cells are JSON lists

The phrases are postfix or wrap ones: `relation_phrase.style`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator

from mto_jax.errors import UserError
from mto_jax.text2text import phrases, readers
from mto_jax.text2text import registration as tasks
from mto_jax.text2text.facts import Relation
from mto_jax.text2text.records import tidy

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


Fact = tuple[str, str, str]  # relation, head, tail


def _fact(relation: str, head: str, tail: str) -> Fact:
    # The official files have tails that are empty, where an annotator named none: count them as
    # such.
    return relation, head.strip(), tail.strip() or "none"


def read(path: pathlib.Path) -> Iterator[Fact]:
    """Yields all facts of a file of ATOMIC-2020."""
    for number, row in readers.rows(path, columns=("head", "relation", "tail")):
        relation = row["relation"]
        if relation not in phrases.POSTFIX:
            raise UserError(
                f"{path}, line {number}: the field 'relation' is {relation!r}, which has no "
                "phrase. Expected one of the 23 relations of ATOMIC-2020: "
                f"{', '.join(phrases.RELATIONS)}."
            )
        if not tidy(row["head"]).strip():
            raise UserError(f"{path}, line {number}: the field 'head' is empty. Remove the row.")
        yield _fact(relation, row["head"], tidy(row["tail"]))


def read_2019(path: pathlib.Path) -> Iterator[Fact]:
    """Yields all facts of a file of the original ATOMIC."""
    for number, row in readers.rows(path):
        for relation in RELATIONS_2019:
            yield from _annotations(path, number, row, relation)


def _annotations(
    path: pathlib.Path, number: int, row: readers.Row, relation: str
) -> Iterator[Fact]:
    for field in ("event", relation):
        if not tidy(row.get(field, "")).strip():
            raise UserError(f"{path}, line {number}: the field '{field}' is missing or empty.")
    try:
        tails = json.loads(row[relation])
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {number}: the field '{relation}' is no JSON list ({error})."
        ) from None
    if not isinstance(tails, list) or not all(isinstance(tail, str) for tail in tails):
        raise UserError(f"{path}, line {number}: the field '{relation}' is no JSON list of texts.")
    for tail in tails:
        yield _fact(relation, row["event"], tidy(tail))


def register() -> None:
    """Registers all relations under all templates for triples; reads no file."""
    for prefix, relations, reader in (
        ("atomic", phrases.RELATIONS, relation_2020),
        ("atomic2019", RELATIONS_2019, relation_2019),
    ):
        for relation in relations:
            tasks.register_records(
                f"{prefix}_{relation}",
                kind="triple",
                splits={split: reader(relation, split) for split in FILES},
                phrase=_Phrase(relation),
                gap="___" if relation == "isFilledBy" else "",
            )


def relation_2020(relation: str, split: str) -> Relation:
    """The reader of one relation of ATOMIC-2020 in one split."""
    return Relation(relation, (f"atomic2020/{FILES[split]}.tsv",), read)


def relation_2019(relation: str, split: str) -> Relation:
    """The reader of one relation of the original ATOMIC in one split."""
    name = f"atomic_v4/v4_atomic_{FILES_2019[split]}.csv"
    return Relation(relation, (name, f"{name}.gz"), read_2019)


@dataclasses.dataclass(frozen=True)
class _Phrase:
    """The phrase of a relation, in the style that gin says when the data are made."""

    relation: str

    def __call__(self) -> str:
        return phrases.relation_phrase(self.relation)
