# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5, encoder and decoder (Raffel et al. 2020, https://arxiv.org/abs/1910.10683), in Flax NNX.

    model = T5(T5Config(), nnx.Rngs(0))
    logits_BxTxV = model(batch)

`training.state.abstract_model` gives names, shapes and axes of the parameters without their values,
and makes the values where they live.

The weights of the layers of a stack are stacked along a leading axis L, and the stack is one
`jax.lax.scan`: one layer is compiled, whatever the depth. Segment ids are 0 at padding and
number the packed examples of a row from 1; a row that holds one example has ones.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.adapters import NONE, Adapters, attach, attached
from mto_jax.models.attention import (
    Attention,
    attend,
    distance_bias,
    past_bias,
    relative_bias,
    segment_mask,
    segment_positions,
)
from mto_jax.models.config import T5Config
from mto_jax.models.layers import MLP, Dropout, RMSNorm, normal_param
from mto_jax.models.partitioning import constrain, platform

_STREAM = ("batch", "length", "embed")
_REMAT = {
    # Keeps the results of the matmuls that have weights in them, recomputes the rest (attention,
    # norms, gelu).
    "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def remat(config: T5Config) -> str:
    """Returns what backward recomputes, `T5Config.remat`, on the platform that computes."""
    if config.remat != "auto":
        return config.remat
    return "none" if platform() == "cpu" else "minimal"


def layers_per_iteration(config: T5Config, num_layers: int) -> int:
    """Returns the layers that an iteration over a stack computes; all means no loop."""
    if config.scan_unroll:
        return min(config.scan_unroll, num_layers)
    # On CPU a loop over layers pays for copying each layer's weights and results in and out of
    # stacks.
    short = num_layers <= 8 and remat(config) == "none"
    return num_layers if short and platform() == "cpu" else 1


def unstacked_prefixes(config: T5Config, *, decoding: bool = False) -> tuple[str, ...]:
    """Returns the name prefixes of parameters that a function should take unstacked, by layer.

    Where there is no loop over layers, slicing them from a stack would copy their weights.
    `decoding` says that the decoder computes one token at a time, which never loops.
    """
    counts = {
        "encoder.layers.": config.num_encoder_layers,
        "decoder.layers.": config.num_decoder_layers,
    }
    return tuple(
        name
        for name, count in counts.items()
        if layers_per_iteration(config, count) == count or (decoding and name.startswith("decoder"))
    )


class EncoderLayer(nnx.Module):
    """Self-attention and feed-forward, each behind a norm and inside a residual."""

    def __init__(self, config: T5Config, adapters: Adapters, num_layers: int, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config, num_layers)
        self.attention = Attention(config, adapters, num_layers, rngs)
        self.mlp_norm = RMSNorm(config, num_layers)
        self.mlp = MLP(config, adapters, num_layers, rngs)

    def __call__(
        self,
        x_BxSxD: jax.Array,
        bias_1xHxSxS: jax.Array | None,
        mask_Bx1xSxS: jax.Array,
        dropout: Dropout,
    ) -> jax.Array:
        y_BxSxD = self.attention_norm(x_BxSxD)
        y_BxSxD = self.attention(y_BxSxD, y_BxSxD, bias_1xHxSxS, mask_Bx1xSxS, dropout)
        x_BxSxD = constrain(x_BxSxD + dropout(y_BxSxD), _STREAM)
        y_BxSxD = self.mlp(self.mlp_norm(x_BxSxD), dropout)
        return constrain(x_BxSxD + dropout(y_BxSxD), _STREAM)


class DecoderLayer(nnx.Module):
    """Causal self-attention, attention to the encoded source, feed-forward."""

    def __init__(self, config: T5Config, adapters: Adapters, num_layers: int, rngs: nnx.Rngs):
        self.self_attention_norm = RMSNorm(config, num_layers)
        self.self_attention = Attention(config, adapters, num_layers, rngs, causal=True)
        self.cross_attention_norm = RMSNorm(config, num_layers)
        self.cross_attention = Attention(config, adapters, num_layers, rngs)
        self.mlp_norm = RMSNorm(config, num_layers)
        self.mlp = MLP(config, adapters, num_layers, rngs)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        bias_1xHxTxT: jax.Array | None,
        mask_Bx1xTxT: jax.Array,
        dropout: Dropout,
        encoded_BxSxD: jax.Array,
        cross_mask_Bx1xTxS: jax.Array,
    ) -> jax.Array:
        y_BxTxD = self.self_attention_norm(x_BxTxD)
        y_BxTxD = self.self_attention(y_BxTxD, y_BxTxD, bias_1xHxTxT, mask_Bx1xTxT, dropout)
        x_BxTxD = constrain(x_BxTxD + dropout(y_BxTxD), _STREAM)
        y_BxTxD = self.cross_attention_norm(x_BxTxD)
        y_BxTxD = self.cross_attention(y_BxTxD, encoded_BxSxD, None, cross_mask_Bx1xTxS, dropout)
        x_BxTxD = constrain(x_BxTxD + dropout(y_BxTxD), _STREAM)
        y_BxTxD = self.mlp(self.mlp_norm(x_BxTxD), dropout)
        return constrain(x_BxTxD + dropout(y_BxTxD), _STREAM)

    def step(
        self,
        x_Rx1xD: jax.Array,
        bias_1xHx1xN: jax.Array,
        mask_Gx1xUxN: jax.Array,
        past: tuple[jax.Array, jax.Array],
        slot: jax.Array,
        source: tuple[jax.Array, jax.Array],
        source_mask_Bx1x1xS: jax.Array,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """The layer on one new token of every row; returns x and the past with the tokens in it.

        The U rows of each of G groups share their past, of N slots; the new tokens take U slots
        from `slot` on. Keys, values, bias and masks have the prefix in front already, where
        there is one.
        """
        attention = self.self_attention
        y_Rx1xD = self.self_attention_norm(x_Rx1xD)
        groups, shape = mask_Gx1xUxN.shape[0], (*x_Rx1xD.shape[:2], attention.num_heads, -1)

        def grown(cached_GxHxNxK: jax.Array, name: str) -> jax.Array:
            new_GxHxUxK = _grouped(attention.project(y_Rx1xD, name), groups)
            return jax.lax.dynamic_update_slice_in_dim(cached_GxHxNxK, new_GxHxUxK, slot, axis=2)

        past = grown(past[0], "key"), grown(past[1], "value")
        q_GxHxUxK = _grouped(attention.project(y_Rx1xD, "query"), groups)
        y_GxHxUxK = attend(q_GxHxUxK, *past, bias_1xHx1xN, mask_Gx1xUxN)
        x_Rx1xD = x_Rx1xD + attention.merge(_heads_first(y_GxHxUxK).reshape(shape))

        attention = self.cross_attention
        q_Rx1xHxK = attention.project(self.cross_attention_norm(x_Rx1xD), "query")
        # The W rows of one source are W queries of one attention: its keys are not repeated.
        q_BxHxWxK = _grouped(q_Rx1xHxK, source_mask_Bx1x1xS.shape[0])
        y_BxHxWxK = attend(q_BxHxWxK, *source, None, source_mask_Bx1x1xS)
        x_Rx1xD = x_Rx1xD + attention.merge(_heads_first(y_BxHxWxK).reshape(shape))
        return x_Rx1xD + self.mlp(self.mlp_norm(x_Rx1xD), Dropout(0.0, None)), past


def _heads_first(x_BxTxHxK: jax.Array) -> jax.Array:
    return jnp.swapaxes(x_BxTxHxK, 1, 2)


def _grouped(x_Rx1xHxK: jax.Array, groups: int) -> jax.Array:
    """The rows of each group beside each other: [G, H, R / G, K]."""
    return _heads_first(x_Rx1xHxK.reshape(groups, -1, *x_Rx1xHxK.shape[2:]))


class Stack(nnx.Module):
    """An encoder or a decoder: layers, the relative position bias and the final norm."""

    def __init__(
        self,
        config: T5Config,
        layer: type[EncoderLayer] | type[DecoderLayer],
        adapters: Adapters,
        num_layers: int,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.num_layers = num_layers
        self.layers = layer(config, adapters, num_layers, rngs)
        shape, axes = (config.num_buckets, config.num_heads), (None, "heads")
        if config.relative_bias_per_layer:
            shape, axes = (num_layers, *shape), ("layers", *axes)
        self.relative_bias = normal_param(rngs, shape, axes, config.d_model**-0.5)
        self.final_norm = RMSNorm(config, None)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        segment_ids_BxT: jax.Array,
        dropout_key: jax.Array | None,
        *context: jax.Array,
        causal: bool,
    ) -> jax.Array:
        """Runs all layers; `context` goes to every one. -> [B, T, D], normed."""
        config, T = self.config, x_BxTxD.shape[1]
        mask_Bx1xTxT = segment_mask(segment_ids_BxT, segment_ids_BxT, causal=causal)
        graphdef, weights = nnx.split(self.layers)

        P = self.past_tokens

        def bias(table: jax.Array) -> jax.Array:
            bias_1xHxTxT = relative_bias(table, T, T, config, bidirectional=not causal)
            if not P:
                return bias_1xHxTxT
            past_BxHxTxP = past_bias(table, segment_positions(segment_ids_BxT), P, config)
            own = jnp.broadcast_to(bias_1xHxTxT, (len(past_BxHxTxP), *bias_1xHxTxT.shape[1:]))
            return jnp.concatenate([past_BxHxTxP, own], axis=3)

        shared_bias = None if config.relative_bias_per_layer else bias(self.relative_bias[...])
        tables = self.relative_bias[...] if config.relative_bias_per_layer else None
        keys = None if dropout_key is None else jax.random.split(dropout_key, self.num_layers + 1)

        def body(x_BxTxD, slices):
            layer_weights, table, key = slices
            layer_bias = shared_bias if table is None else bias(table)
            layer = nnx.merge(graphdef, layer_weights)
            dropout = Dropout(config.dropout_rate, key)
            return layer(x_BxTxD, layer_bias, mask_Bx1xTxT, dropout, *context), None

        unroll = layers_per_iteration(config, self.num_layers)
        if (policy := remat(config)) != "none":
            # What a loop computes again the compiler cannot merge with its first computation;
            # elsewhere it would.
            merges = unroll == self.num_layers
            body = jax.checkpoint(body, policy=_REMAT[policy], prevent_cse=merges)
        slices = (weights, tables, None if keys is None else keys[1:])
        dropout = Dropout(config.dropout_rate, None if keys is None else keys[0])
        x_BxTxD = constrain(dropout(x_BxTxD), _STREAM)
        x_BxTxD, _ = jax.lax.scan(body, x_BxTxD, slices, unroll=unroll)
        return dropout(self.final_norm(x_BxTxD))

    @property
    def past_tokens(self) -> int:
        """P, the tokens of adapters before the first of a decoder; 0 in an encoder."""
        layers = self.layers
        return layers.self_attention.past_tokens if isinstance(layers, DecoderLayer) else 0

    def unstacked(self) -> list[Any]:
        """The layers one by one."""
        graphdef, weights = nnx.split(self.layers)
        return [
            nnx.merge(graphdef, jax.tree.map(lambda w, i=i: w[i], weights))
            for i in range(self.num_layers)
        ]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Source:
    """Keys and values of B encoded sources, with those of adapters in front."""

    keys_values: tuple[tuple[jax.Array, jax.Array], ...]  # per layer [B, H, S, K]
    mask: jax.Array  # [B, 1, 1, S] True at the tokens of the source


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """State of the decoder between tokens: B sources with W hypotheses each, R = B * W rows.

    The past is a ring buffer: the tokens of step t are in its slots t mod T, for all rows alike.
    T5 knows distances only, so a row may begin at any step, and another may replace it (-1 in
    `ancestors` forgets a past). A row is its own group, U = 1, or the U = W rows of a source are
    one group and share their past: then a row continues another of its source by copying its
    `ancestors`, and no key moves.
    """

    past: tuple[tuple[jax.Array, jax.Array], ...]  # per layer: keys, values [G, H, T * U, K]
    # [B, W, T] the row whose token of a step is in each row's past: in [0, U), or -1.
    ancestors: jax.Array
    source: Source
    # Of all layers, or per layer: [H, T + P], by distance back; P tokens of an adapter's past.
    bias: tuple[jax.Array, ...]
    index: jax.Array  # [] steps so far


class T5(nnx.Module):
    """An encoder-decoder Transformer; see the module's docstring."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs, adapters: Adapters = NONE):
        V, D = config.vocab_size, config.d_model
        self.config = config
        self.adapters = adapters
        self.embedding = normal_param(rngs, (V, D), ("vocab", "embed"), 1.0)
        self.encoder = Stack(config, EncoderLayer, adapters, config.num_encoder_layers, rngs)
        self.decoder = Stack(config, DecoderLayer, adapters, config.num_decoder_layers, rngs)
        attach(self, adapters.in_model(D, rngs))
        if not config.tie_embeddings:
            self.lm_head = normal_param(rngs, (D, V), ("embed", "vocab"), D**-0.5)

    def embed(self, tokens_BxT: jax.Array) -> jax.Array:
        """Token ids in [0, V + P) -> [B, T, D]; those from V on are rows of the soft prompt.

        An id outside gives NaN, which stops a run at its first step.
        """
        x_BxTxD = jnp.take(self.embedding[...], tokens_BxT, axis=0, mode="fill")
        tables = [rows for a in attached(self) if (rows := a.rows()) is not None]
        if tables:
            row_BxT = tokens_BxT - self.config.vocab_size
            soft_BxTxD = jnp.take(jnp.concatenate(tables), row_BxT, axis=0, mode="fill")
            x_BxTxD = jnp.where((row_BxT >= 0)[:, :, None], soft_BxTxD, x_BxTxD)
        return x_BxTxD.astype(self.config.dtype)

    def encode(
        self,
        tokens_BxS: jax.Array,
        segment_ids_BxS: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Source tokens -> encoded_BxSxD. Without a dropout key the pass is deterministic."""
        x_BxSxD = self.embed(tokens_BxS)
        return self.encoder(x_BxSxD, segment_ids_BxS, dropout_key, causal=False)

    def decode(
        self,
        encoded_BxSxD: jax.Array,
        encoder_segment_ids_BxS: jax.Array,
        tokens_BxT: jax.Array,
        segment_ids_BxT: jax.Array,
        *,
        sources_BxT: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Decoder inputs (targets shifted right) -> hidden_BxTxD for the head, normed and scaled.

        Whatever token a segment begins with, the decoder reads `T5Config.decoder_start_id` there.
        A token reads the source's segment `sources_BxT`; by default the one with its own number.
        """
        sources_BxT = segment_ids_BxT if sources_BxT is None else sources_BxT
        if self.config.decoder_start_id:
            before_BxT = jnp.pad(segment_ids_BxT, ((0, 0), (1, 0)))[:, :-1]
            start = self.config.decoder_start_id
            tokens_BxT = jnp.where(before_BxT == segment_ids_BxT, tokens_BxT, start)
        cross_mask_Bx1xTxS = segment_mask(sources_BxT, encoder_segment_ids_BxS)
        hidden_BxTxD = self.decoder(
            self.embed(tokens_BxT),
            segment_ids_BxT,
            dropout_key,
            encoded_BxSxD,
            cross_mask_Bx1xTxS,
            causal=True,
        )
        return self._scale(hidden_BxTxD)

    def hidden(
        self, batch: Mapping[str, jax.Array], *, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """A batch of the loader -> hidden_BxTxD, for `losses.cross_entropy` with `unembedding`."""
        encoder_key, decoder_key = (
            (None, None) if dropout_key is None else jax.random.split(dropout_key)
        )
        encoded_BxSxD = self.encode(
            batch["encoder_input_tokens"], batch["encoder_segment_ids"], dropout_key=encoder_key
        )
        return self.decode(
            encoded_BxSxD,
            batch["encoder_segment_ids"],
            batch["decoder_input_tokens"],
            batch["decoder_segment_ids"],
            dropout_key=decoder_key,
        )

    @property
    def unembedding(self) -> jax.Array:
        """The head [D, V], float32: its own, or the transposed embedding if tied."""
        return self.embedding[...].T if self.config.tie_embeddings else self.lm_head[...]

    def logits(self, hidden: jax.Array) -> jax.Array:
        """hidden [..., D] -> float32 logits [..., V]."""
        head_DxV = self.unembedding.astype(hidden.dtype)
        return jnp.dot(hidden, head_DxV, preferred_element_type=jnp.float32)

    def __call__(
        self, batch: Mapping[str, jax.Array], *, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """A batch of the loader -> logits_BxTxV, float32."""
        return self.logits(self.hidden(batch, dropout_key=dropout_key))

    def _scale(self, hidden: jax.Array) -> jax.Array:
        # A tied embedding has unit variance; the scale gives its logits the variance of a fresh
        # head's.
        return hidden * self.config.d_model**-0.5 if self.config.tie_embeddings else hidden

    def read(self, encoded_BxSxD: jax.Array, encoder_segment_ids_BxS: jax.Array) -> Source:
        """Keys and values of encoded sources, one to a row, for `start_cache`."""
        mask_Bx1x1xS = (encoder_segment_ids_BxS > 0)[:, None, None]
        per_layer = []
        for layer in self.decoder.unstacked():
            attention = layer.cross_attention
            keys_values = (attention.project(encoded_BxSxD, name) for name in ("key", "value"))
            k_BxSxHxK, v_BxSxHxK, _, mask = attention.with_prefix(*keys_values, None, mask_Bx1x1xS)
            per_layer.append((_heads_first(k_BxSxHxK), _heads_first(v_BxSxHxK)))
        return Source(tuple(per_layer), mask)

    def start_cache(
        self, source: Source, max_length: int, num_rows: int = 1, *, common: bool = False
    ) -> Cache:
        """A cache for `max_length` tokens (T) in each of W = `num_rows` rows of each of B sources.

        Args:
          common: whether the rows of a source keep their past in common, so that they can go on
            from one another (beam search).
        """
        config, T, W = self.config, max_length, num_rows
        B, U, past_tokens = source.mask.shape[0], W if common else 1, self.decoder.past_tokens
        tables = self.decoder.relative_bias[...]
        tables = tables if config.relative_bias_per_layer else tables[None]
        empty = jnp.zeros((B * W // U, T * U, config.num_heads, config.d_kv), config.dtype)
        past = []
        for layer in self.decoder.unstacked():
            keys_values = layer.self_attention.extended(empty, empty)
            past.append(tuple(map(_heads_first, keys_values)))
        return Cache(
            past=tuple(past),
            ancestors=jnp.full((B, W, T), -1),
            source=source,
            bias=tuple(
                distance_bias(table, -jnp.arange(T + past_tokens), config, bidirectional=False)
                for table in tables
            ),
            index=jnp.zeros((), jnp.int32),
        )

    def decode_step(self, token_R: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """One more token for every row -> float32 logits_RxV of the next token, and the new cache.

        Called with the tokens of a decoder input one by one it gives the logits of `decode`.
        """
        T, (G, _, N, _) = cache.ancestors.shape[2], cache.past[0][0].shape
        R = len(token_R)
        U, slot = R // G, cache.index % T
        P, past_tokens = N - T * U, self.decoder.past_tokens  # keys of adapters in front
        own_W = jnp.arange(cache.ancestors.shape[1]) % U
        ancestors = cache.ancestors.at[:, :, slot].set(own_W[None])
        seen_RxTxU = ancestors.reshape(R, T, 1) == jnp.arange(U)[None, None]
        mask_Gx1xUxN = seen_RxTxU.reshape(G, 1, U, T * U)
        back_N = jnp.repeat((cache.index - jnp.arange(T)) % T, U)
        prefix = [(0, 0)] * 3 + [(P, 0)]
        mask_Gx1xUxN = jnp.pad(mask_Gx1xUxN, prefix, constant_values=True)
        # Back to the P tokens of a past, from the first token of each row.
        back_RxP = jnp.sum(seen_RxTxU, axis=(1, 2))[:, None] - 1
        back_RxP = back_RxP + past_tokens - jnp.arange(past_tokens)[None]

        def bias(by_distance_HxD: jax.Array) -> jax.Array:
            own = by_distance_HxD[None, :, None, back_N]
            if past_tokens:
                past_HxGxUxP = by_distance_HxD[:, back_RxP.reshape(G, U, -1)]
                own = jnp.broadcast_to(own, (G, own.shape[1], U, T * U))
                own = jnp.concatenate([jnp.swapaxes(past_HxGxUxP, 0, 1), own], axis=3)
            return jnp.pad(own, [(0, 0)] * 3 + [(N - own.shape[3], 0)])

        biases = [bias(by_distance_HxD) for by_distance_HxD in cache.bias]
        x_Rx1xD = self.embed(token_R[:, None])
        grown = []
        for i, layer in enumerate(self.decoder.unstacked()):
            x_Rx1xD, past = layer.step(
                x_Rx1xD,
                biases[i % len(biases)],
                mask_Gx1xUxN,
                cache.past[i],
                P + slot * U,
                cache.source.keys_values[i],
                cache.source.mask,
            )
            grown.append(past)
        hidden_RxD = self._scale(self.decoder.final_norm(x_Rx1xD))[:, 0]
        cache = dataclasses.replace(
            cache, past=tuple(grown), ancestors=ancestors, index=cache.index + 1
        )
        return self.logits(hidden_RxD), cache
