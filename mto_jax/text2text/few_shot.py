# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Selection of records: cleaning, few-shot sampling by heads, samples for evaluation.

Every choice is made by a digest of (seed, task, text) and not by a random generator: it depends on
nothing but the seed and the record, so it is the same on every machine and version, does not change
with the order of the file, and a larger sample contains the smaller one of the same seed.
"""

import itertools
import unicodedata
from collections.abc import Iterable, Sequence

import gin

from mto_jax.errors import UserError
from mto_jax.files import short_hash
from mto_jax.text2text.records import (
    LabelledText,
    Record,
    has_many_references,
    one_per_head,
    one_per_reference,
)

Report = dict[str, int]


def draw(texts: Iterable[str], count: int | None, seed: int, salt: str) -> list[str]:
    """Returns `count` of the distinct texts (all if fewer, or for None), in random order.

    >>> draw("abcdef", 3, seed=0, salt="x") == draw("fedcba", 4, seed=0, salt="x")[:3]
    True
    """

    def draw_of(text: str) -> bytes:
        return short_hash(f"{seed}\\0{salt}\\0{text}")

    return sorted(dict.fromkeys(texts), key=draw_of)[:count]


def tenth(head: str) -> int:
    """0 to 9: which tenth of all heads this one falls into, for splitting a file by heads."""
    return short_hash(normal(head), 8)[-1] % 10


def normal(text: str) -> str:
    """A text as it is compared between splits: case, spaces and forms of a character do not matter.

    T5's vocabulary reads text in Unicode's form NFKC, so a model cannot tell texts apart that
    differ in it alone.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def training_records(
    records: Iterable[Record], held_out: Iterable[Record], report: Report
) -> list[Record]:
    """Returns records to train on: without "none" tails, repetitions and held-out heads.

    Args:
        records: of the training split; each reference becomes a record.
        held_out: the records of the other splits; no head of theirs stays in training.
        report: receives the counts of what was read and dropped.
    """
    singles = list(one_per_reference(records))
    named = [record for record in singles if not _is_none(record)]
    unique = list(dict.fromkeys(named))
    held_out_heads = {normal(record.head) for record in held_out}
    kept = [record for record in unique if normal(record.head) not in held_out_heads]
    report["read"] = len(singles)
    report["dropped: the tail is 'none' or empty"] = len(singles) - len(named)
    report["dropped: repeated"] = len(named) - len(unique)
    report["dropped: the head is in validation or test"] = len(unique) - len(kept)
    return kept


def evaluation_records(records: Iterable[Record], report: Report) -> list[Record]:
    """Records to evaluate on, one per head with all its references, without "none" tails."""
    singles = list(one_per_reference(records))
    named = [record for record in singles if not _is_none(record)]
    merged = one_per_head(named)
    report["read"] = len(singles)
    report["dropped: the tail is 'none' or empty"] = len(singles) - len(named)
    report["heads"] = len(merged)
    return merged


def _is_none(record: Record) -> bool:
    """ATOMIC's annotators wrote "none" where an event has no such tail: no fact to learn."""
    return has_many_references(record) and normal(record.references[0]) == "none"


@gin.configurable
def few_shot(
    records: Sequence[Record],
    report: Report,
    *,
    shots: int | None = None,
    tails_per_head: int = 3,
    per_label: bool = False,
    seed: int = 0,
) -> list[Record]:
    """A few heads with a few tails each, in random order.

    Args:
        records: training records, one reference each.
        report: receives the counts.
        shots: heads to draw; None takes every record, with all tails.
        tails_per_head: most records to draw for a head.
        per_label: of labelled texts, draw `shots` of each label, the labels in turn.
        seed: another seed draws other heads.

    Raises:
        UserError: shots or tails_per_head below one.
    """
    if shots is not None and (shots < 1 or tails_per_head < 1):
        raise UserError(
            f"few_shot.shots = {shots} and few_shot.tails_per_head = {tails_per_head} leave "
            "nothing to train on: both must be at least 1 (shots = None takes all)."
        )
    groups: dict[str, dict[str, list[Record]]] = {}  # label -> head -> its records
    for record in records:
        label = record.label if per_label and isinstance(record, LabelledText) else ""
        groups.setdefault(label, {}).setdefault(normal(record.head), []).append(record)
    report["heads"] = sum(map(len, groups.values()))
    sample = list(records)
    if shots is not None:
        salt = records[0].task if records else ""
        drawn = [
            [by_head[head] for head in draw(by_head, shots, seed, salt)]
            for _, by_head in sorted(groups.items())
        ]
        in_turn = [
            of_head for of_head in itertools.chain(*itertools.zip_longest(*drawn)) if of_head
        ]
        sample = []
        for of_head in in_turn:
            # Distinct by head and reference; questions that share a head differ in their choices.
            tails = {repr(record): record for record in of_head}
            sample += [tails[key] for key in draw(tails, tails_per_head, seed, salt)]
        report["heads drawn"] = len(in_turn)
        if len(in_turn) < shots * len(groups):
            report["heads asked for"] = shots * len(groups)
    report["examples"] = len(sample)
    return sample


@gin.configurable
def evaluation_sample(
    records: Sequence[Record],
    report: Report,
    *,
    heads: int | None = None,
    references: int | None = None,
    seed: int = 0,
) -> list[Record]:
    """A seeded sample of evaluation records (the authors: 100 heads with up to 3 references).

    Args:
        records: one per head, with all references.
        report: receives the counts.
        heads: most records to draw; None takes all, in the order of the file.
        references: most references to draw for each; None keeps all.
        seed: apart from few_shot's, so that runs with other training seeds share their test set.

    Raises:
        UserError: a limit below one.
    """
    if any(limit is not None and limit < 1 for limit in (heads, references)):
        raise UserError(
            f"evaluation_sample.heads = {heads} and evaluation_sample.references = {references} "
            "leave nothing to evaluate on: both must be at least 1, or None for all."
        )
    sample = list(records)
    if heads is not None:
        keyed = {repr(record): record for record in records}
        salt = records[0].task if records else ""
        sample = [keyed[key] for key in draw(keyed, heads, seed, salt)]
    if references is not None:
        sample = [
            record.with_references(tuple(draw(record.references, references, seed, record.head)))
            if has_many_references(record)
            else record
            for record in sample
        ]
    report["examples"] = len(sample)
    return sample
