# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""From verdicts to one choice per task."""

from collections.abc import Sequence
from typing import NamedTuple

from mto_jax.matching.verdict import MASK_FILLING, NO_WINNER, Verdict
from mto_jax.text2text.mapping import Choice
from mto_jax.text2text.task import Task, candidates, minimal_pair
from mto_jax.text2text.templates import TEMPLATES


class Decision(NamedTuple):
    """The objective and template of a task, and the verdict that decided."""

    choice: Choice
    by: Verdict


def decide(task: Task, verdicts: Sequence[Verdict], order: Sequence[str]) -> Decision:
    """The choice for a task.

    The first score in `order` whose interval allows a decision decides; "expert" always does. Where
    none does, the first one's value decides, its interval notwithstanding. The template is the
    group's verbalised one, or, where the probe decides, the one that did best in it.

    Args:
      verdicts: of this task; at least one.
      order: names of scores, the most trusted first; others come after them, as they stand.
    """
    place = {name: i for i, name in enumerate(order)}
    ordered = sorted(verdicts, key=lambda verdict: place.get(verdict.score, len(place)))
    by = next((v for v in ordered if v.decision != NO_WINNER), ordered[0])
    masked = by.leaning == MASK_FILLING
    best = minimal_pair(task)[masked].name
    if by.score == "probe":
        names = [template.name for template in candidates(task) if template.masked == masked]
        best = max(names, key=by.templates.__getitem__)
    return Decision(Choice(TEMPLATES[best].objective, best), by)
