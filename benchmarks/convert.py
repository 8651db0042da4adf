# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of `mto convert` on a randomly initialised T5 v1.1 base (250 M parameters),
both ways.

  python benchmarks/convert.py [--layers=12] [--folder=DIR]

Each conversion runs in a process of its own, so its peak is that of Python, JAX and the conversion.
Targets: under 30 s and under 1.5 times the size of the model on 2 cores.
"""

import argparse
import filecmp
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from mto_jax.checkpoints import huggingface, parameter_names
from mto_jax.checkpoints.lazy import Index, Tensor
from mto_jax.models.config import T5Config

# Runs the verb and prints its processor time in seconds, which says more than the clock where
# others work too, and the peak of its resident memory in bytes (Linux counts in KiB).
_CHILD = """
import resource, sys
from mto_jax.commands.convert import convert
convert(source=sys.argv[1], to=sys.argv[2], output=sys.argv[3])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--layers", type=int, default=12, help="encoder layers, and as many decoder layers"
    )
    parser.add_argument("--folder", default=None, help="where to write (about 3 GB)")
    arguments = parser.parse_args()
    config = T5Config(
        d_model=768,
        num_heads=12,
        d_ff=2048,
        num_encoder_layers=arguments.layers,
        num_decoder_layers=arguments.layers,
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        size = write_random(folder / "hf", config)
        print(f"model: {size / 4 / 1e6:.0f} M parameters, {size / 1e9:.2f} GB")
        measure(size, folder / "hf", "native", folder / "native")
        measure(size, folder / "native", "hf", folder / "back")
        files = (folder / "hf" / "model.safetensors", folder / "back" / "model.safetensors")
        same = filecmp.cmp(*files, shallow=False)
        print(f"there and back: {'the same bytes' if same else 'DIFFERENT'}")


def write_random(folder: pathlib.Path, config: T5Config) -> int:
    """A Hugging Face folder of `config` with random weights; returns its bytes.

    The weights are drawn one tensor at a time: Linux counts the peak of this process to those that
    it starts.
    """

    def random(seed: int, shape: tuple[int, ...]) -> Tensor:
        def read(index: Index) -> np.ndarray:
            return np.random.default_rng(seed).standard_normal(shape, np.float32)[index]

        return Tensor(shape, np.dtype(np.float32), read)

    folder.mkdir()
    tensors = {
        name: random(i, s) for i, (name, s) in enumerate(parameter_names.shapes(config).items())
    }
    huggingface.write(folder, config, tensors)
    return sum(tensor.nbytes for tensor in tensors.values())


def measure(size: int, source: pathlib.Path, to: str, output: pathlib.Path) -> None:
    """Convert in a process of its own and print seconds, and peak memory over the model's size."""
    start = time.monotonic()
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(source), to, str(output)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds = time.monotonic() - start
    processor, peak = map(float, child.stdout.split()[-2:])
    print(
        f"{source.name} -> {to}: {seconds:.1f} s (target 30), {processor:.1f} s of processor time, "
        f"peak {peak / 1e9:.2f} GB = {peak / size:.2f} x the model (target 1.5)",
        flush=True,
    )


if __name__ == "__main__":
    main()
