# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5Gemma (Zhang et al. 2025, https://arxiv.org/abs/2504.06225): an encoder-decoder of Gemma 2.

The stacks have embeddings and sizes of their own; the head is the decoder's embedding. Places are
rotary positions. A window of the nearest tokens bounds what layers 0, 2, 4, ... see.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.models.adapters import NONE, Adapters, PrefixTuning, attach
from mto_jax.models.attention import Positions, Rotation, Visible, visible, window_mask
from mto_jax.models.config import T5GemmaConfig
from mto_jax.models.encoder_decoder import Cache, EncoderDecoder, Step
from mto_jax.models.layers import normal_param
from mto_jax.models.stack import DecoderLayer, EncoderLayer, Stack


class T5GemmaStack(Stack):
    """A stack with its embedding.

    Args:
      config: whose decoder's sizes are those of the stack.
    """

    config: T5GemmaConfig

    def __init__(
        self,
        config: T5GemmaConfig,
        layers: EncoderLayer | DecoderLayer,
        num_layers: int,
        rngs: nnx.Rngs,
    ):
        super().__init__(config, layers, num_layers)
        V, D = config.vocab_size, config.d_model
        self.embedding = normal_param(rngs, (V, D), ("vocab", "embed"), D**-0.5)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        segment_ids_BxT: jax.Array,
        dropout_key: jax.Array | None,
        *context: Any,
        causal: bool,
        packed: bool,
    ) -> jax.Array:
        """Runs all layers; `context` goes to every one. -> [B, T, D], normed."""
        config, T = self.config, x_BxTxD.shape[1]
        seen = visible(segment_ids_BxT, segment_ids_BxT, causal=causal, packed=packed)
        # Only distances matter, within a segment: places in the row serve as well as in it.
        positions = Positions(
            rotation=Rotation.of(jnp.arange(T)[None], config.d_kv, config.rope_theta)
        )
        near_1x1xTxT, windows = None, None
        if config.window < T:
            near_1x1xTxT = window_mask(T, config.window, causal=causal)
            windows = jnp.arange(self.num_layers) % 2 == 0

        def body(layer, x_BxTxD, has_window, dropout):
            near = seen
            if near_1x1xTxT is not None:
                near = Visible(seen.mask & (near_1x1xTxT | ~has_window))
            return layer(x_BxTxD, positions, near, dropout, *context)

        return self.scan(x_BxTxD, dropout_key, windows, body)

    def window(self, layer: int) -> int | None:
        return None if layer % 2 else self.config.window


class T5Gemma(EncoderDecoder):
    """A T5Gemma; see `encoder_decoder`. The soft prompt has the encoder's width."""

    config: T5GemmaConfig
    encoder: T5GemmaStack
    decoder: T5GemmaStack

    def __init__(self, config: T5GemmaConfig, rngs: nnx.Rngs, adapters: Adapters = NONE):
        if (prefix := adapters.get(PrefixTuning)) is not None and prefix.past:
            raise UserError(
                "PrefixTuning.past = True (a prefix of Hugging Face PEFT) is for T5: it stands at "
                "distances for which T5Gemma has no bias. Set PrefixTuning.past = False."
            )
        self.config = config
        self.adapters = adapters
        of_encoder, L, M = config.of_encoder, config.num_encoder_layers, config.num_decoder_layers
        encoder = EncoderLayer(of_encoder, adapters, L, rngs)
        self.encoder = T5GemmaStack(of_encoder, encoder, L, rngs)
        decoder = DecoderLayer(config, adapters, M, rngs, of_encoder.d_model)
        self.decoder = T5GemmaStack(config, decoder, M, rngs)
        attach(self, adapters.in_model(of_encoder.d_model, rngs))

    def embed(self, tokens_BxT: jax.Array, *, of_decoder: bool = False) -> jax.Array:
        stack = self.decoder if of_decoder else self.encoder
        x_BxTxD = self.lookup(stack.embedding[...], tokens_BxT).astype(self.config.dtype)
        return x_BxTxD * jnp.asarray(stack.config.d_model**0.5, x_BxTxD.dtype)

    @property
    def unembedding(self) -> jax.Array:
        """The head [D, V], float32: the decoder's embedding, transposed."""
        return self.decoder.embedding[...].T

    def start_bias(self, length: int) -> tuple[jax.Array, ...]:
        return ()

    def step_positions(self, step: Step, cache: Cache) -> list[Positions]:
        config, position_Rx1 = self.config, step.position_R[:, None]
        return [Positions(rotation=Rotation.of(position_Rx1, config.d_kv, config.rope_theta))]
