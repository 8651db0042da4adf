# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention as T5 and T5Gemma have it.

T5: no 1/sqrt(K) (initial queries have it), a learned bias of distance. T5Gemma: scaled queries,
logits bounded by a tanh, fewer heads of keys than of queries, rotary positions (Su et al. 2021).

Masks are booleans, True where a query may look. Under packing a row holds several segments; a token
sees the tokens of its own segment only. Segments are contiguous, so the distance of two tokens of
one segment is the difference of their positions in the row, and one bias [1, H, T, S] serves all
rows, packed or not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.adapters import Adapters, attach, attached
from mto_jax.models.config import ModelConfig, T5Config
from mto_jax.models.layers import Dropout, normal_param, through
from mto_jax.models.partitioning import constrain

# Added to the logits of masked positions: large, and finite, so that a row with nothing to see has
# no NaN.
MASKED = -1e9


def relative_buckets(
    distance: jax.Array, *, bidirectional: bool, num_buckets: int, max_distance: int
) -> jax.Array:
    """The bucket, in [0, num_buckets), of each distance (key position - query position).

    Half the buckets of a direction are single distances, the other half grow logarithmically up to
    `max_distance`; the last takes all beyond (Raffel et al. 2020, section 2.1). In a bidirectional
    stack the keys after the query have the upper half of the buckets; else they share bucket 0.

    >>> distance = jnp.array([-200, -9, -1, 0, 1])
    >>> relative_buckets(distance, bidirectional=True, num_buckets=32, max_distance=128)
    Array([15,  8,  1,  0, 17], dtype=int32)
    """
    if bidirectional:
        num_buckets //= 2
        offset = jnp.where(distance > 0, num_buckets, 0)
        distance = jnp.abs(distance)
    else:
        offset = 0
        distance = jnp.maximum(-distance, 0)
    exact = num_buckets // 2
    log_ratio = jnp.log(jnp.maximum(distance, 1) / exact) / jnp.log(max_distance / exact)
    far = exact + (log_ratio * (num_buckets - exact)).astype(jnp.int32)
    return offset + jnp.where(distance < exact, distance, jnp.minimum(far, num_buckets - 1))


def distance_bias(
    table_NxH: jax.Array, distance_D: jax.Array, config: T5Config, *, bidirectional: bool
) -> jax.Array:
    """The bias_HxD of each distance (key - query position) from a table [num_buckets, H]."""
    buckets_D = relative_buckets(
        distance_D,
        bidirectional=bidirectional,
        num_buckets=config.num_buckets,
        max_distance=config.max_distance,
    )
    return table_NxH[buckets_D].T


def relative_bias(
    table_NxH: jax.Array,
    query_length: int,
    key_length: int,
    config: T5Config,
    *,
    bidirectional: bool,
) -> jax.Array:
    """The bias_1xHxTxS of the attention logits, float32, from a table [num_buckets, H].

    Only T + S - 1 distances exist, so the table is read once per distance and the values are laid
    out as a Toeplitz matrix by reshaping; the gradient is then a sum, not a scatter of T x S
    values.
    """
    T, S = query_length, key_length
    N = T + S
    # circle[d mod N] is the value of distance d, for -T <= d < S.
    distance_N = jnp.concatenate([jnp.arange(S), jnp.arange(-T, 0)])
    circle_HxN = distance_bias(table_NxH, distance_N, config, bidirectional=bidirectional)
    # T copies in a row, cut into rows of N - 1: row t starts t positions early, its position s is
    # circle[s - t].
    rows_HxTxN = jnp.tile(circle_HxN, (1, T))[:, : T * (N - 1)].reshape(-1, T, N - 1)
    return rows_HxTxN[None, :, :, :S]


def past_bias(
    table_NxH: jax.Array, position_BxT: jax.Array, past_tokens: int, config: T5Config
) -> jax.Array:
    """The bias_BxHxTxP that queries at these positions have to P tokens before position 0."""
    T, P = position_BxT.shape[1], past_tokens
    by_distance_HxN = distance_bias(table_NxH, -jnp.arange(T + P), config, bidirectional=False)
    back_BxTxP = position_BxT[:, :, None] + P - jnp.arange(P)[None, None]
    return jnp.moveaxis(by_distance_HxN[:, back_BxTxP], 0, 1)


def segment_positions(segment_ids_BxT: jax.Array) -> jax.Array:
    """position_BxT of every token in its segment."""
    start_BxT = segment_ids_BxT != jnp.pad(segment_ids_BxT, ((0, 0), (1, 0)))[:, :-1]
    index_T = jnp.arange(segment_ids_BxT.shape[1])
    return index_T[None] - jax.lax.cummax(jnp.where(start_BxT, index_T[None], 0), axis=1)


def segment_mask(
    query_segments_BxT: jax.Array, key_segments_BxS: jax.Array, *, causal: bool = False
) -> jax.Array:
    """mask_Bx1xTxS: True where query and key are of one segment and no causal key is later."""
    mask_BxTxS = query_segments_BxT[:, :, None] == key_segments_BxS[:, None, :]
    if causal:
        T, S = mask_BxTxS.shape[1:]
        mask_BxTxS &= (jnp.arange(T)[:, None] >= jnp.arange(S)[None, :])[None]
    return mask_BxTxS[:, None]


class Visible(NamedTuple):
    """The keys that queries may see: those of their segment, in causal attention no later ones."""

    mask: jax.Array  # [B, 1, T, S] True where a query may look
    # Tokens of the rows of queries and of keys, int32 [B] each, where every row is one example with
    # padding behind it, which then is all that the mask leaves out (beside later keys).
    lengths: tuple[jax.Array, jax.Array] | None = None


def visible(
    query_segments_BxT: jax.Array,
    key_segments_BxS: jax.Array,
    *,
    causal: bool = False,
    packed: bool = True,
) -> Visible:
    """What the tokens of these segments see.

    Args:
      packed: False says that rows are as `one_example` has them, which is not checked here.
    """
    mask_Bx1xTxS = segment_mask(query_segments_BxT, key_segments_BxS, causal=causal)
    if packed:
        return Visible(mask_Bx1xTxS)
    counts = (jnp.sum(x > 0, axis=1) for x in (query_segments_BxT, key_segments_BxS))
    # A kernel gets no row without a key.
    query_B, key_B = (jnp.maximum(count_B, 1).astype(jnp.int32) for count_B in counts)
    return Visible(mask_Bx1xTxS, (query_B, key_B))


def one_example(segment_ids_BxT: jax.Array) -> jax.Array:
    """is_one_B: True for rows of one example or none, padding behind it: 1 ... 1 0 ... 0."""
    first_BxT = jnp.arange(segment_ids_BxT.shape[1])[None] < jnp.sum(
        segment_ids_BxT > 0, axis=1, keepdims=True
    )
    return jnp.all(segment_ids_BxT == first_BxT, axis=1)


class Rotation(NamedTuple):
    """The angles by which the halves of a head are rotated against each other."""

    cos: jax.Array  # [B or 1, T, 1, K / 2], float32
    sin: jax.Array

    @classmethod
    def of(cls, position_BxT: jax.Array, head_size: int, theta: float) -> "Rotation":
        """The rotation at these positions: pair i turns by position * theta^(-2 i / K)."""
        frequency = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
        angle = position_BxT[:, :, None, None].astype(jnp.float32) * frequency[None, None, None]
        return cls(jnp.cos(angle), jnp.sin(angle))

    def __call__(self, x_BxTxHxK: jax.Array) -> jax.Array:
        """Returns queries or keys, rotated in float32."""
        a, b = jnp.split(x_BxTxHxK.astype(jnp.float32), 2, axis=-1)
        turned = [a * self.cos - b * self.sin, b * self.cos + a * self.sin]
        return jnp.concatenate(turned, axis=-1).astype(x_BxTxHxK.dtype)


class Positions(NamedTuple):
    """What self-attention knows of the places of queries and keys."""

    bias: jax.Array | None = None  # [1, H, T, S] of the logits
    rotation: Rotation | None = None


def window_mask(length: int, window: int, *, causal: bool) -> jax.Array:
    """mask_1x1xTxT of a sliding window: a query and the `window` - 1 keys before it.

    Without `causal`, `window` keys on both sides.
    """
    index_T = jnp.arange(length)
    back_TxT = index_T[:, None] - index_T[None]
    near_TxT = back_TxT < window if causal else jnp.abs(back_TxT) <= window
    return near_TxT[None, None]


def attend(
    q_BxHxTxK: jax.Array,
    k_BxGxSxK: jax.Array,
    v_BxGxSxK: jax.Array,
    bias_1xHxTxS: jax.Array | None,
    mask_Bx1xTxS: jax.Array,
    softcap: float = 0.0,
) -> jax.Array:
    """softmax(q k^T + bias) v over the unmasked keys -> [B, H, T, K]. Float32 softmax.

    Head h of the queries has head h // (H / G) of the G heads of keys and values.

    Args:
      softcap: logits become softcap * tanh(logits / softcap); 0: they stay.
    """
    B, H, T, K = q_BxHxTxK.shape
    G, S = k_BxGxSxK.shape[1:3]
    logits = jnp.einsum(  # the H / G query heads of a head of keys are more queries of it
        "BHTK,BHSK->BHTS",
        q_BxHxTxK.reshape(B, G, H // G * T, K),
        k_BxGxSxK,
        preferred_element_type=jnp.float32,
    )
    logits_BxHxTxS = logits.reshape(B, H, T, S)
    if softcap:
        logits_BxHxTxS = softcap * jnp.tanh(logits_BxHxTxS / softcap)
    if bias_1xHxTxS is not None:
        logits_BxHxTxS = logits_BxHxTxS + bias_1xHxTxS
    logits_BxHxTxS = jnp.where(mask_Bx1xTxS, logits_BxHxTxS, MASKED)
    weights_BxHxTxS = jax.nn.softmax(logits_BxHxTxS, axis=-1).astype(v_BxGxSxK.dtype)
    weights = weights_BxHxTxS.reshape(B, G, H // G * T, S)
    return jnp.einsum("BHTS,BHSK->BHTK", weights, v_BxGxSxK).reshape(B, H, T, K)


def attention(
    q_BxTxHxK: jax.Array,
    k_BxSxGxK: jax.Array,
    v_BxSxGxK: jax.Array,
    bias_1xHxTxS: jax.Array | None,
    seen: Visible,
    *,
    causal: bool = False,
    softcap: float = 0.0,
    implementation: str = "xla",
) -> jax.Array:
    """softmax(q k^T + bias) v over the keys that are seen -> [B, T, H, K]; no scale; see `attend`.

    "xla" runs everywhere, "cudnn" on NVIDIA GPUs alone, see `fused`.

    Args:
      causal: whether `seen` leaves out later keys; query t is beside key S - T + t.
    """
    if implementation == "cudnn":
        return fused(q_BxTxHxK, k_BxSxGxK, v_BxSxGxK, bias_1xHxTxS, seen, causal=causal)
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q_BxTxHxK, k_BxSxGxK, v_BxSxGxK))
    return jnp.swapaxes(attend(q, k, v, bias_1xHxTxS, seen.mask, softcap), 1, 2)


def fused(
    q_BxTxHxK: jax.Array,
    k_BxSxHxK: jax.Array,
    v_BxSxHxK: jax.Array,
    bias_1xHxTxS: jax.Array | None,
    seen: Visible,
    *,
    causal: bool,
) -> jax.Array:
    """`attention` by the kernel of cuDNN, through `jax.nn.dot_product_attention`.

    The weights [B, H, T, S] exist in neither direction. Where rows are one example each, nothing of
    that size does: padding travels as lengths, a causal mask in the bias [1, H, T, S], and
    attention without a bias computes no gradient of one. Packed rows have their mask in a bias of
    every row, [B, H, T, S] ([B, 1, T, S] without a bias), which has a gradient as large.

    It takes bfloat16 and K a multiple of 8 up to 128 (`T5Config` checks both). The gradient of a
    bias wants even lengths: odd ones are padded here.
    """
    (B, T), S = q_BxTxHxK.shape[:2], k_BxSxHxK.shape[1]
    bias, lengths = bias_1xHxTxS, seen.lengths
    if lengths is None:
        bias = jnp.where(seen.mask, 0.0 if bias is None else bias, MASKED)
        lengths = jnp.full(B, T, jnp.int32), jnp.full(B, S, jnp.int32)
    elif causal:
        earlier_1x1xTxS = jnp.tri(T, S, S - T, dtype=bool)[None, None]
        bias = jnp.where(earlier_1x1xTxS, 0.0 if bias is None else bias, MASKED)
    if bias is not None:
        # Cut over devices as queries are: the kernel of a device takes the heads it is given.
        bias = _padded(bias.astype(q_BxTxHxK.dtype), {2: T % 2, 3: S % 2})
        bias = constrain(bias, ("batch", "heads", None, None))
    query_B, key_B = (constrain(length_B, ("batch",)) for length_B in lengths)
    q = _first(_padded(q_BxTxHxK, {1: T % 2}), query_B)
    k, v = (_first(_padded(x, {1: S % 2}), key_B) for x in (k_BxSxHxK, v_BxSxHxK))
    y_BxTxHxK = jax.nn.dot_product_attention(
        *(q, k, v, bias),
        scale=1.0,
        query_seq_lengths=query_B,
        key_value_seq_lengths=key_B,
        implementation="cudnn",
    )
    return _first(y_BxTxHxK, query_B)[:, :T]


class Attention(nnx.Module):
    """The four projections of multi-head attention, and their adapters.

    Args:
      causal: whether it is the decoder's self-attention: it sees no later keys, and it alone may
        have keys of a past.
      width: of the context that gives keys and values; None: D.
    """

    def __init__(
        self,
        config: ModelConfig,
        adapters: Adapters,
        num_layers: int,
        rngs: nnx.Rngs,
        *,
        causal: bool = False,
        width: int | None = None,
    ):
        D, H, G, K = config.d_model, config.num_heads, config.num_kv_heads, config.d_kv
        C = width or D
        weights = {"query": (D, H * K), "key": (C, G * K), "value": (C, G * K), "out": (H * K, D)}
        for name, (rows, columns) in weights.items():
            axes = ("joined_kv", "embed") if name == "out" else ("embed", "joined_kv")
            # The logits of fresh queries and keys have unit variance, scaled or not.
            plain = name == "query" and config.query_scale == 1.0
            stddev = (rows * K) ** -0.5 if plain else rows**-0.5
            shape = num_layers, rows, columns
            setattr(self, name, normal_param(rngs, shape, ("layers", *axes), stddev))
        self.head_size = K
        self.query_scale, self.softcap = config.query_scale, config.attention_softcap
        self.causal, self.implementation = causal, config.attention
        modules = adapters.in_layer(weights, (G, K), num_layers, rngs)
        fitting = {k: m for k, m in modules.items() if m is not None and (causal or not m.past)}
        attach(self, fitting)

    @property
    def past_tokens(self) -> int:
        """P, the tokens of adapters before the first."""
        past = (module.keys_values() for module in attached(self) if module.past)
        return sum(keys_values[0].shape[-3] for keys_values in past if keys_values)

    def project(self, x_BxTxD: jax.Array, name: str, rotation: Rotation | None = None) -> jax.Array:
        """x through "query", "key" or "value", split into heads: [B, T, H, K]; queries scaled."""
        y_BxTxE = through(self, name, x_BxTxD)
        y_BxTxHxK = y_BxTxE.reshape(*y_BxTxE.shape[:2], -1, self.head_size)
        if name == "query" and self.query_scale != 1.0:
            y_BxTxHxK = y_BxTxHxK * self.query_scale
        if rotation is not None:
            y_BxTxHxK = rotation(y_BxTxHxK)
        return constrain(y_BxTxHxK, ("batch", "length", "heads", "kv"))

    def merge(self, y_BxTxHxK: jax.Array) -> jax.Array:
        """The heads' answers through the output projection: [B, T, D]."""
        y_BxTxE = y_BxTxHxK.reshape(*y_BxTxHxK.shape[:2], -1)
        return through(self, "out", y_BxTxE)

    def extended(self, k_BxSxHxK: jax.Array, v_BxSxHxK: jax.Array) -> list[jax.Array]:
        """Keys and values with the P of adapters in front, of a past last: [B, P + S, H, K]."""
        keys_values = [k_BxSxHxK, v_BxSxHxK]
        for adapter in sorted(attached(self), key=lambda adapter: not adapter.past):
            if (front := adapter.keys_values()) is not None:
                keys_values = list(map(_in_front, front, keys_values))
        return keys_values

    def with_prefix(
        self,
        k_BxSxHxK: jax.Array,
        v_BxSxHxK: jax.Array,
        bias_1xHxTxS: jax.Array | None,
        mask_Bx1xTxS: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array]:
        """Returns the arguments, `extended`: all queries see the P keys in front.

        Keys for which the bias has no column, those that are not of a past, have none.
        """
        k, v = self.extended(k_BxSxHxK, v_BxSxHxK)
        bias = None if bias_1xHxTxS is None else _widened(bias_1xHxTxS, k.shape[1], 0)
        return k, v, bias, _widened(mask_Bx1xTxS, k.shape[1], True)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        context_BxSxD: jax.Array,
        positions: Positions,
        seen: Visible,
        dropout: Dropout,
    ) -> jax.Array:
        """Attention of x to the context (x itself in self-attention) -> [B, T, D]."""
        q_BxTxHxK = self.project(x_BxTxD, "query", positions.rotation)
        k_BxSxHxK = self.project(context_BxSxD, "key", positions.rotation)
        # Dropping a key for all queries of a head is dropping its value: the weights [B, H, T, S]
        # stay untouched. The mask is shared along K here, along T of the weights in T5X: the same
        # masks.
        v_BxSxHxK = dropout(self.project(context_BxSxD, "value"), shared_axis=3)
        S = k_BxSxHxK.shape[1]
        k, v, bias, mask = self.with_prefix(k_BxSxHxK, v_BxSxHxK, positions.bias, seen.mask)
        lengths = seen.lengths and (seen.lengths[0], seen.lengths[1] + k.shape[1] - S)
        y_BxTxHxK = attention(
            *(q_BxTxHxK, k, v, bias, Visible(mask, lengths)),
            causal=self.causal,
            softcap=self.softcap,
            implementation=self.implementation,
        )
        return self.merge(constrain(y_BxTxHxK, ("batch", "length", "heads", "kv")))


def _first(x_BxTxHxK: jax.Array, length_B: jax.Array) -> jax.Array:
    """Returns x with zeros behind `length` tokens of each row.

    What cuDNN leaves there, of outputs and of gradients, need not be a number.
    """
    is_first_BxT = jnp.arange(x_BxTxHxK.shape[1])[None] < length_B[:, None]
    return jnp.where(is_first_BxT[:, :, None, None], x_BxTxHxK, 0)


def _padded(x: jax.Array, more: dict[int, int]) -> jax.Array:
    """Returns x with `more` zeros behind the axes named."""
    if not any(more.values()):
        return x
    return jnp.pad(x, [(0, more.get(axis, 0)) for axis in range(x.ndim)])


def _widened(x: jax.Array, size: int, value: float) -> jax.Array:
    """Returns x with so many values in front along its last axis that there are `size`."""
    return jnp.pad(x, [(0, 0)] * 3 + [(size - x.shape[3], 0)], constant_values=value)


def _in_front(front_PxHxK: jax.Array, x_BxSxHxK: jax.Array) -> jax.Array:
    """Returns x with `front` before every sequence: [B, P + S, H, K]."""
    front = jnp.broadcast_to(front_PxHxK[None], (len(x_BxSxHxK), *front_PxHxK.shape))
    return jnp.concatenate([front.astype(x_BxSxHxK.dtype), x_BxSxHxK], axis=1)
