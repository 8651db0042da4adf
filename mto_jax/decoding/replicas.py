# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows over the devices of this process: each has the whole model and rows of its own, and waits for no other.

    placed, mesh = spread.place(model, num_rows)         # outside of jit
    answers = spread.over(mesh, function)(placed, rows)  # inside: function(placed, rows of one device)

The devices are GPUs, TPU cores, or the cores of a CPU (see `cores`).
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mto_jax import cores
from mto_jax.models.t5 import T5, stacks_apart

_AXIS = "rows"


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["graphdef", "treedef"]
)
@dataclasses.dataclass(frozen=True)
class Placed:
    """A model as an argument of a compiled function.

    On a CPU the weights of layers are apart: cut out of their stack by the function, each would be a copy.
    """

    graphdef: nnx.GraphDef
    treedef: Any
    values: tuple[jax.Array | tuple[jax.Array, ...], ...]

    def model(self) -> T5:
        """The model. Call it inside of the loop where it is used: XLA then sees that nothing need be stacked."""
        whole = [jnp.stack(v) if isinstance(v, tuple) else v for v in self.values]
        return nnx.merge(self.graphdef, jax.tree.unflatten(self.treedef, whole))


# What was last placed of a model on a CPU: (how, its parameters then, what `place` returned).
_last: weakref.WeakKeyDictionary[T5, tuple] = weakref.WeakKeyDictionary()


def place(model: T5, num_rows: int, *, in_steps: bool = False) -> tuple[Placed, Mesh | None]:
    """(the model on every device that gets rows, the mesh of these devices).

    The mesh is None if there is one device or one row, or if the parameters are themselves cut over
    devices (FSDP, tensor parallelism) or over hosts: then they stay where they are, and the compiler lays out the
    work. On a CPU a model that was placed before is not copied again.

    Args:
      in_steps: whether the decoder computes one token at a time.
    """
    graphdef, state = nnx.split(model)
    leaves, treedef = jax.tree.flatten(state)
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_replicated and leaf.is_fully_addressable
        ):
            return Placed(graphdef, treedef, tuple(leaves)), None
    devices = cores.for_rows(sum(leaf.nbytes for leaf in leaves))[: max(num_rows, 1)]
    mesh = Mesh(np.array(devices), (_AXIS,)) if len(devices) > 1 else None
    if devices[0].platform != "cpu":
        if mesh is not None:
            leaves = jax.device_put(leaves, NamedSharding(mesh, PartitionSpec()))
        return Placed(graphdef, treedef, tuple(leaves)), mesh
    how = (devices, in_steps)
    known = _last.get(model)
    if known and known[0] == how and all(a is b for a, b in zip(known[1], leaves, strict=True)):
        return known[2]
    apart = stacks_apart(model.config, in_steps=in_steps)
    names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)]
    values = [
        tuple(np.asarray(leaf)) if name.startswith(apart) else leaf
        for name, leaf in zip(names, leaves, strict=True)
    ]
    where = devices[0] if mesh is None else NamedSharding(mesh, PartitionSpec())
    found = Placed(graphdef, treedef, tuple(jax.device_put(values, where))), mesh
    _last[model] = how, leaves, found
    return found


def size(mesh: Mesh | None) -> int:
    """By how many devices rows are divided; their number must be a multiple of it."""
    return 1 if mesh is None else mesh.size


def over(mesh: Mesh | None, function: Callable) -> Callable:
    """`function(shared, rows)` on every device, rows dealt out one by one, as cards are, and taken up again.

    Args:
      function: from a pytree that all devices have alike, and a pytree of arrays [M / devices, ...], to a pytree
        of arrays [M / devices, ...].

    Returns: the same function of arrays [M, ...].
    """
    if mesh is None:
        return function
    rows = PartitionSpec(_AXIS)
    on_each = jax.shard_map(
        function, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False
    )

    def deal(x, first, second):
        return x.reshape(first, second, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)

    def dealt(shared, given):
        given = jax.tree.map(lambda x: deal(x, -1, mesh.size), given)
        return jax.tree.map(lambda x: deal(x, mesh.size, -1), on_each(shared, given))

    return dealt
