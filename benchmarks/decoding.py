# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of our decoding beside Hugging Face `generate`, greedy and with 5 beams.

    python benchmarks/decoding.py                                 # CPU, a T5 of 11.5 M parameters
    python benchmarks/decoding.py --device=gpu --size=t5_1_1_base # GPU, bfloat16
    python benchmarks/decoding.py --batches 16 --beams 5 --without compiled

Both have the same weights and the same sources.
Every answer has the same number of tokens in both: EOS is forbidden before the last. Hugging Face
runs as it comes (eager, a growing cache) and with its static cache under torch.compile, unless that
fails or takes longer to compile than --limit seconds; on a CPU both also with a single thread,
which is faster with little work at once. Its best counts. Target: 1.5 times its tokens per second
on a CPU, 3 times on a GPU, one compilation for each shape.

Every contender is a process of its own; their calls alternate and the medians count, so that a busy
machine slows all alike. The processor's time is printed beside the clock's, for machines that do
other things as well. The answers are compared: they differ only where two tokens (or beams) are
equally good up to rounding.
"""

import argparse
import functools
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from train_step import fields, fresh_model  # beside this file

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

OURS = "MTO-JAX"
WAYS = {"eager": "HF eager", "compiled": "HF static, compiled"}
AIMS = {"cpu": 1.5, "gpu": 3.0}
PATIENCE = 20  # seconds of timed calls after which a contender has no more in a shape


class Shape(NamedTuple):
    """What is decoded at once."""

    batch: int  # sources
    beams: int  # 1: greedy
    source: int  # tokens of the longest source
    target: int  # tokens of every answer


class Numbers:
    """As much of a vocabulary as decoding asks for."""

    pad_id, eos_id, extra_ids = 0, 1, 100

    def __init__(self, size: int):
        self.size = size

    def encode(self, text: str) -> list[int]:
        assert not text
        return []


def sources(vocab_size: int, shape: Shape, seed: int = 0) -> list[list[int]]:
    """Random token ids with EOS; the first is as long as can be, the others have half of it or
    more."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shape.source // 2 + 1, shape.source + 1, shape.batch)
    lengths[0] = shape.source
    return [[*rng.integers(3, vocab_size, n - 1).tolist(), Numbers.eos_id] for n in lengths]


def twin_of(config: Any) -> Any:
    """The PyTorch model with random weights, the same in every process."""
    import torch

    from tests.models.torch_reference import torch_model

    twin = torch_model(config)
    if not config.tie_embeddings:
        with torch.no_grad():
            twin.lm_head.weight.mul_(4.0)  # a sharper head keeps the best tokens apart
    return twin


# ---- Contenders: from a shape to (a function that decodes it and returns all tokens, facts) -----


def ours(config: dict, device: str, fresh: bool = False) -> Callable:
    """With PyTorch's weights, or `fresh` ones."""
    from mto_jax import cores
    from mto_jax.decoding import search
    from mto_jax.decoding.generation import Decoding, decode
    from mto_jax.models.t5 import T5Config

    cores.as_devices()  # as `mto` does
    sizes = T5Config(**config, **({} if device == "cpu" else {"dtype": "bfloat16"}))
    if fresh:
        model = fresh_model(sizes)
    else:
        from tests.models.torch_reference import our_model

        model = our_model(sizes, twin_of(sizes))
    vocabulary = Numbers(sizes.vocab_size)

    def prepare(shape: Shape) -> tuple[Callable, dict]:
        beams = {"method": "beam", "num_beams": shape.beams} if shape.beams > 1 else {}
        how = Decoding(max_length=shape.target, min_length=shape.target - 1, **beams)
        inputs = sources(sizes.vocab_size, shape)

        def run(inputs: list = inputs) -> list[list[int]]:
            found = decode(model, inputs, how, vocabulary, batch_size=shape.batch)
            return [outputs[0].tokens for outputs in found]

        before, start = search.program._cache_size(), time.perf_counter()
        answers = run()
        seconds = time.perf_counter() - start
        run(sources(sizes.vocab_size, shape, seed=1))  # other lengths, the same bucket
        run()
        programs = search.program._cache_size() - before
        return run, {"answers": answers, "programs": programs, "first": seconds}

    return prepare


def hugging_face(config: dict, device: str, way: str, threads: int) -> Callable:
    import torch
    import transformers

    from mto_jax.models.t5 import T5Config

    transformers.logging.set_verbosity_error()
    torch.set_float32_matmul_precision("high" if device == "gpu" else "highest")
    if threads:
        torch.set_num_threads(threads)
    model = twin_of(T5Config(**config))
    if device == "gpu":
        model = model.to("cuda", torch.bfloat16)
    options = {}
    if way == "compiled":
        options["cache_implementation"] = "static"
        compile_steps(model, "reduce-overhead" if device == "gpu" else "default")

    def prepare(shape: Shape) -> tuple[Callable, dict]:
        inputs = sources(config["vocab_size"], shape)
        tokens = torch.zeros(len(inputs), shape.source, dtype=torch.long)
        for row, ids in zip(tokens, inputs, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        tokens = tokens.to(model.device)
        mask = (tokens != 0).long()

        def run() -> list[list[int]]:
            found = model.generate(
                input_ids=tokens,
                attention_mask=mask,
                do_sample=False,
                num_beams=shape.beams,
                min_new_tokens=shape.target - 1,
                max_new_tokens=shape.target,
                eos_token_id=Numbers.eos_id,
                **options,
            )
            return found[:, 1:].tolist()  # waits

        start = time.perf_counter()
        answers = run()
        seconds = time.perf_counter() - start
        run()
        return run, {"answers": answers, "first": seconds}

    return prepare


def compile_steps(model: Any, mode: str) -> None:
    """Has `torch.compile` do all tokens but the first, as `generate` does by itself on a GPU
    without beams."""
    import torch

    eager = model.forward
    compiled = torch.compile(eager, mode=mode)

    @functools.wraps(eager)
    def forward(*arguments, **options):
        cache = options.get("cache", options.get("past_key_values"))  # its name before 5.24
        step = compiled if cache.is_updated.get(0) else eager  # the first token fills the caches
        return step(*arguments, **options)

    model.forward = forward


# ---- Measuring ----------------------------------------------------------------------------------


def worker(pipe: Connection, function: Callable, arguments: tuple, device: str) -> None:
    """A contender's process: prepares each shape it is sent; at True decodes it and answers with
    its seconds."""
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[device]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no further processes
    prepare, run = None, None
    while (message := pipe.recv()) is not None:
        if isinstance(message, Shape):
            try:
                prepare = prepare or function(*arguments)
                run, facts = prepare(message)
            except Exception as error:
                facts = {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
            pipe.send(facts)
        else:
            wall, work = time.perf_counter(), time.process_time()
            run()
            pipe.send((time.perf_counter() - wall, time.process_time() - work))


class Contender:
    """A process that decodes, started anew where the last one hung."""

    def __init__(self, name: str, function: Callable, arguments: tuple, device: str):
        self.name, self.arguments = name, (function, arguments, device)
        self.process = None

    def prepare(self, shape: Shape, limit: float) -> dict:
        """Facts; {"reason"} where it cannot decode this shape."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            arguments = (theirs, *self.arguments)
            self.process = context.Process(target=worker, args=arguments, daemon=True)
            self.process.start()
            theirs.close()  # so that its death is the end of the pipe
        self.pipe.send(shape)
        try:
            if self.pipe.poll(limit):
                return self.pipe.recv()
            reason = f"not ready after {limit:.0f} s"
        except EOFError:
            reason = "its process died"
        self.stop()
        return {"reason": reason}

    def step(self) -> tuple[float, float]:
        self.pipe.send(True)
        return self.pipe.recv()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            self.process = None


def measure(contenders: list[Contender], shape: Shape, device: str, steps: int, limit: float):
    """Prints the table of one shape."""
    kind = f"{shape.beams} beams" if shape.beams > 1 else "greedy"
    print(f"\nbatch {shape.batch}, {kind}")
    facts = {one.name: one.prepare(shape, limit) for one in contenders}  # one after another
    seconds: dict[str, list] = {one.name: [] for one in contenders}
    for _ in range(steps):
        for one in contenders:
            done = seconds[one.name]
            if "reason" not in facts[one.name] and sum(wall for wall, _ in done) < PATIENCE:
                time.sleep(0.2)  # threads that wait for more work spin for a while
                done.append(one.step())
    tokens = shape.batch * shape.target
    walls, works = {}, {}
    for name, pairs in seconds.items():
        if not pairs:
            print(f"  {name:<29} not available: {facts[name]['reason']}")
            continue
        walls[name], works[name] = np.median(pairs, axis=0)
        print(
            f"  {name:<29} {tokens / walls[name]:9,.0f} tokens/s  {1e3 * walls[name]:9.1f} ms "
            f"(fastest {1e3 * min(pairs)[0]:.1f}, processor {1e3 * works[name]:.1f}); first call "
            f"{facts[name]['first']:.1f} s"
        )
    theirs = [name for name in walls if name != OURS]
    if OURS not in walls or not theirs:
        return
    wall, work = (min(times[name] for name in theirs) for times in (walls, works))
    print(
        f"  against the best of Hugging Face: {wall / walls[OURS]:.2f}x by the clock, "
        f"{work / works[OURS]:.2f}x in processor time; aim {AIMS[device]}x"
    )
    mine = facts[OURS]["answers"]
    assert all(len(answer) == shape.target for answer in mine)
    for name in theirs:
        same = sum(a == b for a, b in zip(mine, facts[name]["answers"], strict=True))
        print(f"  answers equal to those of {name}: {same} of {shape.batch}")
    programs = facts[OURS]["programs"]
    print(f"  programs that MTO-JAX compiled for three calls with two sets of sources: {programs}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=tuple(AIMS), default="cpu")
    parser.add_argument("--size", default="11.5M", help="11.5M, or a preset of gin/models")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 16, 128))
    parser.add_argument("--beams", type=int, nargs="+", default=(1, 5), help="1: greedy")
    parser.add_argument(
        "--lengths", type=int, nargs=2, metavar=("SOURCE", "TARGET"), default=(64, 32)
    )
    parser.add_argument("--steps", type=int, default=7, help="that are timed")
    parser.add_argument("--without", choices=tuple(WAYS), nargs="+", default=())
    parser.add_argument(
        "--threads", type=int, nargs="+", help="of PyTorch, every count in turn; 0: as it comes"
    )
    parser.add_argument("--limit", type=float, default=150, help="seconds to get ready for a shape")
    flags = parser.parse_args()
    config = fields(flags.size)
    contenders = [Contender(OURS, ours, (config, flags.device), flags.device)]
    threads = flags.threads or {"cpu": (0, 1), "gpu": (0,)}[flags.device]
    for way in WAYS:
        for count in threads if way not in flags.without else ():
            name = f"{WAYS[way]}, {count} thread" if count else WAYS[way]
            arguments = (config, flags.device, way, count)
            contenders.append(Contender(name, hugging_face, arguments, flags.device))
    source, target = flags.lengths
    print(
        f"{flags.size} on {flags.device}, sources of {source // 2 + 1} to {source} tokens, answers "
        f"of {target}, median of {flags.steps} calls"
    )
    for batch in flags.batches:
        for beams in flags.beams:
            shape = Shape(batch, beams, source, target)
            measure(contenders, shape, flags.device, flags.steps, flags.limit)
    for one in contenders:
        one.stop()


if __name__ == "__main__":
    main()
