# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy over a large vocabulary that never holds more than a slice of the logits.

The targets are cut into slices along their length (the batch axis stays sharded as it is). A loop
computes the logits of a slice, its loss and, if a gradient is wanted, at once the gradients of
hidden states and head, so the logits are neither kept for backward nor computed a second time.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from mto_jax.models.partitioning import (
    constrain,
    gather_over_batch,
    reduce_dtype,
    shard_count,
    sum_over_batch,
)

# A slice of float32 logits of this size (per device) keeps matmuls efficient on every kind of
# device.
SLICE_BYTES = 64 * 2**20


def cross_entropy(
    hidden_BxTxD: jax.Array,
    unembedding_DxV: jax.Array,
    targets_BxT: jax.Array,
    weights_BxT: jax.Array,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float = 0.0,
    task_ids_BxT: jax.Array | None = None,
    num_tasks: int = 0,
    num_chunks: int | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum of the cross-entropy of all targets, with the sums that make its means.

    Per token, with p = softmax(hidden @ unembedding), Z its normaliser and e = label_smoothing:

        loss = KL(q || p) + z_loss * log(Z)^2,     q = 1 - e at the target, e / (V - 1) elsewhere

    KL(q || p) is the cross-entropy less the entropy of q, so a perfect model has loss 0 under
    smoothing too; without smoothing it is -log p[target]. This is T5X's loss. Matmuls run in the
    dtype of `hidden` and accumulate in float32.

    A target past the vocabulary (a soft token of the decoder) has no logit: its weight becomes 0.

    Returns `(loss_sum, sums)`. Gradients flow through `loss_sum` only, to hidden and unembedding.
    `sums` has "loss" (= loss_sum), "z_loss" (the part of it), "correct" (weighted targets whose
    logit is the greatest) and "weight" (sum of the weights); for means divide by "weight", after
    adding over micro-batches and hosts. With `task_ids_BxT` (1 to `num_tasks`; 0 is no task) also
    "task_loss" and "task_weight", [num_tasks] each.

    Args:
      softcap: logits become softcap * tanh(logits / softcap); 0: they stay.
      num_chunks: slices of the length T; None: as few as keep a slice of logits within 64 MiB per
        device.
    """
    B, T = targets_BxT.shape
    V = unembedding_DxV.shape[1]
    if num_chunks is None:
        shards = shard_count(("batch", "length", "vocab"), (B, T, V))
        num_chunks = math.ceil(4 * B * T * V / shards / SLICE_BYTES)
    length = math.ceil(T / min(num_chunks, T))
    chunks = math.ceil(T / length)

    def slices(x_BxT: jax.Array) -> jax.Array:
        """[B, T, ...] -> [chunks, B, length, ...]; the padding has weight 0."""
        padding = [(0, 0), (0, chunks * length - T)] + [(0, 0)] * (x_BxT.ndim - 2)
        x_BxNxt = jnp.pad(x_BxT, padding).reshape(B, chunks, length, *x_BxT.shape[2:])
        return jnp.moveaxis(x_BxNxt, 1, 0)

    weights_BxT = jnp.where(targets_BxT < V, weights_BxT, 0)
    weights_BxT = jax.lax.stop_gradient(weights_BxT.astype(jnp.float32))
    loss, sums, token_loss_NxBxt = _sliced(
        float(z_loss),
        float(label_smoothing),
        float(softcap),
        slices(hidden_BxTxD),
        unembedding_DxV,
        slices(targets_BxT),
        slices(weights_BxT),
    )
    sums = {"loss": loss, **sums, "weight": weights_BxT.sum()}
    if task_ids_BxT is not None:
        per_task = jnp.zeros(num_tasks + 1).at[slices(task_ids_BxT)].add
        sums["task_loss"] = per_task(token_loss_NxBxt)[1:]
        sums["task_weight"] = per_task(slices(weights_BxT))[1:]
    return loss, jax.lax.stop_gradient(sums)


def _slice(
    z_loss: float,
    smoothing: float,
    softcap: float,
    hidden_BxTxD: jax.Array,
    head_DxV: jax.Array,
    targets_BxT: jax.Array,
    weights_BxT: jax.Array,
) -> tuple[tuple[jax.Array, dict[str, jax.Array], jax.Array], jax.Array]:
    """((loss, sums, loss of each token) of a slice, float32 gradient by the logits [B, T, V])."""
    V = head_DxV.shape[1]
    on, off = 1.0 - smoothing, smoothing / (V - 1)
    entropy = -(on * math.log(on) + (V - 1) * off * math.log(off)) if smoothing else 0.0

    logits_BxTxV = jnp.dot(hidden_BxTxD, head_DxV, preferred_element_type=jnp.float32)
    logits_BxTxV = constrain(logits_BxTxV, ("batch", "length", "vocab"))
    if softcap:
        logits_BxTxV = softcap * jnp.tanh(logits_BxTxV / softcap)
    is_target_BxTxV = jnp.arange(V)[None, None] == targets_BxT[..., None]
    greatest_BxT = logits_BxTxV.max(axis=-1)
    exp_BxTxV = jnp.exp(logits_BxTxV - greatest_BxT[..., None])
    z_BxT = exp_BxTxV.sum(axis=-1)
    log_z_BxT = jnp.log(z_BxT) + greatest_BxT
    target_BxT = jnp.where(is_target_BxTxV, logits_BxTxV, 0.0).sum(axis=-1)

    expected_BxT = (on - off) * target_BxT  # the mean logit under q
    if smoothing:
        expected_BxT += off * logits_BxTxV.sum(axis=-1)
    z_loss_BxT = z_loss * jnp.square(log_z_BxT)
    loss_BxT = log_z_BxT - expected_BxT - entropy + z_loss_BxT
    sums = {
        "z_loss": jnp.sum(z_loss_BxT * weights_BxT),
        "correct": jnp.sum((target_BxT >= greatest_BxT) * weights_BxT),
    }
    # d loss / d logits = p (1 + 2 z_loss log Z) - q
    p_scale_BxT = weights_BxT * (1.0 + 2.0 * z_loss * log_z_BxT) / z_BxT
    q_BxTxV = jnp.where(is_target_BxTxV, on, off)
    gradient_BxTxV = exp_BxTxV * p_scale_BxT[..., None] - q_BxTxV * weights_BxT[..., None]
    if softcap:  # the derivative of the tanh
        gradient_BxTxV *= 1.0 - jnp.square(logits_BxTxV / softcap)
    loss_BxT *= weights_BxT
    return (jnp.sum(loss_BxT), sums, loss_BxT), gradient_BxTxV


def _values(
    z_loss, smoothing, softcap, hidden_NxBxTxD, unembedding_DxV, targets_NxBxT, weights_NxBxT
) -> tuple[jax.Array, Any, jax.Array]:
    head_DxV = unembedding_DxV.astype(hidden_NxBxTxD.dtype)
    head_DxV = gather_over_batch(head_DxV, ("embed", "vocab"), hidden_NxBxTxD.shape[1])

    def body(slices):
        hidden_BxTxD, targets_BxT, weights_BxT = slices
        slices = hidden_BxTxD, head_DxV, targets_BxT, weights_BxT
        return _slice(z_loss, smoothing, softcap, *slices)[0]

    loss, sums, token_loss_NxBxT = jax.lax.map(body, (hidden_NxBxTxD, targets_NxBxT, weights_NxBxT))
    return *jax.tree.map(jnp.sum, (loss, sums)), token_loss_NxBxT


def _sliced_forward(z_loss, smoothing, softcap, hidden, unembedding, targets, weights):
    """Loss and gradients in one pass; those that nobody wants (of a frozen head) cost nothing."""
    hidden_NxBxTxD, unembedding_DxV = hidden.value, unembedding.value
    dtype = hidden_NxBxTxD.dtype
    # What devices that share the batch exchange of the head and its gradient is no part of the
    # loop, where every slice would pay for it: each of the G adds up the gradient of its own rows.
    B = hidden_NxBxTxD.shape[1]
    head_DxV = gather_over_batch(unembedding_DxV.astype(dtype), ("embed", "vocab"), B)
    G = shard_count(("batch",), (B,))

    def by_device(x_BxTxD):
        return x_BxTxD.reshape(G, B // G, *x_BxTxD.shape[1:])

    def body(d_head_GxDxV, slices):
        hidden_BxTxD, targets_BxT, weights_BxT = slices
        outputs, d_logits_BxTxV = _slice(
            z_loss, smoothing, softcap, hidden_BxTxD, head_DxV, targets_BxT, weights_BxT
        )
        d_logits_BxTxV = d_logits_BxTxV.astype(dtype)
        d_hidden_BxTxD = None
        if hidden.perturbed:
            d_hidden_BxTxD = jnp.einsum("BTV,DV->BTD", d_logits_BxTxV, head_DxV)
        if unembedding.perturbed:
            d_head_GxDxV += jnp.einsum(
                "GBTD,GBTV->GDV",
                by_device(hidden_BxTxD),
                by_device(d_logits_BxTxV),
                preferred_element_type=jnp.float32,
            )
            d_head_GxDxV = constrain(d_head_GxDxV, ("batch", None, "vocab"))
        return d_head_GxDxV, (outputs, d_hidden_BxTxD)

    d_head_GxDxV = jnp.zeros((G, *head_DxV.shape)) if unembedding.perturbed else None
    slices = (hidden_NxBxTxD, targets.value, weights.value)
    d_head_GxDxV, (outputs, d_hidden_NxBxTxD) = jax.lax.scan(body, d_head_GxDxV, slices)
    d_head_DxV = None
    if d_head_GxDxV is not None:
        d_head_DxV = sum_over_batch(d_head_GxDxV.astype(reduce_dtype()), "embed", "vocab")
        d_head_DxV = d_head_DxV.astype(d_head_GxDxV.dtype)
    loss, sums, token_loss_NxBxT = outputs
    outputs = *jax.tree.map(lambda x: x.sum(axis=0), (loss, sums)), token_loss_NxBxT
    return outputs, (d_hidden_NxBxTxD, d_head_DxV)


def _sliced_backward(z_loss, smoothing, softcap, gradients, cotangents):
    d_loss = cotangents[0]
    d_hidden, d_head = gradients
    d_hidden = None if d_hidden is None else d_hidden * d_loss.astype(d_hidden.dtype)
    d_head = None if d_head is None else d_head * d_loss
    return d_hidden, d_head, None, None


_sliced: Any = jax.custom_vjp(_values, nondiff_argnums=(0, 1, 2))
_sliced.defvjp(_sliced_forward, _sliced_backward, symbolic_zeros=True)
