# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""TPU slices and GPUs to plan for: sizes, memory, peak rates."""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping, Sequence

import jax

from mto_jax.errors import UserError, unknown
from mto_jax.training.performance import PEAK_FLOPS


@dataclasses.dataclass(frozen=True)
class Chip:
    """One JAX device.

    Attributes:
      kind: how JAX calls it, a key of `PEAK_FLOPS`.
      memory: bytes of HBM.
      bandwidth: bytes a second that can be read from it.
      link: bytes a second that a link to a neighbour carries one way; 0: not planned with.
      data_center: bytes a second, one way, to other slices.
      shapes: slices that can be had.
    """

    kind: str
    memory: int
    bandwidth: float
    link: float = 0.0
    data_center: float = 0.0
    shapes: Sequence[str] = ()

    @property
    def peak_flops(self) -> float:
        """Dense matrix FLOP/s in bfloat16."""
        return PEAK_FLOPS[self.kind]


_SQUARES = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16"),
    *("8x16x16", "16x16x16", "16x16x24"),
)
# https://cloud.google.com/tpu/docs/v5e, v5p and v6e (read in 2026). They give the interconnect of a
# chip in both directions: 400 GB/s over 4 links, 1200 over 6, 800 over 4. The network between
# slices: 6.4 Tbit/s for the 256 chips of a v5e pod, 50 Gbit/s a chip of v5p, 25.6 Tbit/s for 256
# chips of v6e.
TPUS: Mapping[str, Chip] = {
    "v5e": Chip("TPU v5 lite", 16 * 2**30, 819e9, 50e9, 6.4e12 / 8 / 256, _SQUARES),
    "v5p": Chip("TPU v5", 95 * 2**30, 2765e9, 100e9, 50e9 / 8, _CUBES),
    "v6e": Chip("TPU v6 lite", 32 * 2**30, 1640e9, 100e9, 25.6e12 / 8 / 256, _SQUARES),
}
# NVIDIA's data sheets.
GPUS: Mapping[str, Chip] = {
    "a100": Chip("NVIDIA A100", 40 * 2**30, 1555e9),
    "a100-80gb": Chip("NVIDIA A100", 80 * 2**30, 2039e9),
    "h100": Chip("NVIDIA H100", 80 * 2**30, 3350e9),
    "h200": Chip("NVIDIA H200", 141 * 10**9, 4800e9),
    "l4": Chip("NVIDIA L4", 24 * 2**30, 300e9),
    "l40s": Chip("NVIDIA L40S", 48 * 2**30, 864e9),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices that train together.

    Attributes:
      name: as `parse` takes it.
      chip: of which kind they are.
      shape: chips along each dimension of a slice; of GPUs, (their number,).
      slices: of TPUs.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def size(self) -> int:
        """The number of devices."""
        count = self.slices
        for length in self.shape:
            count *= length
        return count

    @property
    def is_tpu(self) -> bool:
        """Whether the devices are TPUs."""
        return self.chip in TPUS.values()

    @property
    def egress(self) -> float:
        """Bytes a second that a chip can send within its slice, over all its links at once.

        A ring of two has one link. Slices of a pod that do not wrap around have fewer links at
        their edges, so this is the most.
        """
        return self.chip.link * sum(min(2, length - 1) for length in self.shape)

    def devices(self) -> list[jax.Device]:
        """Returns the devices, which need not be here: programs can be compiled for them.

        Raises:
          UserError: libtpu, the compiler, is not installed.
        """
        from jax.experimental import topologies

        if importlib.util.find_spec("libtpu") is None:
            raise UserError(
                "Compiling for TPUs needs libtpu, which is not installed here (no TPU is needed): "
                "pip install 'mto-jax[tpu]', on Linux x86_64."
            )
        several = {"num_slices": self.slices} if self.slices > 1 else {}
        return list(topologies.get_topology_desc(self.name, "tpu", **several).devices)


def parse(name: str, slices: int = 1) -> Topology:
    """Returns the topology of a name: "v5e:4x4", "v5p:4x4x8", "h100:8".

    Raises:
      UserError: there is none of that name (the nearest are named); several slices of GPUs.
    """
    kind, _, shape = name.lower().partition(":")
    if kind in GPUS and re.fullmatch(r"[1-9]\d{0,5}", shape):
        if slices > 1:
            raise UserError(f"--slices={slices} is for TPUs; name all GPUs: --topology={kind}:N.")
        return Topology(f"{kind}:{shape}", GPUS[kind], (int(shape),))
    known = [f"{tpu}:{shape}" for tpu, chip in TPUS.items() for shape in chip.shapes]
    if kind in TPUS and f"{kind}:{shape}" in known:
        lengths = tuple(int(length) for length in shape.split("x"))
        return Topology(f"{kind}:{shape}", TPUS[kind], lengths, slices)
    raise unknown("topology", name, [*known, *(f"{gpu}:8" for gpu in GPUS)])
