# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Held-out heads are found in sentences, by a brute-force search's measure, and nothing else is."""

import random
import re

import gin

from mto_jax.adaptation import held_out
from mto_jax.adaptation.held_out import Heads
from mto_jax.text2text import registration
from mto_jax.text2text.records import Triple


def test_heads_are_found_as_whole_words():
    heads = Heads(["a knife", "PersonX makes ___ for dinner", "bee"])
    assert heads.in_text("Use A  KNIFE!")
    assert heads.in_text("If personx makes ___ for dinner, they eat")
    assert heads.in_text("the 'bee' flies")
    assert not heads.in_text("a kitchen knife")
    assert not heads.in_text("bees fly")
    assert not Heads([]).in_text("anything")
    assert not Heads(["", " . "]).in_text("anything.")


def test_as_a_brute_force_search_says():
    rng = random.Random(0)
    words = ["a", "b", "c", "d"]
    heads = [" ".join(rng.choices(words, k=rng.randint(2, 5))) for _ in range(20)]
    fast = Heads(heads)
    found = 0
    for _ in range(300):
        text = " ".join(rng.choices(words, k=rng.randint(1, 9)))
        expected = any(re.search(rf"(^| ){re.escape(head)}( |$)", text) for head in heads)
        assert fast.in_text(text) == expected
        found += expected
    assert 0 < found < 300


def test_heads_of_all_splits_but_the_training_split_are_read(monkeypatch):
    def reader(split):
        return lambda: [Triple("uses", "uses", f"{split} head", ("tail", "other"))]

    monkeypatch.setattr(registration, "DATA_SETS", dict(registration.DATA_SETS))
    gin.bind_parameter("vocabulary.name", "demo")  # where SeqIO is loaded, its tasks are added
    splits = {split: reader(split) for split in ("train", "validation", "test")}
    registration.register_records("uses", kind="triple", splits=splits, phrase="is used for")
    heads = held_out.read_heads(["uses"])
    assert heads.in_text("a test head here")
    assert heads.in_text("a validation head here")
    assert not heads.in_text("a train head here")
    assert not held_out.read_heads([]).in_text("a test head here")
