# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model that T5 and T5Gemma share, and decoding from a cache.

    model = build(T5Config(), nnx.Rngs(0))  # of models.families
    logits_BxTxV = model(batch)

`training.state.abstract_model` gives names, shapes and axes of the parameters without their values,
and makes the values where they live. Segment ids are 0 at padding and number the packed examples of
a row from 1; a row that holds one example has ones.
"""

import abc
import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.adapters import Adapters, attached
from mto_jax.models.attention import Positions, one_example, visible
from mto_jax.models.config import ModelConfig
from mto_jax.models.stack import Stack, heads_first


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
            per_layer.append((heads_first(k_BxSxHxK), heads_first(v_BxSxHxK)))
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
            past.append(tuple(map(heads_first, keys_values)))
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


def _of_one_example(x_BxTxD: jax.Array, *segment_ids: jax.Array) -> jax.Array:
    """x, but NaN, which stops a run at its first step, in rows that are not `one_example`."""
    is_one_B = jnp.stack([one_example(ids) for ids in segment_ids]).all(axis=0)
    return jnp.where(is_one_B[:, None, None], x_BxTxD, jnp.nan)
