# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trials, run by worker processes until a deadline, and the table of how they ended."""

import collections
import dataclasses
import multiprocessing
import pathlib
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

import rich.table

from mto_jax import console

RIGHT, REFUSED = "right", "refused in words"
SILENT, LOST, TRACE = "silent", "lost", "traces"
FAULTS = (SILENT, LOST, TRACE)

_CONTEXT = multiprocessing.get_context("fork")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One thing to try.

    Attributes:
      part: of the campaign.
      name: says what is done, for the table of failures.
      call: does it in a folder that does not exist yet; returns how it ended (`RIGHT`, ...) and
        what was seen.
    """

    part: str
    name: str
    call: Callable[[pathlib.Path], tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a trial ended: `RIGHT`, ...; what was seen, and how long it took."""

    trial: Trial
    ending: str
    seen: str
    seconds: float


def run(
    trials: Sequence[Trial], folder: pathlib.Path, workers: int, deadline: float
) -> Iterator[Ended]:
    """Yield how the trials end, in any order; none is begun after the deadline (monotonic)."""
    following, done = _CONTEXT.Value("q", 0), _CONTEXT.SimpleQueue()
    arguments = (trials, folder, deadline, following, done)
    processes = [_CONTEXT.Process(target=_work, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    while workers:
        if (ended := done.get()) is None:
            workers -= 1
        else:
            index, *rest = ended
            yield Ended(trials[index], *rest)
    for process in processes:
        process.join()


def _work(trials, folder, deadline, following, done) -> None:
    while time.monotonic() < deadline:
        with following.get_lock():
            index = following.value
            following.value += 1
        if index >= len(trials):
            break
        start = time.monotonic()
        place = folder / str(index) / "trial"
        place.parent.mkdir()
        try:
            ending, seen = trials[index].call(place)
        except Exception:
            ending, seen = TRACE, f"the campaign itself failed:\n{traceback.format_exc()}"
        shutil.rmtree(place.parent, ignore_errors=True)
        done.put((index, ending, seen, time.monotonic() - start))
    done.put(None)


def table(ended: Sequence[Ended]) -> rich.table.Table:
    """Counts by part: tried, and how it ended."""
    shown = rich.table.Table()
    columns = ("tried", RIGHT, REFUSED, *FAULTS, "s each")
    shown.add_column("part")
    for name in columns:
        shown.add_column(name, justify="right")
    parts = dict.fromkeys(one.trial.part for one in ended)
    for part in (*parts, "all"):
        rows = [one for one in ended if part in (one.trial.part, "all")]
        counts = collections.Counter(one.ending for one in rows)
        endings = [str(counts[name]) for name in columns[1:-1]]
        each = sum(one.seconds for one in rows) / max(len(rows), 1)
        shown.add_row(part, str(len(rows)), *endings, f"{each:.1f}")
    return shown


def show(ended: Sequence[Ended]) -> None:
    """Print the table."""
    console.wide().print(table(ended))
