# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prefixes in the form of PEFT."""

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.models.adapters import PrefixTuning

P, H, K = 3, 2, 4
ROWS = "prompt_embeddings"


def settings(layers: int) -> dict:
    sizes = {"num_virtual_tokens": P, "num_layers": layers, "num_attention_heads": H}
    return sizes | {"token_dim": H * K, "num_transformer_submodules": 2}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_keys_and_values_are_those_that_pefts_forward_hands_to_layers(layers):
    rows = np.arange(P * 2 * layers * H * K, dtype=np.float32).reshape(P, -1)
    method, parameters = PrefixTuning.from_peft(settings(layers), {ROWS: rows}, "there")
    assert method == PrefixTuning(P, past=True)
    # As `PeftModel.get_prompt` does: keys and values of all layers, twice in a row, four a layer.
    keys_values = rows.reshape(P, 2 * layers, H, K).transpose(1, 0, 2, 3)
    of_layers = np.split(np.concatenate([keys_values, keys_values]), layers)
    for k, name in enumerate(("key", "value")):
        found = parameters[f"decoder.layers.self_attention.prefix.{name}"]
        np.testing.assert_array_equal(found, np.stack([layer[k] for layer in of_layers]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_attention_heads": 3}, "in 3 heads"),
        ({"num_attention_heads": 0}, "in 0 heads"),
        ({"num_virtual_tokens": 4}, f"expected {ROWS} with 4 rows of 2 x 2 x 8"),
        ({"num_layers": 3}, f"expected {ROWS} with 3 rows of 2 x 3 x 8"),
        ({"num_transformer_submodules": 1}, "num_transformer_submodules is 1"),
    ],
)
def test_what_is_no_prefix_of_peft_is_refused(changed, message):
    rows = np.zeros((P, 2 * 2 * H * K), np.float32)
    with pytest.raises(UserError, match=message):
        PrefixTuning.from_peft(settings(2) | changed, {ROWS: rows}, "there")
    with pytest.raises(UserError, match=f"there holds other .*; expected {ROWS}"):
        PrefixTuning.from_peft(settings(2), {"other": rows}, "there")
