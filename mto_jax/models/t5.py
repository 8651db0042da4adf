# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5, encoder and decoder (Raffel et al. 2020, https://arxiv.org/abs/1910.10683), in Flax NNX.

    model = T5(T5Config(), nnx.Rngs(0))
    graphdef, params = nnx.split(model)              # params: a pytree of float32 nnx.Param
    logits_BxTxV = nnx.merge(graphdef, params)(batch)

    graphdef, shapes = abstract(config)              # the same, of jax.ShapeDtypeStruct: no memory
    params = initialise(config, key)                 # pure: jit with out_shardings to build a model in place

The weights of the layers of a stack are stacked along a leading axis L, and the stack is one `jax.lax.scan`: one
layer is compiled, whatever the depth. Letters in names: B batch, S source, T target, D model, H heads, K head size, F
feed-forward, V vocabulary, L layers. Segment ids are 0 at padding and number the packed examples of a row from 1;
a row that holds one example has ones.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.attention import (
    Attention,
    attend,
    distance_bias,
    relative_bias,
    segment_mask,
)
from mto_jax.models.config import T5Config
from mto_jax.models.layers import MLP, Dropout, RMSNorm, normal_param
from mto_jax.models.partitioning import constrain, platform

_STREAM = ("batch", "length", "embed")
_REMAT = {
    # Keeps the results of the matmuls that have weights in them, recomputes the rest (attention, norms, gelu).
    "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class EncoderLayer(nnx.Module):
    """Self-attention and feed-forward, each behind a norm and inside a residual."""

    def __init__(self, config: T5Config, num_layers: int, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config, num_layers)
        self.attention = Attention(config, num_layers, rngs)
        self.mlp_norm = RMSNorm(config, num_layers)
        self.mlp = MLP(config, num_layers, rngs)

    def __call__(
        self,
        x_BxSxD: jax.Array,
        bias_1xHxSxS: jax.Array,
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

    def __init__(self, config: T5Config, num_layers: int, rngs: nnx.Rngs):
        self.self_attention_norm = RMSNorm(config, num_layers)
        self.self_attention = Attention(config, num_layers, rngs)
        self.cross_attention_norm = RMSNorm(config, num_layers)
        self.cross_attention = Attention(config, num_layers, rngs)
        self.mlp_norm = RMSNorm(config, num_layers)
        self.mlp = MLP(config, num_layers, rngs)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        bias_1xHxTxT: jax.Array,
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
        x_Bx1xD: jax.Array,
        bias_1xHx1xT: jax.Array,
        mask_1x1x1xT: jax.Array,
        past: tuple[jax.Array, jax.Array],
        index: jax.Array,
        source: tuple[jax.Array, jax.Array],
        source_mask_Bx1x1xS: jax.Array,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """The layer on one new token at place `index`; returns x and the past with that token in it."""
        attention = self.self_attention
        y_Bx1xD = self.self_attention_norm(x_Bx1xD)
        past = tuple(
            jax.lax.dynamic_update_slice_in_dim(
                cached_BxHxTxK, _heads_first(attention.project(y_Bx1xD, weight)), index, axis=2
            )
            for cached_BxHxTxK, weight in zip(past, (attention.key, attention.value), strict=True)
        )
        q_BxHx1xK = _heads_first(attention.project(y_Bx1xD, attention.query))
        y_BxHx1xK = attend(q_BxHx1xK, *past, bias_1xHx1xT, mask_1x1x1xT)
        x_Bx1xD = x_Bx1xD + attention.merge(_heads_first(y_BxHx1xK))

        attention = self.cross_attention
        q_Bx1xHxK = attention.project(self.cross_attention_norm(x_Bx1xD), attention.query)
        # The W hypotheses of one source are W queries of one attention: its keys are not repeated.
        sources = source_mask_Bx1x1xS.shape[0]
        q_BxHxWxK = _heads_first(q_Bx1xHxK.reshape(sources, -1, *q_Bx1xHxK.shape[2:]))
        y_BxHxWxK = attend(q_BxHxWxK, *source, None, source_mask_Bx1x1xS)
        x_Bx1xD = x_Bx1xD + attention.merge(_heads_first(y_BxHxWxK).reshape(q_Bx1xHxK.shape))
        return x_Bx1xD + self.mlp(self.mlp_norm(x_Bx1xD), Dropout(0.0, None)), past


def _heads_first(x_BxTxHxK: jax.Array) -> jax.Array:
    return jnp.swapaxes(x_BxTxHxK, 1, 2)


class Stack(nnx.Module):
    """An encoder or a decoder: layers, the relative position bias and the final norm."""

    def __init__(
        self,
        config: T5Config,
        layer: type[EncoderLayer] | type[DecoderLayer],
        num_layers: int,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.num_layers = num_layers
        self.layers = layer(config, num_layers, rngs)
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

        def bias(table: jax.Array) -> jax.Array:
            return relative_bias(table, T, T, config, bidirectional=not causal)

        shared_bias = None if config.relative_bias_per_layer else bias(self.relative_bias[...])
        tables = self.relative_bias[...] if config.relative_bias_per_layer else None
        keys = None if dropout_key is None else jax.random.split(dropout_key, self.num_layers + 1)

        def body(x_BxTxD, slices):
            layer_weights, table, key = slices
            layer_bias = shared_bias if table is None else bias(table)
            layer = nnx.merge(graphdef, layer_weights)
            dropout = Dropout(config.dropout_rate, key)
            return layer(x_BxTxD, layer_bias, mask_Bx1xTxT, dropout, *context), None

        unroll = min(config.scan_unroll, self.num_layers)
        if not unroll:
            # On CPU a loop over layers pays for copying each layer's weights and results in and out of stacks.
            short = self.num_layers <= 8 and config.remat == "none"
            unroll = self.num_layers if short and platform() == "cpu" else 1
        if config.remat != "none":
            # What a loop computes again the compiler cannot merge with its first computation; elsewhere it would.
            merges = unroll == self.num_layers
            body = jax.checkpoint(body, policy=_REMAT[config.remat], prevent_cse=merges)
        slices = (weights, tables, None if keys is None else keys[1:])
        dropout = Dropout(config.dropout_rate, None if keys is None else keys[0])
        x_BxTxD = constrain(dropout(x_BxTxD), _STREAM)
        x_BxTxD, _ = jax.lax.scan(body, x_BxTxD, slices, unroll=unroll)
        return dropout(self.final_norm(x_BxTxD))

    def unstacked(self) -> list[nnx.Module]:
        """The layers one by one."""
        graphdef, weights = nnx.split(self.layers)
        return [
            nnx.merge(graphdef, jax.tree.map(lambda w, i=i: w[i], weights))
            for i in range(self.num_layers)
        ]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """What the decoder remembers between tokens: B sources with W hypotheses (beams) each, R = B * W rows.

    Row r belongs to source r // W. To let rows continue other rows of the same source (beam search), reorder
    `self_attention` alone: `jax.tree.map(lambda x: x[rows_R], cache.self_attention)`.
    """

    self_attention: tuple[tuple[jax.Array, jax.Array], ...]  # per layer: keys, values [R, H, T, K]
    cross_attention: tuple[tuple[jax.Array, jax.Array], ...]  # per layer: keys, values [B, H, S, K]
    source_mask: jax.Array  # [B, 1, 1, S] True at the tokens of the source
    bias: tuple[
        jax.Array, ...
    ]  # of all layers, or per layer: [H, 2 T - 1], distances 1 - T to T - 1
    index: jax.Array  # [] tokens decoded so far


class T5(nnx.Module):
    """An encoder-decoder Transformer; see the module's docstring."""

    def __init__(self, config: T5Config, rngs: nnx.Rngs):
        V, D = config.vocab_size, config.d_model
        self.config = config
        self.embedding = normal_param(rngs, (V, D), ("vocab", "embed"), 1.0)
        self.encoder = Stack(config, EncoderLayer, config.num_encoder_layers, rngs)
        self.decoder = Stack(config, DecoderLayer, config.num_decoder_layers, rngs)
        if not config.tie_embeddings:
            self.lm_head = normal_param(rngs, (D, V), ("embed", "vocab"), D**-0.5)

    def embed(self, tokens_BxT: jax.Array) -> jax.Array:
        """Token ids in [0, V) -> [B, T, D]. An id outside gives NaN, which stops a run at its first step."""
        x_BxTxD = jnp.take(self.embedding[...], tokens_BxT, axis=0, mode="fill")
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
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Decoder inputs (targets shifted right) -> hidden_BxTxD, ready for the head: normed and scaled."""
        cross_mask_Bx1xTxS = segment_mask(segment_ids_BxT, encoder_segment_ids_BxS)
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
        """A batch of the loader -> hidden_BxTxD, which `losses.cross_entropy` takes with `unembedding`."""
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
        # A tied embedding has unit variance; the scale gives its logits the variance of a fresh head's.
        return hidden * self.config.d_model**-0.5 if self.config.tie_embeddings else hidden

    def start_cache(
        self,
        encoded_BxSxD: jax.Array,
        encoder_segment_ids_BxS: jax.Array,
        max_length: int,
        num_beams: int = 1,
    ) -> Cache:
        """A cache for decoding up to `max_length` tokens (T) for each of B encoded sources, one to a row.

        Keys and values of the sources are computed here, once.
        """
        config, T = self.config, max_length
        tables = self.decoder.relative_bias[...]
        tables = tables if config.relative_bias_per_layer else tables[None]
        distances = jnp.arange(1 - T, T)
        empty_RxHxTxK = jnp.zeros(
            (encoded_BxSxD.shape[0] * num_beams, config.num_heads, T, config.d_kv), config.dtype
        )
        layers = [layer.cross_attention for layer in self.decoder.unstacked()]
        return Cache(
            self_attention=tuple((empty_RxHxTxK, empty_RxHxTxK) for _ in layers),
            cross_attention=tuple(
                tuple(
                    _heads_first(layer.project(encoded_BxSxD, w)) for w in (layer.key, layer.value)
                )
                for layer in layers
            ),
            source_mask=(encoder_segment_ids_BxS > 0)[:, None, None],
            bias=tuple(distance_bias(t, distances, config, bidirectional=False) for t in tables),
            index=jnp.zeros((), jnp.int32),
        )

    def decode_step(self, token_R: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """One more token for every row -> float32 logits_RxV of the next token, and the grown cache.

        Called with the tokens of a decoder input one by one it gives the logits of `decode`. Layers are not
        scanned here: a slice of stacked weights is a copy, which a step of one token would feel, and
        a compiler hoists the slices out of a decoding loop when their places are constants.
        """
        T = cache.self_attention[0][0].shape[2]
        mask_1x1x1xT = (jnp.arange(T) <= cache.index)[None, None, None]
        biases = [
            jax.lax.dynamic_slice_in_dim(b, T - 1 - cache.index, T, axis=1)[None, :, None]
            for b in cache.bias
        ]
        x_Rx1xD = self.embed(token_R[:, None])
        grown = []
        for i, layer in enumerate(self.decoder.unstacked()):
            x_Rx1xD, past = layer.step(
                x_Rx1xD,
                biases[i % len(biases)],
                mask_1x1x1xT,
                cache.self_attention[i],
                cache.index,
                cache.cross_attention[i],
                cache.source_mask,
            )
            grown.append(past)
        hidden_RxD = self._scale(self.decoder.final_norm(x_Rx1xD))[:, 0]
        cache = dataclasses.replace(cache, self_attention=tuple(grown), index=cache.index + 1)
        return self.logits(hidden_RxD), cache


def abstract(config: T5Config) -> tuple[nnx.GraphDef, nnx.State]:
    """(graphdef, parameters as `jax.ShapeDtypeStruct`): the form of a model of any size, without its memory."""
    return nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))


def initialise(config: T5Config, key: jax.Array) -> nnx.State:
    """Fresh parameters. Pure, so `jax.jit(initialise, static_argnums=0, out_shardings=...)` builds them sharded."""
    return nnx.state(T5(config, nnx.Rngs(params=key)))
