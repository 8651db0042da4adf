# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The prepared pipeline on one core beside Grain's own packing of the same records.

    python benchmarks/data.py            # the demo; with MTO_DATA_DIR also ATOMIC-2020, text

Both read the same ArrayRecord files and yield the same kind of batches; the target length is the
one that `mto prepare` recommends. Non-padding is counted over inputs and targets together.
"""

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import gin
import grain
import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource

from mto_jax.data import loader, packing, shards
from mto_jax.data.dataset import DatasetConfig
from mto_jax.data.manifest import Prepared

BATCH = 32
CASES = [("demo_span_corruption", 128, "demo"), ("demo_AtLocation_mapping", 128, "demo")]
REAL_CASES = [
    ("atomic_xIntent_mapping", 128, "t5"),
    ("atomic_xIntent_mapping", 256, "t5"),
    ("wiki_span_corruption", 512, "t5"),
]


def prepare(name: str, inputs: int, folder: str) -> Prepared:
    """The task at the target length that fills best."""
    config = DatasetConfig(name, {"inputs": inputs, "targets": inputs}, prepared_dir=folder)
    table = loader.ensure(config).lengths()
    targets, _ = packing.recommend(packing.sample(table), inputs)
    lengths = {"inputs": inputs, "targets": targets}
    return loader.ensure(dataclasses.replace(config, task_feature_lengths=lengths))


def ours(prepared: Prepared) -> Iterator[dict]:
    return loader.train_iterator(prepared, batch_size=BATCH, seed=0)


def grains(prepared: Prepared) -> Iterator[dict]:
    """The pipeline that Grain's documentation suggests: shuffle, pack by first fit, batch."""
    source = ArrayRecordDataSource(
        [str(prepared.path / name) for name in prepared.manifest["shards"]]
    )
    dataset = grain.MapDataset.source(source).shuffle(seed=0).repeat(None)
    dataset = dataset.map(lambda record: shards.decode(record, extras=False)).to_iter_dataset()
    dataset = grain.experimental.FirstFitPackIterDataset(
        dataset, length_struct=prepared.task_feature_lengths, num_packing_bins=64
    )
    return iter(dataset.batch(BATCH).map(_features))


def _features(batch: dict) -> dict:
    targets, segments = batch["targets"], batch["targets_segment_ids"]
    shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    return {
        "encoder_input_tokens": batch["inputs"],
        "encoder_segment_ids": batch["inputs_segment_ids"],
        "encoder_positions": batch["inputs_positions"],
        "decoder_target_tokens": targets,
        "decoder_input_tokens": np.where(batch["targets_positions"] > 0, shifted, 0),
        "decoder_segment_ids": segments,
        "decoder_positions": batch["targets_positions"],
        "decoder_loss_weights": (segments > 0).astype(np.float32),
    }


def measure(batches: Iterator[dict], seconds: float) -> dict:
    """Tokens and examples for every second of one core, and the share of non-padding."""
    for _ in range(20):
        next(batches)
    # CPU time of all threads: other programs on this machine do not count.
    start, tokens, examples, places = time.process_time(), 0, 0, 0
    while (elapsed := time.process_time() - start) < seconds:
        batch = next(batches)
        segments = batch["encoder_segment_ids"], batch["decoder_segment_ids"]
        tokens += sum(np.count_nonzero(s) for s in segments)
        examples += int(segments[1].max(axis=1).sum())
        places += sum(s.size for s in segments)
    return {
        "tokens": tokens / elapsed,
        "examples": examples / elapsed,
        "non_padding": tokens / places,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement")
    arguments = parser.parse_args()
    cases = CASES + (REAL_CASES if os.environ.get("MTO_DATA_DIR") else [])
    with tempfile.TemporaryDirectory() as folder:
        ready = []
        for name, inputs, vocabulary in cases:
            gin.bind_parameter("vocabulary.name", vocabulary)
            ready.append(prepare(name, inputs, folder))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(
            f"{'task and lengths':<38}{'':10}{'tokens/s':>12}{'examples/s':>12}{'non-padding':>13}"
        )
        for data in ready:
            lengths = "{inputs} + {targets}".format(**data.task_feature_lengths)
            results = {"ours": measure(ours(data), arguments.seconds)}
            results["Grain"] = measure(grains(data), arguments.seconds)
            for who, result in results.items():
                print(
                    f"{f'{data.name} {lengths}':<38}{who:<10}{result['tokens']:>12,.0f}"
                    f"{result['examples']:>12,.0f}{result['non_padding']:>13.1%}"
                )
            ratio = results["ours"]["tokens"] / results["Grain"]["tokens"]
            print(f"{'':38}{'ratio':<10}{ratio:>12.2f}")


if __name__ == "__main__":
    main()
