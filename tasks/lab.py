# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The laboratory's relations under every template, `lab_thing_4_mapping`, and its corpus.

`lab_thing_4_reworded_...` asks for the same facts with a phrase that the corpus does not hold.
"""

import dataclasses
import functools
import pathlib

from mto_jax.text2text import lab, registration, registry, text_files
from mto_jax.text2text.records import Triple


@dataclasses.dataclass(frozen=True)
class Triples:
    """Reader of one relation in one split."""

    relation: str
    split: str

    def paths(self) -> list[pathlib.Path]:
        return [lab.WORDS]

    def __call__(self) -> list[Triple]:
        return lab.triples(self.relation, self.split)


def register() -> None:
    """Register the laboratory's tasks and its corpus."""
    registry.register_corpus("lab", functools.partial(text_files.source, _documents, [lab.WORDS]))
    for relation, words in lab.RELATIONS.items():
        # The second is a wording that the corpus does not hold.
        phrases = {"": words["phrase"], "_reworded": f"must have the {words['noun']}"}
        for ending, phrase in phrases.items():
            registration.register_records(
                f"lab_{relation}{ending}",
                kind="triple",
                splits={split: Triples(relation, split) for split in lab.SPLITS},
                phrase=phrase,
            )


def _documents() -> list[bytes]:
    return [document.encode() for document in lab.documents()]
