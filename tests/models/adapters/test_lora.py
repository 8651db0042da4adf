# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA merged into weights, and in the form of PEFT."""

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.models.adapters import LoRA

L, D, E, RANK, ALPHA = 3, 5, 7, 2, 3.0
LAYER = "encoder.layers.self_attention"


def parameters(*weights: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"a": (L, D, RANK), "b": (L, RANK, E)}
    return {
        f"{LAYER}.lora.{weight}_{side}": rng.normal(size=shape).astype(np.float32)
        for weight in weights
        for side, shape in shapes.items()
    }


@pytest.mark.parametrize(
    "index",
    [
        (slice(None), slice(None), slice(None)),
        (slice(1, 3), slice(2, 4), slice(3, 7)),
    ],
)
def test_merging_adds_the_scaled_product(index):
    adapter = parameters("query")
    weight = np.random.default_rng(1).normal(size=(L, D, E)).astype(np.float32)
    changes = LoRA(RANK, ALPHA, ("query",)).merge(adapter)
    assert changes.keys() == {f"{LAYER}.query"}
    a, b = adapter.values()
    expected = weight + ALPHA / RANK * np.einsum("ldr,lre->lde", a, b)
    merged = changes[f"{LAYER}.query"](weight[index], index)
    np.testing.assert_allclose(merged, expected[index], rtol=1e-5, atol=1e-6)


def test_pefts_form_there_and_back():
    method, adapter = LoRA(RANK, ALPHA, ("query", "out")), parameters("query", "out")
    settings, tensors = method.to_peft(adapter)
    assert settings == {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    # A PyTorch linear has [out, in]: A [r, D], B [E, r].
    assert tensors[f"{LAYER}.query.lora_A.weight"].shape == (L, RANK, D)
    assert tensors[f"{LAYER}.query.lora_B.weight"].shape == (L, E, RANK)
    found, back = LoRA.from_peft(settings, tensors, "there")
    assert found == method
    assert back.keys() == adapter.keys()
    for name, value in back.items():
        np.testing.assert_array_equal(value, adapter[name])
    stabilised, _ = LoRA.from_peft(settings | {"use_rslora": True}, tensors, "there")
    assert stabilised.alpha == pytest.approx(ALPHA * RANK**0.5)


@pytest.mark.parametrize(
    ("settings", "left_out", "message"),
    [
        ({}, "lora_A", "there has .*query_b without .*query_a"),
        ({}, "lora_B", "there has .*query_a without .*query_b"),
        ({"r": 3}, "", "is none of LoRA of the rank r = 3 on a weight"),
        ({"init_lora_weights": "pissa"}, "", "init_lora_weights is 'pissa', which changes"),
    ],
)
def test_what_is_no_lora_of_peft_is_refused(settings, left_out, message):
    given, tensors = LoRA(RANK, ALPHA, ("query",)).to_peft(parameters("query"))
    kept = {name: value for name, value in tensors.items() if not left_out or left_out not in name}
    with pytest.raises(UserError, match=message):
        LoRA.from_peft(given | settings, kept, "there")
