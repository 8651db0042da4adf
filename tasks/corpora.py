# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Raw text under every text objective: tasks `<corpus>_<objective>`, e.g. `wiki_span_corruption`.

The mixture `<corpus>_pretrain` is half span corruption, half prefix LM.

Corpora: `demo` (comes along), `c4` and `wikipedia` (TensorFlow Datasets, loaded on first use), and the
text files of `text_source.text_corpora` and `register_text`.
"""

import re

import seqio

from mto_jax.errors import UserError, unknown
from mto_jax.text2text import text_files
from mto_jax.text2text.objectives import OBJECTIVES
from mto_jax.text2text.registry import add_mixture, add_objectives

# Held out where TFDS holds nothing out: as many documents as of a large text file.
TFDS_CORPORA = {
    "c4": ("c4/en:3.0.1", {"train": "train", "validation": "validation"}),
    "wikipedia": (
        "wikipedia/20230601.en:1.0.0",
        {"train": "train[1000:]", "validation": "train[:1000]"},
    ),
}


def register() -> None:
    """Register every corpus known without being named by the user, and those of `text_corpora`."""
    register_corpus("demo", text_files.source(_demo_documents))
    for name, (dataset, splits) in TFDS_CORPORA.items():
        register_corpus(name, seqio.TfdsDataSource(dataset, splits=splits))
    for name, (path, format) in text_files.text_corpora().items():
        register_text(name, path, format)


def register_text(name: str, path: str, format: str = "lines") -> None:
    """Register tasks `<name>_<objective>` over a text file or a folder of .txt and .txt.gz files.

    Args:
      name: letters, digits and underscores.
      path: a file (.gz is unpacked) or folder. Its content is read when a task is prepared.
      format: "lines", one document per line, or "paragraphs", separated by blank lines.

    Raises:
      UserError: a wrong name or format, or no such path.
    """
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"A corpus cannot be called {name!r}: use letters, digits and underscores.")
    if format not in text_files.FORMATS:
        raise unknown("format of text files", format, text_files.FORMATS)
    files = text_files.text_files(path)
    register_corpus(
        name, text_files.source(lambda: text_files.read_documents(files, format), files)
    )


def register_corpus(name: str, source: seqio.DataSource) -> None:
    """Register tasks `<name>_<objective>` over a SeqIO source of the string feature `text`.

    A task of the same name is replaced.
    """
    add_objectives(
        name, source, [key for key, row in OBJECTIVES.items() if row.fields == ("text",)]
    )
    # What a T5 that is to be matched to tasks wants to have seen: both kinds of objective.
    halves = (f"{name}_span_corruption", f"{name}_prefix_lm")
    add_mixture(f"{name}_pretrain", dict.fromkeys(halves, 1.0))


def _demo_documents() -> list[bytes]:
    from mto_jax.tasks.demo import corpus

    return [document.encode() for document in corpus.sentences()]
