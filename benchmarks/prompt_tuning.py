# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompt tuning beside full fine-tuning, single trainings one after the other, and PEFT.

    python benchmarks/prompt_tuning.py                                   # CPU, 11.5 M parameters
    python benchmarks/prompt_tuning.py --device=gpu --size=t5_1_1_base   # GPU, bfloat16
    python benchmarks/prompt_tuning.py --steps=3 --run_steps=5 --only a c

(a) The step of one prompt against the full fine-tuning step on the same batch, with the memory of
    both.
(b) K = 32 prompts at batch 4 in one step against 32 trainings one after the other: once by the
    steps alone (as if one process trained all of them and compiled once), once whole, from a
    process's start to its end.
(c) K = 8 prompts at once against 8 trainings of Hugging Face PEFT: same weights, data, optimizer
    and first rows; the losses of the first steps are compared.

Every contender is a process of its own; their steps alternate and the medians count, so that a busy
machine slows all alike.
"""

import argparse
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from train_step import fields  # beside this file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

TEXT, SOFT, TARGET = 38, 10, 16  # tokens of an example; the soft ones come first
RATE = 0.1


def examples(config: dict, count: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Random token ids without padding."""
    rng = np.random.default_rng(seed)
    soft = [config["vocab_size"] + i for i in range(SOFT)]
    texts = rng.integers(3, config["vocab_size"], (count, TEXT + TARGET)).tolist()
    return [(soft + ids[:TEXT], ids[TEXT:]) for ids in texts]


def first_rows(config: dict, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (SOFT, config["d_model"])).astype(np.float32)


def settings(config: dict, device: str):
    """The T5Config of a size on a device."""
    from mto_jax.models.config import T5Config

    fast = {} if device == "cpu" else {"dtype": "bfloat16"}
    return T5Config(**config, **fast)


# ---- Contenders: (a function that does one step and returns its loss, facts) --------------------


def many_prompts(
    config: dict, device: str, K: int, b: int, optimizer: str, fresh: bool = False
) -> tuple[Callable, dict]:
    """K prompts at b examples each in one step, as `mto tune` trains them; the model is PyTorch's,
    or `fresh`."""
    import jax
    from train_step import fresh_model

    from mto_jax import cores
    from mto_jax.models.adapters import Adapters, PromptTuning
    from mto_jax.training import multi_adapter_step, state
    from mto_jax.training.optimizers import Optimizer

    cores.as_devices()  # as `mto` does
    shape = settings(config, device)
    if fresh:
        model = fresh_model(shape)
    else:
        from tests.models import torch_reference

        model = torch_reference.our_model(shape, torch_reference.torch_model(shape))
    how = Optimizer(optimizer, RATE, clip_norm=None, options={})
    S, T = SOFT + TEXT, TARGET
    program = multi_adapter_step.program(
        multi_adapter_step.Shape(shape, Adapters.of(PromptTuning(SOFT)), K, b, S, T, how)
    )
    frozen = program.unstack(jax.device_put(state.by_name(model), program.frozen))
    rows = {"prompt.table": np.stack([first_rows(config, seed) for seed in range(K)])}
    now = [program.start(jax.device_put(rows, program.cut))]
    data = [examples(config, b, seed) for seed in range(K)]
    batch = {
        "inputs_BxS": np.array([[inputs for inputs, _ in one] for one in data], np.int32),
        "targets_BxT": np.array([[targets for _, targets in one] for one in data], np.int32),
    }
    control = {
        "rate": np.full(K, RATE, np.float32),
        "active": np.ones(K, bool),
        "key": np.zeros((K, 2), np.uint32),
        "step": np.zeros(K, np.int32),
    }

    def run() -> float:
        tokens = jax.device_put(batch, program.tokens)
        now[0], sums = program.step(
            frozen, {}, now[0], tokens, jax.device_put(control, program.cut)
        )
        return float((sums["loss"] / sums["weight"])[0])

    memory = program.step.memory_analysis()
    carry = now[0]
    return run, {
        "frozen": _bytes(frozen),
        "trained": _bytes(carry["parameters"]),
        "optimizer": _bytes(carry["optimizer"]),
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        # As the compiler counts them, on each device.
        "flops": (program.step.cost_analysis() or {}).get("flops", 0) * program.tokens.mesh.size,
    }


def full(config: dict, device: str, b: int) -> tuple[Callable, dict]:
    """The full fine-tuning step of `mto train` on a batch of the same size."""
    import functools

    import jax
    from train_step import batch_of

    from mto_jax.models.t5 import T5
    from mto_jax.training import sharding, state, step
    from mto_jax.training.optimizers import Optimizer

    mesh = sharding.mesh(devices=jax.devices()[:1])
    spec = state.abstract_model(functools.partial(T5, settings(config, device)))
    optimizer = Optimizer("adafactor", 1e-4, clip_norm=None)
    transformation = optimizer.build(1000)
    abstract = state.abstract_state(spec, list(spec.shapes), transformation, mesh)
    batch = sharding.place(batch_of(config, b, SOFT + TEXT, TARGET), mesh)
    loss = step.t5_loss(spec, mesh)
    totals = step.zero_totals(loss, abstract, batch)
    program = step.compile_step(
        step.train_step(loss, transformation, optimizer.rate(1000)), abstract, totals, batch, mesh
    )
    zeros = jax.device_put(totals, sharding.replicated(mesh))
    parameters = spec.initialise(jax.random.key(0), mesh)
    now = [state.start(abstract, parameters, transformation, 0)]

    def run() -> float:
        now[0], sums = program(now[0], zeros, batch)
        return float(sums["loss"])

    memory = program.memory_analysis()
    return run, {
        "frozen": 0,
        "trained": _bytes(now[0].trainable),
        "optimizer": _bytes(now[0].optimizer),
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "flops": (program.cost_analysis() or {}).get("flops"),
    }


def hugging_face(config: dict, device: str, b: int) -> tuple[Callable, dict]:
    """One prompt at b examples under PEFT and PyTorch."""
    import peft
    import torch

    from tests.models import torch_reference

    place = torch.device("cuda" if device == "gpu" else "cpu")
    base = torch_reference.torch_model(settings(config, device))
    prompt = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=SOFT, num_transformer_submodules=1
    )
    model = peft.get_peft_model(base, prompt).to(place).train()
    (weight,) = (p for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        weight.copy_(torch.tensor(first_rows(config, 0)))
    optimizer = torch.optim.AdamW([weight], lr=RATE, weight_decay=0.0)
    data = examples(config, b, 0)
    inputs = {
        "input_ids": torch.tensor([ids[SOFT:] for ids, _ in data], device=place),
        "attention_mask": torch.ones(b, TEXT, dtype=torch.long, device=place),
        "labels": torch.tensor([ids for _, ids in data], device=place),
    }

    def run() -> float:
        optimizer.zero_grad()
        with torch.autocast(place.type, torch.bfloat16, enabled=device == "gpu"):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, {}


def _bytes(tree: Any) -> int:
    import jax

    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def whole_run(config: dict, device: str, K: int, steps: int) -> None:
    """A training of K prompts from start to end, compiling included."""
    from flax import nnx

    from mto_jax import cores
    from mto_jax.models.adapters import Adapters, PromptTuning
    from mto_jax.models.t5 import T5
    from mto_jax.training.multi_adapter import Candidate, MultiAdapterTuning, tune_adapters
    from mto_jax.training.optimizers import Optimizer

    cores.as_devices()
    model = T5(settings(config, device), nnx.Rngs(0))
    candidates = [Candidate(str(seed), examples(config, 4, seed), seed=seed) for seed in range(K)]
    optimizer = Optimizer("adafactor", RATE)
    tuning = MultiAdapterTuning(epochs=steps, batch_size=4, optimizer=optimizer, evaluations=1)
    tune_adapters(model, Adapters.of(PromptTuning(SOFT)), candidates, tuning)


# ---- Measuring --------------------------------------------------------------------------------

Contender = tuple[Callable, tuple]


def worker(pipe: Connection, device: str, contender: Contender) -> None:
    """Builds one contender, then does a step whenever it is asked and answers with its seconds."""
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[device]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    function, arguments = contender
    try:
        run, facts = function(*arguments)
        facts["losses"] = [run() for _ in range(4)]
    except Exception as error:
        pipe.send(error)
        return
    pipe.send(facts)
    while pipe.recv():
        wall, work = time.perf_counter(), time.process_time()
        run()
        pipe.send((time.perf_counter() - wall, time.process_time() - work))


class Times(NamedTuple):
    """Seconds of a step: the median and the least by the clock, the median of all processors
    together."""

    median: float
    fastest: float
    work: float

    def __str__(self) -> str:
        median, fastest, work = (1e3 * seconds for seconds in self)
        return f"{median:8.1f} ms (fastest {fastest:.1f}, processor {work:.1f})"

    def over(self, other: "Times", factor: float = 1.0) -> str:
        """How many times as long as the other."""
        ratios = (factor * a / b for a, b in zip(self, other, strict=True))
        return "{:.2f} (fastest {:.2f}, processor {:.2f})".format(*ratios)


def measure(
    contenders: dict[str, Contender], device: str, steps: int
) -> tuple[dict[str, Times], dict[str, dict]]:
    """(times of a step, facts) of each contender."""
    context = multiprocessing.get_context("spawn")
    pipes, facts, seconds = {}, {}, {}
    for name, contender in contenders.items():  # one after another: compiling takes all cores
        pipe, theirs = context.Pipe()
        context.Process(target=worker, args=(theirs, device, contender), daemon=True).start()
        facts[name] = pipe.recv()
        if isinstance(facts[name], Exception):
            sys.exit(f"{name} cannot run here: {facts[name]!r}")
        pipes[name], seconds[name] = pipe, []
    for _ in range(steps):
        for name, pipe in pipes.items():
            time.sleep(0.2)  # threads that wait for more work spin for a while
            pipe.send(True)
            seconds[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    walls, works = (
        {name: [pair[i] for pair in pairs] for name, pairs in seconds.items()} for i in (0, 1)
    )
    found = {
        name: Times(float(np.median(walls[name])), min(walls[name]), float(np.median(works[name])))
        for name in contenders
    }
    return found, facts


def against_full(config: dict, device: str, steps: int, batch: int) -> None:
    contenders = {
        "full fine-tuning": (full, (config, device, batch)),
        "one prompt": (many_prompts, (config, device, 1, batch, "adafactor")),
    }
    seconds, facts = measure(contenders, device, steps)
    print(f"\n(a) batch {batch} x ({SOFT + TEXT} + {TARGET}), Adafactor")
    for name in contenders:
        print(f"  {name:<17} {seconds[name]}")
    whole, prompt = seconds.values()
    print(f"  time of the prompt's step in full steps: {prompt.over(whole)}; aim 0.6")
    first, second = (one["flops"] for one in facts.values())
    if first and second:
        print(f"  its floating-point operations: {second / first:.2f}")

    # With one example there are few activations: what is left is weights, gradients and moments.
    contenders = {
        "full fine-tuning": (full, (config, device, 1)),
        "one prompt": (many_prompts, (config, device, 1, 1, "adafactor")),
    }
    _, facts = measure(contenders, device, 1)
    print("  memory of the steps compiled for one example, MB:")
    for name, found in facts.items():
        columns = ("frozen", "trained", "optimizer", "arguments", "temporary")
        cells = "  ".join(f"{column} {found[column] / 1e6:.2f}" for column in columns)
        print(f"    {name:<17} {cells}")
    prompt = facts["one prompt"]
    beyond = prompt["arguments"] + prompt["temporary"] - prompt["frozen"]
    room = "not even one" if beyond < prompt["frozen"] else "a"
    print(
        f"    beyond the frozen weights the prompt's step holds {beyond / 1e6:.2f} MB: {room} copy "
        "of them, such as gradients or moments, has room there"
    )


def against_sequence(config: dict, device: str, steps: int, size: str, run_steps: int) -> None:
    K = 32
    contenders = {
        "together": (many_prompts, (config, device, K, 4, "adafactor")),
        "single": (many_prompts, (config, device, 1, 4, "adafactor")),
    }
    seconds, _ = measure(contenders, device, steps)
    print(f"\n(b) {K} prompts at batch 4; aim 8 on CPU, 20 on GPU")
    for name, count in (("together", 1), ("single", K)):
        print(f"  {name:<9} {seconds[name]} a step, x {count}")
    print(
        f"  steps alone, in sequence / together: {seconds['single'].over(seconds['together'], K)}"
    )
    whole = {}
    for count in (K, 1):
        flags = [f"--device={device}", f"--size={size}", f"--run_steps={run_steps}"]
        command = [sys.executable, __file__, *flags, f"--whole={count}"]
        platform = {"cpu": "cpu", "gpu": "cuda"}[device]
        start = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": platform})
        whole[count] = time.perf_counter() - start
    print(
        f"  whole runs of {run_steps} steps, process start and compilation included: together "
        f"{whole[K]:.1f} s, one alone {whole[1]:.1f} s, so {K} of them {K * whole[1]:.0f} s: "
        f"{K * whole[1] / whole[K]:.1f} times as fast"
    )


def against_peft(config: dict, device: str, steps: int) -> None:
    K = 8
    contenders = {
        "MTO-JAX": (many_prompts, (config, device, K, 4, "adamw")),
        "PEFT": (hugging_face, (config, device, 4)),
    }
    seconds, facts = measure(contenders, device, steps)
    print(f"\n(c) {K} prompts at batch 4, AdamW")
    print(f"  MTO-JAX {seconds['MTO-JAX']} a step of all")
    print(f"  PEFT    {seconds['PEFT']} a step of one, x {K}")
    print(
        f"  PEFT in sequence / MTO-JAX: {seconds['PEFT'].over(seconds['MTO-JAX'], K)}; aim 3 on CPU"
    )
    ours, theirs = (facts[name]["losses"] for name in contenders)
    print(f"  losses of the first steps: ours {_shown(ours)}, PEFT's {_shown(theirs)}")


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--size", default="11.5M", help="11.5M, or a preset of gin/models")
    parser.add_argument("--batch", type=int, default=16, help="examples of a batch in (a)")
    parser.add_argument("--steps", type=int, default=15, help="that are timed")
    parser.add_argument("--run_steps", type=int, default=60, help="of a whole run in (b)")
    parser.add_argument("--only", nargs="+", choices=("a", "b", "c"), default=("a", "b", "c"))
    parser.add_argument("--whole", type=int, metavar="K", help="be the whole run of (b)")
    flags = parser.parse_args()
    config = fields(flags.size)
    if flags.whole:
        whole_run(config, flags.device, flags.whole, flags.run_steps)
        return
    print(f"{flags.size} on {flags.device}, median of {flags.steps} steps")
    if "a" in flags.only:
        against_full(config, flags.device, flags.steps, flags.batch)
    if "b" in flags.only:
        against_sequence(config, flags.device, flags.steps, flags.size, flags.run_steps)
    if "c" in flags.only:
        against_peft(config, flags.device, flags.steps)


if __name__ == "__main__":
    main()
