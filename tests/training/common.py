# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A tiny T5, random packed batches and a state on a mesh, for the tests of training."""

import functools

import jax
import numpy as np

from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state, step
from mto_jax.training.optimizers import Optimizer
from tests import tiny

TINY = tiny.TWO_LAYERS


def batch(seed: int, rows: int = 8, source: int = 12, target: int = 10) -> dict[str, np.ndarray]:
    """A packed batch: each row holds two examples of random lengths, then padding."""
    rng = np.random.default_rng(seed)

    def segments(length):
        first = rng.integers(2, length // 2, rows)[:, None]
        second = first + rng.integers(1, length // 2, rows)[:, None]
        place = np.arange(length)[None]
        ids = (1 + (place >= first)) * (place < second)
        return ids.astype(np.int32), np.where(ids == 2, place - first, place).astype(np.int32)

    source_ids, source_positions = segments(source)
    target_ids, target_positions = segments(target)
    targets = rng.integers(2, 64, (rows, target), dtype=np.int32) * (target_ids > 0)
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1] * (target_positions > 0)
    return {
        "encoder_input_tokens": rng.integers(2, 64, (rows, source), dtype=np.int32)
        * (source_ids > 0),
        "encoder_segment_ids": source_ids,
        "encoder_positions": source_positions,
        "decoder_input_tokens": shifted.astype(np.int32),
        "decoder_target_tokens": targets.astype(np.int32),
        "decoder_segment_ids": target_ids,
        "decoder_positions": target_positions,
        "decoder_loss_weights": (target_ids > 0).astype(np.float32),
    }


class Setup:
    """Everything that a step needs, on a mesh of the first devices. Get one from `setup`."""

    def __init__(
        self,
        *,
        mesh=(1, 1, 1),
        config=TINY,
        trainable="all",
        optimizer=None,
        microbatches=1,
        seed=0,
        train_steps=10,
        reduce_dtype="float32",
    ):
        self.mesh = sharding.mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))])
        self.spec = state.abstract_model(functools.partial(T5, config))
        self.names = state.trainable_names(list(self.spec.shapes), trainable)
        optimizer = optimizer or Optimizer("adamw", learning_rate=1e-2)
        self.optimizer = optimizer.build(train_steps)
        self.target = state.abstract_state(self.spec, self.names, self.optimizer, self.mesh)
        self.loss = step.t5_loss(self.spec, self.mesh, reduce_dtype=reduce_dtype)
        parameters = self.spec.initialise(jax.random.key(seed), self.mesh)
        self.initial = jax.device_get(state.start(self.target, parameters, self.optimizer, seed))
        self.reset()
        self.zeros = step.zero_totals(self.loss, self.target, batch(0))
        self.program = step.compile_step(
            step.train_step(
                self.loss, self.optimizer, optimizer.rate(train_steps), microbatches=microbatches
            ),
            self.target,
            self.zeros,
            step.abstract_batch(8, {"inputs": 12, "targets": 10}, self.mesh),
            self.mesh,
        )

    def reset(self):
        """Back to the state before the first step."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.target)
        self.state = jax.device_put(self.initial, shardings)

    def totals(self):
        return jax.device_put(self.zeros, sharding.replicated(self.mesh))

    def place(self, rows):
        return sharding.place(rows, self.mesh)

    def train(self, steps, **options):
        """Loss of each of `steps` steps; `self.state` moves on."""
        losses = []
        for number in range(steps):
            rows = self.place(batch(number, **options))
            self.state, totals = self.program(self.state, self.totals(), rows)
            losses.append(float(totals["loss"] / totals["weight"]))
        return losses


_made: dict[str, Setup] = {}


def setup(**options) -> Setup:
    """A `Setup` before its first step; compiled once for the options."""
    key = repr(sorted(options.items()))
    if key not in _made:
        _made[key] = Setup(**options)
    _made[key].reset()
    return _made[key]
