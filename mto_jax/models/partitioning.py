# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Logical axes: models name the axes of arrays, a table of rules maps names to a device mesh.

Names used by the models (None stands for an axis that is never sharded):

* parameters: `layers`, `vocab`, `embed`, `joined_kv` (heads x head size), `mlp`, `heads`
* activations: `batch`, `length`, `embed`, `heads`, `kv`, `mlp`, `vocab`

Whoever traces a model for several devices (the train step, the decoder) opens `use_rules(mesh,
rules)` *inside the traced function*, around the call of the model; outside of it `constrain` does
nothing. The mesh has axes of type `jax.sharding.AxisType.Auto` (not the default of
`jax.make_mesh`). Parameters carry their names as metadata: `variable.get_metadata("axes")`.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

# A rule gives a logical axis the mesh axis, or axes, that share it out; None: replicated.
Rules = Mapping[str, str | tuple[str, ...] | None]

_ACTIVE: contextvars.ContextVar[tuple[Mesh, Rules] | None] = contextvars.ContextVar(
    "partitioning_rules", default=None
)
# libtpu (0.0.42) makes an all-reduce of a reduce-scatter whose columns fall into tiles of 128 with
# too large a prime factor, such as the 251 of T5's vocabulary and the 2 x 977 of mT5's.
_TPU_COLUMNS = 8 * 128
_REDUCE: contextvars.ContextVar[str] = contextvars.ContextVar("reduce_dtype", default="float32")


@contextlib.contextmanager
def use_rules(mesh: Mesh, rules: Rules, reduce_dtype: str = "float32") -> Iterator[None]:
    """Lets `constrain` shard activations over `mesh` by `rules` while the block is traced.

    Args:
      reduce_dtype: in which devices add up their gradients of weights.
    """
    token, of_dtype = _ACTIVE.set((mesh, rules)), _REDUCE.set(reduce_dtype)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
        _REDUCE.reset(of_dtype)


def partition_spec(
    logical_axes: tuple[str | None, ...],
    shape: tuple[int, ...],
    mesh: Mesh | AbstractMesh,
    rules: Rules,
) -> PartitionSpec:
    """The `PartitionSpec` of an array with these logical axes.

    A mesh axis serves the first logical axis that asks for it, and only an axis whose size it
    divides: with rules {"batch": ("data", "fsdp"), "embed": "fsdp"}, the axes ("batch", "length",
    "embed") become P(("data", "fsdp"), None, None) and ("embed", "mlp") becomes P("fsdp", None).
    """
    taken: set[str] = set()
    entries = []
    for name, size in zip(logical_axes, shape, strict=True):
        rule = (rules.get(name) if name else None) or ()
        wanted = (rule,) if isinstance(rule, str) else tuple(rule)
        free = tuple(axis for axis in wanted if axis not in taken)
        if not free or size % math.prod(mesh.shape[axis] for axis in free):
            entries.append(None)
            continue
        taken.update(free)
        entries.append(free[0] if len(free) == 1 else free)
    return PartitionSpec(*entries)


def constrain(x: jax.Array, logical_axes: tuple[str | None, ...]) -> jax.Array:
    """Tells the compiler how to shard the activation `x`; `x` itself outside of `use_rules`."""
    if (active := _ACTIVE.get()) is None:
        return x
    mesh, rules = active
    spec = partition_spec(logical_axes, x.shape, mesh, rules)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def gather_over_batch(
    weight: jax.Array, logical_axes: tuple[str | None, ...], batch_size: int
) -> jax.Array:
    """The weight, gathered here over the mesh axes that shard a batch of this size.

    Other axes shard it still. Without this the compiler gathers it where it is used, in a loop each
    time.
    """
    if (active := _ACTIVE.get()) is None:
        return weight
    mesh, rules = active
    # Of an array with both, the batch gets its mesh axes first.
    spec = partition_spec(("batch", *logical_axes), (batch_size, *weight.shape), mesh, rules)
    return jax.lax.with_sharding_constraint(weight, NamedSharding(mesh, PartitionSpec(*spec[1:])))


def sum_over_batch(x_GxDxE: jax.Array, rows: str, columns: str) -> jax.Array:
    """The sum over the G devices that share the batch, each of which holds its own [D, E].

    A mesh axis of the batch that also shards the logical axis `rows` is reduce-scattered over D,
    and only what that leaves on a device is all-reduced over the others; left to itself, the
    compiler all-reduces the whole. Devices add in the dtype of x. Without rules G is 1.
    """
    if (active := _ACTIVE.get()) is None:
        return x_GxDxE[0]
    mesh, rules = active
    given = partition_spec(("batch", None, columns), x_GxDxE.shape, mesh, rules)
    of_rows = partition_spec((rows,), x_GxDxE.shape[1:2], mesh, rules)[0]
    summed = [axis for axis in _axes(given[0]) if mesh.shape[axis] > 1]
    scattered = [axis for axis in _axes(of_rows) if axis in summed]
    reduced = [axis for axis in summed if axis not in scattered]
    on_tpu = platform() == "tpu"

    def add(x_1xDxE: jax.Array) -> jax.Array:
        x_DxE = x_1xDxE[0]
        E = x_DxE.shape[1]
        if scattered and on_tpu:
            x_DxE = jnp.pad(x_DxE, ((0, 0), (0, -E % _TPU_COLUMNS)))
        for axis in scattered:
            x_DxE = jax.lax.psum_scatter(x_DxE, axis, scatter_dimension=0, tiled=True)
        x_DxE = x_DxE[:, :E]
        return jax.lax.psum(x_DxE, reduced) if reduced else x_DxE

    result = PartitionSpec(tuple(scattered) or None, given[2])
    # Not checked: the check wants a sum over axes of one device, too.
    return jax.shard_map(add, mesh=mesh, in_specs=given, out_specs=result, check_vma=False)(x_GxDxE)


def _axes(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes of an entry of a `PartitionSpec`."""
    return (entry,) if isinstance(entry, str) else entry or ()


def shard_count(logical_axes: tuple[str | None, ...], shape: tuple[int, ...]) -> int:
    """The number of devices that share an activation of this shape; 1 outside of `use_rules`."""
    if (active := _ACTIVE.get()) is None:
        return 1
    mesh, rules = active
    spec = partition_spec(logical_axes, shape, mesh, rules)
    return math.prod(mesh.shape[axis] for entry in spec for axis in _axes(entry))


def reduce_dtype() -> str:
    """The dtype in which devices add up their gradients of weights; "float32" by default."""
    return _REDUCE.get()


def platform() -> str:
    """The platform of the active mesh or JAX's default device: "cpu", "gpu" or "tpu"."""
    if (active := _ACTIVE.get()) is None:
        return jax.default_backend()
    return active[0].devices.flat[0].platform
