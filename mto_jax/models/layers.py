# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parts of a layer: parameters, RMS norm, dropout, feed-forward.

A module here holds the weights of *all* layers of a stack, with a leading axis L;
`stack.py` scans over that axis, so the methods that compute see the weights of one layer.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax.models.adapters import Adapters, attach, attached
from mto_jax.models.config import ModelConfig
from mto_jax.models.partitioning import constrain, reduce_dtype


def normal_param(
    rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str | None, ...], stddev: float
) -> nnx.Param:
    """A float32 parameter drawn from N(0, stddev^2), with logical `axes` as metadata."""
    return nnx.Param(stddev * jax.random.normal(rngs.params(), shape, jnp.float32), axes=axes)


def linear(x_BxTxD: jax.Array, weight_DxE: jax.Array) -> jax.Array:
    """x @ weight in the dtype of x -> [B, T, E].

    The gradient is that of a matmul, with the operands of the weight's gradient in the order in
    which XLA does not transpose the incoming gradient (and, on CPU, recompute a GELU at every
    element of that transpose). Devices add up the weight's gradient in
    `partitioning.reduce_dtype()`.
    """
    return _linear(reduce_dtype(), x_BxTxD, weight_DxE)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _linear(dtype: str, x_BxTxD: jax.Array, weight_DxE: jax.Array) -> jax.Array:
    return x_BxTxD @ weight_DxE.astype(x_BxTxD.dtype)


def _linear_forward(dtype, x_BxTxD, weight_DxE):
    return _linear(dtype, x_BxTxD, weight_DxE), (x_BxTxD, weight_DxE)


def _linear_backward(dtype, residuals, dy_BxTxE):
    x_BxTxD, weight_DxE = residuals
    dx_BxTxD = jnp.einsum("BTE,DE->BTD", dy_BxTxE, weight_DxE.astype(x_BxTxD.dtype))
    dw_DxE = jnp.einsum("BTD,BTE->DE", x_BxTxD, dy_BxTxE, preferred_element_type=dtype)
    return dx_BxTxD, dw_DxE.astype(weight_DxE.dtype)


_linear.defvjp(_linear_forward, _linear_backward)


def through(layer: nnx.Module, name: str, x_BxTxD: jax.Array) -> jax.Array:
    """Returns x through the weight `name` of a layer and its adapters: [B, T, E]."""
    y_BxTxE = linear(x_BxTxD, getattr(layer, name)[...])
    for adapter in attached(layer):
        y_BxTxE = adapter.projection(name, x_BxTxD, y_BxTxE)
    return y_BxTxE


class RMSNorm(nnx.Module):
    """Scales x to unit root mean square in float32: no mean, no bias (Zhang & Sennrich 2019)."""

    def __init__(self, config: ModelConfig, num_layers: int | None):
        shape = (config.d_model,) if num_layers is None else (num_layers, config.d_model)
        axes = (None,) if num_layers is None else ("layers", None)
        self.offset = config.norm_offset
        self.scale = nnx.Param(jnp.full(shape, 1.0 - self.offset, jnp.float32), axes=axes)
        self.epsilon = config.norm_epsilon

    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        y_BxTxD = x_BxTxD.astype(jnp.float32)
        mean_square_BxTx1 = jnp.mean(jnp.square(y_BxTxD), axis=-1, keepdims=True)
        y_BxTxD = y_BxTxD * jax.lax.rsqrt(mean_square_BxTx1 + self.epsilon)
        scale_D = self.offset + self.scale[...] if self.offset else self.scale[...]
        return (y_BxTxD * scale_D[None, None]).astype(x_BxTxD.dtype)


class Dropout:
    """Dropout with masks shared along one axis, the length: one random bit per channel of a row.

    T5X trained the published v1.1 models so; drawing T times fewer bits makes dropout nearly free.
    An object serves one layer: each call folds the next number into the key. With key None it
    changes nothing.
    """

    def __init__(self, rate: float, key: jax.Array | None):
        self.rate = rate
        self.key = key if rate else None
        self.calls = 0

    def __call__(self, x: jax.Array, shared_axis: int = 1) -> jax.Array:
        if self.key is None:
            return x
        key = jax.random.fold_in(self.key, self.calls)
        self.calls += 1
        shape = list(x.shape)
        shape[shared_axis] = 1
        keep = jax.random.bernoulli(key, 1.0 - self.rate, shape)
        return x * jnp.where(keep, 1.0 / (1.0 - self.rate), 0.0).astype(x.dtype)


_ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gated-gelu": functools.partial(jax.nn.gelu, approximate=True),
    "gated-silu": jax.nn.silu,
}


class MLP(nnx.Module):
    """Feed-forward: relu(x wi) wo in T5 v1.0; (gelu(x wi_0) * (x wi_1)) wo in v1.1 (Shazeer 2020).

    UL2 has SiLU in place of GELU.
    """

    def __init__(self, config: ModelConfig, adapters: Adapters, num_layers: int, rngs: nnx.Rngs):
        D, F = config.d_model, config.d_ff
        shape = (num_layers, D, F)
        axes = ("layers", "embed", "mlp")
        self.kind = config.mlp
        self.gated = config.mlp.startswith("gated")
        inputs = ("wi_0", "wi_1") if self.gated else ("wi",)
        for name in inputs:
            setattr(self, name, normal_param(rngs, shape, axes, D**-0.5))
        self.wo = normal_param(rngs, (num_layers, F, D), ("layers", "mlp", "embed"), F**-0.5)
        weights = dict.fromkeys(inputs, (D, F)) | {"wo": (F, D)}
        attach(self, adapters.in_layer(weights, None, num_layers, rngs))

    def __call__(self, x_BxTxD: jax.Array, dropout: Dropout) -> jax.Array:
        h_BxTxF = through(self, "wi_0" if self.gated else "wi", x_BxTxD)
        h_BxTxF = _ACTIVATIONS[self.kind](h_BxTxF)
        if self.gated:
            h_BxTxF = h_BxTxF * through(self, "wi_1", x_BxTxD)
        h_BxTxF = dropout(constrain(h_BxTxF, ("batch", "length", "mlp")))
        for adapter in attached(self):
            h_BxTxF = adapter.activation(h_BxTxF)
        return through(self, "wo", h_BxTxF)
