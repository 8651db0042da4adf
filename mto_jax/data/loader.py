# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of prepared data by Grain: mixed, shuffled, packed, sharded by host, exactly resumable.

The plan (mto_jax/data/packing.py) says which records make up row r of global batch b; it needs only
the table of lengths. Hosts and workers each compute the same plan and read the records of their own
rows. So the global batches are the same for every number of hosts and workers, and the position in
the data is two integers.
"""

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from mto_jax import errors, remote
from mto_jax.data import manifest, packing, shards
from mto_jax.data.batch import Batch
from mto_jax.data.dataset import DatasetConfig
from mto_jax.data.manifest import Prepared
from mto_jax.files import digest

BUFFERED_BATCHES = 4


def ensure(config: DatasetConfig) -> Prepared:
    """Return the prepared data of `config`, as `ensure_all` does."""
    (prepared,) = ensure_all([config])
    return prepared


def ensure_all(
    configs: Sequence[DatasetConfig], later: Sequence[DatasetConfig] = ()
) -> list[Prepared]:
    """Return the prepared data of each of `configs`.

    What is missing or stale is prepared in a subprocess, which first looks whether every task has
    its split. This process never imports TensorFlow.

    Args:
      configs: the data.
      later: data that will be asked for next; they are looked for with the others.

    Raises:
      UserError: what `mto_jax.data.prepare` found wrong, or SeqIO is not installed here.
    """
    missing = [config for config in configs if manifest.find(config) is None]
    if missing:
        _prepare(missing, later)
    return [_fresh(config) for config in configs]


def _prepare(configs: Sequence[DatasetConfig], later: Sequence[DatasetConfig]) -> None:
    for config in configs:
        print(f"preparing {_name(config)}: {manifest.why_not(config)}", file=sys.stderr)
    names = ", ".join(map(_name, configs))
    if importlib.util.find_spec("seqio") is None:
        raise errors.UserError(
            f"{names} must be prepared first, and SeqIO, which does it, is not installed here. Run "
            "'mto prepare' with the same gin files on a machine with a full installation (pip "
            f"install mto-jax), then copy its folder of prepared data to {configs[0].directory}."
        )
    bindings = [line for config in (*configs, *later) for line in manifest.bindings(config)]
    with tempfile.TemporaryDirectory() as folder:
        request = pathlib.Path(folder, "request.json")
        asked = {"datasets": configs, "later": later}
        content: dict[str, Any] = {k: [dataclasses.asdict(c) for c in v] for k, v in asked.items()}
        request.write_text(json.dumps(content | {"gin": bindings}))
        returncode, stderr = _in_a_process(request)
    if returncode:
        raise errors.of_process(stderr, f"Preparing {names}")


def _in_a_process(request: pathlib.Path) -> tuple[int, str]:
    """Prepare what `request` asks for; return the exit status and what standard error says."""
    command = [sys.executable, "-m", "mto_jax.data.prepare", str(request)]
    # Its progress goes to our standard error (2); its own holds the reason of a failure.
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr


def _fresh(config: DatasetConfig) -> Prepared:
    if prepared := manifest.find(config):
        for part in prepared.tasks:
            remote.fetch(part.path)
        return prepared
    raise errors.UserError(
        f"{_name(config)} was prepared, but its input files or source code changed meanwhile. "
        "Start again."
    )


def _name(config: DatasetConfig) -> str:
    return f"{config.mixture_or_task_name} ({config.split})"


def train_iterator(
    prepared: Prepared,
    *,
    batch_size: int,
    seed: int,
    pack: bool = True,
    shard_index: int = 0,
    shard_count: int = 1,
    num_workers: int = 0,
    task_ids: bool = False,
) -> "TrainIterator":
    """Return endless batches: this host's rows of the global batches.

    Args:
      prepared: from `ensure`.
      batch_size: rows of the global batch; this host gets batch_size / shard_count of them.
      seed: of the order; non-negative.
      pack: several examples share a row; otherwise every example has a row of its own.
      shard_index: which part of the global batch, usually jax.process_index().
      shard_count: number of parts, usually jax.process_count().
      num_workers: processes that read and assemble ahead; 0 does it in a thread of this one.
      task_ids: add decoder_task_ids [B, T]: 1 + index into `prepared.tasks`, 0 for padding.

    Returns:
      Iterator of batches of numpy arrays; its `get_state` and `set_state` are exact.

    Raises:
      UserError: batch_size does not divide, a negative seed, damaged data.
    """
    if batch_size < 1 or batch_size % shard_count:
        raise errors.UserError(
            f"BATCH_SIZE is {batch_size}; expected a positive multiple of the {shard_count} hosts."
        )
    if seed < 0:
        raise errors.UserError(f"The data seed is {seed}; expected 0 or more.")
    prepared.check_lengths()
    plan = _Plan(
        tasks=prepared.tasks,
        stream=packing.Stream(
            sizes=tuple(tuple(task.manifest["pass_examples"]) for task in prepared.tasks),
            rates=prepared.rates,
            seed=seed,
        ),
        capacity=tuple(prepared.task_feature_lengths.values()),
        row_lengths=tuple(row_lengths(prepared, pack).values()),
        pack=pack,
        batch_size=batch_size,
        rows=(
            shard_index * batch_size // shard_count,
            (shard_index + 1) * batch_size // shard_count,
        ),
    )
    return TrainIterator(plan, task_ids, num_workers)


def row_lengths(prepared: Prepared, pack: bool) -> dict[str, int]:
    """Returns {"inputs": S, "targets": T}, the shape of the rows of `train_iterator`.

    Packed rows are as long as the data's limit; others no longer than the data need.
    """
    return prepared.task_feature_lengths if pack else prepared.row_lengths


def eval_batches(
    prepared: Prepared, *, batch_size: int, lengths: Mapping[str, int] | None = None
) -> Iterator[tuple[Batch, list[dict]]]:
    """Every example once, in the order of the task, one a row.

    Args:
      lengths: {"inputs": S, "targets": T} of the rows; None means `prepared.row_lengths`.

    Yields:
      (batch, examples): `batch` has always `batch_size` rows (the last batch is
      filled with empty rows); `examples` are the records of its real rows, with "inputs", "targets"
      (int32 ids) and the texts that the task gave, such as "references". Batches of a mixture hold
      one task each.
    """
    capacity = tuple((lengths or prepared.row_lengths).values())
    for task in prepared.tasks:
        reader = shards.Reader(task.path, task.manifest["shards"])
        for start in range(0, len(reader), batch_size):
            examples = reader.examples(range(start, min(start + batch_size, len(reader))))
            yield assemble(examples, np.arange(len(examples)), batch_size, capacity), examples


def sample(prepared: Prepared, count: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Returns the ids of inputs and targets of random examples, each task by its rate.

    Args:
      count: of examples; fewer come from a task that does not have its share.
    """
    rng, rates_K = np.random.default_rng(seed), np.asarray(prepared.rates, float)
    drawn = []
    for task, share in zip(prepared.tasks, rates_K / rates_K.sum(), strict=True):
        reader = shards.Reader(task.path, task.manifest["shards"])
        chosen = rng.permutation(len(reader))[: round(count * share)]
        drawn += reader.examples(chosen, extras=False)
    return [(example["inputs"].tolist(), example["targets"].tolist()) for example in drawn]


def assemble(
    examples: Sequence[dict],
    row_N: np.ndarray,
    rows: int,
    capacity: Sequence[int],
    task_N: np.ndarray | None = None,
) -> Batch:
    """Put examples side by side into rows.

    Args:
      examples: with int32 ids "inputs" and "targets"; those of one row follow each other.
      row_N: the row of each example, ascending.
      rows: number of rows, B.
      capacity: (S, T), lengths of a row's inputs and targets.
      task_N: number of each example's task, for "decoder_task_ids".

    Returns:
      A batch of numpy arrays.
    """
    batch: Any = {}
    for side, key, size in zip(
        ("encoder", "decoder"), ("inputs", "targets"), capacity, strict=True
    ):
        ids = [example[key] for example in examples]
        length_N = np.fromiter(map(len, ids), np.int64, len(ids))
        first_N = np.searchsorted(row_N, row_N)  # The first example of the same row.
        before_N = np.cumsum(length_N) - length_N
        start_N = before_N - before_N[first_N]
        # One entry per token from here on.
        row = np.repeat(row_N, length_N)
        position = np.arange(length_N.sum()) - np.repeat(before_N, length_N)
        place = row * size + np.repeat(start_N, length_N) + position
        segment = np.repeat(np.arange(len(ids)) - first_N + 1, length_N)
        tokens = np.concatenate(ids) if ids else np.zeros(0, np.int32)

        def spread(values, place=place, size=size):
            flat = np.zeros(rows * size, np.int32)
            flat[place] = values
            return flat.reshape(rows, size)

        if side == "decoder":
            batch["decoder_target_tokens"] = spread(tokens)
            batch["decoder_input_tokens"] = spread(np.where(position > 0, np.roll(tokens, 1), 0))
            if task_N is not None:
                batch["decoder_task_ids"] = spread(np.repeat(task_N, length_N))
        else:
            batch["encoder_input_tokens"] = spread(tokens)
        batch[f"{side}_segment_ids"] = spread(segment)
        batch[f"{side}_positions"] = spread(position)
    batch["decoder_loss_weights"] = (batch["decoder_segment_ids"] > 0).astype(np.float32)
    return batch


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The order of the records that make up this host's rows of all batches.

    Attributes:
      tasks: the prepared tasks.
      stream: the order of their records.
      capacity: (S, T), most tokens of an example, and lengths of a packed row.
      row_lengths: (S, T), lengths of a row's inputs and targets.
      pack: several examples share a row.
      batch_size: rows of the global batch.
      rows: (first, last + 1) row of the global batch that this host reads.
    """

    tasks: tuple[Prepared, ...]
    stream: packing.Stream
    capacity: tuple[int, ...]
    row_lengths: tuple[int, ...]
    pack: bool
    batch_size: int
    rows: tuple[int, int]

    def order(self) -> str:
        """Digest of everything that decides which records are at which position."""
        lengths = [task.manifest["lengths_digest"] for task in self.tasks]
        parts = [dataclasses.astuple(self.stream), self.capacity, self.pack, lengths]
        return digest(json.dumps(parts))[:16]

    def window(self, number: int) -> np.ndarray:
        """Return row (in the window, ascending), task, record of each example, int64 [WINDOW, 3].

        Raises:
          UserError: a record is longer than a row.
        """
        task_N, record_N = self.stream.window(number)
        lengths_Nx2 = np.empty((len(task_N), 2), np.int64)
        for i, task in enumerate(self.tasks):
            lengths_Nx2[task_N == i] = task.lengths()[record_N[task_N == i]]
        if (lengths_Nx2 > self.capacity).any():
            raise errors.UserError(
                f"Prepared records of {self.tasks[0].path.parent} are longer than the rows "
                f"{self.capacity}: the folder was changed by hand. Delete it; it is prepared again."
            )
        if self.pack:
            row_N = packing.pack(lengths_Nx2, self.capacity)
        else:
            row_N = np.arange(len(task_N))
        order_N = np.argsort(row_N, kind="stable")
        return np.stack([row_N, task_N, record_N], axis=1)[order_N]


class _PlanDataset(grain.IterDataset):
    """The plan for Grain: row, task and record of a batch's examples, and the state after it."""

    def __init__(self, plan: _Plan, state: dict):
        super().__init__()
        self.plan = plan
        self.state = state
        self.first, self.step = 0, 1

    def set_slice(self, sl: slice, sequential_slice: bool = False) -> None:
        """Grain's worker i of n takes the batches i, i + n, i + 2n, ..."""
        self.first, self.step = sl.start, sl.step

    def __iter__(self) -> grain.DatasetIterator:
        return _PlanIterator(self.plan, self.state, self.first, self.step)


class _PlanIterator(grain.DatasetIterator):
    def __init__(self, plan: _Plan, state: dict, first: int, step: int):
        super().__init__()
        self._plan, self._step = plan, step
        self.set_state({**state, "ahead": first})

    def __next__(self) -> tuple[np.ndarray, dict]:
        size, (first, last) = self._plan.batch_size, self._plan.rows
        self._take(self._ahead * size + first)
        examples = self._take(last - first)
        self._take(size - last)
        self._ahead = self._step - 1
        return examples, {"window": self._number, "row": self._row}

    def _take(self, count: int) -> np.ndarray:
        """Return row (from 0), task and record of the examples of the next rows, int64 [N, 3]."""
        pieces: list[np.ndarray] = [np.empty((0, 3), np.int64)]
        taken = 0
        while taken < count:
            if self._window is None:
                self._window = self._plan.window(self._number)
            rows = self._window[:, 0]
            number = min(count - taken, int(rows[-1]) + 1 - self._row)
            here = slice(*np.searchsorted(rows, (self._row, self._row + number)))
            pieces.append(self._window[here] + np.array([taken - self._row, 0, 0]))
            self._row += number
            taken += number
            if self._row > rows[-1]:
                self._number, self._row, self._window = self._number + 1, 0, None
        return np.concatenate(pieces)

    # `TrainIterator` takes the position from the elements, whatever prefetches them; Grain may ask
    # here.
    def get_state(self) -> dict:
        """Window, row in it, and how many batches of other workers come before the next one."""
        return {"window": self._number, "row": self._row, "ahead": self._ahead}

    def set_state(self, state: dict) -> None:
        self._number, self._row, self._ahead = state["window"], state["row"], state["ahead"]
        self._window = None


class _Read:
    """Reads planned records and assembles the batch (a class, so that workers can unpickle it)."""

    def __init__(self, plan: _Plan, task_ids: bool):
        self._readers = [shards.Reader(task.path, task.manifest["shards"]) for task in plan.tasks]
        self._rows = plan.rows[1] - plan.rows[0]
        self._capacity = plan.row_lengths
        self._task_ids = task_ids

    def __call__(self, element: tuple[np.ndarray, dict]) -> tuple[Batch, dict]:
        (row_N, task_N, record_N), state = element[0].T, element[1]
        examples = np.empty(len(row_N), object)
        for i in np.unique(task_N):
            here = task_N == i
            examples[here] = self._readers[i].examples(record_N[here], extras=False)
        marks = task_N + 1 if self._task_ids else None
        return assemble(list(examples), row_N, self._rows, self._capacity, marks), state


class TrainIterator(grain.DatasetIterator):
    """The iterator of `train_iterator`. Its state is a small dict of integers and one string."""

    def __init__(self, plan: _Plan, task_ids: bool, num_workers: int):
        super().__init__()
        self._plan = plan
        self._read = _Read(plan, task_ids)
        self._num_workers = num_workers
        self._state = {"window": 0, "row": 0}
        self._running: list[grain.DatasetIterator] = []  # Grain's iterator, once it has started.
        # Ends its threads and processes before the interpreter takes its modules apart.
        weakref.finalize(self, _close, self._running)

    def __next__(self) -> Batch:
        if not self._running:
            self._running.append(self._start())
        batch, self._state = next(self._running[0])
        # Workers hand over shared memory; a copy sets it free at once.
        return Batch(**{key: np.array(value) for key, value in batch.items()})

    def _start(self) -> grain.DatasetIterator:
        dataset = _PlanDataset(self._plan, self._state).map(self._read)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():  # Grain asks absl, which refuses before it has parsed.
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(self._num_workers, BUFFERED_BATCHES)
            return iter(dataset.mp_prefetch(options))
        return iter(
            grain.experimental.ThreadPrefetchIterDataset(
                dataset, prefetch_buffer_size=BUFFERED_BATCHES
            )
        )

    def get_state(self) -> dict:
        """Return the position after the last batch taken, {"window", "row", "order"}."""
        return {**self._state, "order": self._plan.order()}

    def set_state(self, state: dict) -> None:
        """Continue where `get_state` was called; with any number of hosts and workers.

        Raises:
          UserError: the state belongs to other data, seed, lengths or packing.
        """
        if state["order"] != self._plan.order():
            raise errors.UserError(
                "The checkpoint's position in the data does not fit: the prepared data, their "
                "rates, the seed, TASK_FEATURE_LENGTHS or the packing changed since it was saved. "
                "Restore them, or start a new MODEL_DIR with INITIAL_CHECKPOINT_PATH set to this "
                "checkpoint."
            )
        self._stop()
        self._state = {"window": int(state["window"]), "row": int(state["row"])}

    def close(self) -> None:
        self._stop()
        super().close()

    def _stop(self) -> None:
        if _close is not None:  # else the process is ending, and `weakref.finalize` has been here
            _close(self._running)


def _close(running: list[grain.DatasetIterator]) -> None:
    while running:
        running.pop().close()
