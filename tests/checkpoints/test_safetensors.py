# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lazy tensors out of files of the package safetensors, and files that it reads."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from safetensors.torch import load_file, save_file

from mto_jax.checkpoints import lazy
from mto_jax.checkpoints import safetensors as ours
from mto_jax.errors import UserError


def test_a_full_disk_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.symlink_to("/dev/full")
    tensors = {"a": lazy.in_memory(np.zeros((100, 100), np.float32))}
    with pytest.raises(OSError, match=r"No space left on device: '.*/model\.safetensors'"):
        ours.write(path, tensors, np.float32)


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((3, 5)).astype(np.float32),
        "b": rng.standard_normal(7).astype(np.float16),
        "c": rng.standard_normal((2, 3, 4)),
        "empty": np.zeros((0, 4), np.float32),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "file.safetensors", metadata={"format": "pt"})
    return tmp_path / "file.safetensors", arrays


def test_reads_what_the_package_writes(file):
    path, arrays = file
    tensors = ours.read(path)
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name].whole(), array)
    part = tensors["c"].read((slice(1, 2), slice(0, 3), slice(2, 4)))
    np.testing.assert_array_equal(part, arrays["c"][1:2, :, 2:4])


def test_bfloat16(tmp_path):
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_file({"x": values}, tmp_path / "x.safetensors")
    found = ours.read(tmp_path / "x.safetensors")["x"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.whole().astype(np.float32), values.float().numpy())
    ours.write(tmp_path / "y.safetensors", {"x": found}, ml_dtypes.bfloat16)
    assert torch.equal(load_file(tmp_path / "y.safetensors")["x"], values)


def test_the_package_reads_what_we_write(file, tmp_path):
    path, arrays = file
    matrix = lazy.in_memory(arrays["a"]).transposed()
    ours.write(tmp_path / "out", {**ours.read(path), "t": matrix}, np.float32)
    found = safetensors.numpy.load_file(tmp_path / "out")
    np.testing.assert_array_equal(found["t"], arrays["a"].T)
    np.testing.assert_array_equal(found["c"], arrays["c"].astype(np.float32))
    with safetensors.safe_open(tmp_path / "out", "np") as opened:
        assert opened.metadata() == {"format": "pt"}


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda data: data[:-1], "is not a whole safetensors file"),
        (lambda data: data[:4], "is not a whole safetensors file"),
        (lambda data: b"\xff" * 8 + data[8:], "is not a whole safetensors file"),
        (lambda data: data[:8] + b"[" + data[9:], "is not a whole safetensors file"),
        (lambda data: data.replace(b'"F32"', b'"I32"'), "type I32"),
        (lambda data: data.replace(b"[3,5]", b"[3,6]"), "is not a whole safetensors file"),
    ],
)
def test_damaged_files_are_told(file, spoil, match):
    path, _ = file
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=match):
        ours.read(path)


def test_header_is_padded_to_eight_bytes(tmp_path):
    for length in range(1, 10):
        ours.write(
            tmp_path / "f", {"n" * length: lazy.in_memory(np.ones(1, np.float32))}, np.float32
        )
        data = (tmp_path / "f").read_bytes()
        size = int.from_bytes(data[:8], "little")
        assert size % 8 == 0
        assert json.loads(data[8 : 8 + size])["n" * length]["data_offsets"] == [0, 4]
