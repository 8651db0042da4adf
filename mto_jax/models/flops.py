# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameter counts and FLOPs of a model, for model FLOP utilisation (MFU)."""

import math

import jax
from flax import nnx

from mto_jax.models.config import ModelConfig
from mto_jax.models.families import build


def num_parameters(config: ModelConfig) -> int:
    """All parameters, embedding and head included; a tied head counts once. Allocates nothing."""
    model = nnx.eval_shape(lambda: build(config, nnx.Rngs(0)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model)))


def forward_flops(config: ModelConfig, inputs: int, targets: int) -> int:
    """Floating-point operations of the matrix products in one forward pass over one row.

    Two a multiply-add. With S = `inputs` and T = `targets` tokens, D, F, V, J = H * K, E the width
    of keys and values (J, or that of fewer heads) and M matrices into the feed-forward layer (2
    when gated, else 1), each of its own stack:
      encoder layer  S (4 D J + 4 D E + 2 (M + 1) D F) + 4 S^2 J
      decoder layer  T (4 D J + 4 D E + 2 (M + 1) D F) + 4 T^2 J, and for cross-attention
                     4 T D J + 4 S D' E + 4 T S J, D' the encoder's width
      head           2 T D V
    Padding counts, as the hardware computes it, and what lies outside of a window; the lookup of
    embeddings, norms and softmax do not.
    """
    matrices = 2 if config.mlp.startswith("gated") else 1

    def layer(c: ModelConfig, tokens: int) -> int:
        j, e = c.num_heads * c.d_kv, c.num_kv_heads * c.d_kv
        token = 4 * c.d_model * (j + e) + 2 * (matrices + 1) * c.d_model * c.d_ff
        return tokens * token + 4 * tokens**2 * j

    encoder, d = config.of_encoder, config.d_model
    j, e = config.num_heads * config.d_kv, config.num_kv_heads * config.d_kv
    cross = 4 * targets * d * j + 4 * inputs * encoder.d_model * e + 4 * targets * inputs * j
    return (
        config.num_encoder_layers * layer(encoder, inputs)
        + config.num_decoder_layers * (layer(config, targets) + cross)
        + 2 * targets * d * config.vocab_size
    )


def train_flops(config: ModelConfig, batch_size: int, inputs: int, targets: int) -> int:
    """Returns the FLOPs of a training step: three forward passes, as the backward pass costs two.

    What rematerialisation computes a second time is not counted, so MFU falls with it.
    """
    return 3 * batch_size * forward_flops(config, inputs, targets)
