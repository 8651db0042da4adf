# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs on a mesh: memory and traffic as compiled, time as the least of both."""

import collections
import dataclasses
import importlib.metadata
import math
import os
import time
from collections.abc import Mapping
from typing import Any, Self

import jax
from jax.sharding import AbstractMesh, Mesh

from mto_jax.files import Store, digest
from mto_jax.models import flops
from mto_jax.planning import collectives
from mto_jax.planning.candidates import Sizes
from mto_jax.planning.topologies import Topology
from mto_jax.training import memory, performance, sharding
from mto_jax.training.program import Program, Settings, abstract_state


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a chip sends in a step by collectives of a kind, in bytes."""

    hidden: float = 0.0  # while it computes
    exposed: float = 0.0  # while it waits
    hidden_over_slices: float = 0.0  # the part of each that goes between slices
    exposed_over_slices: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.hidden + self.exposed


@dataclasses.dataclass(frozen=True)
class Cost:
    """A compiled step on a mesh; bytes are those of each chip.

    Attributes:
      sizes: of the mesh (data, fsdp, tensor).
      state: parameters, optimizer state and batch.
      temporary: what else the program allocates; None: not known, as it was not compiled.
      peak: the most that is alive at once; of a step that does not fit, what it needs.
      fits: whether that is within the memory of a chip; None: not known.
      traffic: by kind of collective.
      seconds: that compiling took.
    """

    sizes: Sizes
    state: int
    temporary: int | None = None
    peak: int | None = None
    fits: bool | None = None
    traffic: Mapping[str, Traffic] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def compiled(cls, settings: Settings, mesh: Mesh, topology: Topology, store: Store) -> Self:
        """Returns the cost of a step as the compiler has it, from `store` if it was asked before.

        Args:
          store: of costs; their names hold the program, the chips, the compiler and its flags.
        """
        lowered = Program.of(settings, mesh).lower()
        data, fsdp, tensor = mesh.devices.shape
        where = identity(lowered, topology, (data, fsdp, tensor))
        record = store.get(where, lambda: _compile(lowered, topology), "plan")
        traffic = {kind: Traffic(**sent) for kind, sent in record.pop("traffic").items()}
        held = state_bytes(settings, (data, fsdp, tensor))
        return cls((data, fsdp, tensor), **{"state": held} | record, traffic=traffic)

    @classmethod
    def by_formula(cls, settings: Settings, sizes: Sizes) -> Self:
        """Returns what is known without compiling: the state."""
        return cls(sizes, state_bytes(settings, sizes))

    def seconds_at_least(self, settings: Settings, topology: Topology) -> float:
        """Returns a lower bound of the time of a step.

        Matrix products at the peak rate; what no computation hides, sent over all links of a chip
        at once, comes on top, and no network carries more than it can. Recomputation, memory
        traffic and latencies are left out.
        """
        within, between = topology.egress, topology.chip.data_center
        compute = compute_seconds(settings, topology)
        sent = self.traffic.values()
        outer = sum(t.hidden_over_slices + t.exposed_over_slices for t in sent)
        inner = sum(t.total for t in sent) - outer
        exposed_outer = sum(t.exposed_over_slices for t in sent)
        exposed_inner = sum(t.exposed for t in sent) - exposed_outer

        def over(sent: float, rate: float) -> float:
            return sent / rate if sent else 0.0

        waiting = over(exposed_inner, within) + over(exposed_outer, between)
        return max(compute + waiting, over(inner, within), over(outer, between))


def compute_seconds(settings: Settings, topology: Topology) -> float:
    """Returns the time of the matrix products of a step at the peak rate of the chips."""
    return step_flops(settings) / topology.size / topology.chip.peak_flops


def step_flops(settings: Settings) -> int:
    """Returns the FLOPs of the model in a step on all chips, by formula."""
    return flops.train_flops(settings.model, settings.batch_size, **settings.lengths)


def state_bytes(settings: Settings, sizes: Sizes) -> int:
    """Returns the bytes of parameters and optimizer state on each device, by the sharding rules."""
    *_, target = abstract_state(settings, AbstractMesh(sizes, sharding.MESH_AXES))
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(target)
    )


def identity(lowered: Any, topology: Topology, sizes: Sizes) -> dict[str, Any]:
    """Returns what decides the measurement of a program: itself, the chips, the compiler."""
    return {
        "program": digest(lowered.as_text()),
        "topology": [topology.name, topology.slices],
        "mesh": [*sizes],
        "compiler": [importlib.metadata.version(name) for name in ("jaxlib", "libtpu")],
        "flags": [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
    }


def measure(lowered: Any) -> tuple[dict[str, Any], Any]:
    """Returns sizes in bytes and seconds of compiling as JSON, and the compiled program.

    Of a program that does not fit: {"peak", "fits": False, "seconds"}, and None.
    """
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if (reason := memory.exhausted(error)) is None:
            raise
        needed = {"peak": reason.needed, "fits": False, "seconds": time.monotonic() - start}
        return needed, None
    sizes = performance.Memory.of(compiled)
    return {
        "state": sizes.held,
        "temporary": sizes.temporary,
        "peak": compiled.memory_analysis().peak_memory_in_bytes,
        "fits": True,
        "seconds": time.monotonic() - start,
    }, compiled


def _compile(lowered: Any, topology: Topology) -> dict[str, Any]:
    """Returns a `Cost` as JSON, its state and sizes apart where the step does not fit."""
    record, compiled = measure(lowered)
    sent: dict[str, Any] = collections.defaultdict(collections.Counter)
    operations = (
        collectives.read(compiled.as_text(), topology.size, topology.slices) if compiled else ()
    )
    for operation in operations:
        name = "hidden" if operation.hidden else "exposed"
        sent[operation.kind][name] += operation.sent
        if operation.over_slices:
            sent[operation.kind][f"{name}_over_slices"] += operation.sent
    return {**record, "traffic": sent}
