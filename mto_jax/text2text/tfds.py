# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records from TensorFlow Datasets, used where the user has no local file of a data set."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from mto_jax.errors import UserError
from mto_jax.text2text.readers import RecordFile, Row
from mto_jax.text2text.records import Record


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """Records of one split of a TFDS data set; classes come as their names.

    Attributes:
        name: for example "glue/sst2".
        split: of TFDS, for example "validation_matched".
        build: makes a record of a row.
    """

    name: str
    split: str
    build: Callable[[Row], Record | None]

    def __call__(self) -> Iterator[Record]:
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(self.name)
            if not builder.is_prepared():
                _check_connection()
                builder.download_and_prepare()
            dataset = builder.as_dataset(split=self.split)
        except Exception as error:  # TFDS raises errors of many libraries
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"The split '{self.split}' of '{self.name}' is not to be had from TensorFlow Datasets "
                f"({reason}). Prepare it where there is a connection with `tfds build {self.name}`, and "
                "set TFDS_DATA_DIR to its folder."
            ) from None
        for number, row in enumerate(tfds.as_numpy(dataset)):
            values = _plain(builder.info.features, row)
            try:
                record = self.build(values)
            except UserError as error:
                raise UserError(f"{self.name}, {self.split}, row {number}: {error}") from None
            if record is not None:
                yield record


def _check_connection() -> None:
    """Asks once: where there is no connection, TFDS itself goes on asking for minutes."""
    import requests

    requests.head("https://storage.googleapis.com", timeout=10)


def _plain(feature, value):
    """A value of TFDS as the text files have it: text, number, class name, and lists and dicts of those."""
    feature = getattr(feature, "feature", feature)  # a sequence's elements
    if isinstance(value, dict):
        return {name: _plain(feature[name], part) for name, part in value.items()}
    if np.ndim(value):
        return [_plain(feature, part) for part in value]
    if hasattr(feature, "int2str"):
        return feature.int2str(int(value)) if value >= 0 else ""
    return value.decode() if isinstance(value, bytes) else value.item()


@dataclasses.dataclass(frozen=True)
class LocalOrTfds:
    """The local file when there is one, else TFDS."""

    local: RecordFile
    remote: TfdsRecords

    def paths(self) -> list[pathlib.Path]:
        return self.local.paths() if self.local.exists() else []

    def __call__(self) -> Iterator[Record]:
        if self.local.exists():
            yield from self.local()
            return
        try:
            yield from self.remote()
        except UserError as error:
            raise UserError(
                f"There is no file {' nor '.join(self.local.names)} in MTO_DATA_DIR. {error}"
            ) from None
