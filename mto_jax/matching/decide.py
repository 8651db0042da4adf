# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""From verdicts to one choice per task."""

from collections.abc import Sequence
from typing import NamedTuple

from mto_jax.matching.probe import NO_ADAPTATION, choice, key
from mto_jax.matching.verdict import ADAPTATION, MASK_FILLING, NO_WINNER, Verdict
from mto_jax.text2text import mapping
from mto_jax.text2text.mapping import Choice
from mto_jax.text2text.task import Task, minimal_pair
from mto_jax.text2text.templates import TEMPLATES


class Decision(NamedTuple):
    """The objective and template of a task, and the verdicts that decided.

    Attributes:
      choice: the objective and the template.
      by: the verdict that decided the template, or, where there is only one, the objective.
      objective_by: what decided the objective: "probe", "expert", "template" (the objective goes
        with it), or "no clear gain": the probe found no adaptation clearly better than none.
    """

    choice: Choice
    by: Verdict
    objective_by: str = "template"

    @property
    def decided_by(self) -> str:
        """Both in words."""
        if self.by.score == ADAPTATION:
            template = "the only one"
        elif self.by.leaning == NO_WINNER:
            template = f"no verdict (a tie of {self.by.score}), the plain one by default"
        else:
            template = self.by.score + (", not clear" if self.by.decision == NO_WINNER else "")
        return f"template: {template}; objective: {self.objective_by}"


def decide(task: Task, verdicts: Sequence[Verdict], order: Sequence[str]) -> Decision:
    """The choice for a task.

    The template: the first score in `order` whose interval allows a decision decides whether it is
    masked; "expert" always does. Where none does, the first one's value decides, its interval
    notwithstanding; where all tie, the template is plain. It is the group's verbalised one, or,
    where a probe decides, the one that did best in it.

    The objective: that of the probe where it compares several and is trusted before the expert.
    Where no adaptation is clearly better there, it is "none", the cheapest. Else the expert's, if
    it is for such a template, or the one that goes with the template.

    Args:
      verdicts: of this task; at least one on templates, or one on its only template's objective.
      order: names of scores, the most trusted first; others come after them, as they stand.
    """
    place = {name: i for i, name in enumerate(order)}
    on_templates = [verdict for verdict in verdicts if verdict.score != ADAPTATION]
    ordered = sorted(
        on_templates or verdicts, key=lambda verdict: place.get(verdict.score, len(place))
    )
    by = next(
        (v for v in ordered if v.decision != NO_WINNER),
        next((v for v in ordered if v.leaning != NO_WINNER), ordered[0]),
    )
    masked = by.leaning == MASK_FILLING
    values = by.templates if "probe" in by.score else {}
    probed = {p: values[key(p)] for p in map(choice, values) if _masked(p) == masked}
    adapted = [pair for pair in probed if pair.objective != NO_ADAPTATION]
    best = minimal_pair(task)[masked].name
    adaptation = next((v for v in verdicts if v.score == ADAPTATION), None)
    expert = mapping.mapping().get(task.name)
    trusted = expert is None or place.get("probe", len(place)) <= place.get("expert", len(place))
    if adaptation and trusted:
        objective, objective_by = adaptation.decision, "probe"
        if objective == NO_WINNER:
            objective, objective_by = NO_ADAPTATION, "no clear gain"
        elif objective != NO_ADAPTATION and adapted:
            objective = max(adapted, key=probed.__getitem__).objective
    elif expert and _masked(expert) == masked:
        objective, objective_by = expert.objective, "expert"
    else:
        objective, objective_by = TEMPLATES[best].objective, "template"
    if probed:
        same = [pair for pair in probed if pair.objective == objective]
        best = max(same or probed, key=probed.__getitem__).template
    return Decision(Choice(objective, best), by, objective_by)


def _masked(pair: Choice) -> bool:
    return TEMPLATES[pair.template].masked
