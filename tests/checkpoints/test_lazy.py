# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lazy tensors against the same operations of NumPy, every way of slicing them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mto_jax.checkpoints.lazy import in_memory, stacked

_ARRAY = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
_MATRICES = _ARRAY[0]
# Name -> lazy tensor and the array that it should be.
_CASES = {
    "transposed": (in_memory(_MATRICES).transposed(), _MATRICES.swapaxes(1, 2)),
    "layers_first": (in_memory(_ARRAY).layers_first(), np.moveaxis(_ARRAY, 1, 0)),
    "heads joined": (in_memory(_ARRAY).reshaped((2, 3, 20)), _ARRAY.reshape(2, 3, 20)),
    "heads first": (in_memory(_MATRICES).reshaped((12, 5)), _MATRICES.reshape(12, 5)),
    "as it is": (in_memory(_MATRICES).reshaped((3, 4, 5)), _MATRICES),
    "cut": (in_memory(_MATRICES).resized(1, 3), _MATRICES[:, :3]),
    "longer": (
        in_memory(_MATRICES).resized(1, 7),
        np.concatenate([_MATRICES, _MATRICES[:, :1].repeat(3, 1)], axis=1),
    ),
    "multiplied": (in_memory(_MATRICES).times(0.5), (_MATRICES * 0.5).astype(np.float32)),
    "stacked": (stacked([in_memory(m) for m in _MATRICES]), _MATRICES),
    "stacked transposed": (
        stacked([in_memory(m).transposed() for m in _MATRICES]),
        _MATRICES.swapaxes(1, 2),
    ),
}


@given(st.sampled_from(sorted(_CASES)), st.data())
def test_slices(name, data):
    tensor, expected = _CASES[name]
    assert tensor.shape == expected.shape
    assert tensor.dtype == expected.dtype
    np.testing.assert_array_equal(tensor.whole(), expected)
    index = []
    for size in expected.shape:
        start = data.draw(st.integers(0, size - 1))
        index.append(slice(start, data.draw(st.integers(start + 1, size))))
    np.testing.assert_array_equal(tensor.read(tuple(index)), expected[tuple(index)])
