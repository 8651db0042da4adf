# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small SeqIO tasks for the tests of preparing and loading. Imported as a user's module would
be."""

import os

import numpy as np
import seqio
import tensorflow as tf

from mto_jax import errors
from mto_jax.text2text import vocabulary

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "looked",
    "for",
    "mice",
    "near",
    "old",
    "houses",
    "while",
    "rain",
    "fell",
]


def sentences(count: int, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "inputs": f"{i} " + " ".join(rng.choice(WORDS, rng.integers(2, 12))),
            "targets": " ".join(rng.choice(WORDS, rng.integers(1, 6))),
            "references": [f"one {i}", "zwei é"],
            "number": i,
        }
        for i in range(count)
    ]


def source(count: int, seed: int, fails: str = "") -> seqio.FunctionDataSource:
    def dataset(split, shuffle_files=False, seed_=None, **_):
        def generate():
            yield from sentences(count, seed)
            if fails:
                raise errors.UserError(fails)

        return tf.data.Dataset.from_generator(
            generate,
            output_signature={
                "inputs": tf.TensorSpec((), tf.string),
                "targets": tf.TensorSpec((), tf.string),
                "references": tf.TensorSpec((None,), tf.string),
                "number": tf.TensorSpec((), tf.int64),
            },
        )

    return seqio.FunctionDataSource(
        lambda split, shuffle_files, seed=None: dataset(split),
        splits=["train", "validation"],
        num_input_examples={"train": count, "validation": count},
    )


@seqio.map_over_dataset(num_seeds=1)
def noise(example, seed):
    """Puts a random word in front, as an objective puts random noise."""
    number = tf.random.stateless_uniform((), seed, 0, len(WORDS), tf.int32)
    word = tf.gather(tf.constant(WORDS), number)
    return {**example, "inputs": word + " " + example["inputs"]}


def shares_a_word(targets, predictions):
    return {"shares_a_word": float(len(targets) == len(predictions))}


def add(name: str, data_source: seqio.DataSource, *first, last=(), features=None) -> None:
    seqio.TaskRegistry.add(
        name,
        source=data_source,
        preprocessors=[
            *first,
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
            *last,
        ],
        output_features=features or vocabulary.features(vocabulary.vocabulary()),
        metric_fns=[shares_a_word],
    )


add("toy_one", source(count=300, seed=1))
add("toy_two", source(count=50, seed=2))
add("toy_noisy", source(count=40, seed=3), noise)
add("toy_fails", source(count=3, seed=3, fails="facts.tsv, line 4: the field 'tail' is empty."))
add("toy_empty", source(count=3, seed=3), last=[lambda dataset: dataset.filter(lambda _: False)])
seqio.MixtureRegistry.add("toy_pair", [("toy_one", 1.0), ("toy_two", lambda task: 2.0)])
seqio.MixtureRegistry.add("toy_nested", [("toy_pair", 3.0), ("toy_noisy", 1.0)])


def line_to_pair(dataset):
    return dataset.map(lambda line: {"inputs": line, "targets": line})


# A file whose place the test chooses.
add("toy_lines", seqio.TextLineDataSource({"train": os.environ["TOY_LINES"]}), line_to_pair)
