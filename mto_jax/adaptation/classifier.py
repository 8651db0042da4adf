# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A T5 that tells Mask-Filling from Map-Phrasal facts by their words (method.md 3.2)."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from mto_jax.checkpoints import runs
from mto_jax.decoding import scoring
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.models.families import build
from mto_jax.text2text.records import Record, one_per_reference
from mto_jax.text2text.vocabulary import literal
from mto_jax.training import sharding
from mto_jax.training import state as states

FILLING, MAPPING = "Filling", "Mapping"

# The relations that the paper trains it on.
GROUPS = {
    **dict.fromkeys(
        ("Desires", "CapableOf", "xReact", "xAttr", "Causes", "AtLocation", "HasProperty"), FILLING
    ),
    **dict.fromkeys(("ObjectUse", "MadeUpOf"), FILLING),
    **dict.fromkeys(("xIntent", "xWant", "xEffect", "xNeed", "isAfter", "isBefore"), MAPPING),
    **dict.fromkeys(("oWant", "HasSubEvent"), MAPPING),
}

Pair = tuple[str, str]  # head and tail


def pairs(records: Sequence[Record]) -> list[Pair]:
    """Return (head, tail) for every reference of every record."""
    return [(record.head, record.references[0]) for record in one_per_reference(records)]


def _source(pair: Pair, vocabulary: Any, limit: int) -> list[int]:
    head, tail = pair
    room = limit - 2 - len(vocabulary.bos)
    ids = vocabulary.encode(literal(f"head: {head} tail: {tail}"))[:room]
    return vocabulary.source([*ids, vocabulary.sentinel_id(0)])


def _target(group: str, vocabulary: Any) -> list[int]:
    return [vocabulary.sentinel_id(0), *vocabulary.encode(group), vocabulary.eos_id]


def train_classifier(
    model: EncoderDecoder,
    groups: Mapping[str, Sequence[Pair]],
    vocabulary: Any,
    tune: Callable[..., EncoderDecoder],
    *,
    limit: int = 128,
    seed: int = 0,
) -> EncoderDecoder:
    """Train a classifier from `model` on {FILLING: pairs, MAPPING: pairs} and return it.

    Args:
      tune: trains a copy of the model, `tune(model, examples, seed=...)`: a `finetune.Tuning`.
      limit: most tokens of a source.
    """
    examples = [
        (_source(pair, vocabulary, limit), _target(group, vocabulary))
        for group, members in groups.items()
        for pair in members
    ]
    return tune(model, examples, seed=seed)


def margins(
    classifier: EncoderDecoder, pairs: Sequence[Pair], vocabulary: Any, *, limit: int = 128
) -> np.ndarray:
    """Return log P(Filling) - log P(Mapping) of every pair, float [N], natural logarithm."""
    targets = [_target(group, vocabulary) for group in (FILLING, MAPPING)]
    sources = [_source(pair, vocabulary, limit) for pair in pairs]
    scored = scoring.score_choices(classifier, sources, [targets] * len(sources), vocabulary)
    return np.array([sums[0] - sums[1] for sums, _ in scored])


def save(model: EncoderDecoder, model_dir: str | pathlib.Path, vocabulary: Any) -> None:
    """Write a trained model as a run directory with one checkpoint, which `load_model` reads."""
    spec = states.abstract_model(functools.partial(build, model.config))
    mesh = sharding.mesh(1, 1, 1, devices=jax.local_devices()[:1], slices=1)
    target = states.abstract_state(spec, list(spec.shapes), optax.identity(), mesh)
    named = dict(zip(spec.shapes, jax.tree.leaves(nnx.state(model)), strict=True))
    identity = {
        "model": dataclasses.asdict(model.config),
        "vocabulary": {"name": vocabulary.path, "digest": vocabulary.digest},
    }
    checkpointer = runs.Checkpointer(model_dir, identity)
    checkpointer.save(states.start(target, named, optax.identity(), seed=0), None)
    checkpointer.close()
