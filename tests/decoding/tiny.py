# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A tiny random model, its PyTorch twin, a vocabulary of numbers, prepared data and checkpoints."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mto_jax.checkpoints import runs
from mto_jax.data import manifest, shards
from mto_jax.models.adapters import Adapters, PromptTuning
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training import state
from mto_jax.training.multi_adapter import attach
from tests import tiny

CONFIG = dataclasses.replace(tiny.TWO_LAYERS, vocab_size=48)


class Numbers:
    """A vocabulary without text: token `i` reads "i"; the ids 40 to 47 are sentinels."""

    pad_id, eos_id, unk_id = 0, 1, 39
    bos = ()
    size = padded_size = CONFIG.vocab_size
    extra_ids = 8
    digest = path = "numbers"
    source = Vocabulary.source

    def sentinel_id(self, i):
        return self.size - 1 - i

    def is_sentinel(self, ids):
        return (ids >= self.size - self.extra_ids) & (ids < self.size)

    def soft_id(self, i):
        return self.padded_size + i

    def soft_prefix(self, ids):
        return [i for i in ids if i >= self.padded_size]

    def encode(self, text):
        return [
            self.sentinel_id(int(word[10:-1])) if word.startswith("<") else int(word)
            for word in text.split()
        ]

    def lacks(self, text):
        return ["é"] if "39" in text else []

    def decode(self, ids):
        ids = [int(i) for i in ids]
        ids = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
        words = [
            f"<extra_id_{self.size - 1 - i}>" if i >= self.size - self.extra_ids else str(i)
            for i in ids
            if i != self.pad_id
        ]
        return " ".join(words)


@functools.cache
def models(seed: int = 0):
    """(our model, the PyTorch model) with the same weights; EOS is likely enough to occur."""
    import torch

    from tests.models.torch_reference import our_model, torch_model

    twin = torch_model(CONFIG, seed)
    with torch.no_grad():
        # A sharper head keeps the best tokens far apart, and one direction of it favours EOS now
        # and then.
        twin.lm_head.weight.mul_(4.0)
        twin.lm_head.weight[1].mul_(1.5)
    return our_model(CONFIG, twin), twin


@functools.cache
def model(seed: int = 0, config: T5Config = CONFIG):
    """Our model alone, without PyTorch."""
    t5 = T5(config, nnx.Rngs(seed))
    t5.lm_head[...] = t5.lm_head[...] * 4.0
    return t5


def prompted(rows: int) -> T5:
    """`model` with a soft prompt."""
    adapters = Adapters.of(PromptTuning(rows))
    table = {"prompt.table": np.random.default_rng(0).normal(size=(rows, CONFIG.d_model))}
    return attach(model(), adapters, {k: v.astype(np.float32) for k, v in table.items()})


def prepared(
    folder: pathlib.Path,
    texts: Sequence[Mapping[str, Any]],
    metrics: Sequence[str] = ("mto_jax.metrics.text:exact_match",),
    vocabulary=None,
    name: str = "tiny",
) -> manifest.Prepared:
    """A prepared task of these examples: texts "inputs", "targets" and further fields."""
    vocabulary = vocabulary or Numbers()
    folder = folder / name
    folder.mkdir()
    records, lengths = [], []
    for text in texts:
        ids = {
            key: np.array([*vocabulary.encode(text[key]), vocabulary.eos_id], np.int32)
            for key in ("inputs", "targets")
        }
        lengths.append([len(ids[key]) for key in ids])
        pretokenized = {f"{key}_pretokenized": text[key] for key in ids}
        records.append(shards.encode({**text, **pretokenized, **ids}))
    table = np.array(lengths, np.int32)
    np.save(folder / manifest.LENGTHS, table)
    content = {
        "task": name,
        "split": "test",
        "lengths_digest": manifest.digest(table.tobytes()),
        "task_feature_lengths": {"inputs": 16, "targets": 8},
        "num_examples": len(records),
        "shards": shards.write(folder, records),
        "metrics": list(metrics),
        "vocabulary": {"name": "numbers", "digest": vocabulary.digest},
        "input_files": [],
    }
    (folder / manifest.MANIFEST).write_text(json.dumps(content))
    return manifest.read(folder)


def checkpoint(
    model_dir: pathlib.Path, steps: Mapping[int, float | None], vocabulary=None, **options
) -> None:
    """A run directory with checkpoints of `model(step % 2)`; `steps` gives each its dev score."""
    vocabulary = vocabulary or Numbers()
    config = dataclasses.replace(CONFIG, **options)
    identity = {
        "model": dataclasses.asdict(config),
        "vocabulary": {"name": "numbers", "digest": vocabulary.digest},
    }
    writer = runs.Checkpointer(model_dir, identity, keep=9, best_metric="score")
    spec = state.abstract_model(functools.partial(T5, config))
    for step, score in steps.items():
        parameters = spec.split(model(step % 2, config))
        whole = state.TrainState(
            step=jnp.int32(step),
            trainable=parameters,
            frozen={},
            optimizer={},
            key=jnp.zeros(2, jnp.uint32),
        )
        writer.save(whole, {}, {} if score is None else {"score": score})
    writer.close()
