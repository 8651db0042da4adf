# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Inference over local devices: rows sharded over copies of the model, or one model cut over them.

    replicated, mesh = replicas.replicate(model, num_rows)            # outside of jit
    outputs = replicas.shard_rows(mesh, function)(replicated, rows)  # inside

Of devices with copies none waits for another. They are GPUs, TPU cores, or the cores of a CPU (see
`cores`). A model whose parameters are cut over devices (`sharding.inference_mesh`) stays where it
is, and the compiler lays out the work by `sharding.INFERENCE_RULES`.
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
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.models.partitioning import use_rules
from mto_jax.models.stack import unstacked_prefixes
from mto_jax.training import sharding

_AXIS = "rows"


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["graphdef", "treedef"]
)
@dataclasses.dataclass(frozen=True)
class Replicated:
    """A model as an argument of a compiled function.

    On a CPU the layers' weights are unstacked: sliced from their stack by the function, each would
    be a copy.
    """

    graphdef: nnx.GraphDef
    treedef: Any
    values: tuple[jax.Array | tuple[jax.Array, ...], ...]

    def model(self) -> EncoderDecoder:
        """Returns the model. Call it inside the loop that uses it: XLA then stacks nothing."""
        whole = [jnp.stack(v) if isinstance(v, tuple) else v for v in self.values]
        return nnx.merge(self.graphdef, jax.tree.unflatten(self.treedef, whole))


# The last result of `replicate` for a model on a CPU: (how, its parameters then, the result).
_cache: weakref.WeakKeyDictionary[EncoderDecoder, tuple] = weakref.WeakKeyDictionary()


def replicate(
    model: EncoderDecoder, num_rows: int, *, incremental: bool = False
) -> tuple[Replicated, Mesh | None]:
    """Returns the model on every device that gets rows, and the mesh of these devices.

    The mesh is None if there is a single device or row. If the parameters are themselves cut over
    devices, they stay where they are, and it is theirs. On a CPU a model that was replicated before
    is not copied again.

    Args:
      incremental: whether the decoder computes a token at a time, from a cache.
    """
    graphdef, state = nnx.split(model)
    leaves, treedef = jax.tree.flatten(state)
    if (mesh := sharding.mesh_of(leaves)) is not None:
        return Replicated(graphdef, treedef, tuple(leaves)), mesh
    devices = cores.for_rows(sum(leaf.nbytes for leaf in leaves))[: max(num_rows, 1)]
    mesh = Mesh(np.array(devices), (_AXIS,)) if len(devices) > 1 else None
    if devices[0].platform != "cpu":
        if mesh is not None:
            leaves = jax.device_put(leaves, NamedSharding(mesh, PartitionSpec()))
        return Replicated(graphdef, treedef, tuple(leaves)), mesh
    how = (devices, incremental)
    cached = _cache.get(model)
    if cached and cached[0] == how and all(a is b for a, b in zip(cached[1], leaves, strict=True)):
        return cached[2]
    unstacked = unstacked_prefixes(model.config, decoding=incremental)
    names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)]
    values = [
        tuple(np.asarray(leaf)) if name.startswith(unstacked) else leaf
        for name, leaf in zip(names, leaves, strict=True)
    ]
    where = devices[0] if mesh is None else NamedSharding(mesh, PartitionSpec())
    result = Replicated(graphdef, treedef, tuple(jax.device_put(values, where))), mesh
    _cache[model] = how, leaves, result
    return result


def num_devices(mesh: Mesh | None) -> int:
    """Returns the number of devices with copies of the model; rows must be a multiple of it."""
    return 1 if mesh is None else mesh.shape.get(_AXIS, 1)


def shard_rows(mesh: Mesh | None, function: Callable) -> Callable:
    """Returns `function(shared, rows)` with rows sharded over the mesh: row i on device i % size.

    On the mesh of a model that is cut, the compiler shards what happens within the function.

    Args:
      function: from a pytree that is replicated and a pytree of arrays [M / devices, ...] to a
        pytree of arrays [M / devices, ...]; the result takes and returns arrays [M, ...].
    """
    if mesh is None:
        return function
    if _AXIS not in mesh.axis_names:

        def under_rules(shared, rows):
            with use_rules(mesh, sharding.INFERENCE_RULES):
                return function(shared, rows)

        return under_rules
    rows = PartitionSpec(_AXIS)
    on_each = jax.shard_map(
        function, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False
    )

    def interleave(x, first, second):
        return x.reshape(first, second, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)

    def sharded(shared, rows):
        rows = jax.tree.map(lambda x: interleave(x, -1, mesh.size), rows)
        return jax.tree.map(lambda x: interleave(x, mesh.size, -1), on_each(shared, rows))

    return sharded
