# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""How well a model answers a task's held-out records under a template."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax.decoding import generation as decoding_lib
from mto_jax.decoding.generation import Decoding
from mto_jax.evaluation.evaluator import answer, score
from mto_jax.metrics import text
from mto_jax.models.t5 import T5
from mto_jax.text2text.task import Task, tokenise
from mto_jax.text2text.templates import SoftPrompt, Template, reference_texts

# The metrics of each kind of record; `SCORES` names the value that decides.
METRICS = {
    "triple": (text.rouge, text.exact_match),
    "generation": (text.rouge, text.exact_match),
    "multiple_choice": (text.accuracy,),
    "labelled_text": (text.accuracy,),
}
SCORES = {
    "triple": "rougeL",
    "generation": "rougeL",
    "multiple_choice": "accuracy",
    "labelled_text": "accuracy",
}


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model said to the held-out records of a task.

    Attributes:
      predictions: one for each record, without sentinels.
      references: of each record, as the template's target says them.
      values: metrics over all records.
      per_example: scores [N] of the single records, by metric.
      score: the name of the metric that decides, for this kind of record.
    """

    predictions: list[str]
    references: list[list[str]]
    values: dict[str, float]
    per_example: dict[str, np.ndarray]
    score: str

    @property
    def scores(self) -> np.ndarray:
        """[N] of the metric that decides."""
        return self.per_example[self.score]


def ask(
    model: T5,
    task: Task,
    template: Template,
    vocabulary: Any,
    lengths: Mapping[str, int],
    *,
    soft: SoftPrompt | None = None,
) -> Answers:
    """Decode the answers to all held-out records, greedily whatever gin says, and score them."""
    greedy = Decoding.from_dict({"max_length": lengths["targets"]})
    slots = template.slots if template.masked else 1
    examples = [
        tokenise(template, [record], task, vocabulary, lengths, soft=soft)[0]
        for record in task.held_out
    ]
    outputs = decoding_lib.decode(
        model,
        [source for source, _ in examples],
        greedy,
        vocabulary,
        soft_prefix=vocabulary.soft_prefix(examples[0][1]),
    )
    predictions = [answer(vocabulary.decode(found[0].tokens), slots) for found in outputs]
    references = [reference_texts(template, record, task.wording) for record in task.held_out]
    values, per_example = score(METRICS[task.kind], references, predictions)
    return Answers(
        predictions,
        references,
        {name: interval.value for name, interval in values.items()},
        per_example,
        SCORES[task.kind],
    )
