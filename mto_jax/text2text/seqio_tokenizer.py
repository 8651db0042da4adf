# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A vocabulary without a SentencePiece file for SeqIO (imports TensorFlow)."""

from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from mto_jax.text2text.vocabulary import Vocabulary


class SeqioTokenizer(seqio.Vocabulary):
    """A `Vocabulary` as one of SeqIO; the sentinels are among its ids."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__(extra_ids=0)
        self.vocabulary = vocabulary

    def __eq__(self, other: object) -> bool:
        same_class = isinstance(other, SeqioTokenizer)
        return same_class and self.vocabulary.digest == other.vocabulary.digest

    def __hash__(self) -> int:
        return hash(self.vocabulary.digest)

    @property
    def bos_id(self) -> None:
        return None

    @property
    def eos_id(self) -> int:
        return self.vocabulary.eos_id

    @property
    def unk_id(self) -> int:
        return self.vocabulary.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self.vocabulary.size

    def _encode(self, s: str) -> list[int]:
        return self.vocabulary.encode(s)

    def _decode(self, ids) -> str:
        return self.vocabulary.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def encode(text: Any) -> np.ndarray:  # bytes, or an array of them without axes
            return np.array(self.vocabulary.encode(np.asarray(text).item().decode()), np.int32)

        ids = tf.numpy_function(encode, [s], tf.int32)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda row: self.vocabulary.decode(row), [ids], tf.string)
