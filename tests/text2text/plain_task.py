# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A task that a user's module adds to SeqIO itself, with a preprocessor and a metric of its own."""

import contextlib

import seqio
import tensorflow as tf

from mto_jax.text2text import vocabulary

NAME = "plain_capitals"
ROWS = {
    "train": [
        ("France", "Paris"),
        ("Spain", "Madrid"),
        ("Spain", "Toledo"),  # as once it was
        ("Italy", "Rome"),
        ("Peru", "Lima"),  # a row of validation, too
    ],
    "validation": [("Norway", "Oslo"), ("Peru", "Lima")],
    "test": [("Chad", "Djamena"), ("Kenya", "Nairobi"), ("Japan", "none")],
}


def source(place: str) -> str:
    return f"<extra_id_0> is  the capital of {place}."


def same_length(targets, predictions):
    """The share of predictions as long as the target; SeqIO gives one text for each target."""
    assert all(isinstance(target, str) for target in targets)
    pairs = zip(targets, predictions, strict=True)
    return {"same_length": sum(len(t) == len(p) for t, p in pairs) / len(targets)}


def _rows(split, shuffle_files=False, seed=None):
    del shuffle_files, seed
    places, capitals = zip(*ROWS[split], strict=True)
    return tf.data.Dataset.from_tensor_slices({"place": [*places], "capital": [*capitals]})


@seqio.map_over_dataset
def ask(row):
    return {
        "inputs": tf.strings.join(["<extra_id_0> is  the capital of ", row["place"], "."]),
        "targets": tf.strings.join(["<extra_id_0> ", row["capital"]]),
    }


@contextlib.contextmanager
def added(name: str = NAME, last=(seqio.preprocessors.append_eos,), metrics=(same_length,)):
    """The task, in SeqIO's registry; gone afterwards."""
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(_rows, splits=[*ROWS]),
        preprocessors=[ask, seqio.preprocessors.tokenize, *last],
        output_features=vocabulary.features(vocabulary.vocabulary("demo")),
        metric_fns=list(metrics),
    )
    try:
        yield name
    finally:
        seqio.TaskRegistry.remove(name)
