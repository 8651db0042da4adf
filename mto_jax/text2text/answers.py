# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The answer in a decoded text, which may stand in slots between sentinels."""

import re

from mto_jax.text2text.vocabulary import unmarked

_SENTINEL = re.compile(r"<extra_id_\d+>")


def answer(text: str, slots: int = 1) -> str:
    """The answer in a decoded text.

    A text that starts with `<extra_id_0>` answers in slots: what stands between that sentinel and
    the next is the answer, or, for a template of several slots, the texts after the first `slots`
    sentinels. Any other text is the answer as it stands. What only looks like a sentinel, as
    `Vocabulary.decode` marks it, is part of the answer.

    >>> answer("<extra_id_0> a cup <extra_id_1> is here"), answer("a cup")
    ('a cup', 'a cup')
    >>> answer("<extra_id_0> bank <extra_id_1> choice2", slots=2)
    'bank choice2'
    """
    if not text.startswith("<extra_id_0>"):
        return unmarked(text.strip())
    pieces = _SENTINEL.split(text)[1 : 1 + slots]
    return unmarked(" ".join(piece.strip() for piece in pieces).strip())


def slots(target: str) -> int:
    """How many answers a target text has: its sentinels, or 1 without any.

    >>> slots("<extra_id_0> bank <extra_id_1> choice2"), slots("a cup")
    (2, 1)
    """
    return max(1, len(_SENTINEL.findall(target)))
