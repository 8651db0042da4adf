# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text files and folders as corpora: reading, checking, the held-out split, the SeqIO source.

Nothing here imports TensorFlow before `source` is called.
"""

import codecs
import itertools
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import gin
import numpy as np

from mto_jax.errors import UserError
from mto_jax.text2text import demo, lab
from mto_jax.text2text.tables import raw_lines

FORMATS = ("lines", "paragraphs")
SPLITS = ("train", "validation")
JSON_LINES = (".jsonl", ".jsonl.gz", ".json.gz")  # the last as in allenai/c4
SUFFIXES = (".txt", ".txt.gz", *JSON_LINES)
# Corpora without a file: name -> function that returns their documents.
GENERATED: dict[str, Callable[[], Iterable[str]]] = {"demo": demo.documents, "lab": lab.documents}
MOST_HELD_OUT = 1000  # documents


@gin.configurable
def text_corpora(
    lines: Mapping[str, str] | None = None, paragraphs: Mapping[str, str] | None = None
) -> dict[str, tuple[str, str]]:
    """The text corpora of this run: name -> (file or folder, format).

    In a gin file, and then `MIXTURE_OR_TASK_NAME = "novels_span_corruption"`:

        text_corpora.lines = {"notes": "/data/notes.txt.gz"}
        text_corpora.paragraphs = {"novels": "/data/novels"}

    Args:
      lines: corpora with one document per line, or .jsonl, .jsonl.gz and .json.gz files with an
        object per line whose field "text" is one, such as those of allenai/c4.
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
    """The file itself, or every file directly in a folder that ends in one of `SUFFIXES`, sorted.

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
    Of the files that end in one of `JSON_LINES`, whatever the format: the field "text" of the
    object in each line.

    Raises:
      UserError: what `tables.raw_lines` finds wrong, a line without such a field, or a file without
        text.
    """
    for file in files:
        empty, paragraph = True, []
        if file.endswith(JSON_LINES):
            for document in _json_texts(file):
                empty = False
                yield document
        for number, line in () if file.endswith(JSON_LINES) else raw_lines(file):
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


def _json_texts(file: str) -> Iterator[bytes]:
    """Yields the field "text" of each line that is not blank, without outer white space."""
    for number, line in raw_lines(file):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"].strip().encode()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f'{file}, line {number}: expected a JSON object with a text in its field "text", '
                f"found {line[:80].decode(errors='replace')!r}."
            ) from error
        if text:
            yield text


class Hashes(NamedTuple):
    """What of some documents decides which of all are held out.

    Attributes:
      count: of the documents.
      smallest: their smallest CRC-32, `MOST_HELD_OUT` at most, in order.
    """

    count: int
    smallest: list[int]


def hashes(documents: Iterable[bytes]) -> Hashes:
    """Returns the hashes of documents; little is held at once, however many there are."""
    count, smallest = 0, np.zeros(0, np.uint32)
    crcs = map(zlib.crc32, documents)
    while len(some := np.fromiter(itertools.islice(crcs, 100 * MOST_HELD_OUT), np.uint32)):
        count += len(some)
        smallest = np.sort(np.concatenate((smallest, some)))[:MOST_HELD_OUT]
    return Hashes(count, smallest.tolist())


def held_out_hash(documents: Iterable[bytes]) -> int:
    """Returns `held_out_of` all documents."""
    return held_out_of([hashes(documents)])


def held_out_of(parts: Iterable[Hashes]) -> int:
    """Returns the CRC-32 up to which a document belongs to "validation"; -1 if none does.

    One per cent of the documents, at least one (of two or more) and at most `MOST_HELD_OUT`: those
    with the smallest CRC-32. The choice depends on the texts alone, not on their order, and copies
    of a document stay on one side.

    Args:
      parts: the hashes of the documents, in parts.
    """
    counts, smallest = zip(*parts, strict=True)
    total = sum(counts)
    count = min(max(total // 100, 1), MOST_HELD_OUT, total - 1)
    return sorted(itertools.chain(*smallest))[count - 1] if count > 0 else -1


def source(
    documents: Callable[[], Iterable[bytes]],
    input_files: Sequence[str | os.PathLike] = (),
    of_file: Callable[[str], Iterable[bytes]] | None = None,
):
    """Returns a `text_source.TextSource`, which has the documents under the feature `text`.

    Args:
      documents: yields the documents from the start at each call, as UTF-8.
      input_files: the attribute `input_files` of the source, for the manifest.
      of_file: yields those of one of these files; None where documents do not lie in files.
    """
    from mto_jax.text2text.text_source import TextSource

    return TextSource(documents, [os.fspath(path) for path in input_files], of_file)
