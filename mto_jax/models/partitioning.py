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
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

# A rule gives a logical axis the mesh axis, or axes, that share it out; None: replicated.
Rules = Mapping[str, str | tuple[str, ...] | None]

_ACTIVE: contextvars.ContextVar[tuple[Mesh, Rules] | None] = contextvars.ContextVar(
    "partitioning_rules", default=None
)


@contextlib.contextmanager
def use_rules(mesh: Mesh, rules: Rules) -> Iterator[None]:
    """Lets `constrain` shard activations over `mesh` by `rules` while the block is traced."""
    token = _ACTIVE.set((mesh, rules))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


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


def shard_count(logical_axes: tuple[str | None, ...], shape: tuple[int, ...]) -> int:
    """The number of devices that share an activation of this shape; 1 outside of `use_rules`."""
    if (active := _ACTIVE.get()) is None:
        return 1
    mesh, rules = active
    spec = partition_spec(logical_axes, shape, mesh, rules)
    axes = [
        axis for entry in spec if entry for axis in ((entry,) if isinstance(entry, str) else entry)
    ]
    return math.prod(mesh.shape[axis] for axis in axes)


def platform() -> str:
    """The platform of the active mesh or JAX's default device: "cpu", "gpu" or "tpu"."""
    if (active := _ACTIVE.get()) is None:
        return jax.default_backend()
    return active[0].devices.flat[0].platform
