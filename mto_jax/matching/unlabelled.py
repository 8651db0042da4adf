# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Estimate from unlabelled text: the form that the model prefers for the end of sentences.

A sentence is cut before its tail. The tail's loss is taken twice, as a plain continuation and
behind a sentinel:

    a knife is used for              ->  cutting bread                    language modelling
    a knife is used for <extra_id_0> ->  <extra_id_0> cutting bread       denoising

How much better the second form does depends first of all on how the model was pre-trained. So the
same is measured on a piece of the same sentence that is cut elsewhere, with a tail of as many
words, and what counts is the difference between the two. No label and no gold answer is needed:
only sentences and the phrase.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mto_jax.matching.teacher_forcing import tail_scores
from mto_jax.matching.verdict import Verdict, judge, ratio
from mto_jax.models.encoder_decoder import EncoderDecoder

Cut = tuple[str, str]  # body and tail


def cut_at(sentence: str, phrase: str) -> Cut | None:
    """The sentence cut behind the words of a phrase (behind the head, of a phrase that wraps it).

    >>> cut_at("a knife is used for cutting bread", "is used for")
    ('a knife is used for', 'cutting bread')
    """
    words = phrase.rpartition("H")[2].strip()
    before, separator, tail = sentence.partition(f" {words} ")
    if not (words and separator and before.strip() and tail.strip()):
        return None
    return f"{before} {words}", tail.strip()


def cut_elsewhere(cut: Cut, rng: np.random.Generator) -> Cut | None:
    """A piece of the sentence from its start, with a tail of as many words but not the same one.

    None where the sentence is too short for another.
    """
    body, tail = (part.split() for part in cut)
    words, size = body + tail, len(tail)
    if len(body) < 2:
        return None
    start = int(rng.integers(1, len(body)))
    return " ".join(words[:start]), " ".join(words[start : start + size])


def preferences(model: EncoderDecoder, cuts: Sequence[Cut], vocabulary: Any) -> np.ndarray:
    """Loss of the tail as a continuation less its loss behind a sentinel, nats per token [N]."""
    sentinel, eos = vocabulary.sentinel_id(0), vocabulary.eos_id
    ids = [(vocabulary.encode(body), vocabulary.encode(tail)) for body, tail in cuts]
    source = vocabulary.source
    plain = [(source(body), [*tail, eos]) for body, tail in ids]
    masked = [(source([*body, sentinel]), [sentinel, *tail, eos]) for body, tail in ids]
    scored = tail_scores(model, [*plain, *masked], vocabulary)
    means = np.array([np.mean(scores.log_prob_N) for scores in scored])
    return means[len(cuts) :] - means[: len(cuts)]


def unlabelled(task: str, model: EncoderDecoder, cuts: Sequence[Cut], vocabulary: Any) -> Verdict:
    """The preference at the phrase less that elsewhere in the same sentences."""
    rng = np.random.default_rng(0)
    both = [(cut, other) for cut in cuts if (other := cut_elsewhere(cut, rng))]
    here_N = preferences(model, [cut for cut, _ in both], vocabulary)
    elsewhere_N = preferences(model, [other for _, other in both], vocabulary)
    return judge(
        task,
        "unlabelled",
        ratio(here_N - elsewhere_N, np.ones_like(here_N)),
        templates={"at the phrase": float(here_N.mean()), "elsewhere": float(elsewhere_N.mean())},
    )
