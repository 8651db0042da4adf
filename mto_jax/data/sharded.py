# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Preparation shard by shard: on several cores or hosts, and on after a kill.

A shard of a task's source (a file, as a rule) becomes a part: a folder with ArrayRecord files,
lengths and a record of what was counted. Any process that sees the folder of prepared data can
make one; a part that is there is not made again. The files of all parts are then linked into one
folder.
"""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import seqio

from mto_jax.data import manifest, prepare, shards
from mto_jax.data.dataset import DatasetConfig
from mto_jax.data.summary import MOST_REFERENCES, Summary
from mto_jax.errors import UserError
from mto_jax.files import read_record, write_record
from mto_jax.text2text.text_files import Hashes, held_out_of
from mto_jax.text2text.text_source import TextSource

# Calls a function of a module with each of some texts, anywhere, in any order.
Run = Callable[[Callable[[str], None], Sequence[str]], None]

RECORD = "part.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part that some process is to make, as JSON.

    Attributes:
      path: its folder.
      config: fields of the `DatasetConfig`.
      bindings: gin statements.
      shard: which one of the source.
      count: shards of the source.
      number: of the pass.
      held_out: see `TextSource`; None for another source.
    """

    path: str
    config: dict[str, Any]
    bindings: list[str]
    shard: int
    count: int
    number: int = 0
    held_out: int | None = None

    @property
    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def writer(run: Run) -> prepare.Write:
    """Returns what `prepare.prepare` writes with, where `run` has parts made."""
    return functools.partial(_write, run)


def _write(
    run: Run, config: DatasetConfig, task: seqio.Task, folder: pathlib.Path, parts: pathlib.Path
) -> dict:
    """Makes the parts that are missing, and links all of them into `folder`.

    The first examples of all, `config.limit`, are taken in this process: no shard knows them.
    """
    count = len(task.source.list_shards(config.split))
    bindings = manifest.bindings(config)

    def part(name: str, shard: int, **options: Any) -> Part:
        path = parts / f"{name}-{shard:05d}-of-{count:05d}"
        return Part(str(path), dataclasses.asdict(config), bindings, shard, count, **options)

    parts.mkdir(parents=True, exist_ok=True)
    held_out = None
    if isinstance(task.source, TextSource):
        hashed = [part("hashes", shard) for shard in range(count)]
        _make(run, make_hashes, hashed, f"{task.name}: which documents are held out")
        held_out = held_out_of(Hashes(**_record(one)["hashes"]) for one in hashed)
        task.source.held_out = held_out
    if config.limit is not None:
        return prepare.write_examples(config, task, folder, parts)
    made = [
        part(f"pass{number}", shard, number=number, held_out=held_out)
        for number in range(config.passes)
        for shard in range(count)
    ]
    _make(run, make_examples, made, f"{task.name} ({config.split})")
    return _join(config, task, made, folder)


def _make(
    run: Run, function: Callable[[str], None], parts: Sequence[Part], description: str
) -> None:
    """Has those parts made that are not there."""
    missing = [part for part in parts if not os.path.exists(part.path)]
    print(f"{description}: {len(missing)} of {len(parts)} shards to do", flush=True)
    if missing:
        run(function, [part.text for part in missing])
    lost = [part.path for part in parts if not os.path.exists(part.path)]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(parts)} shards are not where they should be, such as {lost[0]}: "
            "every worker has to see the folder of prepared data (MTO_CACHE_DIR, "
            "DatasetConfig.prepared_dir)."
        )


def make_hashes(text: str) -> None:
    """Makes a part with the hashes of a shard's documents, for those that are held out."""
    part, _, task = _read(text)
    source = task.source
    assert isinstance(source, TextSource)
    _fill(part, lambda folder: {"hashes": source.hashes(part.shard)._asdict()})


def make_examples(text: str) -> None:
    """Makes a part with the examples of a shard."""
    part, config, task = _read(text)
    if isinstance(task.source, TextSource):
        task.source.held_out = part.held_out
    summary = Summary(config, task.name, task.metric_fns)
    most = max(1, MOST_REFERENCES // part.count)
    shard = seqio.ShardInfo(part.shard, part.count) if part.count > 1 else None

    def encoded() -> Iterator[bytes]:
        for example in prepare.examples(config, task, part.number, shard):
            if summary.take(example):
                yield shards.encode(example)

    def fill(folder: pathlib.Path) -> dict[str, Any]:
        counts = shards.write(folder, encoded())
        np.save(folder / manifest.LENGTHS, summary.lengths())
        state = summary.state()
        return {"shards": counts, "summary": state | {"references": state["references"][:most]}}

    _fill(part, fill)


def _fill(part: Part, fill: Callable[[pathlib.Path], dict[str, Any]]) -> None:
    """Makes a part at once or not at all; `fill` writes its files and returns its record."""
    path = pathlib.Path(part.path)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        write_record(temporary / RECORD, fill(temporary))
        temporary.rename(path)
    except OSError:
        if not path.exists():  # else another process has made it meanwhile
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(text: str) -> tuple[Part, DatasetConfig, seqio.Task]:
    part = Part(**json.loads(text))
    _bind(tuple(part.bindings))
    config = DatasetConfig(**part.config)
    prepare.register(config)
    return part, config, seqio.TaskRegistry.get(config.mixture_or_task_name)


@functools.cache  # a worker is asked for many parts of a task
def _bind(statements: tuple[str, ...]) -> None:
    prepare.bind(statements)


def _record(part: Part) -> dict[str, Any]:
    return read_record(pathlib.Path(part.path) / RECORD)


def _join(
    config: DatasetConfig, task: seqio.Task, parts: Sequence[Part], folder: pathlib.Path
) -> dict:
    """Links the files of all parts into `folder`; lengths go from file to file."""
    records = [_record(part) for part in parts]
    sizes = [sum(record["shards"].values()) for record in records]
    counts: dict[str, int] = {}
    summary = Summary(config, task.name, task.metric_fns)
    shape = (sum(sizes), len(prepare.FEATURES))
    lengths = np.lib.format.open_memmap(folder / manifest.LENGTHS, "w+", np.int32, shape)
    end = 0
    for part, record, size in zip(parts, records, sizes, strict=True):
        for name, count in record["shards"].items():
            joined = f"data-{len(counts):05d}.array_record"
            _link(os.path.join(part.path, name), folder / joined)
            counts[joined] = count
        lengths[end : end + size] = np.load(os.path.join(part.path, manifest.LENGTHS))
        end += size
        summary.add(record["summary"])
    lengths.flush()
    summary.measure(lengths)
    passes = np.reshape(sizes, (config.passes, -1)).sum(axis=1).tolist()
    return prepare.described(config, task, summary, passes, counts)


def _link(source: str, target: pathlib.Path) -> None:
    """Gives a file a second name; copies it where there is no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
