# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Token ids of rendered examples: soft tokens in their places, long fields shortened."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import gin

from mto_jax.errors import UserError
from mto_jax.text2text.templates import Rendered, Sentinel, Soft, Template, Text, Words
from mto_jax.text2text.vocabulary import literal


@gin.configurable
@dataclasses.dataclass(frozen=True)
class SoftPrompt:
    """The rows of the prompt table that a prompt's tokens stand for.

    Attributes:
        length: rows of a prompt in the source (PROMPT_LENGTH); private and shared prompts are
          equally long.
        first_row: the first row of the task's own prompt.
        shared_row: the first row of the shared prompt; by default the rows after the task's own.
        decoder_length: rows that the decoder reads before the target, after the task's others in
          the table.
    """

    length: int = 10
    first_row: int = 0
    shared_row: int | None = None
    decoder_length: int = 0

    def rows(self, shared: bool) -> range:
        """Rows of the source."""
        first = self.first_row
        if shared:
            first = self.decoder_rows.stop if self.shared_row is None else self.shared_row
        return range(first, first + self.length)

    @property
    def decoder_rows(self) -> range:
        first = self.first_row + self.length
        return range(first, first + self.decoder_length)

    def needs(self, template: Template) -> int:
        """Returns the number of rows that a template needs in the table."""
        if template.soft == "none":
            return 0
        shared = self.rows(True).stop if template.soft == "shared" else 0
        return max(self.decoder_rows.stop, shared)


class Tokens(NamedTuple):
    """Token ids with EOS, and whether a free field had to give way."""

    inputs: list[int]
    targets: list[int]
    inputs_cut: bool
    targets_cut: bool


def tokenise(
    rendered: Rendered,
    vocab,
    lengths: Mapping[str, int] | None = None,
    *,
    soft: SoftPrompt = SoftPrompt(),
) -> Tokens:
    """Token ids of a rendered example, EOS at the end of both.

    When one is longer than its feature length, the longest free field (head, tail, context, text)
    loses tokens from its end until it fits, and keeps at least one. Task name, phrase, question,
    choices, soft prompt, sentinels and EOS are never cut. Where the source has a soft prompt, the
    targets start with its rows in the decoder.

    Args:
        rendered: from `render`.
        vocab: a `mto_jax.text2text.vocabulary.Vocabulary`.
        lengths: most tokens of "inputs" and "targets", EOS and soft tokens included; a missing one
            is unlimited.
        soft: the rows that the soft prompt's tokens stand for.

    Raises:
        TooLong: when no free field can give way any more.
    """
    lengths = lengths or {}
    inputs, inputs_cut = _fit(rendered, "inputs", vocab, lengths.get("inputs"), soft)
    targets, targets_cut = _fit(rendered, "targets", vocab, lengths.get("targets"), soft)
    return Tokens(inputs, targets, inputs_cut, targets_cut)


def _fit(rendered: Rendered, feature: str, vocab, limit: int | None, soft: SoftPrompt):
    parts = rendered.source if feature == "inputs" else rendered.target
    fields: list[list[int] | tuple[int, ...]] = []
    free: list[list[int]] = []  # those of `fields` that may give way
    if feature == "targets" and any(isinstance(part, Soft) for part in rendered.source):
        fields.append([vocab.soft_id(row) for row in soft.decoder_rows])
    if feature == "inputs":
        fields.append(vocab.bos)
    for part in parts:
        match part:
            case Words(text, True, glued):
                free.append(_ids(vocab, text, glued))
                fields.append(free[-1])
            case Words(text, _, glued):
                fields.append(_fixed_ids(vocab, text, glued))
            case Text(text):
                free.append(vocab.encode(text))
                fields.append(free[-1])
            case Sentinel(number):
                fields.append([vocab.sentinel_id(number)])
            case Soft(shared):
                fields.append([vocab.soft_id(row) for row in soft.rows(shared)])
    total = sum(map(len, fields)) + 1
    excess = 0 if limit is None else max(0, total - limit)
    needed = total - sum(max(0, len(field) - 1) for field in free)
    if excess > total - needed:
        raise TooLong(feature, needed, rendered.source_text)
    for _ in range(excess):
        max(free, key=len).pop()
    return [*(token for field in fields for token in field), vocab.eos_id], excess > 0


class TooLong(UserError):
    """An example that does not fit, with every free field shortened to a token.

    Attributes:
        feature: "inputs" or "targets".
        needed: the tokens that it needs.
        text: the source text.
    """

    def __init__(self, feature: str, needed: int, text: str, others: int = 0):
        self.feature, self.needed, self.text = feature, needed, text
        more = f" and {others} others do" if others else " does"
        super().__init__(
            f"The example {text[:200]!r}{more} not fit: with every free field (head, tail, "
            "context, text) shortened, task name, phrase, question, choices, soft prompt and "
            "sentinels, which are never cut, need "
            f"TASK_FEATURE_LENGTHS[{feature!r}] = {needed}. Raise it, or leave such "
            "examples out of prepared data with DatasetConfig.too_long = 'skip'."
        )


def all_of(make: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Returns `make` of every item.

    Raises:
        TooLong: for the item that needs most tokens, if any does not fit.
    """
    made, too_long = [], []
    for item in items:
        try:
            made.append(make(item))
        except TooLong as error:
            too_long.append(error)
    if too_long:
        most = max(too_long, key=lambda error: error.needed)
        raise TooLong(most.feature, most.needed, most.text, len(too_long) - 1)
    return made


def encode(text: str, vocab, soft: SoftPrompt = SoftPrompt()) -> list[int]:
    """Ids, without EOS, of a source as `join` writes it.

    `<prompt>` and `<shared_prompt>` are rows of the prompt.

    >>> from mto_jax.text2text.vocabulary import vocabulary
    >>> demo = vocabulary("demo")
    >>> ids = encode("xIntent: <prompt> PersonX runs", demo, SoftPrompt(length=2))
    >>> [i - demo.soft_id(0) for i in ids if i >= demo.soft_id(0)]
    [0, 1]
    """
    ids = []
    for piece in re.split(r"\s*(<prompt>|<shared_prompt>)\s*", text):
        if piece in ("<prompt>", "<shared_prompt>"):
            ids += [vocab.soft_id(row) for row in soft.rows(piece == "<shared_prompt>")]
        elif piece:
            ids += vocab.encode(piece)
    return ids


def _ids(vocab, text: str, glued: bool) -> list[int]:
    """Ids of words; glued ones without SentencePiece's leading "▁", as inside a text."""
    text = literal(text)
    return vocab.encode(f"<extra_id_0>{text}")[1:] if glued and text else vocab.encode(text)


@functools.lru_cache(maxsize=16384)
def _fixed_ids(vocab, text: str, glued: bool) -> tuple[int, ...]:
    return tuple(_ids(vocab, text, glued))
