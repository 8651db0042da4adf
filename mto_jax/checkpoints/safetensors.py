# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The safetensors format: eight bytes of length, a JSON header of that length, then raw little-endian arrays.

Both ways go tensor by tensor, so neither a file nor a model is in memory as a whole: a tensor is mapped into
memory while it is read and unmapped after, and a file is written from lazy tensors.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mto_jax.checkpoints.lazy import Index, Tensor
from mto_jax.errors import UserError

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # bytes, the limit that the format sets itself


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a file, by name; only the header is read now.

    Raises:
      UserError: not a safetensors file, cut short, or a tensor of a type that no T5 has.
    """
    path = pathlib.Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise _damaged(path, "its header is longer than the file")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {
                name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
                for name, entry in header.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(path, "its header is not the JSON that the format asks for") from error
    tensors = {}
    for name, (code, shape, start, stop) in entries.items():
        if code not in DTYPES:
            raise UserError(
                f"{path}: the tensor {name} has type {code}; a T5 is read from {', '.join(DTYPES)}."
            )
        dtype = DTYPES[code]
        if start < 0 or stop - start != math.prod(shape) * dtype.itemsize:
            raise _damaged(path, f"{name} does not have the bytes of {code} {list(shape)}")
        if 8 + length + stop > size:
            raise _damaged(path, f"it ends within {name} ({size:,} bytes)")
        tensors[name] = _mapped(path, 8 + length + start, dtype, shape)
    return tensors


def _mapped(path: pathlib.Path, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> Tensor:
    def read(index: Index) -> np.ndarray:
        # One map per read: the pages of a map that lives on count as memory of the process.
        count = math.prod(shape)
        flat = np.memmap(path, np.uint8, "r", offset, (count * dtype.itemsize,)) if count else b""
        return np.frombuffer(flat, dtype, count).reshape(shape)[index]

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
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            array = np.ascontiguousarray(tensor.whole(), dtype)
            file.write(array.view(np.uint8).reshape(-1).data)


def _damaged(path: pathlib.Path, reason: str) -> UserError:
    return UserError(
        f"{path} is not a whole safetensors file: {reason}. Download or write it again."
    )
