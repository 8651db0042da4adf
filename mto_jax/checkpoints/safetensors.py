# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of safetensors as lazy tensors, and written from them.

Both ways go tensor by tensor, so neither a file nor a model is in memory as a whole. The package of
that name reads; its writer would want all arrays at once.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from mto_jax.checkpoints.lazy import Index, Tensor
from mto_jax.errors import UserError
from mto_jax.files import writing

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a file, by name; only the header is read now.

    Raises:
      UserError: not a safetensors file, cut short, or a tensor of a type that no T5 has.
    """
    path = pathlib.Path(path)
    tensors = {}
    try:
        with safetensors.safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                code = part.get_dtype()
                if code not in DTYPES:
                    raise UserError(
                        f"{path}: the tensor {name} has type {code}; a T5 is read from "
                        f"{', '.join(DTYPES)}."
                    )
                tensors[name] = _tensor(path, name, tuple(part.get_shape()), DTYPES[code])
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a whole safetensors file: {error}. Download or write it again."
        ) from error
    return tensors


def _tensor(path: pathlib.Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    def read(index: Index) -> np.ndarray:
        sizes = [part.stop - part.start for part in index]
        if not math.prod(sizes):  # such slices the package refuses
            return np.empty(sizes, dtype)
        # Opened for each read: the pages of a map that lives on count as memory of the process.
        with safetensors.safe_open(path, "np") as file:
            return file.get_slice(name)[index]

    return Tensor(shape, dtype, read)


def write(path: str | os.PathLike, tensors: Mapping[str, Tensor], dtype: Any) -> None:
    """Write `tensors` in their order as `dtype`, each read just before it is written."""
    dtype = np.dtype(dtype)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + math.prod(tensor.shape) * dtype.itemsize
        header[name] = {
            "dtype": _CODES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # The arrays begin at a multiple of eight bytes.
    with writing(path), open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            array = np.ascontiguousarray(tensor.whole(), dtype)
            file.write(array.view(np.uint8).reshape(-1).data)
