# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records of a task under a template, as examples; and the templates that compete for a task."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax.metrics.by_kind import BY_KIND, OF_KIND, TaskMetrics
from mto_jax.text2text import records, templates, tokenising
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.text2text.templates import TEMPLATES, Sentinel, Template, Wording, Words
from mto_jax.text2text.tokenising import SoftPrompt
from mto_jax.text2text.vocabulary import Vocabulary

Example = tuple[Sequence[int], Sequence[int]]  # token ids of inputs and targets, with EOS


@dataclasses.dataclass(frozen=True)
class Task:
    """Records of a data set to train on and to be tested on.

    Attributes:
      name: as registered, e.g. "atomic_xIntent".
      kind: of its records.
      wording: the words its templates use.
      train: records with one reference each, the references of a head one after the other.
      held_out: records with all their references.
      metrics: what predictions are scored by.
    """

    name: str
    kind: str
    wording: Wording
    train: tuple[records.Record, ...]
    held_out: tuple[records.Record, ...]
    metrics: TaskMetrics = OF_KIND

    def __post_init__(self):
        if self.metrics == OF_KIND:
            object.__setattr__(self, "metrics", BY_KIND[self.kind])

    @classmethod
    def of(cls, train: RecordSet, held_out: RecordSet) -> "Task":
        """Returns the task of two record sets of one data set."""
        wording, metrics = train.wording, train.metrics
        return cls(train.task, train.kind, wording, train.records, held_out.records, metrics)

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
    Questions: ChoicePrompting, AnswerPrompting and their masked forms. SeqIO tasks: AsRegistered.
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


def minimal_pair(task: Task) -> tuple[Template, Template]:
    """(plain, masked): the two templates that differ in nothing but the sentinel.

    The same one twice for a task that has no other.
    """
    if task.kind == records.AS_REGISTERED:
        return TEMPLATES["AsRegistered"], TEMPLATES["AsRegistered"]
    if task.kind == "multiple_choice":
        name = "AnswerPrompting"
    else:
        name = "Prompting" if task.wording.phrase else "Mapping"
    return TEMPLATES[name], TEMPLATES[f"Masked{name}"]


def example(
    template: Template,
    record: records.Record,
    wording: Wording,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int] | None = None,
    soft: SoftPrompt | None = None,
) -> dict[str, Any]:
    """Returns an example: ids with EOS, the texts they come from, and what evaluation needs.

    `references` are the gold answers without sentinels; `choices` are the target texts (with
    sentinels) of all answers that are allowed, empty where any text is; `*_truncated` is 1 where a
    field lost tokens.
    """
    rendered = templates.render(template, record, wording)
    tokens = tokenising.tokenise(rendered, vocabulary, lengths, soft=soft or SoftPrompt())
    return {
        "inputs": tokens.inputs,
        "targets": tokens.targets,
        "inputs_pretokenized": rendered.source_text,
        "targets_pretokenized": rendered.target_text,
        "references": templates.reference_texts(template, record, wording),
        "choices": templates.candidate_texts(template, record, wording),
        "inputs_truncated": int(tokens.inputs_cut),
        "targets_truncated": int(tokens.targets_cut),
    }


def tokenise(
    template: Template,
    chosen: Sequence[records.Record],
    task: Task,
    vocabulary: Any,
    lengths: Mapping[str, int],
    *,
    with_head: bool = True,
    as_sentence: bool = False,
    soft: SoftPrompt | None = None,
) -> list[Example]:
    """Returns an example for every reference of every record, in order.

    Args:
      with_head: if False, everything that tells a record from others is left out of the source;
        task name, phrase, choices and sentinels stay.
      as_sentence: the form in which texts state a fact: without the task's name in front, and with
        a full stop behind a gap at the end; a SeqIO task stays as it is.
      soft: which rows a soft prompt has; None means gin's.
    """

    def tokens(record: records.Record) -> Example:
        rendered = templates.render(template, record, task.wording)
        if not with_head:
            question = getattr(record, "question", None)
            source = (
                part
                for part in rendered.source
                if not (isinstance(part, Words) and (part.free or part.text == question))
            )
            rendered = dataclasses.replace(rendered, source=tuple(source))
        if as_sentence and task.kind != records.AS_REGISTERED:
            _, *parts = rendered.source
            stop = [Words(".", glued=True)] if isinstance(parts[-1], Sentinel) else []
            rendered = dataclasses.replace(rendered, source=(*parts, *stop))
        made = tokenising.tokenise(rendered, vocabulary, lengths, soft=soft or SoftPrompt())
        return made.inputs, made.targets

    return tokenising.all_of(tokens, records.one_per_reference(chosen))
