# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Filling/Mapping classifier learns, and is the same after it was saved."""

import numpy as np
import pytest

from mto_jax import checkpoints
from mto_jax.adaptation import classifier
from mto_jax.adaptation.classifier import FILLING, MAPPING
from mto_jax.training.finetune import Tuning
from mto_jax.training.optimizers import Optimizer
from tests.matching.common import USES, VOCABULARY, model

HEADS = ("a saw", "a cup", "a pen", "a boat", "PersonX", "a tree")
GROUPS = {
    FILLING: [(head, tail) for head in HEADS for tail in ("wood", "water")],
    MAPPING: [(head, tail) for head in HEADS for tail in ("to go home", "to eat")],
}


@pytest.fixture(scope="module")
def trained():
    tune = Tuning(epochs=12, batch_size=8, optimizer=Optimizer("adam", 1e-2))
    return classifier.train_classifier(model(), GROUPS, VOCABULARY, tune, limit=32)


def test_it_learns_to_tell_words_from_phrases(trained):
    pairs = [("a dog", "wood"), ("a dog", "to eat"), ("PersonX", "water"), ("a pen", "to go home")]
    margins_N = classifier.margins(trained, pairs, VOCABULARY, limit=32)
    assert np.sign(margins_N).tolist() == [1, -1, 1, -1]


def test_it_is_the_same_after_it_was_saved(trained, tmp_path):
    classifier.save(trained, tmp_path / "run", VOCABULARY)
    again = checkpoints.open(tmp_path / "run").model(VOCABULARY)
    np.testing.assert_array_equal(
        classifier.margins(again, GROUPS[FILLING], VOCABULARY),
        classifier.margins(trained, GROUPS[FILLING], VOCABULARY),
    )


def test_pairs_are_one_for_every_reference():
    assert classifier.pairs(USES.held_out)[:2] == [
        ("a knife", "cutting bread"),
        ("a knife", "spreading butter"),
    ]


def test_a_long_pair_keeps_its_sentinel():
    source = classifier._source(("word " * 50, "tail"), VOCABULARY, 16)
    assert len(source) == 16
    assert source[-2:] == [VOCABULARY.sentinel_id(0), VOCABULARY.eos_id]
