# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The device mesh (data, fsdp, tensor) and the one table that lays logical axes onto it.

Every array names its axes (parameters in their metadata, activations in `models.partitioning`);
`RULES` says which mesh axes carry which logical axis:

  data    copies of the model, each with its share of the batch
  fsdp    the batch too, and parameters and optimizer state cut along `embed` (ZeRO-3)
  tensor  heads, feed-forward and vocabulary cut over devices (Megatron)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gin
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from mto_jax import cores
from mto_jax.errors import UserError
from mto_jax.models.partitioning import partition_spec
from mto_jax.training import performance

MESH_AXES = ("data", "fsdp", "tensor")

# A mesh axis serves one dimension of an array: where two dimensions want it, the first gets it, and
# a dimension that does not divide over it stays whole. Axes that are not listed are never cut.
RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "joined_kv": ("tensor",),
    "mlp": ("tensor",),
}
# Without gradients no weight moves: activations, which are small beside them, are cut along `embed`
# as the weights are (Pope et al., "Efficiently Scaling Transformer Inference", 2022, section 3.2).
INFERENCE_RULES: Mapping[str, tuple[str, ...]] = {**RULES, "batch": ("data",)}


@gin.configurable
def mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
    slices: int | None = None,
) -> Mesh:
    """The mesh of all devices (or of `devices`); one axis may be -1, "whatever is left".

    Neighbours along `tensor`, then along `fsdp`, are neighbours in the network of a TPU slice.
    Several slices are joined by the slower network of the data centre: they share the axis `data`.
    Cores of a CPU that are devices (see `cores`) count as one.

    >>> mesh(fsdp=2, tensor=2).shape   # on 8 devices
    {'data': 2, 'fsdp': 2, 'tensor': 2}

    Args:
      slices: TPU slices; None: as many as there are.

    Raises:
      UserError: the sizes do not multiply to the number of devices, `data` does not divide over
        the slices, or there are other slices than `slices`.
    """
    devices = cores.for_one_training() if devices is None else list(devices)
    asked = f"A mesh of data={data}, fsdp={fsdp}, tensor={tensor}"
    sizes = mesh_sizes(data, fsdp, tensor, len(devices))
    present = slice_count(devices)
    if slices not in (None, present):
        raise UserError(
            f"mesh.slices = {slices}, but the {len(devices)} device(s) are of {present} slice(s). "
            "Start the run on as many slices, or leave mesh.slices out."
        )
    if sizes[0] % present:
        raise UserError(
            f"{asked} does not fit {present} slices of {len(devices) // present} devices: only "
            "data may reach over slices, because the network between them is slow. Make mesh.data "
            f"a multiple of {present}, for instance mesh.data = {present} and mesh.fsdp = -1."
        )
    inner, outer = [sizes[0] // present, *sizes[1:]], [present, 1, 1]
    try:
        if present > 1:
            placed = mesh_utils.create_hybrid_device_mesh(
                inner, outer, devices, allow_split_physical_axes=True
            )
        else:
            placed = mesh_utils.create_device_mesh(inner, devices, allow_split_physical_axes=True)
    except (AssertionError, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{asked} cannot be laid over these {len(devices)} {devices[0].device_kind} devices: "
            f"{error} Change mesh.data, mesh.fsdp or mesh.tensor."
        ) from error
    # Auto: the compiler propagates shardings between the ones that we state.
    types = (jax.sharding.AxisType.Auto,) * len(MESH_AXES)
    return Mesh(placed, MESH_AXES, axis_types=types)


def mesh_sizes(data: int, fsdp: int, tensor: int, count: int) -> tuple[int, int, int]:
    """Returns the sizes of a mesh of `count` devices, where at most one of those given is -1.

    Raises:
      UserError: they do not multiply to the number of devices.
    """
    sizes = [data, fsdp, tensor]
    known = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) == 1 and known > 0 and count % known == 0:
        sizes[sizes.index(-1)] = count // known
    if min(sizes) < 1 or int(np.prod(sizes)) != count:
        raise UserError(
            f"A mesh of data={data}, fsdp={fsdp}, tensor={tensor} does not fit {count} device(s): "
            f"the sizes must multiply to {count}. Set mesh.data, mesh.fsdp and mesh.tensor (one of "
            "them may be -1: whatever is left)."
        )
    return sizes[0], sizes[1], sizes[2]


def inference_mesh(model_bytes: int, num_heads: int) -> Mesh | None:
    """Returns the mesh over which this process cuts a model that it uses; None: it is not cut.

    It is cut where gin asks for it, by `mesh.fsdp` or `mesh.tensor`, as far as the local devices
    go; and where its parameters would take more than half of the memory of a device: then over all
    of them, heads first.

    Args:
      model_bytes: of its parameters.
      num_heads: of keys and values, which the axis `tensor` divides among devices.

    Raises:
      UserError: gin's mesh does not fit the devices, or the local ones together are too small.
    """
    everything = cores.for_one_training()
    local = [device for device in everything if device.process_index == jax.process_index()]
    limit = performance.memory_limit(local[0])
    fsdp, tensor = inference_sizes(model_bytes, num_heads, len(everything), len(local), limit)
    return mesh(-1, fsdp, tensor, devices=local, slices=None) if fsdp * tensor > 1 else None


def inference_sizes(
    model_bytes: int, num_heads: int, devices: int, local: int, limit: int | None
) -> tuple[int, int]:
    """Returns (fsdp, tensor) of `inference_mesh`; (1, 1): the model is not cut.

    Args:
      devices, local: how many there are, and how many this process has.
      limit: bytes of memory of a device; None: not known.

    Raises:
      UserError: see `inference_mesh`.
    """
    asked = {"data": -1, "fsdp": 1, "tensor": 1} | gin.get_bindings("mesh")
    fsdp, tensor = local, num_heads
    if asked["fsdp"] != 1 or asked["tensor"] != 1:
        data, fsdp, tensor = (asked[axis] for axis in MESH_AXES)
        _, fsdp, tensor = mesh_sizes(data, fsdp, tensor, devices)
    elif limit is None or 2 * model_bytes <= limit:
        return 1, 1
    elif model_bytes > limit * local:
        raise UserError(
            f"The parameters of the model take {model_bytes / 1e9:.3g} GB, but the {local} local "
            f"device(s) have {limit / 1e9:.3g} GB each. Keep them in bfloat16 "
            '(load_checkpoint.dtype = "bfloat16"), or use a host with more devices.'
        )
    tensor = math.gcd(tensor, local)
    return math.gcd(fsdp, local // tensor), tensor


def mesh_of(arrays: Iterable[Any]) -> Mesh | None:
    """Returns the mesh over which any of these arrays is cut; None if each is whole everywhere."""
    for array in arrays:
        if isinstance(array, jax.Array) and not (
            array.is_fully_replicated and array.is_fully_addressable
        ):
            # As `parameter_sharding` makes it.
            assert isinstance(array.sharding, NamedSharding)
            assert isinstance(array.sharding.mesh, Mesh)
            return array.sharding.mesh
    return None


def slice_count(devices: Sequence[jax.Device]) -> int:
    """Returns the number of TPU slices that devices belong to; 1 for devices of another kind."""
    if devices[0].platform != "tpu":  # a GPU's `slice_index` counts hosts
        return 1
    return len({getattr(device, "slice_index", 0) for device in devices})


def parameter_sharding(
    axes: Sequence[str | None], shape: Sequence[int], mesh: Mesh | AbstractMesh
) -> NamedSharding:
    """Returns the sharding of a parameter with these logical axes, by `RULES`.

    >>> parameter_sharding(("layers", "embed", "mlp"), (8, 512, 1024), mesh(fsdp=2, tensor=2)).spec
    PartitionSpec(None, 'fsdp', 'tensor')
    """
    return NamedSharding(mesh, partition_spec(tuple(axes), tuple(shape), mesh, RULES))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch cut over the data and fsdp axes."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def check_batch(
    batch_size: int, mesh: Mesh | AbstractMesh, microbatches: int = 1, name: str = "BATCH_SIZE"
) -> None:
    """Raise a `UserError` unless rows divide over the mesh's batch axes and the microbatches."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    unit = shards * microbatches
    if microbatches < 1 or batch_size < 1 or batch_size % unit:
        near = max(unit, round(batch_size / unit) * unit) if unit > 0 else shards
        raise UserError(
            f"{name} = {batch_size} does not divide over the mesh: data={mesh.shape['data']} x "
            f"fsdp={mesh.shape['fsdp']} x {microbatches} microbatch(es) = {unit} equal parts are "
            f"needed. Take {name} = {near}, or change mesh.data, mesh.fsdp or "
            "train.microbatches."
        )


def place(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch -> the global batch on the devices (an explicit transfer)."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()
    }


def place_whole(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """A global batch that every process holds whole -> the global batch on the devices."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)
        for name, rows in batch.items()
    }
