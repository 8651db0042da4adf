# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows over the devices of this process: each has the whole model and rows of its own, and waits for no other.

    params, mesh = spread.place(params, num_rows)       # outside of jit
    answers = spread.over(mesh, function)(params, rows)  # inside: function(params, rows of one device)

The devices are GPUs, TPU cores, or the cores of a CPU (see `cores`).
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mto_jax import cores

_AXIS = "rows"


def place(params: Any, num_rows: int) -> tuple[Any, Mesh | None]:
    """(parameters on every device that gets rows, the mesh of these devices).

    The mesh is None, and the parameters stay where they are, if there is one device or one row, or if the parameters
    are themselves cut over devices (FSDP, tensor parallelism) or over hosts: then the compiler lays out the work.
    """
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_replicated and leaf.is_fully_addressable
        ):
            return params, None
    devices = cores.for_rows(sum(leaf.nbytes for leaf in leaves))[:num_rows]
    if len(devices) < 2:
        return params, None
    mesh = Mesh(np.array(devices), (_AXIS,))
    return jax.device_put(params, NamedSharding(mesh, PartitionSpec())), mesh


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
