# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps that do not fit: what is said, and what is found by compiling."""

import dataclasses

import jax
import pytest

from mto_jax.errors import UserError
from mto_jax.training import memory, performance, sharding
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.program import Program, Settings

from .common import TINY

SETTINGS = Settings(
    dataclasses.replace(TINY, remat="minimal"), 8, {"inputs": 128, "targets": 64}, Optimizer(), 10
)


@pytest.fixture(scope="module")
def mesh():
    return sharding.mesh(2, 1, 1, devices=jax.devices()[:2])


def needs(mesh, **changes) -> int:
    settings = dataclasses.replace(SETTINGS, **changes)
    return performance.Memory.of(Program.of(settings, mesh).compile()).total


def test_a_program_within_the_limit_is_compiled_and_one_beyond_it_is_not(mesh):
    program = Program.of(SETTINGS, mesh)
    needed = performance.Memory.of(program.compile()).total
    memory.compile_within(program, needed)
    memory.compile_within(program, None)
    with pytest.raises(memory.TooLarge) as error:
        memory.compile_within(program, needed - 1)
    assert (error.value.needed, error.value.limit) == (needed, needed - 1)


def test_what_would_fit_is_found_by_compiling(mesh):
    """With room for two microbatches: what is advised does fit, to the byte."""
    needed, limit = needs(mesh), needs(mesh, microbatches=2)
    assert limit < needed
    with pytest.raises(UserError) as error, memory.explained(SETTINGS, mesh):
        raise memory.TooLarge(needed, limit)
    text = str(error.value)
    assert text.startswith(f"The step needs {needed / 1e9:.3g} GB of memory on each cpu, which has")
    assert "Any of these would fit" in text
    assert f"train.microbatches = 2 ({limit / 1e9:.3g} GB)" in text


def test_where_nothing_fits_all_that_was_tried_is_named(mesh):
    text = memory.advice(SETTINGS, mesh, memory.TooLarge(None, 1000))
    assert 'None of these is enough: T5Config.remat = "full"; train.microbatches = 2;' in text
    for change in ("train.microbatches = 4", "mesh.data = 1, mesh.fsdp = 2, mesh.tensor = 1"):
        assert change in text
    assert "together" not in text


def test_meshes_that_are_tried_hold_fewer_copies():
    """On 8 devices with a model each: one copy, its weights cut along `fsdp` and `tensor`."""
    model = dataclasses.replace(TINY, num_heads=8)
    settings = dataclasses.replace(SETTINGS, model=model)
    tried = [tuple(mesh.shape.values()) for *_, mesh in memory._meshes(settings, sharding.mesh())]
    assert tried == [(1, 8, 1), (1, 4, 2), (1, 2, 4), (1, 1, 8)]
    three = dataclasses.replace(settings, model=dataclasses.replace(TINY, num_heads=6))
    tried = [tuple(mesh.shape.values()) for *_, mesh in memory._meshes(three, sharding.mesh())]
    assert tried == [(1, 8, 1), (1, 4, 2)]  # heads do not divide over 4


def test_errors_of_the_compiler_and_of_the_device_are_read():
    error = memory.exhausted(
        jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 24.35G of 15.75G hbm. "
            "Exceeded hbm capacity by 8.60G."
        )
    )
    assert error is not None
    assert (error.needed, error.limit) == (int(24.35 * 2**30), int(15.75 * 2**30))
    error = memory.exhausted(
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")
    )
    assert error is not None
    assert error.needed is None
    assert memory.exhausted(jax.errors.JaxRuntimeError("INTERNAL: something else")) is None


def test_other_errors_pass(mesh):
    internal = pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL")
    with internal, memory.explained(SETTINGS, mesh):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
