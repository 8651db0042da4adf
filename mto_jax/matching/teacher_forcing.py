# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Teacher-forced scoring: log-probability and rank of every token of the examples' tails."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mto_jax.data import packing
from mto_jax.data.packing import bucket
from mto_jax.decoding import scoring
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text.records import has_many_references
from mto_jax.text2text.task import Example, Task, tokenise
from mto_jax.text2text.templates import Template

ROWS = 16  # in a batch; a row holds many packed sources
SOURCE_LENGTH = 64  # least length of a row, so that short sources fill it well
# Targets of a source that share its encoding; more would leave gaps in the packing.
MOST_SHARING = 4


class TailScores(NamedTuple):
    """Scores of the N tokens of one tail; EOS and sentinels are no tail tokens."""

    log_prob_N: np.ndarray  # natural logarithms
    rank_N: np.ndarray  # zero-based: how many tokens of the vocabulary are likelier


class ScoredSentence(NamedTuple):
    """Scores of a (head, tail) under one template, and ranks without the head in the source."""

    scores: TailScores
    headless: TailScores


def tail_scores(
    model: EncoderDecoder,
    examples: Sequence[Example],
    vocabulary: Any,
    *,
    rivals: range | None = None,
) -> list[TailScores]:
    """The scores of every example's tail, in order.

    Sources are packed into rows, so that little is spent on padding, and one with several targets
    is encoded once for some of them.

    Args:
      rivals: the ids that ranks count; None: the whole vocabulary.
    """
    units = _units(examples)
    lengths_Nx2 = np.array(
        [(len(source), sum(len(examples[i][1]) for i in members)) for source, members in units]
    )
    longest_source, longest_target = lengths_Nx2.max(axis=0).tolist()
    S = bucket(max(SOURCE_LENGTH, longest_source))
    share = lengths_Nx2[:, 1].sum() / lengths_Nx2[:, 0].sum()
    T = bucket(max(longest_target, round(S * share)))
    row_N = packing.pack(lengths_Nx2, (S, T))
    scored: dict[int, TailScores] = {}
    for start in range(0, row_N.max() + 1, ROWS):
        chosen = np.flatnonzero((row_N >= start) & (row_N < start + ROWS))
        batch, sources_BxT, places = _batch(
            [units[i] for i in chosen], row_N[chosen] - start, examples, (S, T)
        )
        tail_BxT = scoring.tail_weights(batch["decoder_target_tokens"], vocabulary) > 0
        scores = scoring.token_scores(
            model, batch, counted_BxT=tail_BxT, sources_BxT=sources_BxT, rivals=rivals
        )
        log_probs_BxT, ranks_BxT = map(np.asarray, scores)
        for i, row, place in places:
            here = row, slice(place, place + len(examples[i][1]))
            tail = tail_BxT[here]
            scored[i] = TailScores(log_probs_BxT[here][tail], ranks_BxT[here][tail])
    return [scored[i] for i in range(len(examples))]


def _units(examples: Sequence[Example]) -> list[tuple[tuple[int, ...], list[int]]]:
    """(source, numbers of some examples that have it): few enough to share."""
    by_source: dict[tuple[int, ...], list[int]] = {}
    for i, (inputs, _) in enumerate(examples):
        by_source.setdefault(tuple(inputs), []).append(i)
    return [
        (source, members[start : start + MOST_SHARING])
        for source, members in by_source.items()
        for start in range(0, len(members), MOST_SHARING)
    ]


def _batch(units, row_N, examples, capacity) -> tuple[dict[str, np.ndarray], np.ndarray, list]:
    """Returns (batch of rows, segment of the source that each target token reads, positions).

    A position is (number of the example, row, start of its target).
    """
    S, T = capacity
    tokens_BxS, sources_BxS = np.zeros((2, ROWS, S), np.int32)
    targets_BxT, segments_BxT, sources_BxT = np.zeros((3, ROWS, T), np.int32)
    filled = np.zeros((ROWS, 4), int)  # tokens of sources, tokens of targets, sources, targets
    places = []
    for (source, members), row in zip(units, row_N, strict=True):
        at, place, number, segment = filled[row]
        here = row, slice(at, at + len(source))
        tokens_BxS[here], sources_BxS[here] = source, number + 1
        for i in members:
            target = examples[i][1]
            target_slice = row, slice(place, place + len(target))
            segment += 1
            targets_BxT[target_slice], segments_BxT[target_slice], sources_BxT[target_slice] = (
                target,
                segment,
                number + 1,
            )
            places.append((i, row, place))
            place += len(target)
        filled[row] = at + len(source), place, number + 1, segment
    batch = {
        "encoder_input_tokens": tokens_BxS,
        "encoder_segment_ids": sources_BxS,
        "decoder_input_tokens": scoring.shifted(targets_BxT, segments_BxT),
        "decoder_segment_ids": segments_BxT,
        "decoder_target_tokens": targets_BxT,
    }
    return batch, sources_BxT, places


def sentences(
    model: EncoderDecoder, task: Task, template: Template, vocabulary: Any, lengths: dict[str, int]
) -> list[list[ScoredSentence]]:
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
        ScoredSentence(scores, without[tuple(inputs), tuple(targets)])
        for scores, (inputs, targets) in zip(scored, headless, strict=False)
    ]
    counts = [
        len(record.references) if has_many_references(record) else 1 for record in task.held_out
    ]
    ends = np.cumsum([0, *counts])
    return [pairs[start:end] for start, end in itertools.pairwise(ends)]
