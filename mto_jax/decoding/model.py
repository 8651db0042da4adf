# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model with its vocabulary: texts in, predictions and likelihoods out.

>>> model = Model.open("hf://google/flan-t5-small")
>>> model.generate(["translate English to German: The house is wonderful."])
['Das Haus ist wunderbar.']
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mto_jax import checkpoints
from mto_jax.checkpoints import export
from mto_jax.console import progress_bar
from mto_jax.decoding import scoring
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.errors import UserError
from mto_jax.files import digest
from mto_jax.frames import frame
from mto_jax.models.adapters import NONE
from mto_jax.models.config import ModelConfig
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text.answers import answer
from mto_jax.text2text.tokenising import SoftPrompt, encode
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training.state import by_name, check_float32, fingerprints


class Prediction(NamedTuple):
    """A predicted text.

    Attributes:
      text: the answer, without sentinels.
      raw_text: the text with its sentinels, as decoded.
      score: what the predictions for an input are ordered by, see `generation.Output`.
      log_likelihood: log-probability of the tokens under the model (natural logarithm).
    """

    text: str
    raw_text: str
    score: float
    log_likelihood: float


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions for some inputs.

    Attributes:
      inputs: the texts.
      outputs: the predictions for each input, best first.
    """

    inputs: list[str]
    outputs: list[list[Prediction]]

    @property
    def texts(self) -> list[str]:
        """The best prediction for each input, without sentinels."""
        return [outputs[0].text for outputs in self.outputs]

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row a prediction, `rank` 0 for the best of an input."""
        return frame(
            {"input": text, "rank": rank, **prediction._asdict()}
            for text, outputs in zip(self.inputs, self.outputs, strict=True)
            for rank, prediction in enumerate(outputs)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A T5 and the vocabulary that it reads; several may live in one process.

    Attributes:
      config: sizes of the network, and how it computes.
      vocabulary: from texts to token ids and back.
      title: the name for a person.
      load: makes the network, when it is first used.
      content: a digest of the parameters; None means that they are read for it.
    """

    config: ModelConfig
    vocabulary: Vocabulary
    title: str
    load: Callable[[], EncoderDecoder] = dataclasses.field(repr=False)
    content: str | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike, prefer: str | int = "best") -> "Model":
        """The model of a checkpoint; its parameters are read on first use.

        Args:
          path: whatever `checkpoints.open` takes: "hf://org/name", a run directory or a step of
            one, a folder of Hugging Face or T5X, or an adapter, which stands for its base with the
            adapter on.
          prefer: of a run directory, "best", "newest" or the number of a step.

        Raises:
          UserError: nothing there, damaged, not a T5, its vocabulary is not known, or it is to be
            cut over devices that are not there.
        """
        return cls.of(checkpoints.open(path, prefer))

    @classmethod
    def of(cls, checkpoint: checkpoints.Checkpoint) -> "Model":
        """The model of a checkpoint that is open; see `open`."""
        _, vocabulary = checkpoint.find_vocabulary()
        _ = checkpoint.mesh  # what is wrong with it is said before work
        return cls(
            checkpoint.config,
            vocabulary,
            checkpoint.title,
            functools.partial(checkpoint.model, vocabulary),
            checkpoint.digest,
        )

    @functools.cached_property
    def network(self) -> EncoderDecoder:
        """The T5, on the local devices as `Checkpoint.model` puts it.

        Raises:
          UserError: the checkpoint cannot be read, see `Checkpoint.parameters`.
        """
        return self.load()

    @functools.cached_property
    def digest(self) -> str:
        """Changes when the parameters do."""
        return self.content or digest(fingerprints(by_name(self.network)))

    # ---- Token ids

    @property
    def soft_prefix(self) -> list[int]:
        """The ids of the soft tokens that the decoder reads before every output."""
        rows = SoftPrompt().decoder_rows if self.network.adapters.prompt_rows else ()
        return [self.vocabulary.soft_id(row) for row in rows]

    def encode(self, text: str) -> list[int]:
        """Token ids without EOS.

        If the model has a soft prompt, `<prompt>` and `<shared_prompt>` in the text are its rows,
        as `SoftPrompt` says.

        Raises:
          UserError: the text wants more rows than the prompt has.
        """
        vocabulary, rows = self.vocabulary, self.network.adapters.prompt_rows
        if not rows:
            return vocabulary.encode(text)
        soft = SoftPrompt()
        ids = encode(text, vocabulary, soft)
        needed = max(soft.decoder_rows.stop, max(ids, default=0) - vocabulary.soft_id(0) + 1)
        if needed > rows:
            raise UserError(
                f"The input {text[:80]!r} wants row {needed - 1} of the model's soft prompt, which "
                f"has {rows} rows. Set SoftPrompt.length (PROMPT_LENGTH) and the other fields of "
                "SoftPrompt as in training."
            )
        return ids

    # ---- Predictions

    def generate(
        self,
        texts: Sequence[str],
        *,
        max_length: int = 64,
        beams: int = 1,
        input_length: int = 512,
        batch_size: int = 32,
        **options: Any,
    ) -> list[str]:
        """Returns the best prediction for each text, without sentinels.

        Args:
          max_length: most tokens of an output, EOS included.
          beams: 1 is greedy (or samples, with method="sample").
          input_length: tokens of an input, EOS included; longer ones are cut at their end.
          batch_size: texts at once.
          options: other fields of `Decoding`, such as repetition_penalty=1.5.

        Raises:
          UserError: no such option, or a value out of range.
        """
        predictions = self.predict(
            texts,
            max_length=max_length,
            beams=beams,
            input_length=input_length,
            batch_size=batch_size,
            **options,
        )
        return predictions.texts

    def predict(
        self,
        texts: Sequence[str],
        *,
        max_length: int = 64,
        beams: int = 1,
        input_length: int = 512,
        batch_size: int = 32,
        **options: Any,
    ) -> Predictions:
        """Returns the predictions with their scores; arguments as of `generate`.

        `num_outputs=K` gives K predictions for each text.
        """
        if beams > 1:
            options = {"method": "beam", "num_beams": beams, **options}
        decoding = Decoding.from_dict({"max_length": max_length, **options})
        texts = _texts(texts)
        inputs = [self._source(text, input_length) for text in texts]
        with progress_bar("generate", len(texts)) as advance:
            outputs = decode(
                self.network,
                inputs,
                decoding,
                self.vocabulary,
                soft_prefix=self.soft_prefix,
                batch_size=batch_size,
                progress=advance,
            )
        predictions = []
        for candidates in outputs:
            raw = [self.vocabulary.decode(output.tokens) for output in candidates]
            predictions.append(
                [
                    Prediction(answer(text), text, output.score, output.log_likelihood)
                    for text, output in zip(raw, candidates, strict=True)
                ]
            )
        return Predictions(texts, predictions)

    def score(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        input_length: int = 512,
        batch_size: int = 32,
    ) -> np.ndarray:
        """Returns the log-likelihood of each target given its source, EOS included: [N], natural.

        Raises:
          UserError: not as many targets as sources.
        """
        sources, targets = _texts(sources), _texts(targets)
        if len(sources) != len(targets):
            raise UserError(f"There are {len(sources)} sources, but {len(targets)} targets.")
        eos, prefix = self.vocabulary.eos_id, self.soft_prefix
        scored = scoring.score_choices(
            self.network,
            [self._source(text, input_length) for text in sources],
            [[[*prefix, *self.vocabulary.encode(text), eos]] for text in targets],
            self.vocabulary,
            batch_size=batch_size,
        )
        return np.array([sums[0] for sums, _ in scored])

    def _source(self, text: str, length: int) -> list[int]:
        return self.vocabulary.source(self.encode(text), length)

    # ---- Saving

    def save(self, folder: str | os.PathLike) -> None:
        """Write a folder that Transformers loads, and `Model.open` too.

        Raises:
          UserError: the folder is not empty, the model has adapters (`mto convert` writes
            those), or its parameters were rounded to bfloat16 as they were read.
        """
        if self.network.adapters != NONE:
            raise UserError(
                f"{self.title} has adapters: mto convert --from=PATH writes them, or merges them."
            )
        parameters = by_name(self.network)
        check_float32(parameters, "saved")
        export.save_huggingface(
            parameters,
            self.config,
            folder,
            vocabulary=self.vocabulary,
            source=self.title,
        )


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise UserError(f"Expected a list of texts, not one text: [{texts[:40]!r}].")
    return list(texts)
