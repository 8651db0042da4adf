# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters inside a T5: initial values, rows, products, prefixes, decoding, gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mto_jax.models.adapters import (
    IA3,
    Adapters,
    LoRA,
    PrefixTuning,
    PromptTuning,
    fold,
    is_adapter,
)
from mto_jax.models.attention import Attention, Positions, Visible
from mto_jax.models.layers import Dropout
from mto_jax.models.losses import cross_entropy
from mto_jax.models.t5 import T5, T5Config
from mto_jax.training.state import abstract_model, by_name
from tests import tiny

TINY = dataclasses.replace(tiny.UNEVEN, vocab_size=64, d_kv=4, scan_unroll=1)  # compiles faster
P = 5
PROJECTIONS = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
ALL = Adapters(
    (PromptTuning(P, encoder="mlp", width=6), LoRA(2, targets=PROJECTIONS), IA3(), PrefixTuning(3))
)

PAST = Adapters.of(PrefixTuning(3, past=True))


def batch(rows: int = P) -> dict[str, np.ndarray]:
    """Two sources, one padded; soft tokens in front, between and behind, and in the decoder."""
    rng = np.random.default_rng(0)
    source, target = rng.integers(2, 60, (2, 9)), rng.integers(2, 60, (2, 6))
    target[:, 0] = 0
    if rows:
        source[:, 0], source[0, 3:5], source[1, 6] = 64, [64 + rows - 1, 65], 66
        target[0, 2] = 65
    segments = np.ones_like(source)
    source[1, 7:] = segments[1, 7:] = 0
    arrays = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": segments,
        "decoder_input_tokens": target,
        "decoder_segment_ids": np.ones_like(target),
    }
    return {name: value.astype(np.int32) for name, value in arrays.items()}


@functools.cache
def random_model(adapters: Adapters, config: T5Config = TINY) -> T5:
    """A model with values in its adapters that are not those they start with."""
    spec = abstract_model(lambda rngs: T5(config, rngs, adapters))
    parameters = by_name(T5(config, nnx.Rngs(0)))
    rng = np.random.default_rng(1)
    for name, value in spec.shapes.items():
        if name not in parameters:
            mean = 1.0 if ".ia3." in name else 0.1
            parameters[name] = jnp.asarray(rng.normal(mean, 0.3, value.shape), jnp.float32)
    return spec.merge(parameters)


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, parameters, arrays):
    return nnx.merge(graphdef, parameters)(arrays)


def logits(model: T5, arrays) -> np.ndarray:
    return np.asarray(_logits(*nnx.split(model), arrays))


def test_folding_changes_no_logit():
    model = random_model(ALL)
    spec = abstract_model(lambda rngs: T5(TINY, rngs, ALL.folded))
    folded = spec.merge(fold(by_name(model), ALL))
    np.testing.assert_allclose(logits(folded, batch()), logits(model, batch()), atol=1e-5)


def test_soft_tokens_are_rows_of_the_embedding():
    """A table behind the vocabulary is what a longer embedding would be."""
    model = random_model(Adapters.of(PromptTuning(P)))
    rows = model.prompt.table[...]
    longer = T5(TINY, nnx.Rngs(0))
    longer.embedding = nnx.Param(jnp.concatenate([longer.embedding[...], rows]))
    np.testing.assert_array_equal(logits(model, batch()), logits(longer, batch()))


def test_soft_tokens_without_a_row_are_nan():
    model = random_model(Adapters.of(PromptTuning(P)))
    arrays = batch()
    arrays["encoder_input_tokens"][0, 1] = 64 + P
    found = logits(model, arrays)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert np.isnan(logits(T5(TINY, nnx.Rngs(0)), batch())).any()


@pytest.mark.parametrize(
    "adapters",
    [Adapters.of(LoRA(3, targets=PROJECTIONS)), Adapters.of(IA3())],
    ids=["lora", "ia3"],
)
def test_starts_as_the_base(adapters):
    spec = abstract_model(lambda rngs: T5(TINY, rngs, adapters))
    base = by_name(T5(TINY, nnx.Rngs(0)))
    fresh = by_name(T5(TINY, nnx.Rngs(7), adapters))
    own = {name: value for name, value in fresh.items() if is_adapter(name)}
    assert fresh.keys() == base.keys() | own.keys()
    found = logits(spec.merge({**base, **own}), batch(0))
    np.testing.assert_array_equal(found, logits(T5(TINY, nnx.Rngs(0)), batch(0)))


def test_lora_adds_the_product_of_thin_matrices():
    """On one projection, against the weight with the product added."""
    adapters = Adapters.of(LoRA(2, alpha=6.0, targets=("wi_1",)))
    model = random_model(adapters)
    values = by_name(model)
    base = {name: value for name, value in values.items() if not is_adapter(name)}
    for stack in ("encoder", "decoder"):
        a, b = (values[f"{stack}.layers.mlp.lora.wi_1_{side}"] for side in "ab")
        base[f"{stack}.layers.mlp.wi_1"] += 3.0 * jnp.einsum("LDr,LrE->LDE", a, b)
    plain = abstract_model(lambda rngs: T5(TINY, rngs)).merge(base)
    np.testing.assert_allclose(logits(model, batch(0)), logits(plain, batch(0)), atol=1e-5)
    names = {name for name in values if is_adapter(name)}
    assert all(".mlp.lora.wi_1_" in name for name in names)


def test_prefix_is_keys_and_values_in_front():
    """An attention against NumPy in float64: all queries see the prefix, without a bias."""
    layer = Attention(TINY, Adapters.of(PrefixTuning(3)), 1, nnx.Rngs(0))
    layer = nnx.merge(nnx.graphdef(layer), jax.tree.map(lambda w: w[0], nnx.state(layer)))
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 4, TINY.d_model)).astype(np.float32)
    bias = rng.normal(size=(1, 3, 4, 4)).astype(np.float32)
    mask = np.tril(np.ones((2, 1, 4, 4), bool))
    mask[1, :, :, 0] = False
    layer.prefix.value[...] = jnp.asarray(rng.normal(size=(3, 3, 4)), jnp.float32)

    answer = layer(
        x, x, Positions(jnp.asarray(bias)), Visible(jnp.asarray(mask)), Dropout(0.0, None)
    )

    w = {k: np.asarray(getattr(layer, k)[...], float) for k in ("query", "key", "value", "out")}
    expected = np.zeros_like(x, np.float64)
    for b, t in np.ndindex(2, 4):
        heads = []
        for h in range(3):
            cut = slice(4 * h, 4 * h + 4)
            query = x[b, t] @ w["query"][:, cut]
            keys = [*layer.prefix.key[:, h], *(x[b] @ w["key"][:, cut])]
            values = [*layer.prefix.value[:, h], *(x[b] @ w["value"][:, cut])]
            scores = np.array([query @ key for key in keys])
            scores[3:] += np.where(mask[b, 0, t], bias[0, h, t], -np.inf)
            p = np.exp(scores - scores.max())
            heads.append(p @ np.array(values) / p.sum())
        expected[b, t] = np.concatenate(heads) @ w["out"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("adapters", [ALL, PAST], ids=["all", "past"])
def test_token_by_token_equals_teacher_forced(adapters):
    """With prefixes, soft tokens on both sides, LoRA and (IA)^3."""
    model, arrays = random_model(adapters), batch(adapters.prompt_rows)
    expected = logits(model, arrays)
    source, segments = arrays["encoder_input_tokens"], arrays["encoder_segment_ids"]
    graphdef, parameters = nnx.split(model)

    @jax.jit
    def begin(parameters):
        model = nnx.merge(graphdef, parameters)
        return model.start_cache(model.read(model.encode(source, segments), segments), 6)

    step = jax.jit(lambda p, token, cache: nnx.merge(graphdef, p).decode_step(token, cache))
    cache = begin(parameters)
    for t in range(6):
        found, cache = step(parameters, arrays["decoder_input_tokens"][:, t], cache)
        np.testing.assert_allclose(found, expected[:, t], atol=2e-5)


def test_a_past_is_before_every_packed_example():
    """Two examples in one row are as each in a row of its own."""
    model, arrays = random_model(PAST), batch(0)
    expected = logits(model, arrays)
    packed = {name: value.reshape(1, -1) for name, value in arrays.items()}
    for name in ("encoder_segment_ids", "decoder_segment_ids"):
        packed[name] = (arrays[name] * np.array([[1], [2]], np.int32)).reshape(1, -1)
    found = logits(model, packed).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    names = {name for name in by_name(model) if is_adapter(name)}
    assert names == {f"decoder.layers.self_attention.prefix.{kind}" for kind in ("key", "value")}


def gradients(config: T5Config) -> tuple[float, dict[str, jax.Array]]:
    """Loss and gradients of the adapters alone."""
    spec = abstract_model(lambda rngs: T5(config, rngs, ALL))
    values = by_name(random_model(ALL))
    own = {name: value for name, value in values.items() if is_adapter(name)}
    arrays = batch()
    targets = np.roll(arrays["decoder_input_tokens"], -1, axis=1) % 60

    def loss(own):
        model = spec.merge({**values, **own})
        hidden, ones = model.hidden(arrays), np.ones_like(targets)
        return cross_entropy(hidden, model.unembedding, targets, ones, num_chunks=1)[0]

    return jax.jit(jax.value_and_grad(loss))(own)


def test_memory_options_change_no_number():
    value, expected = gradients(TINY)
    found_value, found = gradients(dataclasses.replace(TINY, remat="full", scan_unroll=0))
    np.testing.assert_allclose(found_value, value, rtol=1e-6)
    for name, gradient in expected.items():
        assert np.abs(gradient).max() > 0, name
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-4, err_msg=name)


def test_bfloat16_is_near_float32():
    expected = logits(random_model(ALL), batch())
    found = logits(random_model(ALL, dataclasses.replace(TINY, dtype="bfloat16")), batch())
    assert found.dtype == np.float32
    assert 0 < np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)
