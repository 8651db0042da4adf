# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The step: the same numbers on every mesh, in microbatches, and by plain gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mto_jax.models.adapters import Adapters, PromptTuning
from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state, step
from mto_jax.training.optimizers import Optimizer

from .common import TINY, batch, setup

STEPS = 4
DTYPES = "float32", "bfloat16"


@pytest.fixture(scope="module")
def single():
    one = setup()
    losses = one.train(STEPS)
    return losses, jax.device_get(one.state)


@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 4, 2), (2, 2, 2)])
def test_every_mesh_gives_the_loss_curve_of_one_device(single, mesh):
    losses, state = single
    many = setup(mesh=mesh)
    np.testing.assert_allclose(many.train(STEPS), losses, rtol=1e-5)
    for name, value in state.trainable.items():
        np.testing.assert_allclose(many.state.trainable[name], value, atol=2e-4)


def test_microbatches_give_the_big_batch(single):
    losses, _ = single
    many = setup(mesh=(2, 1, 1), microbatches=4)
    np.testing.assert_allclose(many.train(STEPS), losses, rtol=1e-5)


def test_gradients_summed_in_bfloat16_are_those_in_float32_to_rounding():
    """Parts of 4 devices and 2 microbatches; microbatches themselves are summed in float32."""
    options = {"optimizer": Optimizer("sgd", 1.0, clip_norm=None), "mesh": (1, 4, 1)}
    exact, rounded = (setup(microbatches=2, reduce_dtype=d, **options) for d in DTYPES)
    before = exact.initial.trainable
    for one in (exact, rounded):
        one.train(1)
    errors = {}
    for name, value in before.items():
        gradient = value - np.asarray(exact.state.trainable[name])
        found = value - np.asarray(rounded.state.trainable[name])
        errors[name] = np.linalg.norm(found - gradient) / np.linalg.norm(gradient)
    assert max(errors.values()) < 1e-2
    # All weight matrices are rounded; norms, biases and the embedding are not by themselves.
    matrices = [name for name, value in before.items() if value.ndim == 3] + ["lm_head"]
    assert min(errors[name] for name in matrices) > 1e-4


def test_the_gradient_is_that_of_the_mean_over_all_target_tokens():
    """Checked against the plain logits, with unequal weights in the rows."""
    plain = setup(optimizer=Optimizer("sgd", 1.0, clip_norm=None), microbatches=2)
    rows = batch(3)
    rows["decoder_loss_weights"][1::2] *= 0.25

    def mean_loss(parameters):
        logits_BxTxV = plain.spec.merge(parameters)(rows)
        losses_BxT = optax.softmax_cross_entropy_with_integer_labels(
            logits_BxTxV, rows["decoder_target_tokens"]
        )
        weights_BxT = rows["decoder_loss_weights"]
        return jnp.sum(losses_BxT * weights_BxT) / jnp.sum(weights_BxT)

    before = plain.initial.trainable
    gradients = jax.jit(jax.grad(mean_loss))(before)
    state, totals = plain.program(plain.state, plain.totals(), plain.place(rows))
    for name, gradient in gradients.items():
        np.testing.assert_allclose(before[name] - state.trainable[name], gradient, atol=2e-5)
    np.testing.assert_allclose(totals["gradient_norm"], optax.tree.norm(gradients), rtol=1e-4)


def test_totals_add_up_and_count_what_is_no_padding():
    one = setup()
    totals, tokens, weight = one.totals(), 0, 0.0
    for number in range(3):
        rows = batch(number)
        tokens += (rows["encoder_segment_ids"] > 0).sum() + (rows["decoder_segment_ids"] > 0).sum()
        weight += rows["decoder_loss_weights"].sum()
        one.state, totals = one.program(one.state, totals, one.place(rows))
    assert totals["steps"] == 3
    assert totals["tokens"] == tokens
    assert totals["weight"] == weight
    assert totals["examples"] == 3 * 8 * 2
    assert totals["places"] == 3 * 8 * (12 + 10)
    assert totals["bad_step"] == step.NO_BAD_STEP
    assert one.state.step == 3


def test_the_first_bad_step_is_named():
    one = setup()
    totals = one.totals()
    for number in range(4):
        rows = batch(number)
        if number == 1:
            rows["decoder_loss_weights"][0, 0] = np.inf
        one.state, totals = one.program(one.state, totals, one.place(rows))
    assert totals["bad_step"] == 2


def test_dropout_depends_on_step_and_seed_alone():
    still = setup(
        config=dataclasses.replace(TINY, dropout_rate=0.5), optimizer=Optimizer("sgd", 0.0)
    )
    rows = still.place(batch(0))

    def losses():
        still.reset()
        for _ in range(3):
            still.state, totals = still.program(still.state, still.totals(), rows)
            yield float(totals["loss"])

    first = list(losses())
    assert len(set(first)) == 3  # same parameters, same batch, another step
    assert list(losses()) == first
    evaluate = jax.jit(step.evaluation_step(still.loss))
    parameters = still.state.trainable
    sums = evaluate(parameters, rows)
    assert sums["loss"] == evaluate(parameters, rows)["loss"] != first[0]
    assert sums["weight"] == batch(0)["decoder_loss_weights"].sum()


def test_every_seed_step_and_microbatch_has_a_dropout_key_of_its_own():
    M = 3
    rows = {
        "encoder_segment_ids": np.ones((M, 1), np.int32),
        "decoder_segment_ids": np.ones((M, 1), np.int32),
        "number": np.arange(M)[:, None],
    }

    def loss(parameters, batch, key):
        draw = jax.random.uniform(key)
        sums = {"loss": draw, "weight": 1.0, "draws": draw * jax.nn.one_hot(batch["number"][0], M)}
        return parameters["w"] * draw, sums

    optimizer = optax.sgd(0.1)
    program = jax.jit(step.train_step(loss, optimizer, lambda _: 0.1, microbatches=M))

    def draws(seed):
        w = {"w": jnp.ones(())}
        key = jax.random.key_data(jax.random.key(seed))
        now = state.TrainState(jnp.int32(0), w, {}, optimizer.init(w), key)
        for _ in range(2):
            now, totals = program(now, step.zero_totals(loss, now, rows), rows)
            yield from np.ravel(totals["draws"]).tolist()

    found = [*draws(0), *draws(1)]
    assert len(set(found)) == len(found) == 2 * 2 * M
    assert found == [*draws(0), *draws(1)]


def test_other_shapes_raise_instead_of_compiling():
    one = setup()
    with pytest.raises(TypeError):
        one.program(one.state, one.totals(), one.place(batch(0, rows=16)))


def test_the_state_is_donated():
    one = setup()
    old = one.state
    one.train(1)
    assert old.trainable["embedding"].is_deleted()


def test_the_loss_counts_the_penalties_of_adapters():
    """An anchor weighs the distance of the rows, per target token as the rest of the loss."""
    adapters = Adapters.of(PromptTuning(2, anchor=0.5))
    spec = state.abstract_model(functools.partial(T5, TINY, adapters=adapters))
    mesh = sharding.mesh(1, 1, 1, devices=jax.devices()[:1])
    parameters = spec.split(spec.build(nnx.Rngs(0)))
    loss = step.t5_loss(spec, mesh)
    before, sums = loss(parameters, batch(0), None)
    np.testing.assert_allclose(before, sums["loss"], rtol=1e-6)
    # No token of the batch is soft, so the rows move the penalty alone.
    parameters["prompt.table"] += 2.0
    moved, sums = loss(parameters, batch(0), None)
    np.testing.assert_allclose(moved - before, 0.5 * 4.0 * sums["weight"], rtol=1e-4)
    np.testing.assert_allclose(sums["loss"], before, rtol=1e-6)
