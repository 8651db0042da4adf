# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5 (Raffel et al. 2020, https://arxiv.org/abs/1910.10683): a learned bias of distance."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.adapters import NONE, Adapters, attach
from mto_jax.models.attention import (
    Positions,
    distance_bias,
    past_bias,
    relative_bias,
    segment_positions,
    visible,
)
from mto_jax.models.config import T5Config
from mto_jax.models.encoder_decoder import Cache, EncoderDecoder, Step
from mto_jax.models.layers import normal_param
from mto_jax.models.stack import DecoderLayer, EncoderLayer, Stack


class T5Stack(Stack):
    """A stack with the relative position bias: a table of all layers, or one of each."""

    config: T5Config

    def __init__(
        self,
        config: T5Config,
        layer: type[EncoderLayer] | type[DecoderLayer],
        adapters: Adapters,
        num_layers: int,
        rngs: nnx.Rngs,
    ):
        super().__init__(config, layer(config, adapters, num_layers, rngs), num_layers)
        shape, axes = (config.num_buckets, config.num_heads), (None, "heads")
        if config.relative_bias_per_layer:
            shape, axes = (num_layers, *shape), ("layers", *axes)
        self.relative_bias = normal_param(rngs, shape, axes, config.d_model**-0.5)

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
        config, T, P = self.config, x_BxTxD.shape[1], self.past_tokens
        seen = visible(segment_ids_BxT, segment_ids_BxT, causal=causal, packed=packed)
        # Tokens of one example are at the same places in every row.
        ids_BxT = segment_ids_BxT if packed else jnp.ones((1, T), jnp.int32)

        def bias(table: jax.Array) -> jax.Array:
            bias_1xHxTxT = relative_bias(table, T, T, config, bidirectional=not causal)
            if not P:
                return bias_1xHxTxT
            past_BxHxTxP = past_bias(table, segment_positions(ids_BxT), P, config)
            own = jnp.broadcast_to(bias_1xHxTxT, (len(past_BxHxTxP), *bias_1xHxTxT.shape[1:]))
            return jnp.concatenate([past_BxHxTxP, own], axis=3)

        shared_bias = None if config.relative_bias_per_layer else bias(self.relative_bias[...])
        tables = self.relative_bias[...] if config.relative_bias_per_layer else None

        def body(layer, x_BxTxD, table, dropout):
            positions = Positions(shared_bias if table is None else bias(table))
            return layer(x_BxTxD, positions, seen, dropout, *context)

        return self.scan(x_BxTxD, dropout_key, tables, body)


class T5(EncoderDecoder):
    """A T5; see `encoder_decoder`."""

    config: T5Config
    decoder: T5Stack

    def __init__(self, config: T5Config, rngs: nnx.Rngs, adapters: Adapters = NONE):
        V, D = config.vocab_size, config.d_model
        self.config = config
        self.adapters = adapters
        self.embedding = normal_param(rngs, (V, D), ("vocab", "embed"), 1.0)
        self.encoder = T5Stack(config, EncoderLayer, adapters, config.num_encoder_layers, rngs)
        self.decoder = T5Stack(config, DecoderLayer, adapters, config.num_decoder_layers, rngs)
        attach(self, adapters.in_model(D, rngs))
        if not config.tie_embeddings:
            self.lm_head = normal_param(rngs, (D, V), ("embed", "vocab"), D**-0.5)

    def embed(self, tokens_BxT: jax.Array, *, of_decoder: bool = False) -> jax.Array:
        del of_decoder  # a single embedding
        return self.lookup(self.embedding[...], tokens_BxT).astype(self.config.dtype)

    @property
    def unembedding(self) -> jax.Array:
        """The head [D, V], float32: its own, or the transposed embedding if tied."""
        return self.embedding[...].T if self.config.tie_embeddings else self.lm_head[...]

    def _scale(self, hidden: jax.Array) -> jax.Array:
        # A tied embedding has unit variance; the scale gives its logits the variance of a fresh
        # head's.
        return hidden * self.config.d_model**-0.5 if self.config.tie_embeddings else hidden

    def start_bias(self, length: int) -> tuple[jax.Array, ...]:
        tables = self.decoder.relative_bias[...]
        tables = tables if self.config.relative_bias_per_layer else tables[None]
        distance = -jnp.arange(length + self.decoder.past_tokens)
        return tuple(
            distance_bias(table, distance, self.config, bidirectional=False) for table in tables
        )

    def step_positions(self, step: Step, cache: Cache) -> list[Positions]:
        _, T, U = step.seen.shape
        G, past_tokens = step.groups, self.decoder.past_tokens
        back_N = jnp.repeat((step.index - jnp.arange(T)) % T, U)
        # Back to the P tokens of a past, from the first token of each row.
        back_RxP = step.position_R[:, None] + past_tokens - jnp.arange(past_tokens)[None]

        def bias(by_distance_HxD: jax.Array) -> jax.Array:
            own = by_distance_HxD[None, :, None, back_N]
            if past_tokens:
                past_HxGxUxP = by_distance_HxD[:, back_RxP.reshape(G, U, -1)]
                own = jnp.broadcast_to(own, (G, own.shape[1], U, T * U))
                own = jnp.concatenate([jnp.swapaxes(past_HxGxUxP, 0, 1), own], axis=3)
            size = step.front + T * U
            return jnp.pad(own, [(0, 0)] * 3 + [(size - own.shape[3], 0)])

        return [Positions(bias(by_distance_HxD)) for by_distance_HxD in cache.bias]
