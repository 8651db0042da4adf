# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A tiny random T5 over the demo vocabulary, and two tasks of a few records."""

import dataclasses
import functools

import jax
import numpy as np
from flax import nnx

from mto_jax.metrics import labels, text
from mto_jax.metrics.by_kind import TaskMetrics
from mto_jax.models.t5 import T5
from mto_jax.text2text.records import LabelledText, MultipleChoice, Triple
from mto_jax.text2text.task import Task
from mto_jax.text2text.templates import Wording
from mto_jax.text2text.vocabulary import vocabulary
from tests import tiny

VOCABULARY = vocabulary("demo")
LENGTHS = {"inputs": 96, "targets": 16}
CONFIG = dataclasses.replace(tiny.CONFIG, vocab_size=VOCABULARY.padded_size)


@functools.cache
def model(seed: int = 0) -> T5:
    return T5(CONFIG, nnx.Rngs(seed))


@functools.cache
def _forward():
    graphdef, parameters = nnx.split(model())
    return jax.jit(lambda batch: nnx.merge(graphdef, parameters)(batch))


def brute_force(inputs: list[int], targets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(log-probability [N], rank [N]) of the tail tokens of one example, from its sorted full
    logits."""

    def row(ids, length):
        return np.pad(np.array([ids], np.int32), ((0, 0), (0, length - len(ids))))

    batch = {
        "encoder_input_tokens": row(inputs, 64),
        "encoder_segment_ids": row([1] * len(inputs), 64),
        "decoder_input_tokens": row([0, *targets[:-1]], 32),
        "decoder_segment_ids": row([1] * len(targets), 32),
    }
    logits_TxV = np.asarray(_forward()(batch), np.float64)[0]
    first_sentinel = VOCABULARY.size - VOCABULARY.extra_ids
    log_probs, ranks = [], []
    for logits_V, token in zip(logits_TxV, targets, strict=False):
        if token != VOCABULARY.eos_id and token < first_sentinel:
            log_probs.append(logits_V[token] - np.log(np.exp(logits_V).sum()))
            ranks.append(np.argsort(-logits_V).tolist().index(token))
    return np.array(log_probs), np.array(ranks)


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

# Judged as CoLA is.
SENTENCES = Task(
    "sentences",
    "labelled_text",
    Wording("This sentence is", labels=("wrong", "right")),
    train=(LabelledText("sentences", "The cat sat.", "right"),),
    held_out=tuple(
        LabelledText("sentences", text, label)
        for text, label in (("He go.", "wrong"), ("I went.", "right"), ("Sat cat.", "wrong"))
    ),
    metrics=TaskMetrics((text.accuracy, labels.matthews), "matthews"),
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
