# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The training step of MTO-JAX beside PyTorch's T5ForConditionalGeneration: same sizes, batch and AdamW.

    python benchmarks/train_step.py                                     # CPU, float32
    python benchmarks/train_step.py --device=gpu                        # GPU, bfloat16, with MFU
    python benchmarks/train_step.py --sizes t5_1_1_small --batch=8 --lengths 128 64

Every contender is a process of its own, so that their thread pools do not meet; the steps of all contenders
alternate, and the median counts, so that a busy machine slows all alike. Each runs its own best way: ours as
`mto train` compiles it, PyTorch eager and under torch.compile (on a GPU with autocast, SDPA and fused AdamW).
"""

import argparse
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

# A T5 v1.1 of 11.5 million parameters, which a laptop trains.
TINY = {
    "vocab_size": 4096,
    "d_model": 256,
    "d_kv": 64,
    "num_heads": 4,
    "d_ff": 1024,
    "num_encoder_layers": 4,
    "num_decoder_layers": 4,
}
# Device: {size: (batch, source length, target length)}.
DEFAULTS = {
    "cpu": {"11.5M": (16, 128, 64)},
    "gpu": {"t5_1_1_base": (128, 512, 114), "t5_1_1_large": (64, 512, 114)},
}
CONTENDERS = ("MTO-JAX", "PyTorch eager", "PyTorch compiled")


def fields(size: str) -> dict:
    """The fields of T5Config of a size: "11.5M" or a preset of gin/models."""
    if size == "11.5M":
        return TINY
    import gin

    import mto_jax.models.config  # noqa: F401  (registers T5Config)

    path = ROOT / "gin" / "models" / f"{size}.gin"
    if not path.exists():
        known = sorted(preset.stem for preset in path.parent.glob("*.gin"))
        sys.exit(f"There is no size {size!r}. Known: 11.5M, {', '.join(known)}.")
    gin.parse_config_file(str(path))
    bound = gin.get_bindings("T5Config")
    gin.clear_config()
    return bound


def batch_of(config: dict, rows: int, source: int, target: int) -> dict[str, np.ndarray]:
    """Random tokens without padding, under the loader's names."""
    rng = np.random.default_rng(0)
    encoder, decoder = ((rows, length) for length in (source, target))
    targets = rng.integers(1, config["vocab_size"], decoder, dtype=np.int32)
    return {
        "encoder_input_tokens": rng.integers(1, config["vocab_size"], encoder, dtype=np.int32),
        "encoder_segment_ids": np.ones(encoder, np.int32),
        "encoder_positions": np.tile(np.arange(source, dtype=np.int32), (rows, 1)),
        "decoder_input_tokens": np.pad(targets, [(0, 0), (1, 0)])[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_segment_ids": np.ones(decoder, np.int32),
        "decoder_positions": np.tile(np.arange(target, dtype=np.int32), (rows, 1)),
        "decoder_loss_weights": np.ones(decoder, np.float32),
    }


def our_step(config: dict, shape: tuple[int, int, int], device: str) -> tuple[Callable, dict]:
    """(a function that does one step and waits for it, {"flops": of a step, "peak": of the device})."""
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[device]
    import functools

    import jax

    from mto_jax.models import flops
    from mto_jax.models.t5 import T5, T5Config
    from mto_jax.training import performance, sharding, state, step
    from mto_jax.training.optimizers import Optimizer

    on_gpu = {"dtype": "bfloat16", "attention": "cudnn", "remat": "minimal"}
    model = T5Config(**config, **(on_gpu if device == "gpu" else {}))
    rows, source, target = shape
    mesh = sharding.mesh(devices=jax.devices()[:1])
    plan = state.blueprint(functools.partial(T5, model))
    optimizer = Optimizer(name="adamw", clip_norm=None)
    transformation = optimizer.build(1000)
    abstract = state.abstract_state(plan, list(plan.abstract), transformation, mesh)
    batch = sharding.place(batch_of(config, *shape), mesh)
    loss = step.t5_loss(plan, mesh)
    totals = step.zero_totals(loss, abstract, batch)
    program = step.compile_step(
        step.train_step(loss, transformation, optimizer.rate(1000)), abstract, totals, batch, mesh
    )
    totals = jax.device_put(totals, sharding.replicated(mesh))
    parameters = plan.initialise(jax.random.key(0), mesh)
    now = [state.start(abstract, parameters, transformation, 0)]

    def run() -> None:
        now[0], sums = program(now[0], totals, batch)
        jax.block_until_ready(sums)

    peak = performance.peak_flops(jax.devices()[0])
    return run, {"flops": flops.train_flops(model, rows, source, target), "peak": peak}


def torch_step(
    config: dict, shape: tuple[int, int, int], device: str, compiled: bool
) -> tuple[Callable, dict]:
    """The same of PyTorch, for the same model."""
    import torch

    from mto_jax.models.t5 import T5Config
    from tests.models.torch_reference import torch_model

    on_gpu = device == "gpu"
    place = torch.device("cuda" if on_gpu else "cpu")
    torch.set_float32_matmul_precision("high" if on_gpu else "highest")
    model = torch_model(T5Config(**config)).to(place).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    arrays = batch_of(config, *shape)
    inputs = {
        "input_ids": torch.tensor(arrays["encoder_input_tokens"], device=place),
        "attention_mask": torch.tensor(arrays["encoder_segment_ids"], device=place),
        "labels": torch.tensor(arrays["decoder_target_tokens"], device=place, dtype=torch.long),
    }

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(place.type, torch.bfloat16, enabled=on_gpu):
            loss = forward(**inputs).loss
        loss.backward()
        optimizer.step()
        loss.item()  # waits

    return run, {}


def worker(pipe: Connection, contender: str, config: dict, shape: tuple, device: str) -> None:
    """Builds one contender, then does a step whenever it is asked and answers with its seconds."""
    try:
        if contender == "MTO-JAX":
            run, facts = our_step(config, shape, device)
        else:
            run, facts = torch_step(config, shape, device, contender == "PyTorch compiled")
        for _ in range(3):
            run()
    except Exception as error:
        pipe.send(error)
        return
    pipe.send(facts)
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)


def measure(size: str, shape: tuple[int, int, int], device: str, steps: int) -> None:
    """Prints the table of one size."""
    config = fields(size)
    context = multiprocessing.get_context("spawn")
    pipes, facts, seconds = {}, {}, {}
    for contender in CONTENDERS:  # one after another: compiling takes all cores
        pipe, theirs = context.Pipe()
        arguments = (theirs, contender, config, shape, device)
        context.Process(target=worker, args=arguments, daemon=True).start()
        answer = pipe.recv()
        if isinstance(answer, Exception):
            print(f"{contender} cannot run here: {answer!r}", file=sys.stderr)
            continue
        pipes[contender], facts[contender], seconds[contender] = pipe, answer, []
    for _ in range(steps):
        for contender, pipe in pipes.items():
            time.sleep(
                0.3
            )  # threads that wait for more work spin for a while: let the others' fall asleep
            pipe.send(True)
            seconds[contender].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)

    rows, source, target = shape
    tokens = rows * (source + target)
    rates = {contender: tokens / np.median(times) for contender, times in seconds.items()}
    theirs = max((r for name, r in rates.items() if name != "MTO-JAX"), default=None)
    print(f"\n{size}, batch {rows} x ({source} + {target}), {device}, median of {steps} steps")
    for contender, rate in rates.items():
        fastest, median = 1e3 * min(seconds[contender]), 1e3 * tokens / rate
        line = f"  {contender:<17} {median:9.1f} ms/step (fastest {fastest:.1f}) {rate:11,.0f} tokens/s"
        if theirs:
            line += f"  {rate / theirs:5.2f}x PyTorch's best"
        ours = facts.get("MTO-JAX", {})
        if ours.get("peak"):
            line += f"  MFU {ours['flops'] * rate / tokens / ours['peak']:.1%}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=tuple(DEFAULTS), default="cpu")
    parser.add_argument("--sizes", nargs="+", help="11.5M, or presets of gin/models")
    parser.add_argument("--batch", type=int, help="rows of a batch")
    parser.add_argument("--lengths", type=int, nargs=2, metavar=("SOURCE", "TARGET"))
    parser.add_argument("--steps", type=int, default=15)
    flags = parser.parse_args()
    defaults = DEFAULTS[flags.device]
    for size in flags.sizes or defaults:
        rows, *lengths = defaults.get(size, next(iter(defaults.values())))
        shape = (flags.batch or rows, *(flags.lengths or lengths))
        measure(size, shape, flags.device, flags.steps)


if __name__ == "__main__":
    main()
