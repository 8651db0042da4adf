# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Asking a model as it is, with solved examples in its source.

The question has the form that pre-training has taught, which the template chooses: a sentinel at
the gap, or a plain text to go on with; UL2 also has mode tokens. Solved examples have their answer
in the gap. They are fused early (all in one source) or late (each with the question in a source of
its own, which are encoded apart from each other and read by the decoder together).

Lee et al., "Recipe for Zero-shot and Few-shot Prompting of Sequence-to-sequence Models", 2023,
arXiv 2307.14856; late fusion is that of Izacard and Grave's fusion-in-decoder, 2021.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

import gin

from mto_jax.text2text import templates
from mto_jax.text2text.records import Record
from mto_jax.text2text.templates import Template, Wording
from mto_jax.text2text.vocabulary import Vocabulary


@gin.configurable
@dataclasses.dataclass(frozen=True)
class InContext:
    """The form of solved examples.

    Attributes:
      end: text at the end of each.
      masked_mode: text before every source under a masked template, such as UL2's "[NLU]".
      plain_mode: the same under a plain one, such as "[S2S]".
    """

    end: str = "."
    masked_mode: str = ""
    plain_mode: str = ""


def solved(source: str, target: str) -> str:
    """Returns the source with its answer: in the gaps, or behind it where it has none.

    >>> solved("a saw is used for <extra_id_0>", "<extra_id_0> cutting wood")
    'a saw is used for cutting wood'
    >>> solved("a saw is used for", "cutting wood")
    'a saw is used for cutting wood'
    """
    answers = re.split(r"\s*<extra_id_\d+>\s*", target)[1:]
    if not answers:
        return f"{source} {target}"
    return re.sub(r"<extra_id_\d+>", lambda gap: answers.pop(0), source)


def asking(
    template: Template,
    examples: Sequence[Record],
    wording: Wording,
    vocabulary: Vocabulary,
    form: InContext,
    *,
    late: bool,
) -> Callable[[Sequence[int]], list[int]]:
    """Returns a function that puts solved examples before the token ids of a question.

    Args:
      template: of examples and question.
      examples: records with one reference each.
      late: the result is a source of several pieces, each with EOS at its end, which
        `generation.decode` encodes apart from each other.
    """
    rendered = [templates.render(template, record, wording) for record in examples]
    texts = [solved(r.source_text, r.target_text) + form.end for r in rendered]
    shown = [vocabulary.encode(text) for text in texts]
    mode = vocabulary.encode(form.masked_mode if template.masked else form.plain_mode)

    def ask(question: Sequence[int]) -> list[int]:
        if late:
            return [token for ids in shown for token in (*mode, *ids, *question)]
        return [*mode, *(token for ids in shown for token in ids), *question]

    return ask
