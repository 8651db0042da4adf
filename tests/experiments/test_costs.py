# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs by formula, beside counts by hand and what the compiler of the real step says."""

import dataclasses
import math

import pytest

from mto_jax.experiments import costs
from mto_jax.experiments.strategies import STRATEGIES
from mto_jax.models import flops
from mto_jax.models.adapters import NONE
from mto_jax.models.config import T5Config
from mto_jax.training import finetune
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.performance import Memory
from tests.tiny import UNEVEN

LENGTHS = {"inputs": 24, "targets": 16}
ADAFACTOR = Optimizer("adafactor", 1e-3)
ROWS = 4


def cost(name, config=UNEVEN, optimizer=ADAFACTOR, lengths=LENGTHS, **options):
    strategy = STRATEGIES[name]
    trainable = strategy.trainable if strategy.way == "fine_tune" else None
    options = {"adapters": strategy.adapters, "trainable": trainable} | options
    return costs.cost(config, lengths, ROWS, optimizer, **options)


def test_trained_parameters_are_counted_as_the_papers_count_them():
    c = UNEVEN
    j, layers = c.num_heads * c.d_kv, c.num_encoder_layers + 2 * c.num_decoder_layers
    assert cost("full").trained == flops.num_parameters(c)
    assert cost("prompt").trained == 10 * c.d_model
    assert cost("lora").trained == layers * 2 * 8 * (c.d_model + j)
    ffs = c.num_encoder_layers + c.num_decoder_layers
    assert cost("ia3").trained == layers * 2 * j + ffs * c.d_ff
    assert cost("prefix").trained == layers * 2 * 10 * j
    norms = 2 * c.num_encoder_layers + 3 * c.num_decoder_layers + 2
    assert cost("biases_and_norms").trained == norms * c.d_model + 2 * 8 * c.num_heads
    head = c.d_model * c.vocab_size
    assert cost("frozen_encoder").trained - cost("decoder_only").trained == head
    assert cost("frozen").trained == cost("frozen").stored == 0
    assert cost("lora").stored == 4 * cost("lora").trained


def test_full_training_takes_three_passes_and_frozen_parts_fewer():
    forward = flops.forward_flops(UNEVEN, 24, 16)
    assert cost("full").example == pytest.approx(3 * forward)
    assert cost("full").answer == cost("frozen").answer == forward
    # Activations' gradients through all of the model, and next to no gradients of weights.
    assert cost("prompt").example == pytest.approx(2 * forward, rel=1e-2)
    assert 2 * forward < cost("lora").example < 3 * forward
    # The same model with twice the encoder: what is added is forward alone.
    deeper = dataclasses.replace(UNEVEN, num_encoder_layers=4)
    added = flops.forward_flops(deeper, 24, 16) - forward
    gained = cost("frozen_encoder", deeper).example - cost("frozen_encoder").example
    assert gained == pytest.approx(added)
    assert cost("frozen").example == 0
    assert cost("in_context_late", shown=3).answer == forward + 2 * added


def test_a_tied_model_has_a_frozen_encoder_too():
    tied = dataclasses.replace(UNEVEN, tie_embeddings=True)
    assert cost("frozen_encoder", tied).trained == cost("decoder_only", tied).trained


def test_moments_of_the_optimizer_count():
    adam = cost("full", optimizer=Optimizer("adamw", 1e-3)).training
    sgd = cost("full", optimizer=Optimizer("sgd", 1e-3)).training
    assert adam - sgd == pytest.approx(8 * flops.num_parameters(UNEVEN), rel=1e-3)
    assert cost("frozen").training == cost("frozen").serving < cost("prompt").training


@pytest.mark.parametrize("trainable", ["all", ("decoder.*",), ("*norm.scale",)])
def test_the_estimate_of_memory_is_near_what_the_compiler_says(trainable):
    config = T5Config(
        vocab_size=128, d_model=64, d_kv=16, num_heads=4, d_ff=128, num_encoder_layers=2,
        num_decoder_layers=2,
    )  # fmt: skip
    shape = finetune._Shape(config, 16, 64, 32, ADAFACTOR, 10, False, trainable)
    measured = Memory.of(finetune._program(shape).step).total
    options = {"adapters": NONE, "trainable": trainable}
    estimate = costs.cost(config, {"inputs": 64, "targets": 32}, 16, ADAFACTOR, **options)
    assert abs(math.log(estimate.training / measured)) < math.log(1.6)
