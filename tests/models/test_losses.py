# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The sliced cross-entropy against the definition on full logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mto_jax.models import losses, partitioning
from mto_jax.models.losses import cross_entropy
from mto_jax.planning import collectives
from mto_jax.training import sharding

B, T, D, V = 3, 7, 5, 11


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32),
        jnp.asarray(rng.normal(size=(D, V)), jnp.float32),
        jnp.asarray(rng.integers(0, V, (B, T)), jnp.int32),
        jnp.asarray(rng.choice([0.0, 1.0, 0.5], (B, T)), jnp.float32),
    )


def definition(hidden, unembedding, targets, weights, z_loss=0.0, label_smoothing=0.0):
    """KL(q || p) + z_loss log(Z)^2, weighted and summed, by dense probabilities."""
    logits = hidden @ unembedding
    log_p = jax.nn.log_softmax(logits)
    q = jnp.where(jax.nn.one_hot(targets, V) > 0, 1.0 - label_smoothing, label_smoothing / (V - 1))
    entropy_terms = jnp.where(q > 0, q * jnp.log(jnp.where(q > 0, q, 1.0)), 0.0)
    kl = jnp.sum(entropy_terms - q * log_p, axis=-1)
    z = z_loss * jax.nn.logsumexp(logits, axis=-1) ** 2
    return jnp.sum((kl + z) * weights), jnp.sum(z * weights)


def test_soft_targets_count_nothing(inputs):
    hidden, unembedding, targets, weights = inputs
    soft = jnp.zeros((B, T), bool).at[:, :2].set(True)
    fewer = jnp.where(soft, 0.0, weights)

    def loss(targets, weights):
        return jax.value_and_grad(cross_entropy, argnums=(0, 1), has_aux=True)(
            hidden, unembedding, targets, weights, z_loss=1e-2, label_smoothing=0.2
        )

    found, expected = loss(jnp.where(soft, V + 3, targets), weights), loss(targets, fewer)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("num_chunks", [1, 2, 3, 7, 100])  # 7 tokens: with and without padding
@pytest.mark.parametrize("z_loss, label_smoothing", [(0.0, 0.0), (1e-2, 0.0), (1e-2, 0.2)])
def test_value_and_gradients(inputs, num_chunks, z_loss, label_smoothing):
    options = {"z_loss": z_loss, "label_smoothing": label_smoothing}
    hidden, unembedding, targets, weights = inputs

    def both(loss, **more):
        # A cotangent other than 1, as a mean over tokens has.
        def mean(h, u):
            value, rest = loss(h, u, targets, weights, **options, **more)
            return value / 6.5, rest

        return jax.jit(jax.value_and_grad(mean, argnums=(0, 1), has_aux=True))(hidden, unembedding)

    (expected, expected_z), expected_gradients = both(definition)
    (loss, sums), gradients = both(cross_entropy, num_chunks=num_chunks)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sums["loss"], expected * 6.5, rtol=1e-5)
    np.testing.assert_allclose(sums["z_loss"], expected_z, rtol=1e-5)
    np.testing.assert_allclose(sums["weight"], weights.sum())
    hits = jnp.argmax(hidden @ unembedding, axis=-1) == targets
    np.testing.assert_allclose(sums["correct"], jnp.sum(hits * weights))
    # The value alone comes from another function than the value with its gradient.
    alone, _ = cross_entropy(*inputs, num_chunks=num_chunks, **options)
    np.testing.assert_allclose(alone, expected * 6.5, rtol=1e-5)


def test_a_perfect_model_has_no_loss():
    """Smoothing asks for a distribution; the model that gives it is charged nothing."""
    smoothing = 0.1
    targets = jnp.arange(T)[None]
    wanted = np.full((T, V), smoothing / (V - 1))
    wanted[np.arange(T), np.arange(T)] = 1 - smoothing
    hidden = jnp.asarray(np.log(wanted), jnp.float32)[None]
    loss, _ = cross_entropy(
        hidden, jnp.eye(V), targets, jnp.ones((1, T)), label_smoothing=smoothing
    )
    np.testing.assert_allclose(loss, 0.0, atol=1e-5)


def test_a_frozen_head_costs_no_gradient(inputs):
    """Without a gradient for the head, the program has no matmul that makes one."""
    hidden, unembedding, targets, weights = inputs

    def dots(argnums):
        gradient = jax.grad(lambda h, u: cross_entropy(h, u, targets, weights)[0], argnums=argnums)
        return str(jax.make_jaxpr(gradient)(hidden, unembedding)).count("dot_general")

    assert dots((0, 1)) == 3
    assert dots((0,)) == 2


def test_memory_is_a_slice_of_the_logits(monkeypatch):
    """Loss and gradients need less scratch memory than one copy of the logits; the plain loss needs
    two."""
    shape, vocabulary = (4, 64, 16), 8192
    hidden = jax.ShapeDtypeStruct(shape, jnp.float32)
    head = jax.ShapeDtypeStruct((16, vocabulary), jnp.float32)
    targets = jax.ShapeDtypeStruct(shape[:2], jnp.int32)
    weights = jax.ShapeDtypeStruct(shape[:2], jnp.float32)
    logits_bytes = 4 * 4 * 64 * vocabulary
    monkeypatch.setattr(losses, "SLICE_BYTES", logits_bytes // 8)

    def plain(h, u, t, w):
        log_p = jax.nn.log_softmax(h @ u)
        return -jnp.sum(jnp.take_along_axis(log_p, t[..., None], axis=-1)[..., 0] * w)

    def scratch(loss):
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
        compiled = gradient.lower(hidden, head, targets, weights).compile()
        return compiled.memory_analysis().temp_size_in_bytes / logits_bytes

    assert scratch(plain) > 1.5
    assert scratch(lambda *args: cross_entropy(*args)[0]) < 0.6


def test_a_device_has_its_share_of_a_slice(monkeypatch):
    """Each of 8 devices holds an eighth of the logits: slices may be 8 times as long."""
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    monkeypatch.setattr(losses, "SLICE_BYTES", 8 * 4 * V)  # 8 tokens of 64
    lengths, sliced = [], losses._sliced
    monkeypatch.setattr(
        losses, "_sliced", lambda *rest: lengths.append(rest[3].shape[2]) or sliced(*rest)
    )
    arrays = jnp.ones((8, 8, D)), jnp.ones((D, V)), jnp.ones((8, 8), int), jnp.ones((8, 8))
    for rules in ({"batch": None}, {"batch": "data"}):
        with partitioning.use_rules(mesh, rules):
            jax.eval_shape(lambda *given: cross_entropy(*given), *arrays)  # traced anew
    assert lengths == [1, 8]


def test_devices_add_up_their_gradients_once():
    """On a mesh the slices are summed on each device first: no collective inside the loop over
    slices."""
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("data",), axis_types=auto)
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(8, 12, D)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(D, V)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, V, (8, 12)), jnp.int32)

    def loss(hidden, head):
        return cross_entropy(hidden, head, targets, jnp.ones((8, 12)), num_chunks=3)[0]

    def on_mesh(hidden, head):
        with partitioning.use_rules(mesh, {"batch": "data"}):
            return jax.grad(loss, argnums=(0, 1))(hidden, head)

    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    program = jax.jit(on_mesh, in_shardings=(rows, everywhere)).lower(hidden, head).compile()
    expected = jax.jit(jax.grad(loss, argnums=(0, 1)))(hidden, head)
    for gradient, wanted in zip(program(hidden, head), expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)
    before_entry, entry = program.as_text().split("\nENTRY ")
    assert "all-reduce(" in entry
    assert "all-reduce(" not in before_entry


@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 8, 1), (2, 2, 2), (2, 4, 1), (1, 2, 4)])
def test_the_head_is_gathered_once_and_its_gradient_scattered(mesh):
    """On every mesh as on one device; the head is read by a loop over three slices."""
    mesh = sharding.mesh(*mesh)
    D, V = 8, 256
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(8, 12, D)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(D, V)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, V, (8, 12)), jnp.int32)
    weights = jnp.asarray(rng.choice([0.0, 1.0, 0.5], (8, 12)), jnp.float32)

    def loss(hidden, head):
        return cross_entropy(hidden, head, targets, weights, num_chunks=3, z_loss=1e-2)[0]

    def on_mesh(hidden, head):
        with partitioning.use_rules(mesh, sharding.RULES):
            return jax.value_and_grad(loss, argnums=(0, 1))(hidden, head)

    cut = (
        sharding.batch_sharding(mesh),
        sharding.parameter_sharding(("embed", "vocab"), (D, V), mesh),
    )
    program = jax.jit(on_mesh, in_shardings=cut, out_shardings=(None, cut)).lower(hidden, head)
    program = program.compile()
    value, gradients = program(*jax.device_put((hidden, head), cut))
    expected, wanted = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(hidden, head)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-5), gradients, wanted)

    part = 4 * D * V // mesh.shape["tensor"]  # of the head, on a device, once gathered
    large = [o for o in collectives.read(program.as_text(), 8) if o.bytes >= part]
    fsdp = mesh.shape["fsdp"] > 1
    expected_kinds = ["all-gather", "reduce-scatter"] if fsdp else ["all-reduce"]
    assert sorted(o.kind for o in large) == expected_kinds
    assert all(o.times == 1 for o in large)


def test_devices_may_add_up_the_gradient_of_the_head_in_bfloat16():
    """Each part is rounded, none of one device is summed in it: exact by hand for one device."""
    mesh = sharding.mesh(1, 1, 1, devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(2, 12, D)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(D, V)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, V, (2, 12)), jnp.int32)

    def gradient(dtype):
        def loss(head):
            with partitioning.use_rules(mesh, sharding.RULES, dtype):
                return cross_entropy(hidden, head, targets, jnp.ones((2, 12)), num_chunks=3)[0]

        return jax.grad(loss)(head)

    exact, rounded = gradient("float32"), gradient("bfloat16")
    assert rounded.dtype == jnp.float32
    np.testing.assert_array_equal(rounded, exact.astype(jnp.bfloat16).astype(jnp.float32))


def test_bfloat16_hidden_states(inputs):
    """Products in bfloat16, sums in float32: gradients in the dtypes of what they belong to."""
    hidden, unembedding, targets, weights = inputs

    def loss(h, u):
        return cross_entropy(h, u, targets, weights, num_chunks=2)[0]

    expected, expected_gradients = jax.value_and_grad(loss, argnums=(0, 1))(hidden, unembedding)
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(
        hidden.astype(jnp.bfloat16), unembedding
    )
    assert value.dtype == jnp.float32
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32]
    np.testing.assert_allclose(value, expected, rtol=2e-2)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient.astype(jnp.float32), wanted, atol=5e-2)


@pytest.mark.parametrize("num_chunks", [1, 3])
def test_the_loss_of_each_task_of_a_mixture(inputs, num_chunks):
    hidden, unembedding, targets, weights = inputs
    tasks = jnp.asarray(np.random.default_rng(1).integers(0, 3, (B, T)), jnp.int32)

    def loss(h):
        return cross_entropy(
            h,
            unembedding,
            targets,
            weights,
            z_loss=1e-2,
            task_ids_BxT=tasks,
            num_tasks=2,
            num_chunks=num_chunks,
        )

    # With and without differentiation the loop over slices is another one.
    for sums in (loss(hidden)[1], jax.grad(loss, has_aux=True)(hidden)[1]):
        for task in (1, 2):
            of_task = weights * (tasks == task)
            expected, _ = definition(hidden, unembedding, targets, of_task, z_loss=1e-2)
            np.testing.assert_allclose(sums["task_loss"][task - 1], expected, rtol=1e-5)
            np.testing.assert_allclose(sums["task_weight"][task - 1], of_task.sum(), rtol=1e-6)
