# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeping what a task is tested on out of the text that a model is adapted on."""

from collections.abc import Iterable, Sequence

from mto_jax.text2text.few_shot import normal
from mto_jax.text2text.record_sets import held_out_heads

DROPPED = "about a head of validation or test"


class Heads:
    """The heads of records, as they are looked for in sentences."""

    def __init__(self, heads: Iterable[str]):
        self._words = {_words(head) for head in heads} - {()}
        self._longest = max(map(len, self._words), default=0)

    def in_text(self, text: str) -> bool:
        """Return whether a head stands in the text as whole words, whatever the case.

        >>> heads = Heads(["a knife"])
        >>> heads.in_text("With a knife, bread is cut"), heads.in_text("a pocket knife")
        (True, False)
        """
        words = _words(text)
        return any(
            words[start:end] in self._words
            for start in range(len(words))
            for end in range(start + 1, min(start + self._longest, len(words)) + 1)
        )


def read_heads(tasks: Sequence[str], module: str | None = None) -> Heads:
    """Return the heads of the records of these tasks, those of the training split apart.

    Raises:
      UserError: an unknown task, or what its reader found wrong.
    """
    return Heads(held_out_heads(tasks, module))


def _words(text: str) -> tuple[str, ...]:
    stripped = (word.strip(".,;:!?\"'()[]‘’“”") for word in normal(text).split())
    return tuple(word for word in stripped if word)
