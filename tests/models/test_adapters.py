# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters: prompt encoders against PyTorch and NumPy, what they start as, prefixes, decoding, validation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.models import adapters as adapters_lib
from mto_jax.models.adapters import ENCODERS, Adapters, Prompt, fold, is_adapter
from mto_jax.models.attention import Attention
from mto_jax.models.layers import Dropout
from mto_jax.models.losses import cross_entropy
from mto_jax.models.t5 import T5, T5Config
from mto_jax.training.state import blueprint, by_name

TINY = T5Config(
    vocab_size=64,
    d_model=12,
    d_kv=4,
    num_heads=3,
    d_ff=20,
    num_encoder_layers=2,
    num_decoder_layers=2,
    num_buckets=8,
    max_distance=12,
    scan_unroll=1,  # compiles faster
)
P = 5
PROJECTIONS = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
ALL = Adapters(
    prompt_rows=P,
    prompt_encoder="mlp",
    prompt_width=6,
    lora_rank=2,
    lora_targets=PROJECTIONS,
    ia3=True,
    prefix_length=3,
)


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
    plan = blueprint(lambda rngs: T5(config, rngs, adapters))
    parameters = by_name(T5(config, nnx.Rngs(0)))
    rng = np.random.default_rng(1)
    for name, value in plan.abstract.items():
        if name not in parameters:
            mean = 1.0 if ".ia3." in name else 0.1
            parameters[name] = jnp.asarray(rng.normal(mean, 0.3, value.shape), jnp.float32)
    return plan.merge(parameters)


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, parameters, arrays):
    return nnx.merge(graphdef, parameters)(arrays)


def logits(model: T5, arrays) -> np.ndarray:
    return np.asarray(_logits(*nnx.split(model), arrays))


# ---- Prompt encoders --------------------------------------------------------------------------


def weights(encoder: str) -> dict[str, np.ndarray]:
    """Random values for all parameters of an encoder."""
    prompt = Prompt(
        Adapters(prompt_rows=P, prompt_encoder=encoder, prompt_width=4), 12, nnx.Rngs(0)
    )
    rng = np.random.default_rng(2)
    return {
        name: rng.normal(0, 0.5, value.shape).astype(np.float32)
        for name, value in by_name(prompt).items()
    }


def expected_rows(encoder: str, w: dict[str, np.ndarray]) -> np.ndarray:
    if encoder == "table":
        return w["table"]
    if encoder == "low_rank":
        return w["left"] @ w["right"]
    if encoder == "lstm":
        lstm = torch.nn.LSTM(12, 4, bidirectional=True, batch_first=True)
        theirs = {"l0": "forward", "l0_reverse": "backward"}
        state = {}
        for suffix, way in theirs.items():
            state |= {
                f"weight_ih_{suffix}": w[f"{way}_in"].T,
                f"weight_hh_{suffix}": w[f"{way}_state"].T,
                f"bias_ih_{suffix}": w[f"{way}_bias"],
                f"bias_hh_{suffix}": np.zeros(16, np.float32),
            }
        lstm.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        with torch.no_grad():
            states = lstm(torch.tensor(w["table"])[None])[0][0].numpy()
        return states @ w["up"] + w["up_bias"]
    x = torch.tensor(w["table"])
    if encoder == "residual":
        x = torch.nn.functional.rms_norm(x, (12,), torch.tensor(w["norm"]), eps=1e-6)
    h = np.maximum(x.numpy() @ w["down"] + w["down_bias"], 0) @ w["up"] + w["up_bias"]
    return w["table"] + h if encoder == "residual" else h


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders(encoder):
    w = weights(encoder)
    rows = adapters_lib.prompt_rows({k: jnp.asarray(v) for k, v in w.items()}, encoder)
    np.testing.assert_allclose(rows, expected_rows(encoder, w), atol=2e-6)
    adapters = Adapters(prompt_rows=P, prompt_encoder=encoder, prompt_width=4)
    named = {f"prompt.{name}": value for name, value in w.items()} | {"other": np.zeros(1)}
    folded = fold(named, adapters)
    assert folded.keys() == {"prompt.table", "other"}
    np.testing.assert_allclose(folded["prompt.table"], rows, atol=1e-6)
    assert adapters.folded == Adapters(prompt_rows=P, prompt_width=4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_rows_start_like_a_uniform_table(encoder):
    """All but those behind a hidden layer have a standard deviation near that of U(-0.5, 0.5), 0.29."""
    adapters = Adapters(prompt_rows=200, prompt_encoder=encoder, prompt_width=32)
    prompt = Prompt(adapters, 64, nnx.Rngs(0))
    deviation = float(jnp.std(prompt.rows()))
    low, high = (0.02, 0.3) if encoder in ("mlp", "lstm") else (0.25, 0.33)
    assert low < deviation < high
    if encoder == "residual":
        np.testing.assert_array_equal(prompt.rows(), prompt.table[...])


def test_anchor_pulls_back_to_the_start():
    adapters = Adapters(prompt_rows=P, prompt_anchor=0.5)
    prompt = Prompt(adapters, 12, nnx.Rngs(0))
    assert prompt.penalty() == 0
    moved = np.random.default_rng(0).normal(size=(P, 12)).astype(np.float32)
    prompt.table[...] = prompt.table[...] + moved
    np.testing.assert_allclose(prompt.penalty(), 0.5 * np.mean(moved**2), rtol=1e-6)
    graphdef, state = nnx.split(prompt)
    gradient = by_name(jax.grad(lambda s: nnx.merge(graphdef, s).penalty())(state))
    np.testing.assert_allclose(gradient["table"], moved / moved.size, rtol=1e-5)
    np.testing.assert_array_equal(gradient["anchor"], 0)
    assert Prompt(Adapters(prompt_rows=P), 12, nnx.Rngs(0)).penalty() == 0
    assert [name for name in ("prompt.table", "prompt.anchor") if adapters_lib.trains(name)] == [
        "prompt.table"
    ]


# ---- In the model -----------------------------------------------------------------------------


def test_folding_changes_no_logit():
    model = random_model(ALL)
    plan = blueprint(lambda rngs: T5(TINY, rngs, ALL.folded))
    folded = plan.merge(fold(by_name(model), ALL))
    np.testing.assert_allclose(logits(folded, batch()), logits(model, batch()), atol=1e-5)


def test_soft_tokens_are_rows_of_the_embedding():
    """A table behind the vocabulary is what a longer embedding would be."""
    model = random_model(Adapters(prompt_rows=P))
    rows = model.prompt.table[...]
    longer = T5(TINY, nnx.Rngs(0))
    longer.embedding = nnx.Param(jnp.concatenate([longer.embedding[...], rows]))
    np.testing.assert_array_equal(logits(model, batch()), logits(longer, batch()))


def test_soft_tokens_without_a_row_are_nan():
    model = random_model(Adapters(prompt_rows=P))
    arrays = batch()
    arrays["encoder_input_tokens"][0, 1] = 64 + P
    found = logits(model, arrays)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert np.isnan(logits(T5(TINY, nnx.Rngs(0)), batch())).any()


@pytest.mark.parametrize(
    "adapters",
    [Adapters(lora_rank=3, lora_targets=PROJECTIONS), Adapters(ia3=True)],
    ids=["lora", "ia3"],
)
def test_starts_as_the_base(adapters):
    plan = blueprint(lambda rngs: T5(TINY, rngs, adapters))
    base = by_name(T5(TINY, nnx.Rngs(0)))
    fresh = by_name(T5(TINY, nnx.Rngs(7), adapters))
    own = {name: value for name, value in fresh.items() if is_adapter(name)}
    assert fresh.keys() == base.keys() | own.keys()
    found = logits(plan.merge({**base, **own}), batch(0))
    np.testing.assert_array_equal(found, logits(T5(TINY, nnx.Rngs(0)), batch(0)))


def test_lora_adds_the_product_of_thin_matrices():
    """On one projection, against the weight with the product added."""
    adapters = Adapters(lora_rank=2, lora_alpha=6.0, lora_targets=("wi_1",))
    model = random_model(adapters)
    values = by_name(model)
    base = {name: value for name, value in values.items() if not is_adapter(name)}
    for stack in ("encoder", "decoder"):
        a, b = (values[f"{stack}.layers.mlp.lora.wi_1_{side}"] for side in "ab")
        base[f"{stack}.layers.mlp.wi_1"] += 3.0 * jnp.einsum("LDr,LrE->LDE", a, b)
    plain = blueprint(lambda rngs: T5(TINY, rngs)).merge(base)
    np.testing.assert_allclose(logits(model, batch(0)), logits(plain, batch(0)), atol=1e-5)
    names = {name for name in values if is_adapter(name)}
    assert all(".mlp.lora.wi_1_" in name for name in names)


def test_prefix_is_keys_and_values_in_front():
    """One layer of attention against NumPy in float64: the prefix is seen by all and has no bias."""
    layer = Attention(TINY, Adapters(prefix_length=3), 1, nnx.Rngs(0))
    layer = nnx.merge(nnx.graphdef(layer), jax.tree.map(lambda w: w[0], nnx.state(layer)))
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 4, 12)).astype(np.float32)
    bias = rng.normal(size=(1, 3, 4, 4)).astype(np.float32)
    mask = np.tril(np.ones((2, 1, 4, 4), bool))
    mask[1, :, :, 0] = False
    layer.prefix.value[...] = jnp.asarray(rng.normal(size=(3, 3, 4)), jnp.float32)

    answer = layer(x, x, jnp.asarray(bias), jnp.asarray(mask), Dropout(0.0, None))

    w = {k: np.asarray(getattr(layer, k)[...], float) for k in ("query", "key", "value", "out")}
    expected = np.zeros((2, 4, 12))
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


def test_token_by_token_equals_teacher_forced():
    """With prefixes, soft tokens on both sides, LoRA and (IA)^3."""
    model, arrays = random_model(ALL), batch()
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


def gradients(config: T5Config) -> tuple[float, dict[str, jax.Array]]:
    """Loss and gradients of the adapters alone."""
    plan = blueprint(lambda rngs: T5(config, rngs, ALL))
    values = by_name(random_model(ALL))
    own = {name: value for name, value in values.items() if is_adapter(name)}
    arrays = batch()
    targets = np.roll(arrays["decoder_input_tokens"], -1, axis=1) % 60

    def loss(own):
        model = plan.merge({**values, **own})
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


# ---- What may be said -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_encoder": "ltsm"}, "Did you mean 'lstm'"),
        ({"lora_rank": 2, "lora_targets": ["querry"]}, "Did you mean 'query'"),
        ({"lora_rank": 2, "lora_targets": []}, "lora_targets is empty"),
        ({"lora_rank": -1}, "lora_rank is -1"),
        ({"prompt_rows": 2.0}, "prompt_rows is 2.0"),
        ({"prefix_length": "3"}, "prefix_length is '3'"),
        ({"prompt_width": 0}, "prompt_width = 0"),
        ({"prompt_anchor": -0.1}, "prompt_anchor = -0.1"),
        ({"lora_rang": 2}, "Did you mean 'lora_rank'"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(UserError, match=message):
        Adapters.from_dict(fields)


def test_dict_round_trip_ignores_gin():
    import gin

    assert Adapters.from_dict(dataclasses.asdict(ALL)) == ALL
    gin.bind_parameter("Adapters.lora_rank", 9)
    assert Adapters().lora_rank == 9
    assert Adapters.from_dict({}) == adapters_lib.NONE
