# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The training step of MTO-JAX beside that of transformers (T5ForConditionalGeneration or
T5GemmaForConditionalGeneration): same sizes, batch and AdamW.

    python benchmarks/train_step.py                                     # CPU, float32
    python benchmarks/train_step.py --device=gpu                        # GPU, bfloat16, with MFU
    python benchmarks/train_step.py --sizes t5_1_1_small --batch=8 --lengths 128 64
    python benchmarks/train_step.py --model=t5gemma                     # and our T5 of its sizes

Every contender is a process of its own, so that their thread pools do not meet; their steps
alternate, and of the rounds' ratios the median and the quartiles are printed, so that a busy
machine slows all alike. Each runs its own best way: ours as `mto train` compiles it, PyTorch eager
and under torch.compile (on a GPU with autocast, SDPA and fused AdamW; T5Gemma without SDPA, which
knows no bound of the logits).
"""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import rivals  # beside this file

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
SMALL = {"t5": TINY, "t5gemma": {"family": "t5gemma", "num_kv_heads": 4, "query_scalar": 64} | TINY}
# Model: device: {size: (batch, source length, target length)}.
DEFAULTS = {
    "t5": {
        "cpu": {"11.5M": (16, 128, 64)},
        "gpu": {"t5_1_1_base": (128, 512, 114), "t5_1_1_large": (64, 512, 114)},
    },
    "t5gemma": {"cpu": {"11.5M": (16, 128, 64)}, "gpu": {"t5gemma_b_b": (64, 512, 114)}},
}
# How our model computes: fields of T5Config, and of T5GemmaConfig but for "attention".
RUNTIME = {
    "cpu": {},
    "gpu": {"dtype": "bfloat16", "attention": "cudnn"},
    "tpu": {"dtype": "bfloat16"},
}


def fields(size: str, model: str = "t5") -> dict:
    """The fields of T5Config or T5GemmaConfig of a size: "11.5M" of `model`, or a preset of
    gin/models."""
    if size == "11.5M":
        return SMALL[model]
    import gin

    from mto_jax.models.config import model_config

    path = ROOT / "gin" / "models" / f"{size}.gin"
    if not path.exists():
        known = sorted(preset.stem for preset in path.parent.glob("*.gin"))
        sys.exit(f"There is no size {size!r}. Known: 11.5M, {', '.join(known)}.")
    gin.parse_config_file(str(path))
    config = model_config()
    bound = gin.get_bindings(type(config).__name__)
    gin.clear_config()
    return bound if config.family == "t5" else {"family": config.family, **bound}


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


def fresh_model(config: Any) -> Any:
    """Our model of a configuration with random weights, made on the first device."""
    import functools

    import jax

    from mto_jax.models.families import build
    from mto_jax.training import sharding, state

    spec = state.abstract_model(functools.partial(build, config))
    return spec.merge(spec.initialise(jax.random.key(0), sharding.mesh(devices=jax.devices()[:1])))


def our_step(config: dict, shape: tuple[int, int, int], runtime: dict) -> tuple[Callable, dict]:
    """(a function that does one step and waits for it, {"flops": of a step, "peak": of the
    device})."""
    import functools

    import jax

    from mto_jax.models import flops
    from mto_jax.models.config import from_record
    from mto_jax.models.families import build
    from mto_jax.training import performance, sharding, state, step
    from mto_jax.training.optimizers import Optimizer

    model = from_record({**config, **runtime})
    rows, source, target = shape
    mesh = sharding.mesh(devices=jax.devices()[:1])
    spec = state.abstract_model(functools.partial(build, model))
    optimizer = Optimizer(name="adamw", clip_norm=None)
    transformation = optimizer.build(1000)
    abstract = state.abstract_state(spec, list(spec.shapes), transformation, mesh)
    batch = sharding.place(batch_of(config, *shape), mesh)
    loss = step.t5_loss(spec, mesh, packed=False)
    totals = step.zero_totals(loss, abstract, batch)
    program = step.compile_step(
        step.train_step(loss, transformation, optimizer.rate(1000)), abstract, totals, batch, mesh
    )
    totals = jax.device_put(totals, sharding.replicated(mesh))
    parameters = spec.initialise(jax.random.key(0), mesh)
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
    import transformers

    from mto_jax.models.config import T5GemmaConfig, from_record
    from tests.models import torch_reference, torch_t5gemma

    on_gpu = device == "gpu"
    place = torch.device("cuda" if on_gpu else "cpu")
    torch.set_float32_matmul_precision("high" if on_gpu else "highest")
    sizes = from_record(config)
    if isinstance(sizes, T5GemmaConfig):
        model = transformers.T5GemmaForConditionalGeneration(torch_t5gemma.settings(sizes))
    else:
        model = torch_reference.torch_model(sizes)
    model = model.to(place).train()
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


def contenders(config: dict, shape: tuple[int, int, int], device: str) -> dict[str, rivals.Builder]:
    """MTO-JAX, PyTorch eager and under torch.compile; beside a T5Gemma our T5 of its sizes."""
    runtime, beside = dict(RUNTIME[device]), {}
    if config.get("family") == "t5gemma":
        same = {name: config[name] for name in TINY}
        beside = {"MTO-JAX, a T5": (our_step, (same, shape, dict(runtime)))}
        runtime.pop("attention", None)
    return {
        "MTO-JAX": (our_step, (config, shape, runtime)),
        **beside,
        "PyTorch eager": (torch_step, (config, shape, device, False)),
        "PyTorch compiled": (torch_step, (config, shape, device, True)),
    }


def measure(config: dict, title: str, shape: tuple[int, int, int], device: str, steps: int) -> None:
    """Prints the table of one size."""
    found = rivals.race(contenders(config, shape, device), rounds=steps, limit=3600)
    rows, source, target = shape
    tokens = rows * (source + target)
    ours = found["MTO-JAX"]
    print(f"\n{title}, batch {rows} x ({source} + {target}), {device}, median of {steps} steps")
    for name, facts in found.items():
        if "error" in facts:
            print(f"  {name:<17} cannot run here: {facts['error']}")
            continue
        times = facts["seconds"]
        median = np.median(times)
        line = f"  {name:<17} {1e3 * median:9.1f} ms/step (fastest {1e3 * min(times):.1f})"
        line += f" {tokens / median:11,.0f} tokens/s"
        flops = facts.get("flops", ours.get("flops"))
        line += f" {1e12 * median / flops:7.2f} ms/GFLOP" if flops else ""
        if flops and ours.get("peak"):
            line += f"  MFU {flops / median / ours['peak']:.1%}"
        if facts is not ours and "seconds" in ours:
            line += f"  MTO-JAX is {rivals.Spread.of(rivals.ratios(ours, facts))}x as fast"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=tuple(DEFAULTS), default="t5")
    parser.add_argument("--device", choices=tuple(DEFAULTS["t5"]), default="cpu")
    parser.add_argument("--sizes", nargs="+", help="11.5M, or presets of gin/models")
    parser.add_argument("--batch", type=int, help="rows of a batch")
    parser.add_argument("--lengths", type=int, nargs=2, metavar=("SOURCE", "TARGET"))
    parser.add_argument("--steps", type=int, default=15)
    flags = parser.parse_args()
    rivals.use_platform(flags.device)
    defaults = DEFAULTS[flags.model][flags.device]
    for size in flags.sizes or defaults:
        rows, *lengths = defaults.get(size, next(iter(defaults.values())))
        shape = (flags.batch or rows, *(flags.lengths or lengths))
        measure(
            fields(size, flags.model), f"{flags.model} {size}", shape, flags.device, flags.steps
        )


if __name__ == "__main__":
    main()
