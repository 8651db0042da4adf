# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Memory as the compiler counts it, and the speed of a product as a clock does."""

import types

import pytest

from mto_jax.training import performance


def test_memory_counts_what_is_donated_once():
    sizes = types.SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=70,
        alias_size_in_bytes=60,
        temp_size_in_bytes=5,
        generated_code_size_in_bytes=2,
    )
    memory = performance.Memory.of(types.SimpleNamespace(memory_analysis=lambda: sizes))
    assert (memory.held, memory.temporary, memory.code) == (110, 5, 2)
    assert memory.total == 117


def test_flops_are_those_of_products_by_the_clock(monkeypatch):
    """Four products of 512 x 512 matrices, 2 n^3 each, in half a second."""
    clock = types.SimpleNamespace(monotonic=iter([1.0, 1.5]).__next__)
    monkeypatch.setattr(performance, "time", clock)
    assert performance.measured_flops() == pytest.approx(4 * 2 * 512**3 / 0.5)
