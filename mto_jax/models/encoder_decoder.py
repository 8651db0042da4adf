# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What T5 and T5Gemma share: layers, stacks of them, the model, and decoding from a cache.

    model = build(T5Config(), nnx.Rngs(0))  # of models.families
    logits_BxTxV = model(batch)

`training.state.abstract_model` gives names, shapes and axes of the parameters without their values,
and makes the values where they live.

The weights of the layers of a stack are stacked along a leading axis L, and the stack is one
`jax.lax.scan`: one layer is compiled, whatever the depth. Segment ids are 0 at padding and
number the packed examples of a row from 1; a row that holds one example has ones.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.adapters import Adapters, attached
from mto_jax.models.attention import (
    Attention,
    Positions,
    Visible,
    attend,
    one_example,
    visible,
)
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
        y_Rx1xD = attention.merge(_heads_first(y_GxHxUxK).reshape(shape))
        x_Rx1xD = x_Rx1xD + _normed(self.self_attention_post_norm, y_Rx1xD)

        attention = self.cross_attention
        q_Rx1xHxK = attention.project(self.cross_attention_norm(x_Rx1xD), "query")
        # The W rows of one source are W queries of one attention: its keys are not repeated.
        q_BxHxWxK = _grouped(q_Rx1xHxK, source_mask_Bx1x1xS.shape[0])
        y_BxHxWxK = attend(q_BxHxWxK, *source, None, source_mask_Bx1x1xS, attention.softcap)
        y_Rx1xD = attention.merge(_heads_first(y_BxHxWxK).reshape(shape))
        x_Rx1xD = x_Rx1xD + _normed(self.cross_attention_post_norm, y_Rx1xD)
        y_Rx1xD = self.mlp(self.mlp_norm(x_Rx1xD), Dropout(0.0, None))
        return x_Rx1xD + _normed(self.mlp_post_norm, y_Rx1xD), past


def _post_norm(config: ModelConfig, num_layers: int) -> RMSNorm | None:
    return RMSNorm(config, num_layers) if config.post_norms else None


def _normed(norm: RMSNorm | None, x_BxTxD: jax.Array) -> jax.Array:
    return x_BxTxD if norm is None else norm(x_BxTxD)


def _of_one_example(x_BxTxD: jax.Array, *segment_ids: jax.Array) -> jax.Array:
    """x, but NaN, which stops a run at its first step, in rows that are not `one_example`."""
    is_one_B = jnp.stack([one_example(ids) for ids in segment_ids]).all(axis=0)
    return jnp.where(is_one_B[:, None, None], x_BxTxD, jnp.nan)


def _heads_first(x_BxTxHxK: jax.Array) -> jax.Array:
    return jnp.swapaxes(x_BxTxHxK, 1, 2)


def _grouped(x_Rx1xHxK: jax.Array, groups: int) -> jax.Array:
    """The rows of each group beside each other: [G, H, R / G, K]."""
    return _heads_first(x_Rx1xHxK.reshape(groups, -1, *x_Rx1xHxK.shape[2:]))


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

    The past is a ring buffer: the tokens of step t are in its slots t mod T, for all rows alike; in
    a layer with a window of fewer tokens, in its slots t mod the window. A row may begin at any
    step, and another may replace it (-1 in `ancestors` forgets a past). A row is its own group,
    U = 1, or the U = W rows of a source are one group and share their past: then a row continues
    another of its source by copying its `ancestors`, and no key moves.
    """

    past: tuple[tuple[jax.Array, jax.Array], ...]  # per layer: keys, values [G, H, T * U, K]
    # [B, W, T] the row whose token of a step is in each row's past: in [0, U), or -1.
    ancestors: jax.Array
    source: Source
    # T5: of all layers, or per layer: [H, T + P], by distance back; P tokens of an adapter's past.
    bias: tuple[jax.Array, ...]
    index: jax.Array  # [] steps so far


@dataclasses.dataclass(frozen=True)
class Step:
    """What decides the places of the new tokens of R rows.

    Attributes:
      slot: of the step, in a buffer of T.
      index: steps before it.
      seen: seen_RxTxU, True where a slot holds a token of the row, the new one included.
      groups: G, that share their past.
      front: keys of adapters in front of a past.
    """

    slot: jax.Array
    index: jax.Array
    seen: jax.Array
    groups: int
    front: int

    @property
    def position_R(self) -> jax.Array:
        """The place of the new token in its row, from 0 on."""
        return jnp.sum(self.seen, axis=(1, 2)) - 1

    def ring(self, size: int) -> tuple[jax.Array, jax.Array]:
        """(mask_Gx1xUxN, first slot of the new tokens) of a buffer of the last `size` steps."""
        _, T, U = self.seen.shape
        seen_RxtxU, slot = self.seen, self.slot
        if size < T:
            back = (self.index - jnp.arange(size)) % size
            seen_RxtxU, slot = seen_RxtxU[:, (self.index - back) % T], self.index % size
        mask_Gx1xUxN = seen_RxtxU.reshape(self.groups, 1, U, size * U)
        prefix = [(0, 0)] * 3 + [(self.front, 0)]
        return jnp.pad(mask_Gx1xUxN, prefix, constant_values=True), self.front + slot * U


class EncoderDecoder(nnx.Module):
    """An encoder-decoder Transformer of either family; see the module's docstring."""

    config: ModelConfig
    adapters: Adapters
    encoder: Stack
    decoder: Stack

    @abc.abstractmethod
    def embed(self, tokens_BxT: jax.Array, *, of_decoder: bool = False) -> jax.Array:
        """Token ids in [0, V + P) -> [B, T, D]; those from V on are rows of the soft prompt.

        An id outside gives NaN, which stops a run at its first step.
        """

    @property
    @abc.abstractmethod
    def unembedding(self) -> jax.Array:
        """The head [D, V], float32."""

    @abc.abstractmethod
    def start_bias(self, length: int) -> tuple[jax.Array, ...]:
        """The bias of a `Cache` for `length` tokens."""

    @abc.abstractmethod
    def step_positions(self, step: Step, cache: Cache) -> list[Positions]:
        """What the layers know of the places of the new tokens; a layer i takes entry i mod N."""

    def lookup(self, embedding_VxD: jax.Array, tokens_BxT: jax.Array) -> jax.Array:
        """Rows of an embedding and of the soft prompt, float32; see `embed`."""
        x_BxTxD = jnp.take(embedding_VxD, tokens_BxT, axis=0, mode="fill")
        tables = [rows for a in attached(self) if (rows := a.rows()) is not None]
        if tables and tables[0].shape[1] == x_BxTxD.shape[2]:
            row_BxT = tokens_BxT - self.config.vocab_size
            soft_BxTxD = jnp.take(jnp.concatenate(tables), row_BxT, axis=0, mode="fill")
            x_BxTxD = jnp.where((row_BxT >= 0)[:, :, None], soft_BxTxD, x_BxTxD)
        return x_BxTxD

    def encode(
        self,
        tokens_BxS: jax.Array,
        segment_ids_BxS: jax.Array,
        *,
        packed: bool = True,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Source tokens -> encoded_BxSxD. Without a dropout key the pass is deterministic.

        Args:
          packed: False says that every row is one example (or none) with padding behind it, which
            saves cuDNN's attention memory; a row that is not so becomes NaN.
        """
        x_BxSxD = self.embed(tokens_BxS)
        if not packed:
            x_BxSxD = _of_one_example(x_BxSxD, segment_ids_BxS)
        return self.encoder(x_BxSxD, segment_ids_BxS, dropout_key, causal=False, packed=packed)

    def decode(
        self,
        encoded_BxSxD: jax.Array,
        encoder_segment_ids_BxS: jax.Array,
        tokens_BxT: jax.Array,
        segment_ids_BxT: jax.Array,
        *,
        sources_BxT: jax.Array | None = None,
        packed: bool = True,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Decoder inputs (targets shifted right) -> hidden_BxTxD for the head, normed and scaled.

        Whatever token a segment begins with, the decoder reads the model's `decoder_start_id`
        there. A token reads the source's segment `sources_BxT`; by default that with its own
        number. `packed` is that of `encode`, of sources and targets.
        """
        sources_BxT = segment_ids_BxT if sources_BxT is None else sources_BxT
        if self.config.decoder_start_id:
            before_BxT = jnp.pad(segment_ids_BxT, ((0, 0), (1, 0)))[:, :-1]
            start = self.config.decoder_start_id
            tokens_BxT = jnp.where(before_BxT == segment_ids_BxT, tokens_BxT, start)
        x_BxTxD = self.embed(tokens_BxT, of_decoder=True)
        if not packed:
            segments = segment_ids_BxT, sources_BxT, encoder_segment_ids_BxS
            x_BxTxD = _of_one_example(x_BxTxD, *segments)
        hidden_BxTxD = self.decoder(
            *(x_BxTxD, segment_ids_BxT, dropout_key, encoded_BxSxD),
            visible(sources_BxT, encoder_segment_ids_BxS, packed=packed),
            causal=True,
            packed=packed,
        )
        return self._scale(hidden_BxTxD)

    def hidden(
        self,
        batch: Mapping[str, jax.Array],
        *,
        packed: bool = True,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """A batch of the loader -> hidden_BxTxD, for `losses.cross_entropy` with `unembedding`.

        `packed` is that of `encode`.
        """
        encoder_key, decoder_key = (
            (None, None) if dropout_key is None else jax.random.split(dropout_key)
        )
        encoded_BxSxD = self.encode(
            batch["encoder_input_tokens"],
            batch["encoder_segment_ids"],
            packed=packed,
            dropout_key=encoder_key,
        )
        return self.decode(
            encoded_BxSxD,
            batch["encoder_segment_ids"],
            batch["decoder_input_tokens"],
            batch["decoder_segment_ids"],
            packed=packed,
            dropout_key=decoder_key,
        )

    def logits(self, hidden: jax.Array) -> jax.Array:
        """hidden [..., D] -> float32 logits [..., V]."""
        head_DxV = self.unembedding.astype(hidden.dtype)
        logits = jnp.dot(hidden, head_DxV, preferred_element_type=jnp.float32)
        cap = self.config.logit_softcap
        return cap * jnp.tanh(logits / cap) if cap else logits

    def __call__(
        self, batch: Mapping[str, jax.Array], *, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """A batch of the loader -> logits_BxTxV, float32."""
        return self.logits(self.hidden(batch, dropout_key=dropout_key))

    def _scale(self, hidden: jax.Array) -> jax.Array:
        return hidden

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
        B, U = source.mask.shape[0], W if common else 1
        past = []
        for i, layer in enumerate(self.decoder.unstacked()):
            slots = min(T, self.decoder.window(i) or T)
            shape = B * W // U, slots * U, config.num_kv_heads, config.d_kv
            empty = jnp.zeros(shape, config.dtype)
            keys_values = layer.self_attention.extended(empty, empty)
            past.append(tuple(map(_heads_first, keys_values)))
        return Cache(
            past=tuple(past),
            ancestors=jnp.full((B, W, T), -1),
            source=source,
            bias=self.start_bias(T),
            index=jnp.zeros((), jnp.int32),
        )

    def decode_step(self, token_R: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """One more token for every row -> float32 logits_RxV of the next token, and the new cache.

        Called with the tokens of a decoder input one by one it gives the logits of `decode`.
        """
        T, R = cache.ancestors.shape[2], len(token_R)
        G = len(cache.past[0][0])
        U, slot = R // G, cache.index % T
        sizes = [min(T, self.decoder.window(i) or T) for i in range(len(cache.past))]
        own_W = jnp.arange(cache.ancestors.shape[1]) % U
        ancestors = cache.ancestors.at[:, :, slot].set(own_W[None])
        seen_RxTxU = ancestors.reshape(R, T, 1) == jnp.arange(U)[None, None]
        front = cache.past[0][0].shape[2] - sizes[0] * U
        step = Step(slot, cache.index, seen_RxTxU, G, front)
        positions, rings = self.step_positions(step, cache), {n: step.ring(n) for n in set(sizes)}
        x_Rx1xD = self.embed(token_R[:, None], of_decoder=True)
        grown = []
        for i, layer in enumerate(self.decoder.unstacked()):
            mask_Gx1xUxN, first = rings[sizes[i]]
            x_Rx1xD, past = layer.step(
                x_Rx1xD,
                positions[i % len(positions)],
                mask_Gx1xUxN,
                cache.past[i],
                first,
                cache.source.keys_values[i],
                cache.source.mask,
            )
            grown.append(past)
        hidden_RxD = self._scale(self.decoder.final_norm(x_Rx1xD))[:, 0]
        cache = dataclasses.replace(
            cache, past=tuple(grown), ancestors=ancestors, index=cache.index + 1
        )
        return self.logits(hidden_RxD), cache
