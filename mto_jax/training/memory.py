# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A step that does not fit into the memory of a device: how much it needs, and what would fit."""

import contextlib
import dataclasses
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from mto_jax.errors import UserError
from mto_jax.models.partitioning import use_rules
from mto_jax.models.stack import remat
from mto_jax.training import performance, sharding
from mto_jax.training.program import Program, Settings

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MOST_MICROBATCHES = 16


class TooLarge(Exception):
    """A program needs more memory than a device has; bytes, None where they are not known."""

    def __init__(self, needed: int | None, limit: int | None):
        super().__init__(needed, limit)
        self.needed, self.limit = needed, limit


def compile_within(program: Program, limit: int | None) -> Any:
    """Returns the compiled step.

    Args:
      limit: bytes of memory of each device; None: only the compiler knows.

    Raises:
      TooLarge: it needs more.
    """
    try:
        compiled = program.compile()
    except jax.errors.JaxRuntimeError as error:
        if (reason := exhausted(error)) is None:
            raise
        raise reason from error
    needed = performance.Memory.of(compiled).total
    if limit is not None and needed > limit:
        raise TooLarge(needed, limit)
    return compiled


def exhausted(error: Exception) -> TooLarge | None:
    """Returns what an error of JAX says about memory; None if it is about something else.

    >>> exhausted(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 24.35G of 15.75G hbm."))
    TooLarge(26145613414, 16911433728)
    """
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text:
        return None
    match = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) \w+", text)
    if match is None:
        return TooLarge(None, None)
    return TooLarge(
        int(float(match[1]) * _UNITS[match[2]]), int(float(match[3]) * _UNITS[match[4]])
    )


@contextlib.contextmanager
def explained(settings: Settings, mesh: Mesh) -> Iterator[None]:
    """Turns running out of memory within the block into a `UserError` with `advice`."""
    limit = performance.memory_limit(mesh.devices.flat[0])
    try:
        yield
    except TooLarge as error:
        raise UserError(advice(settings, mesh, error)) from error
    except jax.errors.JaxRuntimeError as error:
        if (reason := exhausted(error)) is None:
            raise
        reason.limit = reason.limit or limit
        raise UserError(advice(settings, mesh, reason)) from error


def advice(settings: Settings, mesh: Mesh, error: TooLarge) -> str:
    """Returns a paragraph: what the step needs, and which changes would fit, found by compiling.

    Of remat, microbatches and mesh each the smallest change that fits; where none does, all of them
    together.
    """
    print("out of memory: looking for what would fit, a compilation each ...", file=sys.stderr)
    kind = mesh.devices.flat[0].device_kind
    text = "The step needs more memory than there is"
    if error.needed is not None:
        text = f"The step needs {error.needed / 1e9:.3g} GB of memory"
    text += f" on each {kind}"
    if error.limit is not None:
        text += f", which has {error.limit / 1e9:.3g} GB"
    fitting, tried = [], []
    strongest = settings, mesh
    for change in (_remat, _microbatches, _meshes):
        for words, changed, other in change(settings, mesh):
            tried.append(words)
            if (needed := _needs(changed, other, error.limit)) is not None:
                fitting.append(f"{words} ({needed / 1e9:.3g} GB)")
                break
        *_, strongest = [strongest, *((s, m) for _, s, m in change(*strongest))]
    if fitting:
        return f"{text}. Any of these would fit: {'; '.join(fitting)}."
    if tried:
        text += f". None of these is enough: {'; '.join(tried)}"
        needed = _needs(*strongest, error.limit)
        if needed is not None:
            return f"{text}; the last of each together would fit ({needed / 1e9:.3g} GB)."
    return f"{text}. Take a smaller BATCH_SIZE, a smaller model or more devices."


def _needs(settings: Settings, mesh: Mesh, limit: int | None) -> int | None:
    """The bytes of a step that fits; None if it does not."""
    try:
        return performance.Memory.of(compile_within(Program.of(settings, mesh), limit)).total
    except TooLarge:
        return None


def _remat(settings: Settings, mesh: Mesh) -> Iterator[tuple[str, Settings, Mesh]]:
    with use_rules(mesh, {}):
        policies = ["none", "minimal", "full"]
        stronger = policies[policies.index(remat(settings.model)) + 1 :]
    for policy in stronger:
        model = dataclasses.replace(settings.model, remat=policy)
        words = f'{type(model).__name__}.remat = "{policy}"'
        yield words, dataclasses.replace(settings, model=model), mesh


def _microbatches(settings: Settings, mesh: Mesh) -> Iterator[tuple[str, Settings, Mesh]]:
    rows = settings.batch_size // (mesh.shape["data"] * mesh.shape["fsdp"])
    count = 2 * settings.microbatches
    while count <= _MOST_MICROBATCHES and rows % count == 0:
        yield (
            f"train.microbatches = {count}",
            dataclasses.replace(settings, microbatches=count),
            mesh,
        )
        count *= 2


def _meshes(settings: Settings, mesh: Mesh) -> Iterator[tuple[str, Settings, Mesh]]:
    """Fewer copies of the model: all devices of a slice hold one."""
    devices = list(mesh.devices.flat)
    slices = sharding.slice_count(devices)
    for tensor in (1, 2, 4, 8):
        if len(devices) // slices % tensor or settings.model.num_heads % tensor:
            continue
        sizes = slices, len(devices) // slices // tensor, tensor
        rows, parts = settings.batch_size, sizes[0] * sizes[1] * settings.microbatches
        cut = sizes[1] * sizes[2] > mesh.shape["fsdp"] * mesh.shape["tensor"]
        cut = cut or tensor > mesh.shape["tensor"]
        if cut and rows % parts == 0 and settings.model.d_model % sizes[1] == 0:
            words = ", ".join(
                f"mesh.{axis} = {size}"
                for axis, size in zip(sharding.MESH_AXES, sizes, strict=True)
            )
            yield words, settings, sharding.mesh(*sizes, devices=devices, slices=slices)
