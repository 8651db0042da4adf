# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompt encoders against PyTorch and NumPy, their initial rows, and the anchor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from mto_jax.models.adapters import Adapters, PromptTuning, fold, trains
from mto_jax.models.adapters.prompt import ENCODERS
from mto_jax.training.state import by_name

P = 5


def weights(encoder: str) -> dict[str, np.ndarray]:
    """Random values for all parameters of an encoder."""
    prompt = PromptTuning(P, encoder=encoder, width=4).in_model(12, nnx.Rngs(0))
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
    adapters = Adapters.of(PromptTuning(P, encoder=encoder, width=4))
    named = {f"prompt.{name}": value for name, value in w.items()} | {"other": np.zeros(1)}
    folded = fold(named, adapters)
    assert folded.keys() == {"prompt.table", "other"}
    np.testing.assert_allclose(folded["prompt.table"], expected_rows(encoder, w), atol=2e-6)
    assert adapters.folded == Adapters.of(PromptTuning(P))
    assert adapters.prompt_rows == P
    np.testing.assert_array_equal(adapters.prompt_table(folded), folded["prompt.table"])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_rows_start_like_a_uniform_table(encoder):
    """Near the standard deviation of U(-0.5, 0.5), 0.29, but for those behind a hidden layer."""
    prompt = PromptTuning(200, encoder=encoder, width=32).in_model(64, nnx.Rngs(0))
    deviation = float(jnp.std(prompt.rows()))
    low, high = (0.02, 0.3) if encoder in ("mlp", "lstm") else (0.25, 0.33)
    assert low < deviation < high
    if encoder == "residual":
        np.testing.assert_array_equal(prompt.rows(), prompt.table[...])


def test_weights_of_hidden_layers_start_as_pytorchs():
    """Uniform within the inverse root of the width that goes in; for an LSTM, of its own width."""
    W, D = 16, 64
    gates = {f"{way}_{part}" for way in ("forward", "backward") for part in ("in", "state")}
    for encoder, bounds in {
        "mlp": {"down": D**-0.5, "up": W**-0.5},
        "lstm": {**dict.fromkeys(gates, W**-0.5), "up": (2 * W) ** -0.5},
    }.items():
        prompt = by_name(PromptTuning(P, encoder=encoder, width=W).in_model(D, nnx.Rngs(0)))
        for name, bound in bounds.items():
            assert bound * 0.95 < np.abs(prompt[name]).max() <= bound, (encoder, name)


def test_anchor_pulls_back_to_the_start():
    method = PromptTuning(P, anchor=0.5)
    prompt = method.in_model(12, nnx.Rngs(0))
    assert prompt.penalty() == 0
    moved = np.random.default_rng(0).normal(size=(P, 12)).astype(np.float32)
    prompt.table[...] = prompt.table[...] + moved
    np.testing.assert_allclose(prompt.penalty(), 0.5 * np.mean(moved**2), rtol=1e-6)
    graphdef, state = nnx.split(prompt)
    gradient = by_name(jax.grad(lambda s: nnx.merge(graphdef, s).penalty())(state))
    np.testing.assert_allclose(gradient["table"], moved / moved.size, rtol=1e-5)
    np.testing.assert_array_equal(gradient["anchor"], 0)
    assert PromptTuning(P).in_model(12, nnx.Rngs(0)).penalty() == 0
    assert [name for name in ("prompt.table", "prompt.anchor") if trains(name)] == ["prompt.table"]
    started = method.started({"prompt.table": moved, "prompt.anchor": 0 * moved})
    np.testing.assert_array_equal(started["prompt.anchor"], moved)
