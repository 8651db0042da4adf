# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model that is matched, adapted a little under each objective that competes."""

import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from mto_jax import checkpoints
from mto_jax.adaptation import make, tasks
from mto_jax.adaptation import pairs as pairs_lib
from mto_jax.adaptation import sentences as sentences_lib
from mto_jax.adaptation.counts import Counts
from mto_jax.adaptation.held_out import Heads
from mto_jax.adaptation.make import PairConfig
from mto_jax.adaptation.pairs import Pair
from mto_jax.adaptation.teaching import CachedTuning
from mto_jax.decoding.model import Model
from mto_jax.errors import UserError
from mto_jax.matching.probe import NO_ADAPTATION
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text.objectives import OBJECTIVES, TextPair
from mto_jax.text2text.task import Example
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training.finetune import Tuning


@dataclasses.dataclass(frozen=True, eq=False)
class AdaptedModels:
    """Models by objective, each made when it is first asked for.

    Attributes:
      model: the one that is adapted.
      path: its checkpoint, from which splitter and classifier of the sentences start; None for a
        model in memory.
      pairs: how sentences become pairs; None if no objective adapts.
      tuning: how the model trains on them.
      lengths: most tokens of inputs and targets.
      folder: keeps pairs and models; None keeps nothing.
    """

    model: Model
    path: str | None
    pairs: PairConfig | None
    tuning: Tuning
    lengths: Mapping[str, int]
    folder: pathlib.Path | None

    def __call__(self, objective: str) -> EncoderDecoder:
        """Returns the model after adaptation under an objective; for "none" as it is.

        Raises:
          UserError: what is wrong with the sentences, or a splitter is to be trained from a model
            that has no checkpoint.
        """
        if objective == NO_ADAPTATION:
            return self.model.network
        vocabulary = self.model.vocabulary
        made = examples(self._pairs, objective, vocabulary, self.lengths)
        if self.folder is None:
            return self.tuning(self.model.network, made)
        folder = self.folder / objective
        tuning = CachedTuning(self.tuning, folder, self.model.digest, vocabulary)
        return tuning(self.model.network, made)

    @functools.cached_property
    def _pairs(self) -> Sequence[Pair]:
        assert self.pairs is not None  # match has checked its objectives
        base = None
        if self.pairs.needs_model:
            if self.path is None:
                raise UserError(
                    "Splitter and classifier start from a checkpoint, which a model in memory is "
                    "not: give match the model's path, or a PairConfig with method='phrases' (or "
                    "'spans') and groups='length'."
                )
            base = checkpoints.open(self.path, "newest")
            base.adopt_vocabulary()
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.folder or pathlib.Path(temporary)
            file, _ = make.ensure(self.pairs, folder, base)
            return tasks.split_pairs(pairs_lib.read(file))["train"]


def examples(
    pairs: Sequence[Pair],
    objective: str,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    seed: int = 0,
) -> list[Example]:
    """Returns pairs under an objective, as token ids with EOS; without those with an empty side."""
    rng, corrupt = np.random.default_rng(seed), OBJECTIVES[objective].corrupt
    made = []
    for pair in pairs:
        body, tail = (
            np.asarray(vocabulary.encode(text), np.int32) for text in (pair.body, pair.tail)
        )
        if len(body) and len(tail):
            text = TextPair(body, tail, pair.label)
            corrupted = corrupt(text, rng, vocab=vocabulary, lengths=lengths)
            if corrupted is None:  # not for this objective
                continue
            inputs, targets = corrupted
            source = vocabulary.source(map(int, inputs), lengths["inputs"])
            made.append((source, [*map(int, targets), vocabulary.eos_id]))
    return made


def sentences(pairs: PairConfig, held_out: Heads) -> list[str]:
    """Returns the sentences of the corpus without those about a held-out head, in random order.

    Raises:
      UserError: what is wrong with the corpus.
    """
    drawn = sentences_lib.draw(
        sentences_lib.documents(pairs.corpus, pairs.format),
        Counts(),
        min_words=pairs.min_words,
        max_words=pairs.max_words,
        count=None,
        seed=pairs.seed,
    )
    return [text for text, _ in drawn if not held_out.in_text(text)]
