# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of pairs (body, tail) as SeqIO tasks under the pair objectives: `<name>_<objective>`.

    adaptation_pairs.files = {"omcs": "/data/omcs_pairs.jsonl"}
    adaptation_pairs.replay = "c4_span_corruption"

in a gin file gives `omcs_lm`, `omcs_denoising`, `omcs_in_place_denoising`, `omcs_mixed`, and as
many mixtures `omcs_lm_replay`, ... with a share of the task named by `replay`, which may be one of
the user's. `mto adapt` binds both by itself. The format of the files is that of
`mto_jax.adaptation.pairs`. No TensorFlow before `register` is called.
"""

import functools
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import gin

from mto_jax.adaptation import pairs as pairs_lib
from mto_jax.adaptation.pairs import Pair
from mto_jax.errors import UserError
from mto_jax.text2text.objectives import pair_objectives
from mto_jax.text2text.registry import add_mixture, add_objectives
from mto_jax.text2text.text_files import SPLITS, held_out_hash


@gin.configurable
def adaptation_pairs(
    files: Mapping[str, str] | None = None, replay: str | None = None, replay_share: float = 0.25
) -> tuple[dict[str, str], str | None, float]:
    """Return the files of pairs of this run by name, the task to replay beside them, and its share.

    Args:
      files: name -> JSONL file; the name opens the names of the tasks.
      replay: a text corpus under a pre-training objective, such as "demo_span_corruption".
      replay_share: which part of the examples the mixtures take from `replay`.

    Raises:
      UserError: a bad name, or a share that is not between 0 and 1.
    """
    for name in files or {}:
        if not re.fullmatch(r"\w+", name):
            raise UserError(
                f"Pairs cannot be called {name!r} (adaptation_pairs.files): use letters, digits "
                "and underscores."
            )
    if not 0 < replay_share < 1:
        raise UserError(
            f"The replay share is {replay_share}; it is a part of the examples, between 0 and 1."
        )
    return dict(files or {}), replay, replay_share


def split_pairs(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """Return "train" and "validation": one per cent of the sentences, by text, is held out."""
    pairs = list(pairs)
    texts = [pairs_lib.restore(pair.body, pair.tail).encode() for pair in pairs]
    limit = held_out_hash(texts)
    parts: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    for pair, text in zip(pairs, texts, strict=True):
        parts["validation" if zlib.crc32(text) <= limit else "train"].append(pair)
    return parts


def register() -> None:
    """Register the tasks of `adaptation_pairs`; the files are read when they are used."""
    for name, path in adaptation_pairs()[0].items():
        register_pairs(name, path)


def register_pairs(name: str, path: str) -> list[str]:
    """Register a file of pairs under every pair objective; returns the tasks' names.

    A task of the same name is replaced.

    Raises:
      UserError: there is no such file.
    """
    if not os.path.isfile(path):
        raise UserError(f"There is no file of pairs {path} (adaptation_pairs.files['{name}']).")
    return add_objectives(name, functools.partial(_source, path), pair_objectives())


def register_mixtures() -> None:
    """Register every task of `adaptation_pairs` with its replayed share.

    Raises:
      UserError: the task to replay is not known, not even by the user's modules.
    """
    files, replay, share = adaptation_pairs()
    if replay is None:
        return
    for name in files:
        for objective in pair_objectives():
            task = f"{name}_{objective}"
            add_mixture(f"{task}_replay", {task: 1 - share, replay: share})


def _source(path: str):
    import seqio
    import tensorflow as tf

    def dataset(split, shuffle_files, seed=None):
        chosen = split_pairs(pairs_lib.read(path))[split]
        columns: Any = {
            field: tf.constant([getattr(pair, field) for pair in chosen], tf.string)
            for field in Pair._fields
        }
        return tf.data.Dataset.from_tensor_slices(columns)

    result = seqio.FunctionDataSource(dataset, splits=SPLITS)
    vars(result)["input_files"] = [path]
    return result
