# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameter counts and FLOPs of a T5, for model FLOP utilisation (MFU)."""

import math

import jax
from flax import nnx

from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5


def num_parameters(config: T5Config) -> int:
    """All parameters, embedding and head included; a tied head counts once. Allocates nothing."""
    model = nnx.eval_shape(lambda: T5(config, nnx.Rngs(0)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model)))


def forward_flops(config: T5Config, inputs: int, targets: int) -> int:
    """Floating-point operations of the matrix products in one forward pass over one row.

    Two a multiply-add. With S = `inputs` and T = `targets` tokens, D, F, V, J = H * K and M
    matrices into the feed-forward layer (2 when gated, else 1):
      encoder layer  S (8 D J + 2 (M + 1) D F) + 4 S^2 J
      decoder layer  T (8 D J + 2 (M + 1) D F) + 4 T^2 J, and for cross-attention
                     4 T D J + 4 S D J + 4 T S J
      head           2 T D V
    Padding counts, as the hardware computes it; the lookup of embeddings, norms and softmax do not.
    """
    d, v = config.d_model, config.vocab_size
    j = config.num_heads * config.d_kv
    matrices = 2 if config.mlp.startswith("gated") else 1
    token = 8 * d * j + 2 * (matrices + 1) * d * config.d_ff
    encoder_layer = inputs * token + 4 * inputs**2 * j
    cross = 4 * (inputs + targets) * d * j + 4 * targets * inputs * j
    decoder_layer = targets * token + 4 * targets**2 * j + cross
    return (
        config.num_encoder_layers * encoder_layer
        + config.num_decoder_layers * decoder_layer
        + 2 * targets * d * v
    )


def train_flops(config: T5Config, batch_size: int, inputs: int, targets: int) -> int:
    """Returns the FLOPs of a training step: three forward passes, as the backward pass costs two.

    What rematerialisation computes a second time is not counted, so MFU falls with it.
    """
    return 3 * batch_size * forward_flops(config, inputs, targets)
