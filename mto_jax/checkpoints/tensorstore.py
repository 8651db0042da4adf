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
        # Without this a chunk that was lost reads as zeros. (Orbax leaves out chunks of zeros in its
        # databases only when told to; those have checksums.)
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


def orbax_names(folder: pathlib.Path) -> tuple[dict[str, str], bool]:
    """What an Orbax checkpoint holds: "a/b" (keys of the tree) -> array name; and whether it is zarr 3."""
    tree = json.loads((folder / METADATA).read_text())
    result = {}
    for entry in tree["tree_metadata"].values():
        if not entry["value_metadata"]["skip_deserialize"]:
            keys = [str(key["key"]) for key in entry["key_metadata"]]
            result["/".join(keys)] = ".".join(keys)
    return result, bool(tree.get("use_zarr3"))


def write_orbax(folder: pathlib.Path, tensors: Mapping[str, Tensor]) -> None:
    """An Orbax checkpoint of a flat dict of float32 arrays, written one layer of one tensor after another.

    Orbax itself would hold the model twice; this way a model of any size is converted in little memory.
    """
    import tensorstore as ts

    entries = {}
    for name, tensor in tensors.items():
        # Stacked layers are a chunk each.
        chunk = (1, *tensor.shape[1:]) if len(tensor.shape) == 3 else tensor.shape
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": f"{(folder / name).absolute()}/"},
            "metadata": {
                "shape": tensor.shape,
                "chunks": chunk,
                "dtype": "<f4",
                "compressor": None,  # weights are noise to a compressor
            },
            "create": True,
            "store_data_equal_to_fill_value": True,
        }
        store = ts.open(spec).result()
        for start in range(0, tensor.shape[0], chunk[0]):
            index = (slice(start, start + chunk[0]), *(slice(0, n) for n in tensor.shape[1:]))
            store[index].write(np.ascontiguousarray(tensor.read(index), np.float32)).result()
        entries[str((name,))] = {
            "key_metadata": [{"key": name, "key_type": 2}],  # 2: a key of a dict
            "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
        }
    tree = {"tree_metadata": entries, "use_ocdbt": False, "use_zarr3": False}
    (folder / METADATA).write_text(json.dumps(tree))


def _reason(error: Exception) -> str:
    return str(error).split(" [source locations")[0]
