# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo's knowledge base: facts under ATOMIC-2020's relation names, and the split of its heads.

The facts come from hand-written tables (`things.py`, `nature.py`, `events.py`). What a table's row `*`
says holds for every head of the table, so some knowledge follows from the category of a head, and the
rest has to be memorised, head by head. Heads are split within each table, so every category is in
every split.

A head belongs to one split in all its relations: "train" (40 %, the pool of few-shot pairs),
"validation" (20 %) or "test" (40 %). The corpus (`corpus.py`) tells the facts of *all* heads, test heads
included: the demo asks whether a model can bring out, for a head it was never fine-tuned on, what it
has read while pre-training. Its scores therefore measure recall of the corpus, and not the common sense
of a model on new facts; nobody should compare them with scores on ATOMIC. The world of these tables is
small, and answers that are true but not listed ("a spoon is used for stirring") count as wrong. Where a
table has shared tails, naming the commonest tail of the category already scores well (xAttr, xIntent,
xNeed); relations without shared tails (ObjectUse, CapableOf, xEffect) show recall alone.
"""

import functools
import hashlib
from typing import NamedTuple

from mto_jax.errors import UserError, unknown
from mto_jax.tasks.demo import events, nature, things
from mto_jax.text2text.records import Triple

MASK_FILLING = (
    "AtLocation",
    "ObjectUse",
    "CapableOf",
    "HasProperty",
    "MadeUpOf",
    "isFilledBy",
    "xAttr",
)
MAP_PHRASAL = ("xIntent", "xNeed", "xWant", "xEffect")
RELATIONS = MASK_FILLING + MAP_PHRASAL
SPLITS = ("train", "validation", "test")

TO_INFINITIVE = ("xIntent", "xNeed", "xWant")
MAX_TAILS = 3

# Five heads in turn: 2 train, 1 validation, 2 test.
_SPLIT_CYCLE = ("train", "test", "validation", "train", "test")


class Fact(NamedTuple):
    """One tail of one head; `category` names the table that it comes from."""

    category: str
    head: str
    relation: str
    tail: str


def read_table(category: str, text: str) -> list[Fact]:
    """Facts of one table: a header with relation names, an optional row `*`, one row per head.

    A head's own tails come first, then those that the category shares.

    >>> read_table("tools", '''
    ... head | AtLocation | ObjectUse
    ... * | workshop |
    ... a saw | shed | cutting wood''')[0]
    Fact(category='tools', head='a saw', relation='AtLocation', tail='shed')

    Raises:
      UserError: a row with another number of columns than the header, a head or a tail that stands twice,
        too many tails, an unknown relation.
    """
    header, *rows = [
        [cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()
    ]
    for relation in header[1:]:
        if relation not in RELATIONS:
            raise unknown("demo relation", relation, RELATIONS)
    shared = [""] * len(header)
    facts = []
    for row in rows:
        if len(row) != len(header):
            raise UserError(
                f"The row {' | '.join(row)!r} of the demo table {category!r} has {len(row)} columns; "
                f"the header has {len(header)}."
            )
        if row[0] == "*":
            shared = row
            continue
        for relation, own, common in zip(header[1:], row[1:], shared[1:], strict=True):
            tails = [t.strip() for cell in (own, common) if cell for t in cell.split(",")]
            if len(set(tails)) != len(tails) or len(tails) > MAX_TAILS or "" in tails:
                raise UserError(
                    f"The head {row[0]!r} of the demo table {category!r} has the {relation} tails "
                    f"{tails}: they must be distinct, not empty and at most {MAX_TAILS}."
                )
            facts += [Fact(category, row[0], relation, tail) for tail in tails]
    return facts


@functools.cache
def facts() -> tuple[Fact, ...]:
    """Every fact, in the order of the tables."""
    of_things = [
        fact
        for tables in (things.TABLES, nature.TABLES)
        for category, text in tables.items()
        for fact in read_table(category, text)
    ]
    of_events = [
        fact._replace(
            head=f"PersonX {fact.head}",
            tail=f"to {fact.tail}" if fact.relation in TO_INFINITIVE else fact.tail,
        )
        for category, text in events.TABLES.items()
        for fact in read_table(category, text)
    ]
    return (*of_things, *of_events)


@functools.cache
def head_splits() -> dict[str, str]:
    """The split of every head: five at a time within a category, in the order of their digests.

    Independent of the relation, of the platform and of the order of the rows.
    """
    category = {fact.head: fact.category for fact in facts()}
    ordered = sorted(category, key=lambda h: (category[h], hashlib.sha256(h.encode()).digest()))
    return {head: _SPLIT_CYCLE[i % len(_SPLIT_CYCLE)] for i, head in enumerate(ordered)}


def triples(relation: str, split: str) -> list[Triple]:
    """Records of one relation and split, one per head with all its tails.

    >>> triples("AtLocation", "train")[0].relation
    'AtLocation'

    Raises:
      UserError: an unknown relation or split.
    """
    if relation not in RELATIONS:
        raise unknown("demo relation", relation, RELATIONS)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    tails: dict[str, list[str]] = {}
    for fact in facts():
        if fact.relation == relation and head_splits()[fact.head] == split:
            tails.setdefault(fact.head, []).append(fact.tail)
    return [Triple(relation, relation, head, tuple(t)) for head, t in tails.items()]
