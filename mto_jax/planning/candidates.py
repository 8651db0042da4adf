# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Meshes that are worth compiling, in the order in which a formula expects them to be fast."""

from collections.abc import Iterator

from mto_jax.models.config import ModelConfig
from mto_jax.planning.topologies import Topology
from mto_jax.training.program import Settings

Sizes = tuple[int, int, int]  # data, fsdp, tensor

LANES = 128  # a TPU's tile is so wide: narrower shards waste arithmetic and traffic


def meshes(settings: Settings, topology: Topology, parameters: int) -> list[Sizes]:
    """Returns all meshes over which batch, heads and state divide, the most promising first.

    Args:
      parameters: of the model, in number.
    """
    return sorted(
        _possible(settings, topology, parameters),
        key=lambda sizes: (
            sizes[1] > 1 and settings.model.d_model // sizes[1] < LANES,
            sent(settings, parameters, sizes),
        ),
    )


def _possible(settings: Settings, topology: Topology, parameters: int) -> Iterator[Sizes]:
    model, count = settings.model, topology.size
    for tensor in (n for n in (1, 2, 4, 8, 16) if count // topology.slices % n == 0):
        divides = all(n % tensor == 0 for n in (model.num_heads, model.d_ff, model.vocab_size))
        left = count // topology.slices // tensor
        for fsdp in (n for n in range(1, left + 1) if left % n == 0):
            rows = count // tensor * settings.microbatches
            held = 4 * parameters / fsdp / tensor
            if (
                divides
                and settings.batch_size % rows == 0
                and model.d_model % fsdp == 0
                and held < topology.chip.memory
            ):
                yield count // tensor // fsdp, fsdp, tensor


def sent(settings: Settings, parameters: int, sizes: Sizes) -> float:
    """Returns the bytes that a device sends in a step, by formula.

    Weights are gathered in bfloat16 for the forward and the backward pass, their gradients reduced
    in float32, and activations between the parts of a layer summed over `tensor`, forward and
    backward: 2 sums in an encoder layer, 3 in a decoder layer.
    """
    data, fsdp, tensor = sizes
    model: ModelConfig = settings.model
    share = (fsdp - 1) / fsdp
    weights = parameters / tensor * (2 * 2 + 4) * share
    copies = 2 * 4 * parameters / tensor / fsdp * (data - 1) / data
    tokens = 2 * model.num_encoder_layers * settings.lengths["inputs"]
    tokens += 3 * model.num_decoder_layers * settings.lengths["targets"]
    rows = settings.batch_size / (data * fsdp)
    activations = 2 * 2 * 2 * rows * tokens * model.d_model * (tensor - 1) / tensor
    return weights + copies + activations
