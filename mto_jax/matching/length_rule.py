# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's rule for questions, from their form alone (method.md 3.3)."""

from collections.abc import Sequence

import numpy as np

from mto_jax.matching.verdict import Verdict, judge, ratio
from mto_jax.text2text.records import MultipleChoice

MOST_WORDS = 4  # choices shorter than this on average are words, not phrases


def wants_mask(record: MultipleChoice) -> bool:
    """True: MaskedAnswerPrompting. False: AnswerPrompting.

    A statement to be continued (no "?") is for language modelling; a question is for denoising if
    its choices have fewer than four words on average.

    >>> wants_mask(MultipleChoice("qa", "Where do you keep milk?", ("fridge", "shop"), 0))
    True
    >>> wants_mask(MultipleChoice("qa", "Milk is kept in the", ("fridge", "shop"), 0))
    False
    """
    words = np.mean([len(choice.split()) for choice in record.choices])
    return "?" in record.question and bool(words < MOST_WORDS)


def length_rule(task: str, questions: Sequence[MultipleChoice]) -> Verdict:
    """The vote of the questions: +1 for masked, -1 for plain, averaged."""
    votes_N = np.array([1.0 if wants_mask(question) else -1.0 for question in questions])
    return judge(task, "length rule", ratio(votes_N, np.ones_like(votes_N)))
