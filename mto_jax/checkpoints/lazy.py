# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tensors that stay on disk until a slice of them is wanted.

A reader describes its file as lazy tensors; a mapping transposes, stacks and pads the descriptions.
Bytes are read only when an array is built on the devices, and only the slices that each one holds.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mto_jax.errors import UserError

# For each dimension one slice, with start and stop.
Index = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Shape and type of an array, and `read(index)`, which fetches a slice of it for NumPy."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Index], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def whole(self) -> np.ndarray:
        """All of it, in memory."""
        return self.read(_all(self.shape))

    def transposed(self) -> "Tensor":
        """The last two axes swapped."""
        return self._swapped(-2, -1)

    def times(self, factor: float) -> "Tensor":
        """The values multiplied by `factor`, in float32."""

        def read(index: Index) -> np.ndarray:
            return self.read(index).astype(np.float32) * np.float32(factor)

        return Tensor(self.shape, np.dtype(np.float32), read)

    def layers_first(self) -> "Tensor":
        """Axis 1, over which T5X scans its layers, moved to the front."""
        return self._swapped(0, 1)

    def _swapped(self, a: int, b: int) -> "Tensor":
        def swap(values: Sequence) -> tuple:
            values = list(values)
            values[a], values[b] = values[b], values[a]
            return tuple(values)

        def read(index: Index) -> np.ndarray:
            return self.read(swap(index)).swapaxes(a, b)

        return Tensor(swap(self.shape), self.dtype, read)

    def finite(self, name: str) -> "Tensor":
        """The same tensor; reading a value that is no finite number raises a UserError."""

        def read(index: Index) -> np.ndarray:
            array = self.read(index)
            if not np.isfinite(array).all():
                raise UserError(f"{name} has values that are not finite numbers.")
            return array

        return Tensor(self.shape, self.dtype, read)

    def reshaped(self, shape: Sequence[int]) -> "Tensor":
        """Returns the array in another shape; axes before the first change are read in slices."""
        pairs = zip(self.shape, shape, strict=False)
        common = next((i for i, (a, b) in enumerate(pairs) if a != b), len(shape))
        if common == len(self.shape) == len(shape):
            return self

        def read(index: Index) -> np.ndarray:
            array = self.read((*index[:common], *_all(self.shape[common:])))
            array = array.reshape(*array.shape[:common], *shape[common:])
            return array[(..., *index[common:])]

        return Tensor(tuple(shape), self.dtype, read)

    def resized(self, axis: int, size: int) -> "Tensor":
        """Cut to `size` along `axis`, or lengthened with copies of place 0."""
        stored = self.shape[axis]

        def read(index: Index) -> np.ndarray:
            def part(start: int, stop: int) -> np.ndarray:
                return self.read((*index[:axis], slice(start, stop), *index[axis + 1 :]))

            start, stop = index[axis].start, index[axis].stop
            inside = part(min(start, stored), min(stop, stored))
            added = stop - max(start, stored)
            if added <= 0:
                return inside
            return np.concatenate([inside, np.repeat(part(0, 1), added, axis)], axis)

        return Tensor((*self.shape[:axis], size, *self.shape[axis + 1 :]), self.dtype, read)


def in_memory(array: Any) -> Tensor:
    """An array, of NumPy or JAX, as a `Tensor`."""

    def read(index: Index) -> np.ndarray:
        return np.asarray(array)[index]

    return Tensor(tuple(array.shape), np.dtype(array.dtype), read)


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """L tensors of one shape as one [L, ...]."""

    def read(index: Index) -> np.ndarray:
        chosen = tensors[index[0]]
        sizes = [s.stop - s.start for s in index[1:]]
        result = np.empty((len(chosen), *sizes), tensors[0].dtype)
        for i, tensor in enumerate(chosen):
            result[i] = tensor.read(index[1:])
        return result

    return Tensor((len(tensors), *tensors[0].shape), tensors[0].dtype, read)


def place(tensor: Tensor, sharding: jax.sharding.Sharding | None, dtype: Any) -> jax.Array:
    """The array on its devices, or on the first local one if `sharding` is None.

    Each device's slice is read alone; a slice that several devices hold is read once.
    """
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    slices: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

    def read(index: Index | None) -> np.ndarray:
        bounds = tuple(s.indices(n)[:2] for s, n in zip(index or (), tensor.shape, strict=True))
        if bounds not in slices:
            piece = tensor.read(tuple(slice(*b) for b in bounds))
            slices[bounds] = np.ascontiguousarray(piece, dtype)
        return slices[bounds]

    return jax.make_array_from_callback(tensor.shape, sharding, read)


def _all(shape: Sequence[int]) -> Index:
    return tuple(slice(0, size) for size in shape)
