# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo: a small commonsense knowledge base of our own, its corpus and its tasks.

`register` registers every relation of `knowledge.RELATIONS` under every template, for example
`demo_AtLocation_masked_prompting`. The corpus is registered by `mto_jax.tasks.corpora`.
"""

import functools

from mto_jax.tasks.demo import knowledge
from mto_jax.text2text import phrases


@functools.cache
def _relation(relation: str) -> dict:
    """What `register_records` is to know of a relation: the same objects at every call."""
    return {
        "kind": "triple",
        "splits": {
            split: functools.partial(knowledge.triples, relation, split)
            for split in knowledge.SPLITS
        },
        "phrase": functools.partial(phrases.relation_phrase, relation),
    }


def register() -> list[str]:
    """Registers the demo's tasks, `demo_<relation>_<template>`, and returns their names."""
    from mto_jax.text2text import registration as registry  # imports TensorFlow

    return [
        task
        for relation in knowledge.RELATIONS
        for task in registry.register_records(f"demo_{relation}", **_relation(relation))
    ]
