# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text files and folders as corpora: reading, checking, the held-out split, the SeqIO source.

Nothing here imports TensorFlow before `source` is called.
"""

import codecs
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import gin
import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.text2text import demo, lab
from mto_jax.text2text.tables import raw_lines

FORMATS = ("lines", "paragraphs")
SPLITS = ("train", "validation")
SUFFIXES = (".txt", ".txt.gz")
# Corpora without a file: name -> function that returns their documents.
GENERATED: dict[str, Callable[[], Iterable[str]]] = {"demo": demo.documents, "lab": lab.documents}
READ_BATCH = 256  # documents per hand-over to TensorFlow, which costs more than reading one


@gin.configurable
def text_corpora(
    lines: Mapping[str, str] | None = None, paragraphs: Mapping[str, str] | None = None
) -> dict[str, tuple[str, str]]:
    """The text corpora of this run: name -> (file or folder, format).

    In a gin file, and then `MIXTURE_OR_TASK_NAME = "novels_span_corruption"`:

        text_corpora.lines = {"notes": "/data/notes.txt.gz"}
        text_corpora.paragraphs = {"novels": "/data/novels"}

    Args:
      lines: corpora with one document per line.
      paragraphs: corpora whose documents are separated by blank lines.

    Returns:
      those, and every `$MTO_DATA_DIR/text/*.txt.gz` ("lines") under its file name: `wiki`, `books`,
      ...
    """
    folder = pathlib.Path(os.environ.get("MTO_DATA_DIR") or os.devnull, "text")
    shared = {
        re.sub(r"\W", "_", path.name.removesuffix(".txt.gz")): (str(path), "lines")
        for path in sorted(folder.glob("*.txt.gz"))
    }
    own = {name: (path, "lines") for name, path in (lines or {}).items()}
    own |= {name: (path, "paragraphs") for name, path in (paragraphs or {}).items()}
    return shared | own


def text_files(path: str | os.PathLike) -> list[str]:
    """The file itself, or every .txt and .txt.gz file directly in a folder, sorted.

    Raises:
      UserError: no such file or folder, or a folder without text files.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise UserError(f"There is no text file or folder {path}.")
    if path.is_file():
        return [str(path)]
    files = sorted(str(file) for file in path.iterdir() if file.name.endswith(SUFFIXES))
    if not files:
        raise UserError(f"The folder {path} holds no {' or '.join(SUFFIXES)} file.")
    return files


def read_documents(files: Iterable[str], format: str = "lines") -> Iterator[bytes]:
    """Yield the documents of text files (or .gz), as checked UTF-8 without outer white space.

    "lines": each line that is not blank; "paragraphs": each run of such lines, joined by spaces.

    Raises:
      UserError: what `tables.raw_lines` finds wrong, or a file without text.
    """
    for file in files:
        empty, paragraph = True, []
        for number, line in raw_lines(file):
            line = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
            empty = empty and not line
            if format == "lines":
                if line:
                    yield line
            elif line:
                paragraph.append(line)
            elif paragraph:
                yield b" ".join(paragraph)
                paragraph = []
        if paragraph:
            yield b" ".join(paragraph)
        if empty:
            raise UserError(f"{file} holds no text. Remove it or fill it.")


def held_out_hash(documents: Iterable[bytes]) -> int:
    """The CRC-32 up to which a document belongs to "validation"; -1 if none does.

    One per cent of the documents, at least one (of two or more) and at most 1000: those with the
    smallest CRC-32. The choice depends on the texts alone, not on their order, and copies of a
    document stay on one side.
    """
    hashes = np.fromiter(map(zlib.crc32, documents), np.uint32)
    count = min(max(len(hashes) // 100, 1), 1000, len(hashes) - 1)
    return int(np.partition(hashes, count - 1)[count - 1]) if count > 0 else -1


def source(documents: Callable[[], Iterable[bytes]], input_files: Sequence[str | os.PathLike] = ()):
    """A SeqIO source of the feature `text` with splits "train" and "validation".

    The documents are read once through when a split is asked for, to check them and to find the
    held-out ones, and then streamed: in order, unshuffled (the loader shuffles all examples).

    Args:
      documents: yields the documents from the start at each call, as UTF-8.
      input_files: the attribute `input_files` of the source, for the manifest.

    Returns:
      a `seqio.FunctionDataSource`. Its `get_dataset` raises UserError for what is wrong in a file,
      and for "validation" of a single document.
    """
    import seqio
    import tensorflow as tf

    paths = [os.fspath(path) for path in input_files]

    def dataset(split, shuffle_files, seed=None):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        limit = held_out_hash(documents())
        if split == "validation" and limit < 0:
            raise UserError(
                f"{', '.join(paths) or 'The corpus'} holds a single document, so none can be "
                "held out for the split 'validation'. Give more documents, one per line."
            )

        def batches():
            batch = []
            for document in documents():
                if (zlib.crc32(document) <= limit) == (split == "validation"):
                    batch.append(document)
                if len(batch) == READ_BATCH:
                    yield {"text": batch}
                    batch = []
            yield {"text": batch}

        signature = {"text": tf.TensorSpec([None], tf.string)}
        return tf.data.Dataset.from_generator(batches, output_signature=signature).unbatch()

    result = seqio.FunctionDataSource(dataset, splits=SPLITS)
    vars(result)["input_files"] = paths
    return result
