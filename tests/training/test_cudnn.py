# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention by cuDNN, without a GPU: what a step asks of it, and that the answers go where they
should, with the mathematics of the kernel in its place."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from mto_jax.models.adapters import NONE, Adapters, PrefixTuning, PromptTuning
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.training import multi_adapter_step, sharding, state, step
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.program import Program, Settings
from tests import cudnn_kernel

from . import common

SIZES = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48}
LAYERS = {"num_encoder_layers": 2, "num_decoder_layers": 2, "scan_unroll": 1}


@pytest.fixture(autouse=True)
def _version(monkeypatch):
    """JAX asks the cuDNN that is installed for its version."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91200)


# ---- What is asked of it ------------------------------------------------------------------------


def step_text(pack: bool, remat: str) -> str:
    """The train step of 16 rows of 40 + 18 tokens, lowered for a GPU."""
    config = T5Config(**SIZES, **LAYERS, dtype="bfloat16", attention="cudnn", remat=remat)
    lengths = {"inputs": 40, "targets": 18}
    mesh = sharding.mesh(devices=jax.devices()[:1])
    program = Program.of(Settings(config, 16, lengths, Optimizer(), 10, pack=pack), mesh)
    traced = jax.jit(program.step).trace(program.target, program.zeros, program.batch)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def calls(text: str) -> dict[str, int]:
    """How often each kernel of cuDNN is called."""
    names = re.findall(r"custom_call @__cudnn\$fmha(\w+)\(", text)
    return {name: names.count(name) for name in sorted(set(names))}


def of_weights(text: str) -> set[str]:
    """The types of the arrays as large as the attention weights of all rows."""
    return set(re.findall(r"tensor<16x\d+x(?:40x40|18x18|18x40)x(?:bf16|f32)>", text))


def test_rows_of_one_example_have_no_array_of_the_size_of_the_weights():
    text = step_text(pack=False, remat="minimal")
    # Self-attention of encoder and decoder has a bias, attention to the source has none.
    assert calls(text) == {
        "ScaleBiasSoftmax": 2,
        "ScaleBiasSoftmaxBackward": 2,
        "Softmax": 1,
        "SoftmaxBackward": 1,
    }
    assert not of_weights(text)
    assert "tensor<1x4x40x40xbf16>" in text
    # remat="full" does compute it again.
    assert calls(step_text(pack=False, remat="full"))["ScaleBiasSoftmax"] == 4


def test_packed_rows_have_a_bias_each():
    text = step_text(pack=True, remat="minimal")
    assert calls(text) == {"ScaleBiasSoftmax": 3, "ScaleBiasSoftmaxBackward": 3}
    assert "tensor<16x4x40x40xbf16>" in of_weights(text)


# ---- What becomes of its answers ----------------------------------------------------------------


@pytest.fixture
def in_float32(monkeypatch):
    """The kernel's mathematics on the CPU, in float32 as well, so that errors show."""
    cudnn_kernel.install()
    monkeypatch.setattr(cudnn, "check_layout", lambda *_: None)
    monkeypatch.setattr(T5Config, "__post_init__", lambda self: None)


def one_a_row(source: int, target: int) -> dict[str, np.ndarray]:
    """The packed batch with the first example of each row alone; one row is full, one empty."""
    batch = common.batch(0, source=source, target=target)
    for name in batch:
        if not name.endswith("positions"):
            ids = batch[name.split("_")[0] + "_segment_ids"]
            batch[name] = np.where(ids == 1, batch[name], 0).astype(batch[name].dtype)
    for side, tokens in (("encoder", "input"), ("decoder", "target")):
        batch[f"{side}_segment_ids"][0], batch[f"{side}_segment_ids"][1] = 1, 0
        batch[f"{side}_{tokens}_tokens"][0] = 7
    batch["decoder_loss_weights"] = (batch["decoder_segment_ids"] > 0).astype(np.float32)
    return batch


def loss_and_gradient(config, batch, sizes, *, packed, adapters=NONE):
    """The loss of a batch and its gradient by name, on the first devices."""
    mesh = sharding.mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    spec = state.abstract_model(functools.partial(T5, config, adapters=adapters))
    loss = step.t5_loss(spec, mesh, packed=packed)
    parameters = spec.initialise(jax.random.key(0), mesh)
    place = sharding.place(batch, mesh)
    value = jax.jit(jax.value_and_grad(lambda p, b: loss(p, b, None)[0]))(parameters, place)
    return jax.device_get(value)


def assert_same(ours, expected):
    assert ours[0] == pytest.approx(expected[0], rel=1e-5)
    for name, gradient in expected[1].items():
        scale = np.abs(gradient).max()
        assert scale > 0, name
        np.testing.assert_allclose(ours[1][name], gradient, atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize(
    "packed, remat, sizes, lengths",
    [
        (False, "minimal", (2, 2, 2), (13, 9)),
        (True, "minimal", (2, 2, 2), (13, 9)),
        (False, "none", (1, 2, 4), (12, 10)),
        (True, "none", (8, 1, 1), (12, 10)),
    ],
)
def test_loss_and_gradients_are_those_of_xla(in_float32, packed, remat, sizes, lengths):
    batch = common.batch(0, source=lengths[0], target=lengths[1]) if packed else one_a_row(*lengths)
    ours = T5Config(**SIZES, **LAYERS, attention="cudnn", remat=remat)
    xla = dataclasses.replace(ours, attention="xla", remat="none")
    expected = loss_and_gradient(xla, batch, (1, 1, 1), packed=True)
    assert_same(loss_and_gradient(ours, batch, sizes, packed=packed), expected)


@pytest.mark.parametrize("past", [True, False])
def test_keys_of_adapters_stand_in_front(in_float32, past):
    ours = T5Config(**SIZES, **LAYERS, attention="cudnn", remat="minimal")
    xla = dataclasses.replace(ours, attention="xla")
    batch, adapters = one_a_row(12, 9), Adapters.of(PrefixTuning(3, past))
    expected = loss_and_gradient(xla, batch, (1, 1, 1), packed=True, adapters=adapters)
    found = loss_and_gradient(ours, batch, (2, 1, 1), packed=False, adapters=adapters)
    assert_same(found, expected)


def test_many_prompts_at_once(in_float32):
    """Candidates are rows of one call."""
    rng = np.random.default_rng(0)
    K, b, S, T = 4, 2, 11, 6
    tokens = {
        name: rng.integers(1, 64, (K, b, size), dtype=np.int32)
        * (np.arange(size) < rng.integers(2, size, (K, b, 1)))
        for name, size in (("inputs_BxS", S), ("targets_BxT", T))
    }
    control = {
        "rate": np.full(K, 0.3, np.float32),
        "active": np.ones(K, bool),
        "key": np.zeros((K, 2), np.uint32),
        "step": np.zeros(K, np.int32),
    }
    losses = {}
    for attention in ("xla", "cudnn"):
        config = T5Config(**SIZES, **LAYERS, attention=attention, remat="none")
        spec = state.abstract_model(
            functools.partial(T5, config, adapters=Adapters.of(PromptTuning(5)))
        )
        parameters = spec.initialise(jax.random.key(0), sharding.mesh())
        adapter = {"prompt.table": parameters.pop("prompt.table")}
        program = multi_adapter_step.program(
            multi_adapter_step.Shape(
                config, Adapters.of(PromptTuning(5)), K, b, S, T, Optimizer("sgd", options={})
            )
        )
        frozen = program.unstack(jax.device_put(parameters, program.frozen))
        carry = program.start({n: jnp.stack([x] * K) for n, x in adapter.items()})
        placed = jax.device_put(tokens, program.tokens)
        control = jax.device_put(control, program.cut)
        first, sums = program.step(frozen, {}, carry, placed, control)
        losses[attention] = jax.device_get((sums, first["parameters"]))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        losses["cudnn"],
        losses["xla"],
    )


def test_rows_that_are_not_of_one_example_stop_the_run():
    """Whoever says so and is wrong gets no number, with whatever implementation."""
    config = T5Config(**SIZES, **LAYERS)
    loss, _ = loss_and_gradient(config, common.batch(0), (1, 1, 1), packed=False)
    assert np.isnan(loss)
    batch = one_a_row(12, 10)
    assert np.isfinite(loss_and_gradient(config, batch, (1, 1, 1), packed=False)[0])
    batch["encoder_segment_ids"][0, 3] = 0  # a position that is left out
    assert np.isnan(loss_and_gradient(config, batch, (1, 1, 1), packed=False)[0])
