# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Raw text under every text objective: tasks `<corpus>_<objective>`, e.g. `wiki_span_corruption`.

The mixture `<corpus>_pretrain` is half span corruption, half prefix LM.

Corpora: `c4` and `wikipedia` (TensorFlow Datasets, loaded on first use), and the text files of
`text_corpora`.
"""

import functools

from mto_jax.text2text import text_files
from mto_jax.text2text.registry import register_corpus, register_text

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
    for name, (dataset, splits) in TFDS_CORPORA.items():
        register_corpus(name, functools.partial(_from_tfds, dataset, splits))
    for name, (path, format) in text_files.text_corpora().items():
        register_text(name, path, format)


def _from_tfds(dataset: str, splits: dict[str, str]):
    import seqio

    return seqio.TfdsDataSource(dataset, splits=splits)
