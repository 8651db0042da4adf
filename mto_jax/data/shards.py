# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""ArrayRecord files of tokenised examples: one msgpack map a record, read in any order."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from mto_jax.errors import UserError, first_line

# Group size 1: every record is reached by one seek.
OPTIONS = "group_size:1"
SHARD_BYTES = 256 << 20


def encode(example: Mapping) -> bytes:
    """Return a record: ids as little-endian int32 bytes, the rest as msgpack within msgpack.

    Args:
      example: "inputs" and "targets" are 1-D integer arrays; other values are numbers, strings or
        (nested) lists of them.
    """
    ids = {key: example[key].astype("<i4").tobytes() for key in ("inputs", "targets")}
    extras = {key: value for key, value in example.items() if key not in ids}
    packed: Any = msgpack.packb({**ids, "extras": msgpack.packb(extras)})
    return packed


def decode(record: bytes, extras: bool = True) -> dict:
    """Return the example of a record; "inputs" and "targets" are int32 arrays.

    Args:
      record: from `encode`.
      extras: also unpack everything else, which training has no use for.
    """
    example = msgpack.unpackb(record)
    packed = example.pop("extras")
    for key, ids in example.items():
        example[key] = np.frombuffer(ids, "<i4")
    return {**example, **msgpack.unpackb(packed)} if extras else example


def write(
    folder: pathlib.Path, records: Iterable[bytes], shard_bytes: int = SHARD_BYTES
) -> dict[str, int]:
    """Write `records` to data-00000.array_record, data-00001... in `folder`.

    The same records give the same bytes.

    Returns:
      the number of records of each file, in order.
    """
    counts: dict[str, int] = {}
    writer, size = None, 0
    try:
        for record in records:
            if writer is None or size >= shard_bytes:
                if writer is not None:
                    writer.close()
                name = f"data-{len(counts):05d}.array_record"
                writer = ArrayRecordWriter(str(folder / name), OPTIONS)
                counts[name] = size = 0
            writer.write(record)
            counts[name] += 1
            size += len(record)
    finally:
        if writer is not None and writer.is_open():
            writer.close()
    return counts


class Reader:
    """Random access to the records of the files that `write` made."""

    def __init__(self, folder: pathlib.Path, counts: Mapping[str, int]):
        self._folder = folder
        self._paths = [str(folder / name) for name in counts]
        self._ends = np.cumsum(list(counts.values()))
        self._open: dict[int, ArrayRecordReader] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}  # Workers open the files themselves.

    def examples(self, indices: Sequence[int] | np.ndarray, extras: bool = True) -> list[dict]:
        """Return the examples of these numbers, in their order; see `decode`.

        Raises:
          UserError: a file is missing or damaged.
        """
        try:
            return [decode(record, extras) for record in self.read(indices)]
        except Exception as error:  # the two libraries raise errors of many kinds on damaged bytes
            reason = first_line(error)
            raise UserError(
                f"The prepared data in {self._folder} are damaged ({reason}). Delete the folder; "
                "it is prepared again on the next start."
            ) from error

    def read(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the records of these numbers, in their order."""
        indices = np.asarray(indices)
        shards = np.searchsorted(self._ends, indices, side="right")
        records = np.empty(len(indices), object)
        for shard in np.unique(shards).tolist():
            if shard not in self._open:
                # Without read-ahead: neighbours in the file are not what is asked for next.
                self._open[shard] = ArrayRecordReader(
                    self._paths[shard], "readahead_buffer_size:0", file_reader_buffer_size=32768
                )
            here = shards == shard
            before = self._ends[shard - 1] if shard else 0
            records[here] = self._open[shard].read((indices[here] - before).tolist())
        return records.tolist()
