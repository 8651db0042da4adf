# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives as steps of SeqIO tasks: no text is lost, noise follows from the seed."""

from unittest import mock

import gin
import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from mto_jax.errors import UserError
from mto_jax.text2text.objectives import OBJECTIVES, PAIR, pair_objectives, register_objective
from mto_jax.text2text.preprocessing import chunks, preprocessor
from mto_jax.text2text.vocabulary import features, literal, vocabulary
from tests.text2text.test_objectives import filled

LENGTHS = {"inputs": 64, "targets": 40}
VOCAB = vocabulary("demo")


@given(st.integers(0, 200), st.integers(3, 60))
def test_chunks_lose_nothing(length, longest):
    tokens = np.arange(length)
    made = [chunk.tolist() for chunk in chunks(tokens, longest)]
    assert [token for chunk in made for token in chunk] == (tokens.tolist() if length > 1 else [])
    assert all(2 <= len(chunk) <= longest for chunk in made)
    assert len(made) == (-(-length // longest) if length > 1 else 0)


DOCUMENTS = [f"{i} The quick brown fox jumps over the lazy dog. " * (1 + i % 5) for i in range(150)]


def run(name: str, fields: dict, lengths=LENGTHS, seed: int | None = 0, **kwargs) -> list[dict]:
    """The examples of a SeqIO task of this objective."""
    task = seqio.Task(
        "task",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(fields),
            splits=["train"],
        ),
        preprocessors=[preprocessor(name)],
        output_features=features(VOCAB),
    )
    dataset = task.get_dataset(lengths, "train", shuffle=False, seed=seed, **kwargs)
    return [
        {key: value.tolist() for key, value in ex.items()} for ex in dataset.as_numpy_iterator()
    ]


def tokens_of(examples: list[dict], key: str) -> list[int]:
    assert all(example[key][-1] == VOCAB.eos_id for example in examples)
    return [token for example in examples for token in example[key][:-1]]


def test_task_keeps_all_text_in_order():
    examples = run("full_lm", {"text": DOCUMENTS})
    assert all(example["inputs"] == [VOCAB.eos_id] for example in examples)
    assert max(len(example["targets"]) for example in examples) == LENGTHS["targets"]
    assert tokens_of(examples, "targets") == [t for d in DOCUMENTS for t in VOCAB.encode(d)]

    restored = []
    for example in run("span_corruption", {"text": DOCUMENTS}):
        restored += filled(np.array(example["inputs"][:-1]), np.array(example["targets"][:-1]))
    assert restored == tokens_of(examples, "targets")


def test_task_is_deterministic_in_its_seed():
    first, again, other = (run("span_corruption", {"text": DOCUMENTS}, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == len(other)


def test_passes_draw_new_noise():
    twice = run("deshuffling", {"text": DOCUMENTS[:64]}, num_epochs=2)
    half = len(twice) // 2
    assert [a["targets"] for a in twice[:half]] == [b["targets"] for b in twice[half:]]
    same = sum(a["inputs"] == b["inputs"] for a, b in zip(twice[:half], twice[half:], strict=True))
    assert same < half / 4, "only fragments of two or three tokens may come out alike"


def test_sentinels_spelled_in_raw_text_are_text():
    ids = [*VOCAB.encode(literal("a <extra_id_0> b")), VOCAB.eos_id]
    assert max(ids) < VOCAB.words.stop
    [example] = run("full_lm", {"text": ["a <extra_id_0> b"]})
    assert example["targets"] == ids
    # Of a pair's body the first <extra_id_0> is the gap, and nothing else is a sentinel.
    fields = {"body": ["<extra_id_1> or <extra_id_0> <extra_id_0>"], "tail": ["a <extra_id_2>"]}
    [example] = run("in_place_denoising", fields, {"inputs": 99, "targets": 99})
    sentinels = [i for side in example.values() for i in side if i >= VOCAB.words.stop]
    assert sentinels == [VOCAB.sentinel_id(0)] * 2
    assert VOCAB.decode(example["inputs"]).count("extra_id_") == 3


def test_task_of_pairs():
    fields = {
        "body": ["birds fly", "birds fly", "", "birds"],
        "tail": ["south", "south", "x", ""],
        "label": ["Filling", "Mapping", "Filling", "Filling"],
    }
    filling, mapping = run("mixed", fields)
    assert filling["inputs"] == [*VOCAB.encode("birds fly <extra_id_0>"), VOCAB.eos_id]
    assert filling["targets"] == [*VOCAB.encode("<extra_id_0> south"), VOCAB.eos_id]
    assert mapping["inputs"] == [*VOCAB.encode("birds fly"), VOCAB.eos_id]
    assert mapping["targets"] == [*VOCAB.encode("south"), VOCAB.eos_id]


def test_a_pair_whose_tail_is_inside_a_sentence_is_left_out():
    fields = {"body": ["birds fly <extra_id_0> now", "birds fly <extra_id_0> ."]}
    [example] = run("lm", fields | {"tail": ["south", "north"]})
    assert example["targets"] == [*VOCAB.encode("north"), VOCAB.eos_id]


def test_preprocessor_errors():
    with pytest.raises(UserError, match="Did you mean 'span_corruption'"):
        preprocessor("span_coruption")
    with pytest.raises(UserError, match="has only body, tail: add label"):
        run("mixed", {"body": ["a"], "tail": ["b"]})
    with pytest.raises(UserError, match="too short"):
        run("span_corruption", {"text": DOCUMENTS}, {"inputs": 3, "targets": 3})
    with pytest.raises(UserError, match="needs TASK_FEATURE_LENGTHS"):
        run("span_corruption", {"text": DOCUMENTS}, None)


@mock.patch.dict(OBJECTIVES)
def test_a_registered_objective_is_one_like_the_others():
    @register_objective()
    def rotation(tokens, rng, vocab, lengths, *, by: int = 1):
        return np.roll(tokens, by), tokens

    gin.parse_config("rotation.by = 2")
    [example] = run("rotation", {"text": ["birds fly south"]})
    ids = VOCAB.encode("birds fly south")
    assert example["inputs"] == [*ids[-2:], *ids[:-2], VOCAB.eos_id]
    assert example["targets"] == [*ids, VOCAB.eos_id]
    assert "rotation" not in pair_objectives()

    @register_objective(fields=PAIR)
    def swapped(pair, rng, vocab, lengths):
        return pair.tail, pair.body

    assert "swapped" in pair_objectives()
    [example] = run("swapped", {"body": ["birds fly"], "tail": ["south"]})
    assert example["targets"] == [*VOCAB.encode("birds fly"), VOCAB.eos_id]
    with pytest.raises(UserError, match="There is an objective 'swapped' already"):
        register_objective()(swapped)
