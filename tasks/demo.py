# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo's relations under every template, `demo_AtLocation_mapping`, and its corpus."""

import dataclasses
import functools
import pathlib

from mto_jax.text2text import demo, phrases, registration, registry, text_files
from mto_jax.text2text.records import Triple


@dataclasses.dataclass(frozen=True)
class Triples:
    """Reader of one relation in one split."""

    relation: str
    split: str

    def paths(self) -> list[pathlib.Path]:
        return [demo.FACTS]

    def __call__(self) -> list[Triple]:
        return demo.triples(self.relation, self.split)


def register() -> list[str]:
    """Register the demo's tasks and its corpus; returns the tasks with a template."""
    source = functools.partial(text_files.source, _documents, [demo.FACTS, demo.TEXTS])
    registry.register_corpus("demo", source)
    return [
        task
        for relation in demo.RELATIONS
        for task in registration.register_records(
            f"demo_{relation}",
            kind="triple",
            splits={split: Triples(relation, split) for split in demo.SPLITS},
            phrase=_phrase(relation),
            gap="___" if relation == "isFilledBy" else "",
        )
    ]


@functools.cache  # the same object at every call
def _phrase(relation: str):
    return functools.partial(phrases.relation_phrase, relation)


def _documents() -> list[bytes]:
    return [document.encode() for document in demo.documents()]
