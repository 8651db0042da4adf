# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small trainings in memory: by plain gradients, and without touching the model they start from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.models.t5 import T5
from mto_jax.training import finetune as fits
from mto_jax.training import sharding
from mto_jax.training import state as state_lib
from mto_jax.training.optimizers import Optimizer

from .common import TINY

SGD = Optimizer("sgd", 0.1, clip_norm=None)
EXAMPLES = [([5, 6, 7, 1], [8, 9, 1]), ([10, 11, 1], [12, 1]), ([13, 1], [14, 15, 16, 1])]


@pytest.fixture(scope="module")
def model():
    return T5(TINY, nnx.Rngs(0))


def leaves(model):
    return [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(model))]


def mean_loss(graphdef, parameters, examples):
    """Returns the mean over all target tokens, computed an example at a time."""
    losses = []
    for inputs, targets in examples:
        batch = {
            "encoder_input_tokens": jnp.array([inputs]),
            "encoder_segment_ids": jnp.ones((1, len(inputs)), jnp.int32),
            "decoder_input_tokens": jnp.array([[0, *targets[:-1]]]),
            "decoder_segment_ids": jnp.ones((1, len(targets)), jnp.int32),
        }
        logits_1xTxV = nnx.merge(graphdef, parameters)(batch)
        loss = optax.softmax_cross_entropy_with_integer_labels
        losses.append(loss(logits_1xTxV, jnp.array([targets]))[0])
    return jnp.mean(jnp.concatenate(losses))


def test_a_model_that_is_cut_trains_alike_and_stays_cut(model):
    mesh = sharding.mesh(1, 2, 2, devices=jax.devices()[:4])
    spec = state_lib.abstract_model(functools.partial(T5, TINY))
    cut = spec.merge(jax.device_put(spec.split(model), spec.shardings(mesh)))
    whole, parts = (
        fits.fit(m, EXAMPLES, steps=2, batch_size=4, optimizer=SGD) for m in (model, cut)
    )
    for name, value in state_lib.by_name(parts).items():
        np.testing.assert_allclose(value, state_lib.by_name(whole)[name], atol=1e-5)
        assert value.sharding == spec.shardings(mesh)[name]
    with pytest.raises(UserError, match="batch_size = 3 does not divide.*fsdp=2"):
        fits.fit(cut, EXAMPLES, steps=1, batch_size=3, optimizer=SGD)
    rounded = spec.merge({n: v.astype("bfloat16") for n, v in spec.split(model).items()})
    with pytest.raises(UserError, match="not trained: leave load_checkpoint.dtype out"):
        fits.fit(rounded, EXAMPLES, steps=1, optimizer=SGD)


def test_one_step_is_the_plain_gradient(model):
    graphdef, parameters = nnx.split(model)
    before = leaves(model)
    gradients = jax.tree.leaves(
        jax.jit(jax.grad(lambda p: mean_loss(graphdef, p, EXAMPLES[:2])))(parameters)
    )
    trained = fits.fit(model, EXAMPLES[:2], steps=1, batch_size=2, optimizer=SGD)
    for old, new, gradient in zip(before, leaves(trained), gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient, atol=2e-5)
    for old, now in zip(before, leaves(model), strict=True):
        np.testing.assert_array_equal(now, old)


def test_fits_of_one_shape_share_a_program(model):
    fits._program.cache_clear()
    few = fits.fit(model, EXAMPLES[:1], steps=2, batch_size=2, optimizer=SGD)
    fits.fit(few, EXAMPLES[1:], steps=5, batch_size=2, optimizer=SGD, seed=1)
    assert fits._program.cache_info().misses == 1


def test_only_a_rate_that_changes_asks_for_a_program_of_each_length():
    def shape(steps, **optimizer):
        return fits._Shape(TINY, 2, 16, 16, Optimizer("sgd", 0.1, **optimizer), steps)

    assert shape(1) == shape(2)
    assert hash(shape(1)) == hash(shape(2))
    assert shape(1, schedule="linear") != shape(2, schedule="linear")
    assert shape(8, warmup=0.5) != shape(9, warmup=0.5)


def test_the_seed_draws_the_order(model):
    def train(seed):
        return leaves(fits.fit(model, EXAMPLES, steps=4, batch_size=2, optimizer=SGD, seed=seed))

    first, again, other = train(0), train(0), train(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.allclose(a, b) for a, b in zip(first, other, strict=True))


def test_epochs_take_every_example_once():
    batches = fits._batches(EXAMPLES, (), (2, 0), (8, 8), steps=4, seed=0)
    rows = [batch["encoder_input_tokens"][:, 0] for batch in batches]
    for epoch in (rows[:2], rows[2:]):
        assert sorted(np.concatenate(epoch).tolist()) == [0, 5, 10, 13]


def test_every_seed_and_epoch_has_an_order_of_its_own():
    several = [([number, 1], [5, 1]) for number in range(2, 10)]
    orders = [
        tuple(batch["encoder_input_tokens"][:, 0])
        for seed in (0, 1)
        for batch in fits._batches(several, (), (8, 0), (8, 8), steps=3, seed=seed)
    ]
    assert len(set(orders)) == 6


def test_replay_takes_its_share_of_every_batch_and_leaves_the_order_of_the_rest():
    replay = [([100 + number, 1], [5, 1]) for number in range(3)]
    plain = list(fits._batches(EXAMPLES, (), (3, 0), (8, 8), steps=4, seed=0))
    mixed = list(fits._batches(EXAMPLES, replay, (3, 2), (8, 8), steps=4, seed=0))
    heads = [batch["encoder_input_tokens"][:, 0] for batch in mixed]
    for batch, head_B in zip(plain, heads, strict=True):
        np.testing.assert_array_equal(head_B[:3], batch["encoder_input_tokens"][:, 0])
    assert sorted(np.concatenate([head_B[3:] for head_B in heads[:2]])) == [0, 100, 101, 102]
    own_B = mixed[0]["decoder_task_ids"].max(axis=1)
    assert own_B.tolist() == [1, 1, 1, 2, 2]


def test_a_step_with_replay_is_the_gradient_of_all_rows_and_its_loss_that_of_the_task(model):
    graphdef, parameters = nnx.split(model)
    gradients = jax.tree.leaves(
        jax.jit(jax.grad(lambda p: mean_loss(graphdef, p, EXAMPLES[:3])))(parameters)
    )
    losses = []
    trained = fits.fit(
        model,
        EXAMPLES[:2],
        steps=1,
        batch_size=3,
        optimizer=SGD,
        replay=EXAMPLES[2:3],
        replay_share=0.3,
        progress=lambda count, loss: losses.append(loss()),
    )
    for old, new, gradient in zip(leaves(model), leaves(trained), gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient, atol=2e-5)
    own = jax.jit(lambda p: mean_loss(graphdef, p, EXAMPLES[:2]))(parameters)
    np.testing.assert_allclose(losses, [own], rtol=1e-5)


def test_parameters_that_do_not_train_stay_as_they_are(model):
    whole = fits.fit(model, EXAMPLES[:2], steps=1, batch_size=2, optimizer=SGD)
    part = fits.fit(
        model, EXAMPLES[:2], steps=1, batch_size=2, optimizer=SGD, trainable=["decoder.*"]
    )
    before, after, trained = map(state_lib.by_name, (model, part, whole))
    for name, value in after.items():
        reference = trained[name] if name.startswith("decoder.") else before[name]
        np.testing.assert_allclose(value, reference, atol=1e-7, err_msg=name)
    with pytest.raises(UserError, match=r"'decodr\.\*'.*matches no parameter"):
        fits.fit(model, EXAMPLES[:2], steps=1, trainable=["decodr.*"])


def test_a_share_of_replay_adds_no_steps_to_those_on_the_task():
    tuning = fits.Tuning(epochs=2, batch_size=8, replay_share=0.25)
    assert tuning.steps(12) == 2 * 2  # six rows of a batch are the task's
    assert [fits.replayed_rows(8, share) for share in (0.0, 0.01, 0.25)] == [0, 1, 2]
    with pytest.raises(UserError, match="leaves no row"):
        fits.replayed_rows(2, 0.9)


def test_no_steps_give_the_model_back(model):
    assert fits.fit(model, EXAMPLES, steps=0) is model


def test_what_cannot_be_trained_on(model):
    with pytest.raises(UserError, match="nothing to train on"):
        fits.fit(model, [], steps=1)
    with pytest.raises(UserError, match="nothing to replay"):
        fits.fit(model, EXAMPLES, steps=1, replay_share=0.5)
    with pytest.raises(UserError, match="4 input or 4 target tokens"):
        fits.fit(model, EXAMPLES, steps=1, lengths={"inputs": 3, "targets": 8})
    broken = fits.fit(model, EXAMPLES, steps=1, batch_size=2, optimizer=SGD)
    broken.embedding[...] = broken.embedding[...] * jnp.nan
    with pytest.raises(UserError, match="step 1 of 3"):
        fits.fit(broken, EXAMPLES, steps=3, batch_size=2, optimizer=SGD)


def test_progress_tells_the_mean_loss_of_what_it_has_trained_on(model):
    told = []
    frozen = Optimizer("sgd", 0.0)
    fits.fit(
        model,
        EXAMPLES,
        steps=3,
        batch_size=len(EXAMPLES),
        optimizer=frozen,
        progress=lambda count, loss: told.append((count, loss())),
    )
    assert [count for count, _ in told] == [1, 1, 1]
    # Nothing was learned, and every step has all the examples.
    expected = jax.jit(lambda p: mean_loss(nnx.graphdef(model), p, EXAMPLES))(nnx.state(model))
    np.testing.assert_allclose([loss for _, loss in told], [expected] * 3, rtol=1e-5)
