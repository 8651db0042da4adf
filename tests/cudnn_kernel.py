# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mathematics of cuDNN's attention, to run in its place on a CPU."""

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.interpreters import mlir


def install() -> None:
    """From here on the CPU knows the primitives of JAX that call cuDNN."""
    for primitive, function in (
        (cudnn._dot_product_attention_fwd_p, forward),
        (cudnn._dot_product_attention_bwd_p, backward),
    ):
        lowering = mlir.lower_fun(function, multiple_results=True)
        mlir.register_lowering(primitive, lowering, platform="cpu")


def _seen(query, key, bias, query_B, key_B, scale, variadic_args, mask_type):
    """(logits BHTS, where queries and keys count); B, H, T, S are those of one device."""
    (B, T, H, _), S = query.shape, key.shape[1]
    assert mask_type == cudnn.MaskType.PADDING
    assert T % 2 == 0
    assert S % 2 == 0
    assert query_B.shape == key_B.shape == (B,)
    logits = scale * jnp.einsum("BTHK,BSHK->BHTS", query, key)
    if variadic_args[0]:
        assert bias.shape in {(b, h, T, S) for b in (1, B) for h in (1, H)}
        logits = logits + bias
    query_BxT = jnp.arange(T)[None] < query_B[:, None]
    key_BxS = jnp.arange(S)[None] < key_B[:, None]
    return jnp.where(key_BxS[:, None, None], logits, -jnp.inf), query_BxT, key_BxS


def _only(keep_BxT, x_BxTxHxK):
    return jnp.where(keep_BxT[:, :, None, None], x_BxTxHxK, jnp.nan)  # padding may hold anything


def forward(*arguments, scale, variadic_args, mask_type, is_training, **_) -> list[jax.Array]:
    """Output [B, T, H, K], and logarithms of the softmax's sums [B, H, T] for `backward`."""
    dtype, asked = arguments[0].dtype, (scale, variadic_args, mask_type)
    query, key, value, bias = (x.astype(jnp.float32) for x in arguments[:4])
    logits, query_BxT, _ = _seen(query, key, bias, *arguments[4:6], *asked)
    sums_BxHxT = jax.nn.logsumexp(logits, axis=-1)
    weights = jnp.exp(logits - sums_BxHxT[..., None])
    out = _only(query_BxT, jnp.einsum("BHTS,BSHK->BTHK", weights, value)).astype(dtype)
    return [out, jnp.where(query_BxT[:, None], sums_BxHxT, jnp.nan)] if is_training else [out]


def backward(*arguments, scale, variadic_args, mask_type, **_) -> list[jax.Array]:
    """As in FlashAttention-2 (Dao 2023, section 3.1), from the output and sums of `forward`."""
    dtype, asked = arguments[0].dtype, (scale, variadic_args, mask_type)
    query, key, value, bias = (x.astype(jnp.float32) for x in arguments[:4])
    sums_BxHxT, out, d_out = (x.astype(jnp.float32) for x in arguments[10:])
    logits, query_BxT, key_BxS = _seen(query, key, bias, *arguments[4:6], *asked)
    here = query_BxT[:, None, :, None]
    weights = jnp.where(here, jnp.exp(logits - sums_BxHxT[..., None]), 0)
    mean = jnp.swapaxes(jnp.sum(out * d_out, axis=-1), 1, 2)[..., None]
    d_weights = jnp.einsum("BTHK,BSHK->BHTS", d_out, value)
    d_logits = jnp.where(here, weights * (d_weights - mean), 0)
    d_out = jnp.where(query_BxT[:, :, None, None], d_out, 0)
    gradients = [
        _only(query_BxT, scale * jnp.einsum("BHTS,BSHK->BTHK", d_logits, key)),
        _only(key_BxS, scale * jnp.einsum("BHTS,BTHK->BSHK", d_logits, query)),
        _only(key_BxS, jnp.einsum("BHTS,BTHK->BSHK", weights, d_out)),
    ]
    if variadic_args[1]:
        one = [axis for axis in (0, 1) if bias.shape[axis] == 1]
        gradients.append(jnp.sum(d_logits, axis=one, keepdims=True))
    return [gradient.astype(dtype) for gradient in gradients]
