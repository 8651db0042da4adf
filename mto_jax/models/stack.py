# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers of an encoder and of a decoder, and stacks of them, as one scan.

The weights of the layers of a stack are stacked along a leading axis L, and the stack is one
`jax.lax.scan`: one layer is compiled, whatever the depth.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from mto_jax.models.adapters import Adapters
from mto_jax.models.attention import Attention, Positions, Visible, attend
from mto_jax.models.config import ModelConfig
from mto_jax.models.layers import MLP, Dropout, RMSNorm
from mto_jax.models.partitioning import constrain, platform

_STREAM = ("batch", "length", "embed")


def _minimal(primitive: Any, *arguments: Any, **parameters: Any) -> Any:
    """Keeps the results of the matmuls that have weights in them, and of cuDNN's attention.

    The rest is computed again: attention otherwise, norms, gelu. Of cuDNN, output and sums of the
    softmax are kept; a name given to its output would not reach the sums.
    """
    if primitive.name == "dot_product_attention_fwd_wrapper":
        return True
    matmuls = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return matmuls(primitive, *arguments, **parameters)


_REMAT = {
    "minimal": _minimal,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def remat(config: ModelConfig) -> str:
    """Returns what backward recomputes, the field `remat`, on the platform that computes."""
    if config.remat != "auto":
        return config.remat
    return "none" if platform() == "cpu" else "minimal"


def layers_per_iteration(config: ModelConfig, num_layers: int) -> int:
    """Returns the layers that an iteration over a stack computes; all means no loop."""
    if config.scan_unroll:
        return min(config.scan_unroll, num_layers)
    # On CPU a loop over layers pays for copying each layer's weights and results in and out of
    # stacks.
    short = num_layers <= 8 and remat(config) == "none"
    return num_layers if short and platform() == "cpu" else 1


def unstacked_prefixes(config: ModelConfig, *, decoding: bool = False) -> tuple[str, ...]:
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
    """Self-attention and feed-forward, each behind a norm and inside a residual.

    In T5Gemma another norm follows each, before the residual is added.
    """

    def __init__(self, config: ModelConfig, adapters: Adapters, num_layers: int, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config, num_layers)
        self.attention = Attention(config, adapters, num_layers, rngs)
        self.attention_post_norm = _post_norm(config, num_layers)
        self.mlp_norm = RMSNorm(config, num_layers)
        self.mlp = MLP(config, adapters, num_layers, rngs)
        self.mlp_post_norm = _post_norm(config, num_layers)

    def __call__(
        self, x_BxSxD: jax.Array, positions: Positions, seen: Visible, dropout: Dropout
    ) -> jax.Array:
        y_BxSxD = self.attention_norm(x_BxSxD)
        y_BxSxD = self.attention(y_BxSxD, y_BxSxD, positions, seen, dropout)
        y_BxSxD = _normed(self.attention_post_norm, y_BxSxD)
        x_BxSxD = constrain(x_BxSxD + dropout(y_BxSxD), _STREAM)
        y_BxSxD = _normed(self.mlp_post_norm, self.mlp(self.mlp_norm(x_BxSxD), dropout))
        return constrain(x_BxSxD + dropout(y_BxSxD), _STREAM)


class DecoderLayer(nnx.Module):
    """Causal self-attention, attention to the encoded source, feed-forward.

    Args:
      width: of the encoded source; None: that of the decoder.
    """

    def __init__(
        self,
        config: ModelConfig,
        adapters: Adapters,
        num_layers: int,
        rngs: nnx.Rngs,
        width: int | None = None,
    ):
        place = config, adapters, num_layers, rngs
        self.self_attention_norm = RMSNorm(config, num_layers)
        self.self_attention = Attention(*place, causal=True)
        self.self_attention_post_norm = _post_norm(config, num_layers)
        self.cross_attention_norm = RMSNorm(config, num_layers)
        self.cross_attention = Attention(*place, width=width)
        self.cross_attention_post_norm = _post_norm(config, num_layers)
        self.mlp_norm = RMSNorm(config, num_layers)
        self.mlp = MLP(config, adapters, num_layers, rngs)
        self.mlp_post_norm = _post_norm(config, num_layers)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        positions: Positions,
        seen: Visible,
        dropout: Dropout,
        encoded_BxSxC: jax.Array,
        seen_of_source: Visible,
    ) -> jax.Array:
        y_BxTxD = self.self_attention_norm(x_BxTxD)
        y_BxTxD = self.self_attention(y_BxTxD, y_BxTxD, positions, seen, dropout)
        y_BxTxD = _normed(self.self_attention_post_norm, y_BxTxD)
        x_BxTxD = constrain(x_BxTxD + dropout(y_BxTxD), _STREAM)
        y_BxTxD = self.cross_attention_norm(x_BxTxD)
        y_BxTxD = self.cross_attention(y_BxTxD, encoded_BxSxC, Positions(), seen_of_source, dropout)
        y_BxTxD = _normed(self.cross_attention_post_norm, y_BxTxD)
        x_BxTxD = constrain(x_BxTxD + dropout(y_BxTxD), _STREAM)
        y_BxTxD = _normed(self.mlp_post_norm, self.mlp(self.mlp_norm(x_BxTxD), dropout))
        return constrain(x_BxTxD + dropout(y_BxTxD), _STREAM)

    def step(
        self,
        x_Rx1xD: jax.Array,
        positions: Positions,
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
        groups, shape = mask_Gx1xUxN.shape[0], (*x_Rx1xD.shape[:2], -1, attention.head_size)

        def grown(cached_GxHxNxK: jax.Array, name: str, *rotation: Any) -> jax.Array:
            new_GxHxUxK = _grouped(attention.project(y_Rx1xD, name, *rotation), groups)
            return jax.lax.dynamic_update_slice_in_dim(cached_GxHxNxK, new_GxHxUxK, slot, axis=2)

        past = grown(past[0], "key", positions.rotation), grown(past[1], "value")
        q_GxHxUxK = _grouped(attention.project(y_Rx1xD, "query", positions.rotation), groups)
        y_GxHxUxK = attend(q_GxHxUxK, *past, positions.bias, mask_Gx1xUxN, attention.softcap)
        y_Rx1xD = attention.merge(heads_first(y_GxHxUxK).reshape(shape))
        x_Rx1xD = x_Rx1xD + _normed(self.self_attention_post_norm, y_Rx1xD)

        attention = self.cross_attention
        q_Rx1xHxK = attention.project(self.cross_attention_norm(x_Rx1xD), "query")
        # The W rows of one source are W queries of one attention: its keys are not repeated.
        q_BxHxWxK = _grouped(q_Rx1xHxK, source_mask_Bx1x1xS.shape[0])
        y_BxHxWxK = attend(q_BxHxWxK, *source, None, source_mask_Bx1x1xS, attention.softcap)
        y_Rx1xD = attention.merge(heads_first(y_BxHxWxK).reshape(shape))
        x_Rx1xD = x_Rx1xD + _normed(self.cross_attention_post_norm, y_Rx1xD)
        y_Rx1xD = self.mlp(self.mlp_norm(x_Rx1xD), Dropout(0.0, None))
        return x_Rx1xD + _normed(self.mlp_post_norm, y_Rx1xD), past


def _post_norm(config: ModelConfig, num_layers: int) -> RMSNorm | None:
    return RMSNorm(config, num_layers) if config.post_norms else None


def _normed(norm: RMSNorm | None, x_BxTxD: jax.Array) -> jax.Array:
    return x_BxTxD if norm is None else norm(x_BxTxD)


def heads_first(x_BxTxHxK: jax.Array) -> jax.Array:
    """Returns [B, H, T, K]."""
    return x_BxTxHxK.swapaxes(1, 2)


def _grouped(x_Rx1xHxK: jax.Array, groups: int) -> jax.Array:
    """The rows of each group beside each other: [G, H, R / G, K]."""
    return heads_first(x_Rx1xHxK.reshape(groups, -1, *x_Rx1xHxK.shape[2:]))


class Stack(nnx.Module):
    """An encoder or a decoder: layers and the final norm; a family adds how it knows places."""

    def __init__(self, config: ModelConfig, layers: EncoderLayer | DecoderLayer, num_layers: int):
        self.config = config
        self.num_layers = num_layers
        self.layers = layers
        self.final_norm = RMSNorm(config, None)

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
        raise NotImplementedError

    def scan(
        self,
        x_BxTxD: jax.Array,
        dropout_key: jax.Array | None,
        slices: Any,
        body: Callable[[Any, jax.Array, Any, Dropout], jax.Array],
    ) -> jax.Array:
        """Runs all layers, and the final norm -> [B, T, D].

        Args:
          slices: arrays with a leading axis L, or None.
          body: of (a layer, x, the layer's slice of `slices`, dropout) the next x.
        """
        config = self.config
        graphdef, weights = nnx.split(self.layers)
        keys = None if dropout_key is None else jax.random.split(dropout_key, self.num_layers + 1)

        def run(x_BxTxD, slices):
            layer_weights, own, key = slices
            layer = nnx.merge(graphdef, layer_weights)
            return body(layer, x_BxTxD, own, Dropout(config.dropout_rate, key)), None

        unroll = layers_per_iteration(config, self.num_layers)
        if (policy := remat(config)) != "none":
            # What a loop computes again the compiler cannot merge with its first computation;
            # elsewhere it would.
            merges = unroll == self.num_layers
            run = jax.checkpoint(run, policy=_REMAT[policy], prevent_cse=merges)
        dropout = Dropout(config.dropout_rate, None if keys is None else keys[0])
        x_BxTxD = constrain(dropout(x_BxTxD), _STREAM)
        slices = (weights, slices, None if keys is None else keys[1:])
        x_BxTxD, _ = jax.lax.scan(run, x_BxTxD, slices, unroll=unroll)
        return dropout(self.final_norm(x_BxTxD))

    @property
    def past_tokens(self) -> int:
        """P, the tokens of adapters before the first of a decoder; 0 in an encoder."""
        layers = self.layers
        return layers.self_attention.past_tokens if isinstance(layers, DecoderLayer) else 0

    def window(self, layer: int) -> int | None:
        """The tokens that a query of the layer of a decoder sees; None: all before it."""
        return None

    def unstacked(self) -> list[Any]:
        """The layers one by one."""
        graphdef, weights = nnx.split(self.layers)
        return [
            nnx.merge(graphdef, jax.tree.map(lambda w, i=i: w[i], weights))
            for i in range(self.num_layers)
        ]
