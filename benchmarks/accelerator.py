# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The accelerator kit: what MTO-JAX computes and how fast on one GPU or TPU, beside PyTorch.

    python benchmarks/accelerator.py                            # needs a GPU or TPU
    python benchmarks/accelerator.py --size=tiny                # tiny shapes, on a CPU too
    python benchmarks/accelerator.py --parts bfloat16 greedy    # some parts

Takes at most 8 minutes. Needs no network and no installation of MTO-JAX: this checkout, JAX for the
device, flax, optax, psutil and gin-config; no TensorFlow, SeqIO or grain. Where gin-config is
missing, carry its wheel (pure Python) on PYTHONPATH. PyTorch and transformers are timed where they
are installed and see a device of the same kind; without them ours are timed alone.

First comes parity (cuDNN's attention and its bias gradient, bfloat16, packed rows), then speed (in
training that of XLA's attention as well, where cuDNN's is used).
Every rival is a process of its own and every part has a time limit, so that what raises, runs out
of memory or hangs is reported and takes nothing else with it. --output (JSON) is written after each
part; the tables printed at the end are Markdown for docs/performance.md. Rivals are timed in turns;
of the rounds' ratios the median and the quartiles count.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import decoding  # this, parity, prompt_tuning, rivals and train_step are beside this file
import numpy as np
import parity
import prompt_tuning
import rivals
import train_step

OURS = "MTO-JAX"
K, EACH = 32, 4  # prompts trained at once, and the examples of each in a step
FULL_MEMORY = 55e9  # bytes for which the rows below are meant; with less there are fewer


class Size(NamedTuple):
    """Models and shapes of a run."""

    models: dict[str, tuple[dict, int]]  # name: (fields of T5Config, rows of a training batch)
    train: tuple[int, int]  # source and target length
    parity: dict  # fields of T5Config
    decode: tuple[int, int, int]  # rows, source and target length; scoring has them too
    matmul: int  # rows of the square matrices whose product is the peak
    rounds: int
    compiled: bool  # whether PyTorch's training runs under torch.compile as well
    patience: float  # by which time limits are multiplied: tiny shapes run on busy machines


def sizes(name: str) -> Size:
    """The size "tiny" or "full"."""
    if name == "full":
        base, large, small = (train_step.fields(f"t5_1_1_{n}") for n in ("base", "large", "small"))
        models = {"base": (base, 64), "large": (large, 16)}
        return Size(models, (512, 114), small, (128, 64, 32), 8192, 15, True, 1.0)
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    tiny = {"vocab_size": 512, "d_model": 32, "d_kv": 8, "num_heads": 2, "d_ff": 64, **layers}
    return Size({"tiny": (tiny, 4)}, (32, 16), tiny, (4, 16, 8), 256, 3, False, 5.0)


# ---- Builders: (what is timed or None, facts); each runs in a process of its own -----------------


def device_facts(matmul: int) -> tuple[None, dict]:
    """The device and its measured peak: FLOP/s of a product of square matrices, bfloat16 but on a
    CPU."""
    import jax
    import jax.numpy as jnp

    from mto_jax.training import performance

    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    dtype, matmul = (jnp.float32, min(matmul, 256)) if on_cpu else (jnp.bfloat16, matmul)
    x = jax.random.normal(jax.random.key(0), (matmul, matmul), dtype)
    multiply = jax.jit(jnp.matmul)
    multiply(x, x).block_until_ready()
    repeats, seconds = 20, []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            y = multiply(x, x)
        y.block_until_ready()
        seconds.append(time.perf_counter() - start)
    return None, {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.device_count(),
        "memory": None if on_cpu else performance.available_memory(device),
        "matmul_flops": 2 * matmul**3 * repeats / min(seconds),
    }


def our_prompts(config: dict, device: str) -> tuple[Callable, dict]:
    """K prompts in one step; the compiler's count of operations, which takes loops for one turn, is
    left out."""
    run, _ = prompt_tuning.many_prompts(config, device, K, EACH, "adamw", fresh=True)
    return run, {}


def torch_prompt(config: dict, device: str) -> tuple[Callable, dict]:
    """One soft prompt in front of a frozen model of transformers."""
    import torch

    from tests.models.torch_reference import torch_model

    place = torch.device("cuda" if device == "gpu" else "cpu")
    model = torch_model(prompt_tuning.settings(config, device)).to(place).requires_grad_(False)
    rows = torch.tensor(prompt_tuning.first_rows(config, 0), device=place, requires_grad=True)
    optimizer = torch.optim.AdamW([rows], lr=prompt_tuning.RATE, weight_decay=0.0)
    data = prompt_tuning.examples(config, EACH, 0)
    inputs = torch.tensor([ids[prompt_tuning.SOFT :] for ids, _ in data], device=place)
    labels = torch.tensor([ids for _, ids in data], device=place)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(place.type, torch.bfloat16, enabled=device == "gpu"):
            embedded = torch.cat([rows.expand(EACH, -1, -1), model.shared(inputs)], dim=1)
            loss = model(inputs_embeds=embedded, labels=labels).loss
        loss.backward()
        optimizer.step()
        loss.item()  # waits

    return run, {}


def decode(make: Callable, arguments: tuple, shape: decoding.Shape) -> tuple[Callable, dict]:
    """A contender of decoding.py on one shape."""
    run, facts = make(*arguments)(shape)
    return run, {"first": facts["first"]}


def our_scores(config: dict, device: str, shape: tuple[int, int, int]) -> tuple[Callable, dict]:
    """Log-probability and rank of every target token of a batch."""
    import jax

    from mto_jax.decoding import scoring

    model = train_step.fresh_model(prompt_tuning.settings(config, device))
    batch = train_step.batch_of(config, *shape)
    return lambda: jax.device_get(scoring.token_scores(model, batch)), {}


def torch_scores(config: dict, device: str, shape: tuple[int, int, int]) -> tuple[Callable, dict]:
    """The same of PyTorch, the whole batch at once."""
    import torch

    from tests.models.torch_reference import torch_model

    on_gpu = device == "gpu"
    model = torch_model(prompt_tuning.settings(config, device))
    model = model.to("cuda", torch.bfloat16) if on_gpu else model
    batch = train_step.batch_of(config, *shape)
    inputs = torch.tensor(batch["encoder_input_tokens"], device=model.device)
    decoder_inputs = torch.tensor(batch["decoder_input_tokens"], device=model.device)
    targets = torch.tensor(batch["decoder_target_tokens"], device=model.device, dtype=torch.long)

    @torch.inference_mode()
    def run() -> tuple:
        logits = model(input_ids=inputs, decoder_input_ids=decoder_inputs).logits.float()
        gold = logits.gather(-1, targets[..., None])
        ranks = (logits > gold).sum(-1)
        return (gold[..., 0] - logits.logsumexp(-1)).cpu(), ranks.cpu()

    return run, {}


# ---- The parts -----------------------------------------------------------------------------------


class Part(NamedTuple):
    """What is checked or timed together, within `limit` seconds."""

    limit: float
    builders: dict[str, rivals.Builder]
    unit: str = ""  # what a second has many of; "" for parity
    work: dict[str, float] | None = None  # units of one call of each
    what: str = ""
    not_run: str = ""  # why it is not


def rows_for(rows: int, memory: float | None) -> int:
    """`rows`, or as large a power of two as goes with the device's memory."""
    share = min(1.0, (memory or FULL_MEMORY) / FULL_MEMORY)
    return 1 << max(0, int(np.log2(rows * share)))


def parity_parts(size: Size, device: dict) -> dict[str, Part]:
    on_gpu = device["platform"] == "gpu"
    runtime = {k: v for k, v in train_step.RUNTIME[device["platform"]].items() if k != "attention"}
    why = "" if on_gpu else f"cuDNN needs an NVIDIA GPU, this is {device['kind']}"
    model = size.parity, size.train
    return {
        "attention": Part(60, {OURS: (parity.attention, ())}, not_run=why),
        "bfloat16": Part(40, {OURS: (parity.bfloat16, (*model, runtime))}),
        "packed": Part(40, {OURS: (parity.packed, model)}),
    }


def timed_parts(size: Size, device: dict, runtime: dict, with_torch: bool) -> dict[str, Part]:
    platform = device["platform"]
    first = next(iter(size.models))
    config = size.models[first][0]
    rows, source, target = size.decode
    found = {}
    soft, text, answer = prompt_tuning.SOFT, prompt_tuning.TEXT, prompt_tuning.TARGET
    builders = {
        OURS: (our_prompts, (config, platform)),
        "PyTorch eager": (torch_prompt, (config, platform)),
    }
    what = f"{first}, {K} prompts x {EACH} x ({soft} + {text} + {answer}); PyTorch one at a time"
    work = {OURS: K * EACH, "PyTorch eager": EACH}
    found["prompts"] = Part(50, builders, "examples", work, what)
    for name, beams in (("greedy", 1), ("5 beams", 5)):
        shape = decoding.Shape(rows, beams, source, target)
        ours, theirs = (config, platform, True), (config, platform, "eager", 0)
        builders = {
            OURS: (decode, (decoding.ours, ours, shape)),
            "PyTorch eager": (decode, (decoding.hugging_face, theirs, shape)),
        }
        what = f"{first}, {rows} sources of up to {source}, answers of {target}"
        work = dict.fromkeys(builders, rows * target)
        found[name] = Part(50, builders, "tokens", work, what)
    builders = {
        OURS: (our_scores, (config, platform, size.decode)),
        "PyTorch eager": (torch_scores, (config, platform, size.decode)),
    }
    work = dict.fromkeys(builders, rows * target)
    what = f"{first}, {rows} x ({source} + {target}), log-probability and rank of each target token"
    found["scoring"] = Part(50, builders, "tokens", work, what)
    for name, (model, most) in size.models.items():
        shape = rows_for(most, device["memory"]), *size.train
        builders = train_step.contenders(model, shape, platform)
        builders[OURS] = (train_step.our_step, (model, shape, runtime))
        if runtime.get("attention") == "cudnn":
            xla = runtime | {"attention": "xla"}
            builders["XLA's attention"] = (train_step.our_step, (model, shape, xla))
        if not size.compiled:
            del builders["PyTorch compiled"]
        work = dict.fromkeys(builders, shape[0] * sum(size.train))
        how = ", ".join(["AdamW", *(f"{field}={value}" for field, value in runtime.items())])
        what = f"{shape[0]} x ({size.train[0]} + {size.train[1]}), {how}"
        found[f"train {name}"] = Part(150, builders, "tokens", work, what)
    if not with_torch:
        for name, part in found.items():
            ours = {n: b for n, b in part.builders.items() if not n.startswith("PyTorch")}
            found[name] = part._replace(builders=ours)
    return found


def run_part(part: Part, rounds: int, matmul: float) -> dict:
    """What a part found: {"rivals": {name: facts}, ...}, or {"not_run": why}.

    Args:
      matmul: FLOP/s that count as the device's peak.
    """
    if part.not_run or part.limit < 1:
        return {"not_run": part.not_run or "no time was left"}
    start = time.monotonic()
    found = rivals.race(part.builders, rounds=rounds, limit=part.limit)
    flops = found[OURS].get("flops")
    for name, facts in found.items():
        if "seconds" not in facts:
            continue
        median = float(np.median(facts["seconds"]))
        facts["per_second"] = part.work[name] / median
        if flops:
            facts["mfu"] = flops / median / matmul
        if name != OURS and "seconds" in found[OURS]:
            more = part.work[OURS] / part.work[name]
            spread = rivals.Spread.of(more * np.array(rivals.ratios(found[OURS], facts)))
            facts["ours_to_theirs"] = spread._asdict()
    wall = time.monotonic() - start
    return {"what": part.what, "unit": part.unit, "wall_s": wall, "rivals": found}


# ---- Tables --------------------------------------------------------------------------------------


def failure(facts: dict) -> str:
    return f"failed: {facts['error'].replace('|', '/')}"


def cell(facts: dict, unit: str) -> str:
    """A rival's figures."""
    if "error" in facts:
        return failure(facts)
    found = [f"{facts['per_second']:,.0f} {unit}/s"]
    if "mfu" in facts:
        found.append(f"MFU {facts['mfu']:.1%}")
    if facts["peak_memory"]:
        found.append(f"{facts['peak_memory'] / 1e9:.1f} GB")
    if "ours_to_theirs" in facts:
        spread = rivals.Spread(**facts["ours_to_theirs"])
        found.append(f"ours is {spread}x as fast")
    return ", ".join(found)


def markdown(report: dict) -> str:
    """The report as two tables."""
    device, versions = report["device"], report["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    peak = f"{device['matmul_flops'] / 1e12:.3g} TFLOP/s"
    lines = [f"{device['count']} x {device['kind']}; {known}; matrix products reach {peak}.", ""]
    lines += ["| parity | result | relative errors (allowed) |", "|---|---|---|"]
    timed = ["", f"| speed | {OURS} | others |", "|---|---|---|"]
    for name, part in report["parts"].items():
        ours = part.get("rivals", {}).get(OURS, {})
        if "not_run" in part:
            lines.append(f"| {name} | not run: {part['not_run']} | |")
        elif part["unit"]:
            theirs = [(n, f) for n, f in part["rivals"].items() if n != OURS]
            cells = [f"{n.removeprefix('PyTorch ')}: {cell(f, part['unit'])}" for n, f in theirs]
            others = "; ".join(cells) or f"not run: {report['without_torch']}"
            timed.append(f"| {name}: {part['what']} | {cell(ours, part['unit'])} | {others} |")
        elif "error" in ours:
            lines.append(f"| {name} | {failure(ours)} | |")
        else:
            pairs = ((n, e, ours["allowed"][n]) for n, e in ours["errors"].items())
            errors = ", ".join(f"{n} {e:.1e} ({most:.1e})" for n, e, most in pairs)
            lines.append(f"| {name} | {'passed' if ours['passed'] else 'FAILED'} | {errors} |")
    return "\n".join(lines + timed)


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_device() -> tuple[None, dict]:
    """Whether PyTorch and transformers are here, and see a GPU."""
    import torch
    import transformers  # noqa: F401

    return None, {"gpu": torch.cuda.is_available()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--parts", nargs="+", help="names of parts; all by default")
    parser.add_argument("--minutes", type=float, default=8, help="for everything together")
    parser.add_argument("--output", type=pathlib.Path, default="accelerator.json")
    flags = parser.parse_args()
    end = time.monotonic() + 60 * flags.minutes
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one GPU
    cache = str(flags.output.absolute().with_suffix(".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    size = sizes(flags.size)

    first = {"device": (device_facts, (size.matmul,)), "torch": (torch_device, ())}
    facts = rivals.race(first, rounds=0, limit=80 * size.patience)
    device, torch = facts["device"], facts["torch"]
    if "error" in device:
        sys.exit(f"JAX has no device: {device['error']}")
    if device["platform"] == "cpu" and flags.size == "full":
        sys.exit(
            "JAX sees no GPU or TPU here (is its CUDA or TPU build installed?); try --size=tiny."
        )
    same_kind = device["platform"] == "cpu" or (device["platform"] == "gpu" and torch.get("gpu"))
    why = torch.get("error") or ("" if same_kind else f"PyTorch sees no {device['platform']}")
    names = ("jax", "jaxlib", "flax", "torch", "transformers")
    versions = {name: version(name) for name in names}
    report = {"device": device, "versions": versions, "without_torch": why, "parts": {}}

    checks = parity_parts(size, device)
    known = [*checks, *timed_parts(size, device, {}, with_torch=not why)]
    if unknown := set(flags.parts or ()) - set(known):
        sys.exit(f"There are no parts {', '.join(sorted(unknown))}. Known: {', '.join(known)}.")

    def run(parts: dict[str, Part]) -> None:
        for name, part in parts.items():
            if flags.parts and name not in flags.parts:
                continue
            limit = min(part.limit * size.patience, end - time.monotonic())
            found = run_part(part._replace(limit=limit), size.rounds, device["matmul_flops"])
            report["parts"][name] = found
            flags.output.write_text(json.dumps(report, indent=1) + "\n")
            print(f"{name}: {json.dumps(found)}", flush=True)

    run(checks)
    runtime = dict(train_step.RUNTIME[device["platform"]])
    checked = report["parts"].get("attention", {}).get("rivals", {})
    if checked and not checked[OURS].get("passed"):
        runtime["attention"] = "xla"  # rather than no figures
    run(timed_parts(size, device, runtime, with_torch=not why))
    print("\n" + markdown(report))


if __name__ == "__main__":
    main()
