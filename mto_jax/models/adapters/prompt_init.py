# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Initial rows of a soft prompt: pieces of the vocabulary, words of the task, another prompt."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import gin
import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.files import digest
from mto_jax.models.adapters.base import Adapters
from mto_jax.models.adapters.prompt import PromptTuning

INITIALISATIONS = ("uniform", "vocabulary", "phrase", "labels", "text", "file")
# Encoders whose rows are their table before they have trained.
_PLAIN_AT_FIRST = ("table", "residual")
ReadRows = Callable[[str], np.ndarray]  # path of an adapter or a .npy file -> rows [P, D]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class PromptInit:
    """Initialisation of soft prompts.

    Attributes:
      kind: "uniform": random numbers, as `PromptTuning` has them. "vocabulary": the embeddings of
        pieces drawn from the most frequent ones (Lester et al. 2021, section 3.1). "phrase": those
        of the pieces of the task's phrase. "labels": those of its label words, a row a label, the
        rest drawn as for "vocabulary". "text": those of the pieces of `text`. "file": the rows in
        `path`. Phrase and text are repeated, or cut, to the prompt's length.
      text: of kind "text".
      path: of kind "file": a .npy file or a folder with an adapter; the prompt of another task
        makes it SPoT (Vu et al. 2022).
      top_k: of kinds "vocabulary" and "labels": the number of most frequent pieces to draw from.
    """

    kind: str = "uniform"
    text: str = ""
    path: str | None = None
    top_k: int = 5000

    def __post_init__(self) -> None:
        if self.kind not in INITIALISATIONS:
            raise unknown(
                "kind of initialisation (PromptInit.kind) called", self.kind, INITIALISATIONS
            )
        for kind, field in {"text": "text", "file": "path"}.items():
            if bool(getattr(self, field)) != (self.kind == kind):
                raise UserError(
                    f"PromptInit.{field} belongs to PromptInit.kind = {kind!r}, which needs it: "
                    f"the kind is {self.kind!r} and the {field} {getattr(self, field)!r}."
                )
        if self.top_k < 1:
            raise UserError(f"PromptInit.top_k is {self.top_k}; it must be at least 1.")

    def identity(self, read_rows: ReadRows) -> dict[str, Any]:
        """All that the rows depend on, beside model, task and seed; of a file its content."""
        fields = {"kind": self.kind, "text": self.text, "top_k": self.top_k}
        if self.kind == "file":
            content = read_rows(str(self.path)).tobytes()
            fields["file"] = digest(content)[:16]
        return fields

    def check(self, adapters: Adapters) -> None:
        """Raises a UserError if these adapters have no prompt that could start so."""
        if self.kind == "uniform":
            return
        prompt = adapters.get(PromptTuning)
        if prompt is None:
            raise UserError(
                f"PromptInit.kind = {self.kind!r} is for prompts, but the adapter {adapters.label} "
                "has "
                'none: add @PromptTuning(), or set PromptInit.kind = "uniform".'
            )
        if prompt.encoder not in _PLAIN_AT_FIRST:
            raise UserError(
                f"A prompt of the encoder {prompt.encoder!r} cannot start as given rows "
                f"(PromptInit.kind = {self.kind!r}): set PromptTuning.encoder to "
                f'{" or ".join(map(repr, _PLAIN_AT_FIRST))}, or PromptInit.kind = "uniform".'
            )

    def parameters(
        self,
        adapters: Adapters,
        embedding_VxD: np.ndarray,
        task: Any,
        vocabulary: Any,
        read_rows: ReadRows,
        seed: int = 0,
    ) -> dict[str, np.ndarray]:
        """Returns {"prompt.table": the initial rows [P, D], float32}; {} for "uniform".

        Args:
          embedding_VxD: of the model.
          task: has a name and a wording (`text2text.templates.Wording`) with phrase and labels.
          vocabulary: a `text2text.vocabulary.Vocabulary`.
          seed: for what is drawn.

        Raises:
          UserError: the task has no phrase or labels; the file has a prompt of another length or
            width.
        """
        if self.kind == "uniform":
            return {}
        length = adapters.get(PromptTuning).rows
        if self.kind == "file":
            return {"prompt.table": self._from_file((length, embedding_VxD.shape[1]), read_rows)}
        pieces = self._pieces(length, task, vocabulary, seed)
        rows = [np.asarray(embedding_VxD[ids], np.float32).mean(axis=0) for ids in pieces]
        return {"prompt.table": np.stack(rows)}

    def _from_file(self, shape: tuple[int, int], read_rows: ReadRows) -> np.ndarray:
        rows = read_rows(str(self.path))
        if rows.shape != shape:
            raise UserError(
                f"The prompt in {self.path} (PromptInit.path) has the length {rows.shape[0]} and "
                f"the width {rows.shape[1]}; {shape[0]} (PromptTuning.rows) and {shape[1]} (the "
                "model's d_model) are needed."
            )
        return rows

    def _pieces(self, length: int, task: Any, vocabulary: Any, seed: int) -> list[list[int]]:
        """For each row the ids of the pieces whose mean it is."""
        if self.kind == "text":
            return _repeated(vocabulary.encode(self.text), length)
        if self.kind == "phrase":
            # Without the letters that stand for head and gap.
            words = " ".join(re.sub(r"\b[HT]\b", " ", task.wording.phrase).split())
            return _repeated(vocabulary.encode(self._words("phrase", words, task)), length)
        drawn = _drawn(vocabulary.frequent_ids(self.top_k), length, seed)
        if self.kind == "vocabulary":
            return drawn
        labels = self._words("labels", task.wording.labels, task)
        return [*map(vocabulary.encode, labels), *drawn][:length]

    def _words(self, kind: str, words: Any, task: Any) -> Any:
        if not words:
            raise UserError(
                f"The task {task.name} has no {kind} for its prompt to start as: take another "
                "PromptInit.kind."
            )
        return words


def _repeated(ids: Sequence[int], length: int) -> list[list[int]]:
    return [[i] for i in itertools.islice(itertools.cycle(ids), length)]


def _drawn(ids: Sequence[int], length: int, seed: int) -> list[list[int]]:
    """Without repetition as far as there are enough."""
    rng = np.random.default_rng(seed)
    return [[int(i)] for i in rng.choice(ids, length, replace=len(ids) < length)]
