# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""ConceptNet-100K of Li et al., 2016: tasks `conceptnet_<relation>`.

Files, in MTO_DATA_DIR: conceptnet_li2016/{train100k,dev1,test}.txt of the authors (or .txt.gz), or
{train,valid,test}.txt, with relation, head, tail and, in the authors', a confidence or a label:
what it says is 0 is false and left out. The words are lemmas in small letters, as the files have
them.
"""

import pathlib
from collections.abc import Iterator

from mto_jax.errors import UserError
from mto_jax.text2text import phrases, readers
from mto_jax.text2text import registration as tasks
from mto_jax.text2text.facts import Relation

FILES = {
    "train": ("train100k.txt", "train100k.txt.gz", "train.txt"),
    "validation": ("valid.txt", "dev1.txt", "dev1.txt.gz"),
    "test": ("test.txt", "test.txt.gz"),
}
FOLDER = "conceptnet_li2016"


def read(path: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Yields (relation, head, tail) of the true facts of a file."""
    for number, line in readers.lines(path):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) not in (3, 4):
            raise UserError(
                f"{path}, line {number}: {len(cells)} fields, expected 3 or 4 (relation, head, "
                "tail, and a confidence or label)."
            )
        row: readers.Row = dict(
            zip(("relation", "head", "tail", "confidence"), cells, strict=False)
        )
        if row["relation"] not in phrases.CONCEPTNET:
            raise UserError(
                f"{path}, line {number}: the field 'relation' is {row['relation']!r}, which has no "
                f"phrase. Expected one of: {', '.join(phrases.CONCEPTNET)}."
            )
        try:
            if float(row.get("confidence", 1)) > 0:
                head, tail = (readers.cell(row, field, field) for field in ("head", "tail"))
                yield row["relation"], head, tail
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        except ValueError:
            raise UserError(
                f"{path}, line {number}: the field 'confidence' is {row['confidence']!r}, which is "
                "no number."
            ) from None


def _splits(relation: str) -> dict[str, Relation]:
    return {
        split: Relation(relation, tuple(f"{FOLDER}/{name}" for name in names), read)
        for split, names in FILES.items()
    }


def register() -> None:
    """Registers all relations under all templates for triples; reads no file."""
    for relation, phrase in phrases.CONCEPTNET.items():
        tasks.register_records(
            f"conceptnet_{relation}", kind="triple", splits=_splits(relation), phrase=phrase
        )
