# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tensors in PyTorch's pickles, read by PyTorch, which takes nothing but tensors from them."""

import pathlib

import ml_dtypes
import numpy as np

from mto_jax.checkpoints.lazy import Tensor
from mto_jax.errors import UserError


def read(path: pathlib.Path) -> dict[str, Tensor]:
    """The tensors of a file, by name, mapped into memory where its format allows.

    Raises:
      UserError: PyTorch is not installed, or the file holds something else.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} can only be read by PyTorch: pip install torch, or get the model as "
            "safetensors."
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # torch raises errors of many kinds on foreign bytes
        raise UserError(f"{path} does not read as tensors: {str(error).splitlines()[0]}") from error

    def lazy(tensor) -> Tensor:
        dtype = np.dtype(ml_dtypes.bfloat16) if tensor.dtype == torch.bfloat16 else None
        array = tensor.view(torch.int16).numpy().view(dtype) if dtype else tensor.numpy()
        return Tensor(array.shape, array.dtype, lambda index: array[index])

    return {name: lazy(tensor) for name, tensor in state.items()}


def _is_zip(path: pathlib.Path) -> bool:
    """PyTorch's format since 1.6, which can be mapped into memory; before, it was a bare pickle."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"
