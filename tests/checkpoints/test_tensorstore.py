# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of Orbax, written from lazy tensors, against Orbax itself."""

import dataclasses
import weakref

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp

from mto_jax.checkpoints import tensorstore
from mto_jax.checkpoints.lazy import in_memory

ARRAYS = {
    "encoder.wi": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "scale": np.ones(5, ml_dtypes.bfloat16),
    "zeros": np.zeros((3, 2), np.float32),
}


def test_orbax_and_we_read_what_is_written(tmp_path):
    tensors = {name: in_memory(value) for name, value in ARRAYS.items()}
    tensorstore.write_orbax(tmp_path / "item", tensors)
    with ocp.StandardCheckpointer() as reader:
        theirs = reader.restore(tmp_path / "item")
    ours = tensorstore.orbax(tmp_path / "item")
    assert theirs.keys() == ours.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert theirs[name].dtype == ours[name].dtype == np.float32
        np.testing.assert_array_equal(theirs[name], value.astype(np.float32))
        np.testing.assert_array_equal(ours[name].whole(), value.astype(np.float32))


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    references, most = [], 0

    class Array(np.ndarray):
        """An array that takes weak references."""

    def read(index):
        nonlocal most
        array = np.full((64, 64), 1.5, np.float32).view(Array)
        references.append(weakref.ref(array))
        most = max(most, sum(reference() is not None for reference in references))
        return array

    tensor = dataclasses.replace(in_memory(np.zeros((64, 64), np.float32)), read=read)
    tensorstore.write_orbax(tmp_path / "item", {f"w{i}": tensor for i in range(6)})
    assert len(references) == 6
    assert most <= 2
