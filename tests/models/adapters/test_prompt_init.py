# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where prompts start: rows of the embedding, looked up by hand, and what cannot be."""

import dataclasses

import numpy as np
import pytest

from mto_jax.checkpoints.peft import prompt_rows, save_adapter
from mto_jax.errors import UserError
from mto_jax.models.adapters import Adapters, LoRA, PrefixTuning, PromptTuning
from mto_jax.models.adapters.prompt_init import PromptInit
from tests.matching.common import USES, VOCABULARY

V, D = VOCABULARY.padded_size, 6
EMBEDDING = np.random.default_rng(0).normal(size=(V, D)).astype(np.float32)


def worded(**wording):
    return dataclasses.replace(USES, wording=dataclasses.replace(USES.wording, **wording))


def table(init, length=5, task=USES, seed=0):
    adapters = Adapters.of(PromptTuning(length))
    parameters = init.parameters(adapters, EMBEDDING, task, VOCABULARY, prompt_rows, seed)
    return parameters.get("prompt.table")


def test_uniform_is_left_to_the_model():
    assert table(PromptInit()) is None


def test_a_phrase_is_repeated_or_cut():
    ids = VOCABULARY.encode("is used for")
    assert 1 < len(ids) < 5
    found = table(PromptInit("phrase"), length=7)
    np.testing.assert_array_equal(found, EMBEDDING[(ids * 7)[:7]])
    np.testing.assert_array_equal(table(PromptInit("phrase"), length=1), EMBEDDING[ids[:1]])
    # The places of head and gap in a phrase are no words of it.
    around = table(PromptInit("phrase"), task=worded(phrase="H is T used for"))
    np.testing.assert_array_equal(around, table(PromptInit("phrase")))


def test_a_text_is_looked_up():
    ids = VOCABULARY.encode("to earn money")
    found = table(PromptInit("text", text="to earn money"), length=len(ids))
    np.testing.assert_array_equal(found, EMBEDDING[ids])


def rows_of(found):
    """The ids whose rows these are."""
    return [int(np.flatnonzero((row == EMBEDDING).all(axis=1))[0]) for row in found]


def test_the_vocabulary_is_sampled_among_the_most_frequent():
    init = PromptInit("vocabulary", top_k=40)
    first, again, other = (rows_of(table(init, 20, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 20
    # The demo's pieces are sorted by frequency: 0 to 2 are pad, EOS and unknown.
    assert set(first) | set(other) <= set(range(3, 43))
    assert max(rows_of(table(init, 60))) <= 42  # more rows than pieces: some come twice
    every = VOCABULARY.frequent_ids(10**6)
    assert every == list(range(3, VOCABULARY.words.stop))


def test_labels_come_first_as_the_mean_of_their_pieces():
    labels = ("positive", "to earn money")
    init = PromptInit("labels", top_k=40)
    found = table(init, 4, worded(labels=labels))
    for row, label in zip(found, labels, strict=False):
        np.testing.assert_allclose(row, EMBEDDING[VOCABULARY.encode(label)].mean(axis=0), rtol=1e-6)
    assert set(rows_of(found[2:])) <= set(range(3, 43))
    assert table(init, 1, worded(labels=labels)).shape == (1, D)


def test_a_file_or_the_prompt_of_another_task(tmp_path):
    rows = np.random.default_rng(1).normal(size=(5, D)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    save_adapter(tmp_path / "task", Adapters.of(PromptTuning(5)), {"prompt.table": rows}, {})
    for name in ("rows.npy", "task"):
        np.testing.assert_array_equal(table(PromptInit("file", path=str(tmp_path / name))), rows)
    identity = PromptInit("file", path=str(tmp_path / "task")).identity(prompt_rows)
    assert identity == PromptInit("file", path=str(tmp_path / "rows.npy")).identity(prompt_rows)
    np.save(tmp_path / "rows.npy", rows + 1)
    assert identity != PromptInit("file", path=str(tmp_path / "rows.npy")).identity(prompt_rows)


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'vocabulary'"):
        PromptInit("vocabulry")
    with pytest.raises(UserError, match="PromptInit.text belongs to PromptInit.kind = 'text'"):
        PromptInit("text")
    with pytest.raises(UserError, match="PromptInit.path belongs to PromptInit.kind = 'file'"):
        PromptInit("phrase", path="a.npy")
    with pytest.raises(UserError, match="top_k is 0"):
        PromptInit("vocabulary", top_k=0)
    with pytest.raises(UserError, match="task uses has no phrase"):
        table(PromptInit("phrase"), task=worded(phrase=""))
    with pytest.raises(UserError, match="task uses has no labels"):
        table(PromptInit("labels"))
    np.save(tmp_path / "short.npy", np.zeros((4, D), np.float32))
    np.save(tmp_path / "wide.npy", np.zeros((5, D + 1), np.float32))
    for name, length, width in (("short", 4, D), ("wide", 5, D + 1)):
        with pytest.raises(UserError, match=f"length {length} and the width {width}; 5 .* {D} "):
            table(PromptInit("file", path=str(tmp_path / f"{name}.npy")))
    prefix = {"encoder.layers.attention.prefix.key": np.zeros((1, 2, 1, 1), np.float32)}
    save_adapter(tmp_path / "prefix", Adapters.of(PrefixTuning(2)), prefix, {})
    with pytest.raises(UserError, match="without a prompt"):
        table(PromptInit("file", path=str(tmp_path / "prefix")))


def test_which_adapters_can_start_so():
    PromptInit().check(Adapters.of(LoRA(2)))
    PromptInit("phrase").check(Adapters.of(PromptTuning(2, encoder="residual")))
    with pytest.raises(UserError, match="the adapter lora2 has none"):
        PromptInit("phrase").check(Adapters.of(LoRA(2)))
    with pytest.raises(UserError, match="encoder 'mlp' cannot start"):
        PromptInit("phrase").check(Adapters.of(PromptTuning(2, encoder="mlp")))
