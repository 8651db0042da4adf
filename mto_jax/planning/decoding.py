# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What decoding costs on chips that are not here: memory as compiled, time by formula."""

import dataclasses
import functools
import math
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh

from mto_jax.decoding import search
from mto_jax.decoding.generation import BATCHES_PER_CALL, Decoding, keys
from mto_jax.decoding.replicas import Replicated
from mto_jax.files import Store
from mto_jax.models import flops
from mto_jax.models.config import ModelConfig
from mto_jax.models.families import build
from mto_jax.planning.candidates import Sizes
from mto_jax.planning.cost import identity, measure
from mto_jax.planning.topologies import Topology
from mto_jax.training import sharding
from mto_jax.training.state import AbstractModel, abstract_model


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a program of decoding, its mesh apart.

    Attributes:
      model: the network.
      batch_size: sources at once, on all chips together.
      inputs: tokens of a source.
      decoding: how outputs are found; its `max_length` counts as the length of every output.
      dtype: in which the matrices are kept, "float32" or "bfloat16".
    """

    model: ModelConfig
    batch_size: int
    inputs: int
    decoding: Decoding
    dtype: str = "float32"

    @functools.cached_property
    def spec(self) -> AbstractModel:
        """The model without its values."""
        return abstract_model(functools.partial(build, self.model))

    def parameters(self, mesh: Mesh | AbstractMesh) -> list[jax.ShapeDtypeStruct]:
        """Returns the parameters where they lie: cut over the mesh, norms and biases in float32."""
        return [
            jax.ShapeDtypeStruct(
                value.shape,
                jnp.dtype(self.dtype) if "embed" in self.spec.axes[name] else value.dtype,
                sharding=where,
            )
            for (name, value), where in zip(
                self.spec.shapes.items(), self.spec.shardings(mesh).values(), strict=True
            )
        ]


def meshes(settings: Settings, topology: Topology, search_all: bool) -> list[Sizes]:
    """Returns the mesh that `mto infer` would take; with `search_all` all others after it.

    Raises:
      UserError: that of gin does not fit the chips, or they are too small together.
    """
    size, config = topology.size, settings.model
    heads = math.gcd(config.num_kv_heads, config.of_encoder.num_kv_heads)
    whole = jnp.dtype(settings.dtype).itemsize * flops.num_parameters(config)
    fsdp, tensor = sharding.inference_sizes(whole, heads, size, size, topology.chip.memory)
    chosen = [(size // fsdp // tensor, fsdp, tensor)]
    if search_all:
        most = math.gcd(heads, size)
        chosen += [(size // t, 1, t) for t in range(1, most + 1) if most % t == 0]
        chosen.append((1, size // most, most))
    return list(dict.fromkeys(chosen))


@dataclasses.dataclass(frozen=True)
class DecodingCost:
    """What decoding on a mesh needs; bytes are those of each chip.

    Attributes:
      sizes: of the mesh (data, fsdp, tensor); (N, 1, 1) is a copy of the model on each chip.
      parameters: of the model.
      temporary, peak, fits, seconds: as of a `Cost`.
    """

    sizes: Sizes
    parameters: int
    temporary: int | None = None
    peak: int | None = None
    fits: bool | None = None
    seconds: float = 0.0

    @classmethod
    def by_formula(cls, settings: Settings, sizes: Sizes) -> Self:
        """Returns what is known without compiling."""
        leaves = settings.parameters(AbstractMesh(sizes, sharding.MESH_AXES))
        return cls(sizes, sum(_shard_bytes(leaf) for leaf in leaves))

    @classmethod
    def compiled(cls, settings: Settings, sizes: Sizes, topology: Topology, store: Store) -> Self:
        """Returns the cost of the program as the compiler has it; see `Cost.compiled`."""
        lowered = lower(settings, sizes, topology)
        record = store.get(identity(lowered, topology, sizes), lambda: measure(lowered)[0], "plan")
        record.pop("state", None)
        return dataclasses.replace(cls.by_formula(settings, sizes), **record)

    def encoding_seconds(self, settings: Settings, topology: Topology) -> float:
        """Returns a lower bound of the time to encode a batch: its matrix products."""
        work = settings.batch_size * flops.forward_flops(settings.model, settings.inputs, 0)
        return work / topology.size / topology.chip.peak_flops

    def step_seconds(self, settings: Settings, topology: Topology) -> float:
        """Returns a lower bound of the time of a token of every source of a batch.

        A step reads the decoder's weights, the keys and values of the sources and half of those of
        the longest outputs once from memory. Communication and latencies are left out.
        """
        config, decoding = settings.model, settings.decoding
        copies = self.sizes[0]
        weights = sum(
            _shard_bytes(leaf)
            for name, leaf in zip(
                settings.spec.shapes,
                settings.parameters(AbstractMesh(self.sizes, sharding.MESH_AXES)),
                strict=True,
            )
            if not name.startswith("encoder.")
        )
        tokens = settings.inputs + decoding.rows * decoding.max_length / 2
        width = 2 * config.num_kv_heads * config.d_kv * jnp.dtype(config.dtype).itemsize
        cache = settings.batch_size / copies * config.num_decoder_layers * tokens * width
        cut = self.sizes[1] * self.sizes[2]
        return (weights + cache / cut) / topology.chip.bandwidth

    def sources_per_second(self, settings: Settings, topology: Topology) -> float:
        """Returns the most sources a second, where every output has `max_length` tokens."""
        steps = settings.decoding.max_length * self.step_seconds(settings, topology)
        return settings.batch_size / (self.encoding_seconds(settings, topology) + steps)


def lower(settings: Settings, sizes: Sizes, topology: Topology) -> Any:
    """Returns the program of a full call of `decode`, traced for the chips of `topology`."""
    config, (data, fsdp, tensor) = settings.model, sizes
    cut = fsdp * tensor > 1
    # Copies do not wait for each other: the program of one is that of all.
    devices = topology.devices() if cut else topology.devices()[:1]
    mesh = sharding.mesh(data if cut else 1, fsdp, tensor, devices=devices, slices=1)
    parameters: Any = tuple(settings.parameters(mesh))
    replicated = Replicated(settings.spec.graphdef, settings.spec.treedef, parameters)
    slots = settings.batch_size if cut else -(-settings.batch_size // data)
    rows = slots * BATCHES_PER_CALL
    everywhere = sharding.replicated(mesh)

    def abstract(shape, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)

    drawn = jax.eval_shape(keys, 0, np.zeros(rows, np.int32))
    return search.program.lower(
        replicated,
        abstract((rows, settings.inputs)),
        abstract((rows,)),
        abstract(drawn.shape, drawn.dtype),
        abstract((1,)),
        abstract(()),
        decoding=dataclasses.replace(settings.decoding, preset="greedy", prefix="", seed=0),
        prefix=(),
        start_id=config.decoder_start_id,
        slots=slots,
        mesh=mesh if cut else None,
    )


def _shard_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    where = leaf.sharding
    assert where is not None
    return math.prod(where.shard_shape(leaf.shape)) * leaf.dtype.itemsize
