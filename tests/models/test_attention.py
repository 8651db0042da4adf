# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention, masks and the relative position bias against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mto_jax.models.adapters import IA3, Adapters, LoRA, PrefixTuning
from mto_jax.models.adapters.base import attached
from mto_jax.models.attention import (
    Attention,
    Rotation,
    Visible,
    attention,
    one_example,
    relative_bias,
    relative_buckets,
    segment_mask,
    visible,
)
from mto_jax.models.config import T5Config
from mto_jax.models.layers import linear

rng = np.random.default_rng(0)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("T, S", [(1, 1), (5, 9), (9, 5), (40, 40)])
def test_relative_bias_is_a_lookup_of_every_distance(T, S, bidirectional):
    config = T5Config(num_buckets=8, max_distance=12)
    table = jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)
    distance = np.arange(S)[None, :] - np.arange(T)[:, None]
    buckets = relative_buckets(
        jnp.asarray(distance), bidirectional=bidirectional, num_buckets=8, max_distance=12
    )

    def by_lookup(table):
        return jnp.moveaxis(table[buckets], -1, 0)[None]

    def ours(table):
        return relative_bias(table, T, S, config, bidirectional=bidirectional)

    np.testing.assert_array_equal(ours(table), by_lookup(table))
    cotangent = jnp.asarray(rng.normal(size=(1, 3, T, S)), jnp.float32)
    gradients = [
        jax.grad(lambda t, f=f: jnp.sum(f(t) * cotangent))(table) for f in (ours, by_lookup)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)


def test_segment_mask():
    query, key = jnp.array([[1, 1, 2, 0]]), jnp.array([[1, 2, 2, 0]])
    expected = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(segment_mask(query, key)[0, 0], np.array(expected, bool))
    causal = np.tril(np.array(expected, bool))
    np.testing.assert_array_equal(segment_mask(query, key, causal=True)[0, 0], causal)


def test_attention_is_the_average_of_what_it_sees():
    B, T, S, H, K = 2, 4, 5, 3, 6
    q, k, v = (rng.normal(size=(B, n, H, K)).astype(np.float32) for n in (T, S, S))
    bias = rng.normal(size=(1, H, T, S)).astype(np.float32)
    mask = rng.random((B, 1, T, S)) < 0.6
    mask[0, 0, 2] = False  # sees nothing: any average will do, but no NaN
    answer = attention(*map(jnp.asarray, (q, k, v, bias)), Visible(jnp.asarray(mask)))
    assert np.isfinite(answer).all()
    for b, t, h in np.ndindex(B, T, H):
        seen = np.flatnonzero(mask[b, 0, t])
        if seen.size:
            weights = np.exp(k[b, seen, h] @ q[b, t, h] + bias[0, h, t, seen])
            expected = weights / weights.sum() @ v[b, seen, h]
            np.testing.assert_allclose(answer[b, t, h], expected, rtol=1e-4, atol=1e-5)


def test_rows_of_one_example():
    rows = [[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 2, 0], [2, 2, 0]]
    assert one_example(jnp.array(rows)).tolist() == [True] * 3 + [False] * 4
    seen = visible(jnp.array(rows[:3]), jnp.array(rows[2::-1]), packed=False)
    assert [lengths.tolist() for lengths in seen.lengths] == [[3, 2, 1], [1, 2, 3]]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("past", [True, False])
def test_a_past_is_of_the_decoders_self_attention_alone(causal, past):
    config = T5Config(d_model=12, d_kv=4, num_heads=3, d_ff=8)
    adapters = Adapters.of([LoRA(2), PrefixTuning(5, past), IA3()])
    module = Attention(config, adapters, 2, nnx.Rngs(0), causal=causal)
    names = [type(adapter).__name__ for adapter in attached(module)]
    assert len(names) == 3 - (past and not causal)
    assert module.past_tokens == (5 if past and causal else 0)


def test_rotations_are_those_of_complex_numbers():
    """Element i of the first half and of the second: a number that turns by p theta^(-2 i / K)."""
    B, T, H, K, theta = 2, 3, 2, 6, 100.0
    x = rng.normal(size=(B, T, H, K)).astype(np.float32)
    position = np.array([[0, 1, 2], [5, 9, 70]])
    turned = Rotation.of(jnp.asarray(position), K, theta)(jnp.asarray(x))
    angle = position[:, :, None, None] * theta ** (-2 * np.arange(K // 2) / K)
    expected = (x[..., : K // 2] + 1j * x[..., K // 2 :]) * np.exp(1j * angle)
    parts = np.concatenate([expected.real, expected.imag], axis=-1)
    np.testing.assert_allclose(turned, parts, atol=1e-4)


def test_linear_has_the_gradient_of_a_matmul():
    x, w, dy = (
        jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 3, 4), (4, 5), (2, 3, 5))
    )
    expected = jax.vjp(lambda x, w: x @ w, x, w)[1](dy)
    for a, b in zip(jax.vjp(linear, x, w)[1](dy), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
