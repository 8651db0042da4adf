# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Teacher-forced passes over many examples: log-probability and rank of every token of their tails."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mto_jax.data import packing
from mto_jax.data.loader import assemble
from mto_jax.evaluation import scoring
from mto_jax.evaluation.decoding import bucket
from mto_jax.matching.task import Example, Task, tokenise
from mto_jax.models.t5 import T5
from mto_jax.templates import Template

ROWS = 16  # of a batch; a row holds many packed examples
SOURCE_LENGTH = 128  # least length of a row, so that short examples fill it well


class TailScores(NamedTuple):
    """Scores of the N tokens of one tail; EOS and sentinels are no tail tokens."""

    log_prob_N: np.ndarray  # natural logarithms
    rank_N: np.ndarray  # zero-based: how many tokens of the vocabulary are likelier


class Sentence(NamedTuple):
    """Scores of one (head, tail) under one template, and the ranks when the head is left out of the source."""

    scores: TailScores
    headless: TailScores


def tail_scores(model: T5, examples: Sequence[Example], vocabulary: Any) -> list[TailScores]:
    """The scores of every example's tail, in order. Examples share rows, so little is spent on padding."""
    lengths_Nx2 = np.array([[len(inputs), len(targets)] for inputs, targets in examples])
    S, longest = bucket(max(SOURCE_LENGTH, lengths_Nx2[:, 0].max())), lengths_Nx2[:, 1].max()
    share = lengths_Nx2[:, 1].sum() / lengths_Nx2[:, 0].sum()
    T = bucket(max(longest, round(S * share)))
    row_N = packing.pack(lengths_Nx2, (S, T))
    order_N = np.argsort(row_N, kind="stable")
    found: list[TailScores | None] = [None] * len(examples)
    for start in range(0, row_N.max() + 1, ROWS):
        chosen = order_N[(row_N[order_N] >= start) & (row_N[order_N] < start + ROWS)]
        rows = [
            {"inputs": np.asarray(inputs, np.int32), "targets": np.asarray(targets, np.int32)}
            for inputs, targets in (examples[i] for i in chosen)
        ]
        batch = assemble(rows, row_N[chosen] - start, ROWS, (S, T))
        scores = scoring.token_scores(model, batch)
        # Row by row, the tokens that are no padding are those of the examples one after the other.
        targets_BxT = batch["decoder_target_tokens"]
        real_BxT = batch["decoder_segment_ids"] > 0
        ends = np.cumsum(lengths_Nx2[chosen, 1])[:-1]
        log_probs, ranks, weights = (
            np.split(np.asarray(values_BxT)[real_BxT], ends)
            for values_BxT in (*scores, scoring.tail_weights(targets_BxT, vocabulary))
        )
        for i, log_prob_T, rank_T, weight_T in zip(chosen, log_probs, ranks, weights, strict=True):
            found[i] = TailScores(log_prob_T[weight_T > 0], rank_T[weight_T > 0])
    return found


def sentences(
    model: T5, task: Task, template: Template, vocabulary: Any, lengths: dict[str, int]
) -> list[list[Sentence]]:
    """For every held-out record, the scores of each of its tails, with and without the head."""
    whole, headless = (
        tokenise(template, task.held_out, task, vocabulary, lengths, with_head=with_head)
        for with_head in (True, False)
    )
    # Without its head, one source serves many records: score each pair once.
    distinct = {(tuple(inputs), tuple(targets)): None for inputs, targets in headless}
    scored = tail_scores(model, [*whole, *distinct], vocabulary)
    without = dict(zip(distinct, scored[len(whole) :], strict=True))
    pairs = [
        Sentence(scores, without[tuple(inputs), tuple(targets)])
        for scores, (inputs, targets) in zip(scored, headless, strict=False)
    ]
    counts = [
        len(record.references) if hasattr(record, "with_references") else 1
        for record in task.held_out
    ]
    ends = np.cumsum([0, *counts])
    return [pairs[start:end] for start, end in itertools.pairwise(ends)]
