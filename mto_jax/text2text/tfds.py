# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records from TensorFlow Datasets, used where the user has no local file of a data set."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mto_jax import errors
from mto_jax.errors import UserError, first_line
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
        # TensorFlow keeps to a process of its own, unless this one prepares data.
        rows = _rows if "tensorflow" in sys.modules else _rows_of_a_process
        for number, row in enumerate(rows(self.name, self.split)):
            try:
                record = self.build(row)
            except UserError as error:
                raise UserError(f"{self.name}, {self.split}, row {number}: {error}") from None
            if record is not None:
                yield record


def _rows(name: str, split: str) -> Iterator[Row]:
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise errors.missing_package(error) from error

    try:
        builder: Any = tfds.builder(name)
        if not builder.is_prepared():
            _check_connection()
            builder.download_and_prepare()
        dataset = builder.as_dataset(split=split)
    except Exception as error:  # TFDS raises errors of many libraries
        reason = first_line(error)
        raise UserError(
            f"The split '{split}' of '{name}' is not to be had from TensorFlow Datasets "
            f"({reason}). Prepare it where there is a connection with `tfds build {name}`, and set "
            "TFDS_DATA_DIR to its folder."
        ) from None
    for row in tfds.as_numpy(dataset):
        yield _plain(builder.info.features, row)


def _rows_of_a_process(name: str, split: str) -> Iterator[Row]:
    """Yields the rows, read by `python -m mto_jax.text2text.tfds NAME SPLIT FILE`."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "rows.jsonl")
        command = [sys.executable, "-m", "mto_jax.text2text.tfds", name, split, str(file)]
        status = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True)
        if status.returncode:
            raise errors.of_process(status.stderr, f"Reading {name} ({split})")
        with file.open() as lines:
            yield from map(json.loads, lines)


def _check_connection() -> None:
    """Asks once: where there is no connection, TFDS itself keeps asking for minutes."""
    import requests

    requests.head("https://storage.googleapis.com", timeout=10)


def _plain(feature, value) -> Any:
    """Returns a value of TFDS as text files have it: text, number, class name, lists and dicts."""
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


def _main(name: str, split: str, file: str) -> None:
    try:
        with open(file, "w") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in _rows(name, split))
    except UserError as error:
        errors.fail(error)


if __name__ == "__main__":
    _main(*sys.argv[1:])
