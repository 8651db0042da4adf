# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Raw text as a source of SeqIO."""

import zlib
from collections.abc import Callable, Iterable, Sequence

import seqio
import tensorflow as tf

from mto_jax.errors import UserError, unknown
from mto_jax.text2text.text_files import SPLITS, Hashes, hashes, held_out_hash

READ_BATCH = 256  # documents per hand-over to TensorFlow, which costs more than reading one


class TextSource(seqio.DataSource):
    """A source of the feature `text` with splits "train" and "validation".

    The documents are read once through when a split is asked for, to check them and to find the
    held-out ones, unless `held_out` says which those are; then they are streamed: in order,
    unshuffled (the loader shuffles all examples). Each file is a shard.

    Args:
      documents: yields the documents from the start at each call, as UTF-8.
      input_files: their files.
      of_file: yields those of a file; None for a source of one shard.

    Attributes:
      held_out: the CRC-32 up to which a document belongs to "validation"; None finds it.
    """

    def __init__(
        self,
        documents: Callable[[], Iterable[bytes]],
        input_files: Sequence[str] = (),
        of_file: Callable[[str], Iterable[bytes]] | None = None,
    ):
        super().__init__(SPLITS)
        self._documents, self.input_files, self._of_file = documents, [*input_files], of_file
        self.held_out: int | None = None

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str) -> Sequence[str]:
        return self.input_files if self._of_file else [split]

    def num_input_examples(self, split: str) -> None:
        return None

    def hashes(self, shard: int) -> Hashes:
        """Returns the hashes of the documents of a shard."""
        return hashes(self._shard(shard, len(self.list_shards("train"))))

    def get_dataset(
        self, split="train", shuffle=True, seed=None, shard_info=None, **_
    ) -> tf.data.Dataset:
        """Returns the documents of a split, or of a shard of it.

        Raises:
          UserError: what is wrong in a file, or "validation" of a single document.
        """
        del shuffle, seed
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        limit = self.held_out
        if limit is None:
            limit = held_out_hash(self._documents())
        if split == "validation" and limit < 0:
            place = ", ".join(self.input_files) or "The corpus"
            raise UserError(
                f"{place} holds a single document, so none can be held out for the split "
                "'validation'. Give more documents, one per line."
            )

        def batches():
            batch = []
            here = (
                self._shard(shard_info.index, shard_info.num_shards)
                if shard_info
                else self._documents()
            )
            for document in here:
                if (zlib.crc32(document) <= limit) == (split == "validation"):
                    batch.append(document)
                if len(batch) == READ_BATCH:
                    yield {"text": batch}
                    batch = []
            yield {"text": batch}

        signature = {"text": tf.TensorSpec([None], tf.string)}
        return tf.data.Dataset.from_generator(batches, output_signature=signature).unbatch()

    def _shard(self, index: int, count: int) -> Iterable[bytes]:
        if self._of_file is None or count == 1:
            yield from self._documents()
        else:
            for file in self.input_files[index::count]:
                yield from self._of_file(file)
