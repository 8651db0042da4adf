# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5Gemma against that of transformers: logits, gradients, decoding; and its configuration."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.models.adapters import NONE, Adapters, LoRA, PrefixTuning, PromptTuning
from mto_jax.models.config import T5GemmaConfig, from_record
from mto_jax.models.losses import cross_entropy
from mto_jax.models.t5gemma import T5Gemma
from mto_jax.training.state import by_name
from tests import tiny
from tests.models import torch_t5gemma
from tests.models.test_t5 import APART, PACKED

TINY = dataclasses.replace(tiny.T5GEMMA, scan_unroll=1)  # compiles faster
CASES = {
    "equal": TINY,
    "unequal": dataclasses.replace(tiny.T5GEMMA_UNEVEN, scan_unroll=1, remat="minimal"),
    "without_windows": dataclasses.replace(TINY, window=64),
}
EACH = pytest.mark.parametrize("config", CASES.values(), ids=CASES)


def network(config: T5GemmaConfig, adapters: Adapters = NONE) -> T5Gemma:
    """A model whose norms are not those of a fresh one, which multiply by one."""
    model = T5Gemma(config, nnx.Rngs(3), adapters)
    graphdef, state = nnx.split(model)
    key = jax.random.key(4)
    moved = {}
    for path, variable in nnx.to_flat_state(state):
        value, name = variable.get_value(), ".".join(map(str, path))
        if name.endswith("scale"):
            key, own = jax.random.split(key)
            value = value + 0.3 * jax.random.normal(own, value.shape)
        moved[path] = variable.replace(value)
    return nnx.merge(graphdef, nnx.State.from_flat_path(moved))


def theirs_on(batch: dict, theirs: torch.nn.Module, start: int) -> torch.Tensor:
    """The logits of transformers for a batch with an example a row."""
    inputs = batch["decoder_input_tokens"].copy()
    inputs[:, 0] = start
    tensors = {
        "input_ids": batch["encoder_input_tokens"],
        "attention_mask": batch["encoder_segment_ids"],
        "decoder_input_ids": inputs,
        "decoder_attention_mask": batch["decoder_segment_ids"],
    }
    tensors = {name: torch.tensor(value, dtype=torch.long) for name, value in tensors.items()}
    return theirs(**tensors, use_cache=False).logits


def loss_sum(model: T5Gemma, batch: dict) -> jax.Array:
    return cross_entropy(
        model.hidden(batch),
        model.unembedding,
        batch["decoder_target_tokens"],
        batch["decoder_loss_weights"],
        softcap=model.config.logit_softcap,
        num_chunks=2,
    )[0]


@EACH
def test_logits_and_gradients_are_those_of_transformers(config):
    model = network(config)
    theirs = torch_t5gemma.model(model)
    logits = theirs_on(APART, theirs, config.decoder_start_id)
    real = APART["decoder_segment_ids"] > 0
    ours = np.asarray(jax.jit(lambda m: m(APART))(model))
    np.testing.assert_allclose(ours[real], logits.detach().numpy()[real], atol=1e-4)

    targets = torch.tensor(APART["decoder_target_tokens"], dtype=torch.long)
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    )
    loss = (loss * torch.tensor(APART["decoder_loss_weights"]).flatten()).sum()
    loss.backward()
    wanted = torch_t5gemma.gradients(theirs, config)
    graphdef, parameters = nnx.split(model)
    for batch in (APART, PACKED):
        value, gradients = jax.jit(
            jax.value_and_grad(lambda p, b=batch: loss_sum(nnx.merge(graphdef, p), b))
        )(parameters)
        np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
        ours = by_name(nnx.merge(graphdef, gradients))
        assert set(ours) == set(wanted)
        for name, gradient in wanted.items():
            scale = np.abs(gradient).max()
            assert scale > 0, name
            np.testing.assert_allclose(ours[name], gradient, atol=1e-4 * scale, err_msg=name)


def test_windows_shorter_than_the_text_change_the_logits():
    narrow, wide = CASES["equal"], CASES["without_windows"]
    state = nnx.state(network(narrow))
    logits = [
        np.asarray(nnx.merge(nnx.split(network(config))[0], state)(APART))
        for config in (narrow, wide)
    ]
    assert np.abs(logits[0] - logits[1]).max() > 1e-2


@EACH
@pytest.mark.parametrize("adapters", [NONE, Adapters((PrefixTuning(3), LoRA(2)))])
@pytest.mark.parametrize("common", [False, True])
def test_steps_from_a_cache_give_the_logits_of_the_whole(config, adapters, common):
    """Also in a row that begins when the buffer has gone around."""
    model = network(config, adapters)
    tokens, segments = APART["encoder_input_tokens"], APART["encoder_segment_ids"]
    inputs = APART["decoder_input_tokens"].copy()
    inputs[:, 0] = config.decoder_start_id
    wanted = np.asarray(model(APART))
    B, T, W = *inputs.shape, 2

    @jax.jit
    def decode(model):
        source = model.read(model.encode(tokens, segments), segments)
        cache = model.start_cache(source, T, W, common=common)

        def step(cache, tokens_B):
            logits, cache = model.decode_step(jnp.repeat(tokens_B, W), cache)
            return cache, logits

        cache, _ = jax.lax.scan(step, cache, jnp.asarray(inputs.T)[:5])
        cache = dataclasses.replace(cache, ancestors=jnp.full_like(cache.ancestors, -1))
        return jax.lax.scan(step, cache, jnp.asarray(inputs.T))[1]

    logits = np.asarray(decode(model)).reshape(T, B, W, -1)
    real = APART["decoder_segment_ids"] > 0
    for w in range(W):
        ours = np.swapaxes(logits[:, :, w], 0, 1)
        np.testing.assert_allclose(ours[real], wanted[real], atol=2e-5)


def test_a_window_bounds_the_cache():
    model = network(dataclasses.replace(tiny.T5GEMMA, window=4))
    segments = jnp.ones((2, 7), jnp.int32)
    source = model.read(model.encode(jnp.ones((2, 7), jnp.int32), segments), segments)
    cache = model.start_cache(source, 32)
    G = tiny.T5GEMMA.num_kv_heads
    slots = [keys.shape for keys, _ in cache.past]
    assert slots == [(2, G, 4 if i % 2 == 0 else 32, 8) for i in range(len(slots))]


def test_soft_tokens_are_scaled_as_words_are():
    """PEFT gives its rows in the place of embeddings, which the encoder scales."""
    model = network(tiny.T5GEMMA, Adapters((PromptTuning(3),)))
    V, D = tiny.T5GEMMA.vocab_size, tiny.T5GEMMA.d_model
    ids = jnp.array([[5, V, V + 2, V + 3]])
    x = np.asarray(model.embed(ids))[0]
    np.testing.assert_allclose(x[0], model.encoder.embedding[...][5] * D**0.5, rtol=1e-6)
    rows = np.asarray(model.prompt.table[...])[[0, 2]]
    np.testing.assert_allclose(x[1:3], rows * D**0.5, rtol=1e-6)
    assert np.isnan(x[3]).all()


def test_a_prompt_stands_in_the_encoder_alone_where_widths_differ():
    model = network(tiny.T5GEMMA_UNEVEN, Adapters((PromptTuning(3),)))
    V = tiny.T5GEMMA_UNEVEN.vocab_size
    assert np.isfinite(model.embed(jnp.array([[V]]))).all()
    assert np.isnan(model.embed(jnp.array([[V]]), of_decoder=True)).all()


def test_sizes_of_the_encoder_default_to_those_of_the_decoder():
    config = T5GemmaConfig(d_model=64, encoder_d_ff=96)
    assert (config.encoder_d_model, config.encoder_d_ff, config.d_ff) == (64, 96, 1024)
    assert config.of_encoder.d_ff == 96
    assert from_record(dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"window": 0}, "T5GemmaConfig.window is 0"),
        ({"num_heads": 6, "num_kv_heads": 4}, "multiple of num_kv_heads"),
        ({"encoder_num_heads": 6, "encoder_num_kv_heads": 4}, "encoder_num_heads"),
        ({"d_kv": 7}, "d_kv is 7"),
        ({"family": "t5"}, "family"),
        ({"eos_id": 256_000}, "eos_id"),
    ],
)
def test_configurations_that_no_model_has(values, words):
    with pytest.raises(UserError, match=words):
        T5GemmaConfig(**values)


def test_a_past_is_for_t5():
    with pytest.raises(UserError, match=r"PrefixTuning\.past"):
        T5Gemma(tiny.T5GEMMA, nnx.Rngs(0), Adapters((PrefixTuning(3, past=True),)))
