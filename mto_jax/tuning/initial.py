# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The rows that a soft prompt starts as: pieces of the vocabulary, words of the task, another prompt."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Any

import gin
import numpy as np

from mto_jax.checkpoints.peft import load_adapter
from mto_jax.errors import UserError, unknown
from mto_jax.models.adapters import Adapters
from mto_jax.text2text.task import Task

KINDS = ("uniform", "vocabulary", "phrase", "labels", "text", "file")
# Encoders that give back the table they are handed, before they have trained.
_PLAIN_AT_FIRST = ("table", "residual")


@gin.configurable
@dataclasses.dataclass(frozen=True)
class PromptInit:
    """Where prompts start.

    Attributes:
      kind: "uniform": random numbers, as `Adapters` makes them. "vocabulary": the embeddings of pieces drawn
        from the most frequent ones (Lester et al. 2021, section 3.1). "phrase": those of the pieces of the
        task's phrase. "labels": those of its label words, a row a label, the rest drawn as for "vocabulary".
        "text": those of the pieces of `text`. "file": the rows in `path`. Phrase and text are repeated, or
        cut, to the prompt's length.
      text: of kind "text".
      path: of kind "file": a .npy file or a folder with an adapter; the prompt of another task makes it
        SPoT (Vu et al. 2022).
      top_k: of kinds "vocabulary" and "labels": among how many pieces to draw; at most, there are all.
    """

    kind: str = "uniform"
    text: str = ""
    path: str | None = None
    top_k: int = 5000

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of initialisation (PromptInit.kind) called", self.kind, KINDS)
        needed = {"text": "text", "file": "path"}
        for kind, field in needed.items():
            if bool(getattr(self, field)) != (self.kind == kind):
                raise UserError(
                    f"PromptInit.{field} belongs to PromptInit.kind = {kind!r}, which needs it: the kind is "
                    f"{self.kind!r} and the {field} {getattr(self, field)!r}."
                )
        if self.top_k < 1:
            raise UserError(f"PromptInit.top_k is {self.top_k}; it must be at least 1.")

    def identity(self) -> dict[str, Any]:
        """All that the rows depend on, beside model, task and seed; of a file its content."""
        own = {"kind": self.kind, "text": self.text, "top_k": self.top_k}
        if self.kind == "file":
            own["file"] = hashlib.sha256(_rows_of(str(self.path)).tobytes()).hexdigest()[:16]
        return own

    def check(self, adapters: Adapters) -> None:
        """Raises a UserError if these adapters have no prompt that could start so."""
        if self.kind == "uniform":
            return
        if not adapters.prompt_rows:
            raise UserError(
                f"PromptInit.kind = {self.kind!r} says where prompts start, but there is an Adapters without "
                'one: set Adapters.prompt_rows, or PromptInit.kind = "uniform".'
            )
        if adapters.prompt_encoder not in _PLAIN_AT_FIRST:
            raise UserError(
                f"A prompt of the encoder {adapters.prompt_encoder!r} cannot start as given rows "
                f"(PromptInit.kind = {self.kind!r}): take {' or '.join(map(repr, _PLAIN_AT_FIRST))} "
                '(Adapters.prompt_encoder), or PromptInit.kind = "uniform".'
            )


def table(
    init: PromptInit,
    embedding_VxD: np.ndarray,
    length: int,
    task: Task,
    vocabulary: Any,
    seed: int = 0,
) -> np.ndarray | None:
    """The rows [P, D] in float32 that a prompt of `length` P starts as; None for "uniform".

    Args:
      embedding_VxD: of the model.
      task: gives phrase and labels.
      vocabulary: a `Vocabulary`.
      seed: of what is drawn.

    Raises:
      UserError: the task has no phrase or labels, or the file holds a prompt of another length or width.
    """
    if init.kind == "uniform":
        return None
    if init.kind == "file":
        return _from_file(str(init.path), (length, embedding_VxD.shape[1]))
    pieces = _pieces(init, length, task, vocabulary, seed)
    rows = [np.asarray(embedding_VxD[ids], np.float32).mean(axis=0) for ids in pieces]
    return np.stack(rows)


def _pieces(
    init: PromptInit, length: int, task: Task, vocabulary: Any, seed: int
) -> list[list[int]]:
    """For each row the ids of the pieces whose mean it is."""
    wording = task.wording
    if init.kind == "text":
        return _repeated(vocabulary.encode(init.text), length)
    if init.kind == "phrase":
        # Without the places of head and gap in a phrase around them.
        words = " ".join(re.sub(r"\b[HT]\b", " ", wording.phrase).split())
        if not words:
            raise UserError(
                f"The task {task.name} has no phrase that its prompt could start as: take another "
                "PromptInit.kind."
            )
        return _repeated(vocabulary.encode(words), length)
    drawn = _drawn(vocabulary.frequent_ids(init.top_k), length, seed)
    if init.kind == "vocabulary":
        return drawn
    if not wording.labels:
        raise UserError(
            f"The task {task.name} has no labels that its prompt could start as: take another "
            "PromptInit.kind."
        )
    labels = [vocabulary.encode(label) for label in wording.labels]
    return [*labels, *drawn][:length]


def _repeated(ids: Sequence[int], length: int) -> list[list[int]]:
    return [[one] for one in itertools.islice(itertools.cycle(ids), length)]


def _drawn(ids: Sequence[int], length: int, seed: int) -> list[list[int]]:
    """Without repetition as far as there are enough."""
    rng = np.random.default_rng(seed)
    return [[int(one)] for one in rng.choice(ids, length, replace=len(ids) < length)]


def _from_file(path: str, shape: tuple[int, int]) -> np.ndarray:
    rows = _rows_of(path)
    if rows.shape != shape:
        raise UserError(
            f"The prompt in {path} (PromptInit.path) has the length {rows.shape[0]} and the width "
            f"{rows.shape[1]}; {shape[0]} (Adapters.prompt_rows) and {shape[1]} (the model's d_model) are "
            "needed."
        )
    return rows


def _rows_of(path: str) -> np.ndarray:
    rows = load_adapter(path)[1].get("prompt.table")
    if rows is None:
        raise UserError(f"{path} (PromptInit.path) is an adapter without a prompt.")
    return rows
