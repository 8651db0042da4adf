# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models by objective: what they train on, and what is refused."""

import pytest

from mto_jax.adaptation.make import PairConfig
from mto_jax.adaptation.pairs import Pair
from mto_jax.decoding.model import Model
from mto_jax.errors import UserError
from mto_jax.matching import adapted
from mto_jax.matching.adapted import AdaptedModels
from mto_jax.training.finetune import Tuning
from tests.decoding import tiny

LENGTHS = {"inputs": 8, "targets": 8}


def models(pairs: PairConfig | None) -> AdaptedModels:
    network = tiny.model()
    model = Model(network.config, tiny.Numbers(), "in memory", lambda: network)
    return AdaptedModels(model, None, pairs, Tuning(), LENGTHS, None)


def test_no_adaptation_is_the_model_itself():
    unadapted = models(None)
    assert unadapted("none") is unadapted.model.network


def test_a_model_in_memory_has_no_splitter():
    for method, groups in (("splitter", "length"), ("phrases", "classifier")):
        pairs = PairConfig("demo", method=method, groups=groups, max_pairs=5)
        with pytest.raises(UserError, match="Splitter and classifier start from a checkpoint"):
            models(pairs)("denoising")


def test_pairs_under_an_objective():
    """The pairs of sentences (body with its gap, tail) without those that have an empty side."""
    numbers = tiny.Numbers()
    sides = [
        ("5 6 <extra_id_0>", "7"),
        ("", "8"),
        ("9 <extra_id_0>", ""),
        ("10 <extra_id_0>", "11"),
    ]
    pairs = [Pair(body, tail, "Mapping", "here:1") for body, tail in sides]
    gap, eos = numbers.sentinel_id(0), numbers.eos_id
    assert adapted.examples(pairs, "denoising", numbers, LENGTHS) == [
        ([5, 6, gap, eos], [gap, 7, eos]),
        ([10, gap, eos], [gap, 11, eos]),
    ]
    assert adapted.examples(pairs, "lm", numbers, LENGTHS) == [
        ([5, 6, eos], [7, eos]),
        ([10, eos], [11, eos]),
    ]
