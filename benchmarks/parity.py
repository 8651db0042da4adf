# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a device computes what it should: parts of the accelerator kit, each (None, facts) as
`rivals.race` takes it.

The facts are {"passed", "errors": {name: error}, "allowed": {name: the most}}. An error is the norm
of the difference from the reference as a share of the reference's norm.
"""

from typing import Any

import numpy as np
import train_step  # beside this file


def _error(value: Any, reference: Any) -> float:
    """The norm of the difference, as a share of the reference's norm; trees of arrays."""
    import jax

    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(reference), strict=True)
    arrays = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    off = sum(np.sum((a - b) ** 2) for a, b in arrays)
    return float(np.sqrt(off / sum(np.sum(b**2) for _, b in arrays)))


def _verdict(errors: dict[str, float], allowed: dict[str, float]) -> tuple[None, dict]:
    """The facts of a parity part."""
    passed = all(errors[name] <= limit for name, limit in allowed.items())
    return None, {"passed": passed, "errors": errors, "allowed": allowed}


def attention(B: int = 4, T: int = 512, H: int = 12, D: int = 64) -> tuple[None, dict]:
    """Output and gradients of both implementations in bfloat16 against those of XLA in float32: on
    packed rows, on rows of one example each of an odd length, and, as attention to a source is,
    without a bias."""
    import jax.numpy as jnp

    place_1xT = jnp.arange(T)[None]
    packed_BxT = jnp.tile(1 + (place_1xT >= T // 3), (B, 1))
    single_BxT = place_1xT < T - (T // 5) * jnp.arange(B)[:, None] % T
    kinds = {
        "packed": _attention(packed_BxT, H, D, packed=True, causal=True),
        "odd": _attention(single_BxT[:, :-1], H, D, packed=False, causal=True),
        "source": _attention(single_BxT, H, D, packed=False, causal=False),
    }
    named = [(f"{kind} {name}", *pair) for kind, of in kinds.items() for name, pair in of.items()]
    return _verdict({n: e for n, e, _ in named}, {n: most for n, _, most in named})


def _attention(
    segments_BxT: Any, H: int, D: int, *, packed: bool, causal: bool
) -> dict[str, tuple[float, float]]:
    """(error of cuDNN, the most that is allowed) of output and gradients; a bias if causal."""
    import jax
    import jax.numpy as jnp

    from mto_jax.models.attention import attention as attend
    from mto_jax.models.attention import visible

    B, T = segments_BxT.shape
    keys = jax.random.split(jax.random.key(0), 5)
    q, k, v, weight = (jax.random.normal(key, (B, T, H, D)) for key in keys[:4])
    arguments = {"query": q * D**-0.5, "key": k, "value": v}
    if causal:
        arguments["bias"] = jax.random.normal(keys[4], (1, H, T, T))
    segments_BxT = segments_BxT.astype(jnp.int32)
    seen = visible(segments_BxT, segments_BxT, causal=causal, packed=packed)
    counts = (segments_BxT > 0)[:, :, None, None]  # padding is nobody's concern

    def results(implementation: str, dtype: Any) -> dict[str, jax.Array]:
        how = {"causal": causal, "implementation": implementation}

        def loss(arguments):
            q, k, v = (arguments[name].astype(dtype) for name in ("query", "key", "value"))
            out = attend(q, k, v, arguments.get("bias"), seen, **how).astype(jnp.float32) * counts
            return jnp.sum(out * weight), out

        (_, out), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(arguments)
        return {"output": out, **gradients}

    with jax.default_matmul_precision("highest"):
        exact = results("xla", jnp.float32)
    xla, cudnn = results("xla", jnp.bfloat16), results("cudnn", jnp.bfloat16)
    return {
        name: (_error(cudnn[name], of), max(0.02, 2 * _error(xla[name], of)))
        for name, of in exact.items()
    }


def _loss_and_gradient(config: dict, runtime: dict, batch: dict) -> tuple[float, dict]:
    """Returns the loss per target token of our model, seeded, and its gradient by name."""
    import functools

    import jax

    from mto_jax.models.t5 import T5, T5Config
    from mto_jax.training import sharding, state, step

    mesh = sharding.mesh(devices=jax.devices()[:1])
    spec = state.abstract_model(functools.partial(T5, T5Config(**config, **runtime)))
    loss = step.t5_loss(spec, mesh)

    @jax.jit
    def both(parameters, batch):
        (total, sums), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, batch, None)
        return jax.tree.map(lambda x: x / sums["weight"], (total, gradient))

    precision = "highest" if runtime.get("dtype", "float32") == "float32" else None
    with jax.default_matmul_precision(precision):
        return jax.device_get(both(spec.initialise(jax.random.key(0), mesh), batch))


def bfloat16(config: dict, lengths: tuple[int, int], runtime: dict) -> tuple[None, dict]:
    """A model as it trains on this device, in bfloat16, against float32."""
    batch = train_step.batch_of(config, 4, *lengths)
    loss, gradient = _loss_and_gradient(config, runtime | {"dtype": "bfloat16"}, batch)
    exact_loss, exact = _loss_and_gradient(config, {}, batch)
    errors = {"loss": _error(loss, exact_loss), "gradient": _error(gradient, exact)}
    return _verdict(errors, {"loss": 0.005, "gradient": 0.05})


def packed(config: dict, lengths: tuple[int, int]) -> tuple[None, dict]:
    """Two examples a row against one a row, float32; examples have several lengths."""
    apart = train_step.batch_of(config, 4, *lengths)
    for side, length in zip(("encoder", "decoder"), lengths, strict=True):
        last = length - np.arange(4)[:, None] * (length // 8)
        segments = np.broadcast_to(np.arange(length) < last, (4, length)).astype(np.int32)
        for name in [name for name in apart if name.startswith(side)]:
            apart[name] = apart[name] * segments.astype(apart[name].dtype)
    packed = {name: x.reshape(2, -1) for name, x in apart.items()}
    for side in ("encoder", "decoder"):
        segments = apart[f"{side}_segment_ids"] * np.array([[1], [2]] * 2, np.int32)
        packed[f"{side}_segment_ids"] = segments.reshape(2, -1)
    loss, gradient = _loss_and_gradient(config, {}, packed)
    exact_loss, exact = _loss_and_gradient(config, {}, apart)
    errors = {"loss": _error(loss, exact_loss), "gradient": _error(gradient, exact)}
    return _verdict(errors, {"loss": 1e-5, "gradient": 1e-3})
