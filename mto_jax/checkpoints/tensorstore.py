# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arrays in zarr folders and in Orbax checkpoints, read through TensorStore slice by slice."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints.lazy import Index, Tensor
from mto_jax.errors import UserError

METADATA = "_METADATA"  # the file of an Orbax checkpoint that names its arrays


def array(
    folder: pathlib.Path,
    name: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    zarr3: bool = False,
) -> Tensor:
    """The array `name` in `folder`: a zarr folder of its own, or a part of Orbax's OCDBT database.

    Args:
      metadata: a T5X spec's {"metadata": ..., "dtype": ...}, which stands in for a lost `.zarray`.

    Raises:
      UserError: no such array; also later, when a chunk that is read turns out to be missing.
    """
    import tensorstore as ts

    spec: dict[str, Any] = {"driver": "zarr3" if zarr3 else "zarr", "open": True}
    if (folder / "manifest.ocdbt").is_file():
        spec["kvstore"] = {
            "driver": "ocdbt",
            "base": f"file://{folder.absolute()}/",
            "path": f"{name}/",
        }
    else:
        spec["kvstore"] = {"driver": "file", "path": f"{(folder / name).absolute()}/"}
        # Without this a chunk that was lost reads as zeros. (Orbax leaves out chunks of zeros in
        # its databases only on request; those have checksums.)
        spec["fill_missing_data_reads"] = False
        if metadata and not (folder / name / ".zarray").is_file():
            spec |= {**metadata, "assume_metadata": True}
    try:
        store = ts.open(spec).result()
    except ValueError as error:
        raise UserError(f"Cannot read the array {name} in {folder}: {_reason(error)}") from error

    def read(index: Index) -> np.ndarray:
        try:
            return store[index].read().result()
        except ValueError as error:
            raise UserError(
                f"Cannot read the array {name} in {folder}: {_reason(error)}"
            ) from error

    return Tensor(tuple(store.shape), np.dtype(store.dtype.numpy_dtype), read)


def orbax(folder: pathlib.Path) -> dict[str, Tensor]:
    """The arrays of an Orbax checkpoint by "a/b", the keys of its tree."""
    tree = json.loads((folder / METADATA).read_text())
    tensors = {}
    for entry in tree["tree_metadata"].values():
        if not entry["value_metadata"]["skip_deserialize"]:
            keys = [str(key["key"]) for key in entry["key_metadata"]]
            zarr3 = bool(tree.get("use_zarr3"))
            tensors["/".join(keys)] = array(folder, ".".join(keys), zarr3=zarr3)
    return tensors


def write_orbax(folder: pathlib.Path, tensors: Mapping[str, Tensor]) -> None:
    """Write an Orbax checkpoint of a flat dict of tensors in float32, one after another.

    With arrays Orbax would hold all of them at once; a lazy tensor is read when its turn comes, so
    a model of any size is converted in the memory of its largest tensor.
    """
    import jax
    import orbax.checkpoint as ocp

    class Handler(ocp.type_handlers.NumpyHandler):
        async def serialize(self, values: Any, infos, args=None):
            for value, info, arg in zip(values, infos, args or (), strict=True):
                content = np.ascontiguousarray(value.whole(), np.float32)
                for written in await super().serialize([content], [info], [arg]):
                    written.result()
            return []

    # Without a handler for JAX's arrays Orbax would warn that there is none.
    registry = ocp.type_handlers.create_type_handler_registry(
        (Tensor, Handler()), (jax.Array, ocp.type_handlers.ArrayHandler())
    )
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with ocp.Checkpointer(handler) as writer:
        writer.save(folder.absolute(), args=ocp.args.PyTreeSave(dict(tensors)))


def _reason(error: Exception) -> str:
    return str(error).split(" [source locations")[0]
