# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/train_step.py sets side by side, on models of a few parameters."""

import train_step

SIZES = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "num_heads": 4, "d_ff": 32}
LAYERS = {"num_encoder_layers": 1, "num_decoder_layers": 1}


def test_a_t5gemma_stands_beside_a_t5_of_its_sizes_and_pytorchs():
    config = train_step.fields("11.5M", "t5gemma") | SIZES | LAYERS
    builders = train_step.contenders(config, (2, 8, 4), "cpu")
    assert list(builders) == ["MTO-JAX", "MTO-JAX, a T5", "PyTorch eager", "PyTorch compiled"]
    facts = {}
    for name in ("MTO-JAX", "MTO-JAX, a T5", "PyTorch eager"):
        function, arguments = builders[name]
        run, facts[name] = function(*arguments)
        run()
    assert facts["MTO-JAX"]["flops"] == facts["MTO-JAX, a T5"]["flops"] > 0


def test_sizes_are_presets_of_either_family():
    assert train_step.fields("t5gemma_b_b")["family"] == "t5gemma"
    assert "family" not in train_step.fields("t5_1_1_base")
    contenders = train_step.contenders(train_step.fields("t5_1_1_base"), (8, 8, 8), "gpu")
    assert list(contenders) == ["MTO-JAX", "PyTorch eager", "PyTorch compiled"]
