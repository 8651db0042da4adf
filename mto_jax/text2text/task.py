# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A task as the scores see it: its records, the templates that compete for it, its examples as tokens."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax.text2text import records, templates
from mto_jax.text2text.templates import TEMPLATES, SoftPrompt, Template, Wording, Words

# The objective that a template belongs to: sentinels are denoising, a plain continuation is language modelling.
OBJECTIVES = {True: "denoising", False: "lm"}

Example = tuple[list[int], list[int]]  # token ids of inputs and targets, with EOS


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set to be matched.

    Attributes:
      name: as registered, e.g. "atomic_xIntent".
      kind: of its records.
      wording: the words its templates use.
      train: records with one reference each, the references of a head one after the other.
      held_out: records with all their references.
    """

    name: str
    kind: str
    wording: Wording
    train: tuple[records.Record, ...]
    held_out: tuple[records.Record, ...]

    def shots(self, heads: int, tails: int, skip: int = 0) -> list[records.Record]:
        """Training records of `heads` heads, up to `tails` of each, after the first `skip` heads.

        Where there are not so many heads, the first ones come again after the last.
        """
        by_head: dict[str, list[records.Record]] = {}
        for record in self.train:
            by_head.setdefault(record.head, []).append(record)
        first = skip % len(by_head)
        order = [*by_head.values()]
        order = order[first:] + order[:first]
        return [record for of_head in order[:heads] for record in of_head[:tails]]


def candidates(task: Task) -> list[Template]:
    """The templates without a soft prompt that can be told apart on this task.

    Facts and texts: Mapping, Prompting and their masked forms (only the Mappings without a phrase).
    Questions: ChoicePrompting, AnswerPrompting and their masked forms.
    """
    question = task.kind == "multiple_choice"
    verbalised = (True,) if question else (False, True) if task.wording.phrase else (False,)
    return [
        template
        for template in templates.templates_for(task.kind, task.wording)
        if template.soft == "none"
        and template.verbalised in verbalised
        and (question or template.slots == 1)
    ]


def rivals(task: Task) -> tuple[Template, Template]:
    """(plain, masked): the two templates that differ in nothing but the sentinel."""
    if task.kind == "multiple_choice":
        name = "AnswerPrompting"
    else:
        name = "Prompting" if task.wording.phrase else "Mapping"
    return TEMPLATES[name], TEMPLATES[f"Masked{name}"]


def tokenise(
    template: Template,
    chosen: Sequence[records.Record],
    task: Task,
    vocabulary: Any,
    lengths: Mapping[str, int],
    *,
    with_head: bool = True,
    soft: SoftPrompt | None = None,
) -> list[Example]:
    """One example for every reference of every record, in order; `soft` says the rows of a soft prompt.

    Without the head, everything that tells one record from another is left out of the source: task name,
    phrase, choices and sentinels stay.
    """
    examples = []
    for record in records.one_per_reference(chosen):
        rendered = templates.render(template, record, task.wording)
        if not with_head:
            question = getattr(record, "question", None)
            source = (
                part
                for part in rendered.source
                if not (isinstance(part, Words) and (part.free or part.text == question))
            )
            rendered = dataclasses.replace(rendered, source=tuple(source))
        tokens = templates.tokenise(rendered, vocabulary, lengths, soft=soft or SoftPrompt())
        examples.append((tokens.inputs, tokens.targets))
    return examples
