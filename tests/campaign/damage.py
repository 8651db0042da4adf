# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A file is damaged; who reads it refuses it by name, or does as well without it."""

import dataclasses
import functools
import pathlib
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.campaign import process, results, world
from tests.campaign.trials import REFUSED, RIGHT, SILENT, TRACE, Trial
from tests.campaign.undisturbed import Undisturbed
from tests.campaign.world import VERBS, Verb

_BY_NAME = {verb.name: verb for verb in VERBS}

# Nothing reads them: locks, and what is for people or written for other programs.
_NOT_READ = ("*.lock", "events.*", "*.png", "*.pdf", "*.svg", "*.tex", "*.csv", "index.html")
_NOT_READ += ("*.md", "model-info.txt", "metrics.jsonl")


@dataclasses.dataclass(frozen=True)
class Reading:
    """A command that reads what another has written.

    Attributes:
      title: of what is damaged, in the table.
      writer: the verb after which it is damaged.
      files: patterns of the files to damage.
      reader: the command that reads them.
      gone: removed before it reads: what it would else take in place of what is damaged.
      kinds: of damage; no digest vouches for gin files, which people edit, and foreign folders.
    """

    title: str
    writer: str
    files: str
    reader: Verb
    gone: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("flip", "flip", "cut", "delete", "zeros")


def _more(name: str, *flags: str) -> Verb:
    verb = _BY_NAME[name]
    return dataclasses.replace(verb, flags=(*verb.flags, *flags))


READINGS = (
    Reading("a model, converted", "infer", "model/**/*", _BY_NAME["convert"]),
    Reading("a model, asked", "convert", "model/**/*", _BY_NAME["infer"]),
    Reading("prepared data", "prepare", "prepared/**/*", _BY_NAME["train"]),
    Reading("a run, resumed", "train", "trained/**/*", _more("train", "--gin.TRAIN_STEPS=14")),
    Reading(
        "a run, converted",
        "train",
        "trained/**/*",
        Verb("convert", ("--from=trained", "--to=hf", "--output=converted"), "converted"),
    ),
    Reading(
        "pairs", "adapt", "adapted/adaptation/*", _BY_NAME["adapt"], gone=("adapted/checkpoints",)
    ),
    Reading("scores of a match", "match", "matched/**/*.json", _BY_NAME["match"]),
    Reading(
        "a mapping",
        "match",
        "matched/*.gin",
        _more("adapt", "--gin_file=matched/mapping.gin", "--gin.OBJECTIVE=None", "--gin.TASK=uses"),
        kinds=("cut", "delete"),
    ),
    Reading("cells and adapters", "tune", "tuned/**/*", _BY_NAME["tune"]),
    Reading("cells of a grid", "tables", "tabled/**/*", _BY_NAME["tables"]),
    Reading("rows before a kill", "infer", "answers.jsonl.part*", _BY_NAME["infer"]),
    Reading("an evaluation", "evaluate", "evaluated/**/*", _BY_NAME["evaluate"]),
    Reading(
        "a foreign folder",
        "convert",
        "converted/*",
        _more("infer", "--gin.MODEL_DIR=converted"),
        kinds=("cut", "delete"),
    ),
)


@dataclasses.dataclass(frozen=True)
class Ready:
    """A reading with the folder that it reads and what it makes of it undamaged."""

    reading: Reading
    folder: pathlib.Path
    result: Mapping[str, Any]


def ready(undisturbed: Mapping[str, Undisturbed], folder: pathlib.Path) -> list[Ready]:
    """Let every reading whose writer has run read what is undamaged.

    Raises:
      RuntimeError: a reading fails.
    """
    readings = [reading for reading in READINGS if reading.writer in undisturbed]
    starts = [undisturbed[reading.writer].folder for reading in readings]
    places = [folder / str(number) for number in range(len(readings))]
    with process.pool() as pool:
        return list(pool.map(_ready, readings, starts, places))


def _ready(reading: Reading, written: pathlib.Path, folder: pathlib.Path) -> Ready:
    start = world.copy(written, folder / "start")
    for name in reading.gone:
        world.remove(start / name)
    if reading.title == "rows before a kill":
        _interrupt(reading.reader, start)
    place = world.copy(start, folder / "read")
    outcome = process.run(reading.reader.argv, place)
    if outcome.status != 0:
        raise RuntimeError(f"{reading.title}: {outcome.status}: {outcome.output}")
    if (place / "prepared").exists():  # so that damaged trials need not prepare data themselves
        shutil.copytree(place / "prepared", start / "prepared", dirs_exist_ok=True)
    return Ready(reading, start, _result(reading, place))


def _interrupt(verb: Verb, folder: pathlib.Path) -> None:
    """Kill `mto infer` after its first rows."""
    world.remove(folder / verb.output)
    command = process.Command(verb.argv, folder)
    while not list(folder.glob(f"{verb.output}.part.json")):
        time.sleep(0.01)
    command.kill(0)
    command.outcome()


def _result(reading: Reading, folder: pathlib.Path) -> dict[str, Any]:
    resumed = reading.title == "a run, resumed"
    return results.of(reading.reader, folder, since=12 if resumed else -1)


def of(readings: Iterable[Ready], count: int, draw: random.Random) -> Iterator[Trial]:
    """So many damages of each reading, spread evenly over its files."""
    for ready in readings:
        files = sorted(
            path.relative_to(ready.folder).as_posix()
            for path in ready.folder.glob(ready.reading.files)
            if path.is_file() and not any(path.match(pattern) for pattern in _NOT_READ)
        )
        draw.shuffle(files)
        for number in range(count):
            file = files[number % len(files)]
            kind = draw.choice(ready.reading.kinds)
            name = f"{ready.reading.title}: {kind} {file}"
            call = functools.partial(_damage, ready, file, kind, draw.getrandbits(32))
            yield Trial("damages", name, call)


def _damage(ready: Ready, file: str, kind: str, seed: int, folder: pathlib.Path) -> tuple[str, str]:
    world.copy(ready.folder, folder)
    what = _spoil(folder / file, kind, random.Random(seed))
    outcome = process.run(ready.reading.reader.argv, folder)
    seen = f"{what}\n{outcome.status}\n{outcome.output}"
    if outcome.traced:
        return TRACE, seen
    if outcome.status != 0:
        named = outcome.refused and _named(file, outcome.output.rpartition("error: ")[2])
        return (REFUSED, seen) if named else (TRACE, f"the file is not named\n{seen}")
    result = _result(ready.reading, folder)
    expected = {name: value for name, value in ready.result.items() if name != file}
    result.pop(file, None)
    different = results.difference(expected, result)
    if different and "is damaged" in outcome.output and _named(file, outcome.output):
        return REFUSED, f"it took an older checkpoint, and said so\n{seen}"
    if different:
        return SILENT, f"differs in {different}\n{seen}"
    return RIGHT, seen


def _spoil(path: pathlib.Path, kind: str, draw: random.Random) -> str:
    """Damage a file; returns what was done."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(max(len(content), 1))
    if kind == "delete" or not content:
        path.unlink()
        return "deleted"
    if kind == "cut":
        path.write_bytes(content[:place])
        return f"cut to {place} of {len(content)} bytes"
    if kind == "zeros":  # a page that did not reach the disk
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    else:
        content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"{kind} at byte {place} of {len(content)}"


def _named(file: str, text: str) -> bool:
    """Whether a text names the file, or the folder that holds it."""
    path = pathlib.PurePosixPath(file)
    folders = [str(parent) for parent in path.parents if len(parent.parts) > 1]
    return any(name in text for name in (path.name, *folders))
