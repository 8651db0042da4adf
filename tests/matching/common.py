# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A tiny random T5 over the demo vocabulary, and two tasks of a few records."""

import functools

from flax import nnx

from mto_jax.matching.task import Task
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.records import MultipleChoice, Triple
from mto_jax.templates import Wording
from mto_jax.vocabulary import vocabulary

VOCABULARY = vocabulary("demo")
LENGTHS = {"inputs": 64, "targets": 16}
CONFIG = T5Config(
    vocab_size=VOCABULARY.padded_size,
    d_model=16,
    d_kv=8,
    num_heads=2,
    d_ff=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
)


@functools.cache
def model(seed: int = 0) -> T5:
    return T5(CONFIG, nnx.Rngs(seed))


def _use(head: str, *tails: str) -> Triple:
    return Triple("ObjectUse", "ObjectUse", head, tails)


USES = Task(
    "uses",
    "triple",
    Wording("is used for"),
    train=(
        _use("a saw", "cutting wood"),
        _use("a saw", "building"),
        _use("a cup", "drinking tea"),
        _use("a pen", "writing"),
    ),
    held_out=(
        _use("a knife", "cutting bread", "spreading butter"),
        _use("a boat", "fishing"),
        _use("a knife and a fork", "eating", "eating a meal at the table", "cutting"),
    ),
)

QUESTIONS = Task(
    "questions",
    "multiple_choice",
    Wording(),
    train=(MultipleChoice("qa", "Where is milk?", ("fridge", "shop"), 0),),
    held_out=(
        MultipleChoice("qa", "Where do you sleep?", ("bed", "the big old house"), 0),
        MultipleChoice("qa", "You sleep in the", ("bed", "house"), 0),
    ),
)
