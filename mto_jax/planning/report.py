# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `mto plan` prints: the program, a table of meshes, their traffic, the best of them."""

from collections.abc import Iterator, Sequence

from mto_jax.console import markdown_table
from mto_jax.models.config import ModelConfig
from mto_jax.planning import collectives
from mto_jax.planning import decoding as decoding_lib
from mto_jax.planning.cost import Cost, compute_seconds, step_flops
from mto_jax.planning.topologies import Topology
from mto_jax.training.program import Settings
from mto_jax.training.sharding import MESH_AXES


def head(
    settings: Settings, topology: Topology, checkpoint_bytes: int, disk_rate: float
) -> Iterator[str]:
    """Yields lines on the chips, the step and its checkpoint."""
    chip = topology.chip
    line = _chips(topology)
    if topology.is_tpu:
        line += f", sending {_gb(topology.egress)} GB/s at most"
    if topology.slices > 1:
        line += f"; {topology.slices} slices, {_gb(chip.data_center)} GB/s a chip between them"
    yield line
    inputs, targets = settings.lengths["inputs"], settings.lengths["targets"]
    flops = step_flops(settings) / topology.size
    yield (
        f"a step: {settings.batch_size} x ({inputs} + {targets}) = "
        f"{settings.batch_size * (inputs + targets):,} tokens, {flops / 1e12:.4g} TFLOP a chip by "
        f"formula, {compute_seconds(settings, topology):.3g} s at the peak rate"
    )
    yield from _slower(settings.model, topology)
    seconds = checkpoint_bytes / disk_rate
    yield (
        f"a checkpoint: {_gb(checkpoint_bytes)} GB; at {_gb(disk_rate)} GB/s {seconds:.3g} s to "
        "write, in the background, and as long to verify"
    )


def decoding_head(settings: decoding_lib.Settings, topology: Topology) -> Iterator[str]:
    """Yields lines on the chips and on what is decoded."""
    yield f"{_chips(topology)}, reading {_gb(topology.chip.bandwidth)} GB/s from memory"
    yield (
        f"decoding: {settings.batch_size} sources of {settings.inputs} tokens at once, outputs of "
        f"{settings.decoding.max_length} ({settings.decoding}); parameters in {settings.dtype}"
    )
    yield from _slower(settings.model, topology)


def decoding(
    costs: Sequence[decoding_lib.DecodingCost],
    settings: decoding_lib.Settings,
    topology: Topology,
) -> str:
    """Returns the table of memory and time of decoding, a row for each mesh."""
    rows = [
        [
            " x ".join(MESH_AXES),
            "fits",
            "parameters GB",
            "temporaries GB",
            f"peak of {_gb(topology.chip.memory)} GB",
            "ms to encode, at least",
            "ms/token, at least",
            "sources/s, at most",
            "compiled in s",
        ]
    ]
    for cost in costs:
        row = [" x ".join(map(str, cost.sizes)), _fits(cost.fits), _gb(cost.parameters)]
        row += ["" if size is None else _gb(size) for size in (cost.temporary, cost.peak)]
        row += [
            f"{1e3 * cost.encoding_seconds(settings, topology):.3g}",
            f"{1e3 * cost.step_seconds(settings, topology):.3g}",
            f"{cost.sources_per_second(settings, topology):.3g}",
        ]
        rows.append([*row, f"{cost.seconds:.0f}" if cost.fits is not None else ""])
    return markdown_table(rows)


def meshes(costs: Sequence[Cost], settings: Settings, topology: Topology) -> str:
    """Returns the table of memory and time, a row for each mesh."""
    rows = [
        [
            " x ".join(MESH_AXES),
            "fits",
            "state GB",
            "temporaries GB",
            f"peak of {_gb(topology.chip.memory)} GB",
            "s/step, at least",
            "MFU, at most",
            "compiled in s",
        ]
    ]
    for cost in costs:
        row = [" x ".join(map(str, cost.sizes)), _fits(cost.fits), _gb(cost.state)]
        row += ["" if size is None else _gb(size) for size in (cost.temporary, cost.peak)]
        if not cost.fits:
            row += ["", ""]
        else:
            bound = cost.seconds_at_least(settings, topology)
            row += [f"{bound:.3g}", f"{compute_seconds(settings, topology) / bound:.0%}"]
        rows.append([*row, f"{cost.seconds:.0f}" if cost.fits is not None else ""])
    return markdown_table(rows)


def traffic(costs: Sequence[Cost]) -> str:
    """Returns the table of what each chip sends in a step, a row for each mesh that fits."""
    kinds = [f"{kind} GB" for kind in collectives.KINDS]
    rows = [[" x ".join(MESH_AXES), *kinds, "of it between slices"]]
    for cost in costs:
        if not cost.traffic:
            continue
        row = [" x ".join(map(str, cost.sizes))]
        for kind in collectives.KINDS:
            sent = cost.traffic.get(kind)
            row.append(f"{_gb(sent.total)} ({sent.hidden / sent.total:.0%})" if sent else "0")
        outer = sum(t.hidden_over_slices + t.exposed_over_slices for t in cost.traffic.values())
        rows.append([*row, _gb(outer)])
    return markdown_table(rows)


def best(costs: Sequence[Cost], settings: Settings, topology: Topology) -> Cost | None:
    """Returns the mesh of the least time that fits, then of the least traffic; None: none does."""
    return min(
        (cost for cost in costs if cost.fits),
        key=lambda cost: (
            cost.seconds_at_least(settings, topology),
            sum(sent.total for sent in cost.traffic.values()),
        ),
        default=None,
    )


def gin_lines(cost: Cost, topology: Topology) -> str:
    """Returns the bindings that make a run use this mesh."""
    lines = [f"mesh.{axis} = {size}" for axis, size in zip(MESH_AXES, cost.sizes, strict=True)]
    return "\n".join(lines + [f"mesh.slices = {topology.slices}"] * (topology.slices > 1))


def _chips(topology: Topology) -> str:
    chip = topology.chip
    return (
        f"{topology.name}: {topology.size} {chip.kind}, each {_gb(chip.memory)} GB of memory and "
        f"{chip.peak_flops / 1e12:g} TFLOP/s in bfloat16"
    )


def _slower(model: ModelConfig, topology: Topology) -> Iterator[str]:
    if model.dtype != "bfloat16":
        hardware = "tpu" if topology.is_tpu else "gpu"
        yield (
            f"{type(model).__name__}.dtype is {model.dtype}, slower than that: "
            f"--gin_file=hardware/{hardware}.gin sets bfloat16"
        )


def _fits(fits: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[fits]


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g}"
