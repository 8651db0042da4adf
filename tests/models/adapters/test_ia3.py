# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""(IA)^3 merged into weights, and in the form of PEFT."""

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.models.adapters import IA3

L, D, E = 3, 4, 5
ATTENTION, MLP = "encoder.layers.self_attention", "encoder.layers.mlp"


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    names = (f"{ATTENTION}.ia3.key", f"{ATTENTION}.ia3.value", f"{MLP}.ia3.hidden")
    return {name: rng.normal(size=(L, E)).astype(np.float32) for name in names}


def test_merging_scales_columns_of_keys_and_rows_of_wo():
    scales = parameters()
    changes = IA3().merge(scales)
    assert changes.keys() == {f"{ATTENTION}.key", f"{ATTENTION}.value", f"{MLP}.wo"}
    rng = np.random.default_rng(1)
    key, wo = rng.normal(size=(L, D, E)), rng.normal(size=(L, E, D))
    index = slice(1, 3), slice(0, 3), slice(2, 4)
    for weight, name, axes in ((key, f"{ATTENTION}.key", "ldE"), (wo, f"{MLP}.wo", "lEd")):
        scale = scales[f"{MLP}.ia3.hidden" if name.endswith("wo") else f"{ATTENTION}.ia3.key"]
        expected = np.einsum(f"{axes},lE->{axes}", weight, scale)
        np.testing.assert_allclose(changes[name](weight[index], index), expected[index])
    assert IA3.absent == 1.0  # a scale that is not there changes nothing


def test_pefts_form_there_and_back():
    settings, tensors = IA3().to_peft(parameters())
    assert settings == {"peft_type": "IA3", "feedforward_modules": ["wo"]}
    # PEFT scales the output of a linear by a column, its input by a row.
    assert tensors[f"{ATTENTION}.key.ia3_l"].shape == (L, E, 1)
    assert tensors[f"{MLP}.wo.ia3_l"].shape == (L, 1, E)
    found, back = IA3.from_peft(settings, tensors, "there")
    assert found == IA3()
    assert back.keys() == parameters().keys()
    for name, value in parameters().items():
        np.testing.assert_array_equal(back[name], value)
    of_mt5 = {k.replace(".wo.", ".wi_1."): v for k, v in tensors.items()}
    of_mt5[f"{MLP}.wi_1.ia3_l"] = tensors[f"{MLP}.wo.ia3_l"].swapaxes(1, 2)
    np.testing.assert_array_equal(
        IA3.from_peft(settings, of_mt5, "there")[1][f"{MLP}.ia3.hidden"], back[f"{MLP}.ia3.hidden"]
    )


@pytest.mark.parametrize("own", ["key", "value", "wo"])
def test_what_is_no_ia3_of_peft_is_refused(own):
    settings, tensors = IA3().to_peft(parameters())
    (name,) = (name for name in tensors if f".{own}." in name)
    without = {n: v for n, v in tensors.items() if n != name}
    with pytest.raises(UserError, match=f"there has no scales of {own.replace('wo', 'hidden')}"):
        IA3.from_peft(settings, without, "there")
    with pytest.raises(UserError, match="has no counterpart here"):
        IA3.from_peft(settings, tensors | {name: tensors[name].swapaxes(1, 2)}, "there")
    with pytest.raises(UserError, match=r"query\.ia3_l .* has no counterpart here"):
        IA3.from_peft(settings, tensors | {f"{ATTENTION}.query.ia3_l": np.ones((L, E, 1))}, "there")
