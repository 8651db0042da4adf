# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules against their formulas; optimizers against the published update rules, in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.training.optimizers import NAMES, Optimizer


def rates(train_steps, **fields):
    schedule = Optimizer(learning_rate=2.0, **fields).rate(train_steps)
    return np.array([float(schedule(step)) for step in range(train_steps)])


def test_warm_up_rises_linearly_and_wastes_no_step():
    np.testing.assert_allclose(rates(8, warmup=4)[:5], [0.5, 1.0, 1.5, 2.0, 2.0])
    # A fraction of the run: a tenth of 40 steps.
    np.testing.assert_allclose(rates(40, warmup=0.1)[:5], [0.5, 1.0, 1.5, 2.0, 2.0])
    np.testing.assert_allclose(rates(4, warmup=1), 2.0)


def test_schedules_follow_their_formulas():
    n, w = 20, 5
    after = np.arange(n - w) / (n - w)
    linear = rates(n, warmup=w, schedule="linear", final=0.1)[w:]
    np.testing.assert_allclose(linear, 2.0 * (1 - 0.9 * after), rtol=1e-6)
    cosine = rates(n, warmup=w, schedule="cosine", final=0.1)[w:]
    expected = 2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi * after)) / 2)
    np.testing.assert_allclose(cosine, expected, rtol=1e-6)
    rsqrt = rates(n, warmup=w, schedule="rsqrt")[w:]
    np.testing.assert_allclose(rsqrt, 2.0 * np.sqrt(w / np.arange(w, n)), rtol=1e-6)
    np.testing.assert_allclose(rates(n), 2.0)


def updates(optimizer, parameter, gradients):
    """The parameter after each of several updates."""
    transformation = optimizer.build(100)
    parameters = {"weight": jnp.asarray(parameter)}
    state, found = transformation.init(parameters), []
    for gradient in gradients:
        gradient = {"weight": jnp.asarray(gradient, jnp.float32)}
        update, state = transformation.update(gradient, state, parameters)
        parameters = {"weight": parameters["weight"] + update["weight"]}
        found.append(np.asarray(parameters["weight"]))
    return found


@pytest.mark.parametrize("shape", [(128, 256), (4, 6)])
def test_adafactor_is_the_published_rule(shape):
    """Shazeer and Stern 2018, algorithms 4 and 5: factored from 128 x 128 on, else a full second
    moment; decay 1 - t^-0.8, update clip 1.0, absolute learning rate."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape).astype(np.float32)
    gradients = [rng.normal(size=shape).astype(np.float32) * 10.0**i for i in range(3)]
    found = updates(Optimizer("adafactor", 0.01, clip_norm=None), start, gradients)

    parameter, rows, columns, full = start.astype(np.float64), 0.0, 0.0, 0.0
    for t, (gradient, actual) in enumerate(zip(gradients, found, strict=True), start=1):
        square = gradient.astype(np.float64) ** 2 + 1e-30
        decay = 1 - t**-0.8
        rows = decay * rows + (1 - decay) * square.mean(axis=1)
        columns = decay * columns + (1 - decay) * square.mean(axis=0)
        full = decay * full + (1 - decay) * square
        estimate = np.outer(rows, columns) / rows.mean() if shape[0] >= 128 else full
        update = gradient / np.sqrt(estimate)
        update /= max(1.0, np.sqrt(np.mean(update**2)))
        parameter -= 0.01 * update
        np.testing.assert_allclose(actual, parameter, rtol=2e-5, atol=1e-6)


def test_adamw_is_the_published_rule_and_spares_norms():
    """Loshchilov and Hutter 2019, algorithm 2 (decay times the learning rate)."""
    gradients = [np.full((2, 2), g, np.float32) for g in (0.5, -2.0)]
    options = {"weight_decay": 0.1}
    optimizer = Optimizer("adamw", 0.01, clip_norm=None, options=options)
    found = updates(optimizer, np.ones((2, 2), np.float32), gradients)
    parameter, first, second = np.ones((2, 2)), 0.0, 0.0
    for t, (gradient, actual) in enumerate(zip(gradients, found, strict=True), start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        update = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        parameter = parameter - 0.01 * (update + 0.1 * parameter)
        np.testing.assert_allclose(actual, parameter, rtol=1e-5)

    parameters = {"a.weight": jnp.ones(2), "a.scale": jnp.ones(2), "relative_bias": jnp.ones(2)}
    transformation = optimizer.build(10)
    zero = {name: jnp.zeros(2) for name in parameters}
    update, _ = transformation.update(zero, transformation.init(parameters), parameters)
    assert update["a.weight"][0] < 0
    assert update["a.scale"][0] == update["relative_bias"][0] == 0


def test_clipping_is_by_the_global_norm():
    optimizer = Optimizer("sgd", 1.0, clip_norm=1.0)
    [after] = updates(optimizer, np.zeros((1, 2), np.float32), [np.array([[30.0, 40.0]])])
    np.testing.assert_allclose(after, [[-0.6, -0.8]], rtol=1e-6)
    [after] = updates(optimizer, np.zeros((1, 2), np.float32), [np.array([[0.3, 0.4]])])
    np.testing.assert_allclose(after, [[-0.3, -0.4]], rtol=1e-6)


def test_every_named_optimizer_makes_a_step():
    for name in NAMES:
        [after] = updates(Optimizer(name, 0.1), np.ones((2, 2), np.float32), [np.ones((2, 2))])
        assert (after != 1).all(), name
        assert np.isfinite(after).all(), name


def test_wrong_names_get_the_nearest():
    with pytest.raises(UserError, match="no optimizer 'adafctor'. Did you mean 'adafactor'"):
        Optimizer("adafctor").build(10)
    with pytest.raises(UserError, match="no schedule 'cosin'. Did you mean 'cosine'"):
        Optimizer(schedule="cosin").build(10)
    with pytest.raises(UserError, match="'weight_decai'. Did you mean 'weight_decay'"):
        Optimizer("adamw", options={"weight_decai": 0.1}).build(10)
    with pytest.raises(UserError, match="20 steps, but the run has 10"):
        Optimizer(warmup=20).build(10)


@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor"])
def test_weights_do_not_decay_unless_asked(name):
    weights = {"w": jnp.ones((3, 4))}
    optimizer = Optimizer(name, 0.1).build(10)
    updates, _ = optimizer.update({"w": jnp.zeros((3, 4))}, optimizer.init(weights), weights)
    np.testing.assert_allclose(updates["w"], 0.0, atol=1e-6)
