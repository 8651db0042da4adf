# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The compiled step of K adapters over one frozen model, and what it needs of memory."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mto_jax import cores
from mto_jax.errors import UserError
from mto_jax.models import adapters as adapters_lib
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import ModelConfig
from mto_jax.models.families import build
from mto_jax.models.losses import SLICE_BYTES, cross_entropy
from mto_jax.models.partitioning import platform, use_rules
from mto_jax.models.stack import unstacked_prefixes
from mto_jax.training import performance, sharding
from mto_jax.training import state as states
from mto_jax.training.optimizers import Optimizer

# Tokens that a core of a CPU computes at once. With more, activations travel through memory, and
# steps take half as long again (measured on 2 cores, with models of 1 and 11 million parameters).
CORE_TOKENS = 512


@dataclasses.dataclass(frozen=True)
class Shape:
    """Everything that the compiled step depends on, but the optimizer's learning rate."""

    config: ModelConfig
    adapters: Adapters
    K: int
    b: int  # examples of one candidate in a step
    S: int
    T: int
    optimizer: Optimizer
    mesh: Mesh | None = None  # that the model is cut over
    rounded: tuple[str, ...] = ()  # parameters that are kept in bfloat16

    def _key(self) -> str:
        rate = {"learning_rate": 0.0, "schedule": "constant", "warmup": 0, "final": 0.0}
        return repr(
            dataclasses.replace(self, optimizer=dataclasses.replace(self.optimizer, **rate))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class Program(NamedTuple):
    """Compiled functions over arrays whose leading axis is K, and the shardings of their arguments.

    unstack(parameters of the model by name) -> frozen, as the others take it.
    step(frozen, fixed, carry, batch, control) -> (carry, {"loss": [K], "weight": [K]}); `carry` is
    donated. evaluate(frozen, fixed, parameters, batch) -> {"loss": [K], "weight": [K]}.
    fresh(key) -> the parameters of one new adapter by name.
    start(parameters [K, ...]) -> carry.
    """

    unstack: Any
    step: Any
    evaluate: Any
    fresh: Any
    start: Any
    tokens: NamedSharding  # of batches, [K, b, ...]
    cut: NamedSharding  # of every other array with a leading K
    frozen: dict[str, NamedSharding]  # of the model's parameters


@functools.lru_cache(maxsize=16)
def program(shape: Shape) -> Program:
    """The program of a shape, compiled once.

    Raises:
      UserError: K candidates need more memory than there is; says how many fit.
    """
    spec = states.abstract_model(functools.partial(build, shape.config, adapters=shape.adapters))
    adapter = {name: v for name, v in spec.shapes.items() if adapters_lib.is_adapter(name)}
    stacks = {
        name: jax.ShapeDtypeStruct(v.shape, jnp.bfloat16) if name in shape.rounded else v
        for name, v in spec.shapes.items()
        if name not in adapter
    }
    if shape.mesh is not None:  # the devices share each candidate
        mesh, C, R, unstacked = shape.mesh, 1, 1, ()
        rows = cut = sharding.replicated(mesh)
        where = {name: v for name, v in spec.shardings(mesh).items() if name in stacks}
        rules = functools.partial(use_rules, mesh, sharding.INFERENCE_RULES)
    else:
        devices = cores.for_rows(sum(4 * leaf.size for leaf in spec.shapes.values()))
        # Candidates go to devices of their own; what devices are left share the examples of each.
        C = math.gcd(shape.K, len(devices))
        R = math.gcd(shape.b, len(devices) // C)
        mesh = Mesh(np.array(devices[: C * R]).reshape(C, R), ("candidates", "examples"))
        rows, cut, whole = (
            NamedSharding(mesh, PartitionSpec(*mesh.axis_names[:count])) for count in (2, 1, 0)
        )
        where = dict.fromkeys(stacks, whole)
        unstacked, rules = unstacked_prefixes(shape.config), contextlib.nullcontext
    group_size = _group_size(shape, C, R)
    # Logits of all candidates of a group are alive at once.
    logits_bytes = 4 * group_size * shape.b * shape.T * shape.config.vocab_size
    num_chunks = max(1, math.ceil(logits_bytes / SLICE_BYTES))

    def over_candidates(function):
        """Returns `function`, of a single candidate, as a function of all K, group by group."""

        def split(x):
            groups = x.reshape(C, -1, group_size, *x.shape[1:])  # each device has its own
            return jnp.moveaxis(groups, 1, 0)

        def join(x):
            return jnp.moveaxis(x, 0, 1).reshape(shape.K, *x.shape[3:])

        def grouped(*arguments):
            if group_size * C == shape.K:
                return jax.vmap(function)(*arguments)
            group = jax.vmap(jax.vmap(function))
            results = jax.lax.map(lambda xs: group(*xs), jax.tree.map(split, arguments))
            return jax.tree.map(join, results)

        return grouped

    def unstack(frozen):
        return {n: jnp.unstack(v) if n.startswith(unstacked) else v for n, v in frozen.items()}

    def loss_of(frozen, fixed, parameters, batch, key):
        stacked = {n: jnp.stack(v) if isinstance(v, tuple) else v for n, v in frozen.items()}
        model = spec.merge({**stacked, **fixed, **parameters})
        with rules():
            loss, sums = cross_entropy(
                model.hidden(batch, packed=False, dropout_key=key),
                model.unembedding,
                batch["decoder_target_tokens"],
                batch["decoder_loss_weights"],
                softcap=shape.config.logit_softcap,
                num_chunks=num_chunks,
            )
        penalty = adapters_lib.penalty(model)
        return loss / jnp.maximum(sums["weight"], 1.0) + penalty, sums

    def step(frozen, fixed, carry, tokens, control):
        def single(fixed, carry, tokens, control):
            key = jax.random.fold_in(jax.random.wrap_key_data(control["key"]), control["step"])
            batch = _batch(**tokens)
            gradients, sums = jax.grad(loss_of, argnums=2, has_aux=True)(
                frozen, fixed, carry["parameters"], batch, key
            )
            optimizer = shape.optimizer.build(1, rate=lambda step: control["rate"])
            updates, state = optimizer.update(gradients, carry["optimizer"], carry["parameters"])
            parameters = jax.tree.map(jnp.add, carry["parameters"], updates)
            updated = {"parameters": parameters, "optimizer": state}
            kept = jax.tree.map(
                lambda new, old: jnp.where(control["active"], new, old), updated, carry
            )
            return kept, {"loss": sums["loss"], "weight": sums["weight"]}

        return over_candidates(single)(fixed, carry, tokens, control)

    def evaluate(frozen, fixed, parameters, tokens):
        def single(fixed, parameters, tokens):
            _, sums = loss_of(frozen, fixed, parameters, _batch(**tokens), None)
            return {"loss": sums["loss"], "weight": sums["weight"]}

        return over_candidates(single)(fixed, parameters, tokens)

    def fresh(key):
        parameters = spec.split(spec.build(nnx.Rngs(key)))
        return {name: v for name, v in parameters.items() if adapters_lib.is_adapter(name)}

    def start(parameters):
        optimizer = shape.optimizer.build(1, rate=lambda step: 0.0)
        return {"parameters": parameters, "optimizer": jax.vmap(optimizer.init)(parameters)}

    def abstract(tree, where):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree)

    def stacked(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((shape.K, *x.shape), x.dtype), tree)

    frozen = jax.eval_shape(unstack, stacks)
    trained = stacked({name: v for name, v in adapter.items() if adapters_lib.trains(name)})
    fixed = stacked({name: v for name, v in adapter.items() if not adapters_lib.trains(name)})
    carry = jax.eval_shape(start, trained)
    int32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    tokens = {
        "inputs_BxS": int32((shape.K, shape.b, shape.S)),
        "targets_BxT": int32((shape.K, shape.b, shape.T)),
    }
    control = {
        "rate": jax.ShapeDtypeStruct((shape.K,), jnp.float32),
        "active": jax.ShapeDtypeStruct((shape.K,), jnp.bool_),
        "key": jax.ShapeDtypeStruct((shape.K, 2), jnp.uint32),
        "step": int32((shape.K,)),
    }
    frozen = {name: abstract(value, where[name]) for name, value in frozen.items()}
    tokens = abstract(tokens, rows)
    fixed, carry, control = abstract((fixed, carry, control), cut)
    compiled = (
        jax.jit(step, donate_argnums=2, out_shardings=cut)
        .lower(frozen, fixed, carry, tokens, control)
        .compile()
    )
    evaluator = jax.jit(evaluate, out_shardings=cut)  # compiled where there are dev examples
    _check_memory(compiled, shape.K, group_size, mesh, frozen)
    starter = jax.jit(start, out_shardings=cut)
    unstacker = jax.jit(unstack, out_shardings=where)
    return Program(unstacker, compiled, evaluator, jax.jit(fresh), starter, rows, cut, where)


def _group_size(shape: Shape, C: int, R: int) -> int:
    """Returns how many candidates a device vmaps: all, but on a CPU what its caches hold."""
    own = shape.K // C
    tokens = CORE_TOKENS * max(1, cores.count() // (C * R))
    most = max(1, tokens * R // (shape.b * (shape.S + shape.T)))
    if platform() != "cpu" or own <= most:
        return own
    return max(size for size in range(1, most + 1) if own % size == 0)


def _batch(inputs_BxS: jax.Array, targets_BxT: jax.Array) -> dict[str, jax.Array]:
    """Returns the model's batch of rows with an example each; padding and empty rows are 0."""

    def segments(ids: jax.Array) -> jax.Array:  # 1 up to the last token
        return jax.lax.cummax((ids > 0).astype(jnp.int32), axis=1, reverse=True)

    target_segments_BxT = segments(targets_BxT)
    return {
        "encoder_input_tokens": inputs_BxS,
        "encoder_segment_ids": segments(inputs_BxS),
        "decoder_input_tokens": jnp.pad(targets_BxT, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets_BxT,
        "decoder_segment_ids": target_segments_BxT,
        "decoder_loss_weights": target_segments_BxT.astype(jnp.float32),
    }


def _check_memory(
    compiled: Any, K: int, group_size: int, mesh: Mesh, frozen: Mapping[str, Any]
) -> None:
    first, C = mesh.devices.flat[0], mesh.shape.get("candidates", 1)
    memory, available = compiled.memory_analysis(), performance.available_memory(first)
    if memory is None or available is None:
        return
    if platform() == "cpu":
        available /= mesh.size  # which have it in common
    base = sum(
        math.prod(value.sharding.shard_shape(value.shape)) * value.dtype.itemsize
        for value in jax.tree.leaves(frozen)
    )
    need = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    kept = (memory.argument_size_in_bytes - base) * C / K
    each = max(kept + memory.temp_size_in_bytes / group_size, 1)
    if need > available:
        fit = max(0, int((available - base) / each) * C)
        raise UserError(
            f"{K} adapters at once need {need / 1e9:.1f} GB on a device that has "
            f"{available / 1e9:.1f} GB free: about {fit} fit. Take fewer at once (at_once = "
            f"{max(fit, 1)} of tune or FewShot), a smaller MultiAdapterTuning.batch_size, or "
            "shorter lengths."
        )
