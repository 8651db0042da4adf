# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scoring gold answers (rank and log-probability of each token): packed and jitted, against PyTorch
row by row.

  python benchmarks/scoring.py [--rows=900] [--vocab_size=2048] [--repeats=3]

Both run the same random tiny T5 (gin/models/demo_tiny.gin) on rows as long as ATOMIC's. PyTorch
scores one row at a time and finds ranks in the sorted vocabulary, as the authors' code does, with a
single forward pass for a row and a single thread, which is its fastest way with so little work at
once. The ranks of both are compared, the least of the repeats is taken, compilation not counted.
Target: 20 times. The processor's time is printed beside the clock's, for machines that do other
  things as well.
"""

import argparse
import importlib.util
import pathlib
import time

import numpy as np
import torch

from mto_jax import cores
from mto_jax.matching import teacher_forcing
from mto_jax.models.config import T5Config
from mto_jax.text2text.task import Example


class Numbers:
    """As much of a vocabulary as scoring asks for."""

    pad_id, eos_id, extra_ids = 0, 1, 100

    def __init__(self, size: int):
        self.size = size

    def is_sentinel(self, ids: np.ndarray) -> np.ndarray:
        return (ids >= self.size - self.extra_ids) & (ids < self.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--vocab_size", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cores.as_devices()  # as `mto` does
    config = T5Config(
        vocab_size=arguments.vocab_size,
        d_model=128,
        d_kv=32,
        num_heads=4,
        d_ff=256,
        num_encoder_layers=2,
        num_decoder_layers=2,
    )
    path = pathlib.Path(__file__).parents[1] / "tests" / "models" / "torch_reference.py"
    spec = importlib.util.spec_from_file_location("torch_reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    twin = reference.torch_model(config)
    model = reference.our_model(config, twin)
    vocabulary = Numbers(arguments.vocab_size)
    rows = random_rows(arguments.rows, arguments.vocab_size)

    torch.set_num_threads(1)
    ours = teacher_forcing.tail_scores(model, rows, vocabulary)  # compiles
    theirs = torch_scores(twin, rows)
    same = np.mean([np.array_equal(a.rank_N, b) for a, (_, b) in zip(ours, theirs, strict=True)])
    wall, work = least(
        lambda: teacher_forcing.tail_scores(model, rows, vocabulary), arguments.repeats
    )
    torch_wall, torch_work = least(lambda: torch_scores(twin, rows), arguments.repeats)
    each = 1e3 / len(rows)
    print(
        f"{arguments.rows} rows, vocabulary of {arguments.vocab_size}; rows of equal ranks: "
        f"{same:.1%}"
    )
    print(f"packed and jitted: {each * wall:.3f} ms a row, {each * work:.3f} ms of processor time")
    print(
        f"PyTorch {torch.__version__}: {each * torch_wall:.3f} ms a row, {each * torch_work:.3f} ms"
    )
    print(f"ratio {torch_wall / wall:.1f} by the clock, {torch_work / work:.1f} in processor time")


def random_rows(count: int, vocab_size: int) -> list[Example]:
    """Heads with three tails each: inputs of 8 to 20 tokens, targets of 3 to 8, EOS at the end, as
    ATOMIC's."""
    rng = np.random.default_rng(0)
    words = vocab_size - Numbers.extra_ids

    def sentence(least: int, most: int) -> list[int]:
        return [*rng.integers(3, words, rng.integers(least, most)).tolist(), Numbers.eos_id]

    heads = [sentence(7, 20) for _ in range(count // 3)]
    return [(head, sentence(2, 8)) for head in heads for _ in range(3)]


def torch_scores(model, rows: list[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(log-probability, zero-based rank) of every target token but EOS, one row at a time."""
    found = []
    with torch.inference_mode():
        for inputs, targets in rows:
            labels = torch.tensor([targets])
            logits = model(input_ids=torch.tensor([inputs]), labels=labels).logits[0]
            log_probs = logits.log_softmax(-1).gather(-1, labels[0][:, None])[:, 0]
            order = torch.argsort(logits, dim=-1, descending=True)
            ranks = (order == labels[0][:, None]).nonzero()[:, 1]
            found.append((log_probs[:-1].numpy(), ranks[:-1].numpy()))
    return found


def least(function, repeats: int) -> tuple[float, float]:
    """The least seconds of a call: by the clock, and of all processors together."""
    walls, works = [], []
    for _ in range(repeats):
        wall, work = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        works.append(time.process_time() - work)
    return min(walls), min(works)


if __name__ == "__main__":
    main()
