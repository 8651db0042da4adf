# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of `train` on a tiny model and data made up on the spot, for tests in this process or
another:

python -m tests.tiny_run FOLDER '{"model_dir": "...", "train_steps": 60}'
"""

import dataclasses
import json
import pathlib
import sys

import gin
import numpy as np

from mto_jax.data import loader, manifest, shards
from mto_jax.data.dataset import DatasetConfig
from mto_jax.runs.train import train
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.training.optimizers import Optimizer
from tests import tiny

LENGTHS = {"inputs": 12, "targets": 8}
MODEL = dataclasses.replace(tiny.CONFIG, dropout_rate=0.1)


def write_task(folder: pathlib.Path, name: str, count: int, seed: int = 0) -> manifest.Prepared:
    """A prepared task whose targets are its inputs reversed; written once."""
    path = folder / name
    if path.exists():
        return manifest.read(path)
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(3, 60, rng.integers(2, 6), dtype=np.int32) for _ in range(count)]
    examples = [
        {
            "inputs": np.append(ids, np.int32(1)),
            "targets": np.append(ids[::-1], np.int32(1)),
            "references": [vocabularies.vocabulary("demo").decode(ids[::-1])],
        }
        for ids in inputs
    ]
    table = np.array([[len(e["inputs"]), len(e["targets"])] for e in examples], np.int32)
    np.save(path / manifest.LENGTHS, table)
    content = {
        "task": name,
        "split": "train",
        "task_feature_lengths": LENGTHS,
        "num_examples": count,
        "pass_examples": [count],
        "lengths_digest": manifest.digest(table.tobytes()),
        "shards": shards.write(path, map(shards.encode, examples)),
        "metrics": ["mto_jax.metrics.text:exact_match"] if name == "dev" else [],
        "vocabulary": {"name": "demo", "digest": vocabularies.vocabulary("demo").digest},
        "input_files": [],
    }
    (path / manifest.MANIFEST).write_text(json.dumps(content))
    return manifest.read(path)


def run(folder: pathlib.Path, **options) -> dict[str, float]:
    """`train` with small defaults; `folder` holds the data."""
    prepared = {"reverse": write_task(folder, "reverse", 300), "dev": write_task(folder, "dev", 10)}
    gin.bind_parameter("vocabulary.name", "demo")
    ensure_all = loader.ensure_all
    loader.ensure_all = lambda configs, later=(): [
        prepared[config.mixture_or_task_name] for config in configs
    ]
    try:
        return train(
            **{
                "model": MODEL,
                "train_dataset": DatasetConfig("reverse", LENGTHS),
                "batch_size": 8,
                "train_steps": 6,
                "optimizer": Optimizer("adamw", learning_rate=3e-3, warmup=0.1),
                "checkpoint_period": 5,
                "log_period": 2,
                **options,
            }
        )
    finally:
        loader.ensure_all = ensure_all


if __name__ == "__main__":
    run(pathlib.Path(sys.argv[1]), **json.loads(sys.argv[2]))
