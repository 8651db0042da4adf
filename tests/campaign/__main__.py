# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The reliability campaign: `python -m tests.campaign [--minutes N] [--seed S] [--only PART]`.

Kills, damages, malformed input, full disks, two processes at once and repeated commands, on models
and data made for it. Prints how they ended; the status is 1 if anything was wrong in silence, was
lost, or ended in a trace. docs/reliability.md says what is tried and what counts as right.
"""

import argparse
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

from mto_jax import console
from tests.campaign import (
    damage,
    full_disk,
    kills,
    malformed,
    malformed_files,
    malformed_gin,
    malformed_parameters,
    process,
    repeats,
    trials,
)
from tests.campaign import undisturbed as undisturbed_runs
from tests.campaign import world as worlds
from tests.campaign.trials import Ended, Trial

PARTS = ("kills", "damage", "malformed", "full_disk", "two_at_once", "twice")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="begin no trial after so many")
    parser.add_argument("--seed", type=int, default=0, help="of moments, places and order")
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given several times")
    parser.add_argument("--kills", type=int, default=17, help="of each verb")
    parser.add_argument("--damages", type=int, default=67, help="of each kind of file")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trials at once")
    parser.add_argument("--match", default="", help="only trials whose names hold this")
    options = parser.parse_args()
    start = time.monotonic()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="campaign-"))
    # Programs compiled once are read back by all trials.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    process.import_all()
    todo = _trials(folder, options)
    print(f"{len(todo)} trials, seed {options.seed}, in {folder}", flush=True)
    ended = []
    deadline = start + 60 * options.minutes
    (folder / "trials").mkdir()
    with console.progress_bar("campaign", len(todo)) as advance:
        for one in trials.run(todo, folder / "trials", options.workers, deadline):
            ended.append(one)
            advance(1)
            if one.ending in trials.FAULTS:
                _write(one, folder / "failures", len(ended))
    trials.show(ended)
    print(f"{len(ended)} of {len(todo)} trials in {(time.monotonic() - start) / 60:.1f} minutes")
    failures = sum(one.ending in trials.FAULTS for one in ended)
    if failures:
        print(f"{failures} failures: the command and output of each are in {folder / 'failures'}")
    else:
        shutil.rmtree(folder)
    return int(failures > 0)


def _trials(folder: pathlib.Path, options: argparse.Namespace) -> list[Trial]:
    """The trials in random order, so that those before the deadline are a fair sample."""
    parts = options.only or PARTS
    draw = random.Random(options.seed)
    worlds.make(folder / "world")
    wanted = ("convert",) if {*parts} == {"malformed"} else None
    undisturbed = undisturbed_runs.run(folder / "world", folder / "undisturbed", wanted)
    verbs = list(undisturbed.values())
    todo: list[Trial] = []
    if "kills" in parts:
        todo += kills.of(verbs, options.kills, draw)
    if "damage" in parts:
        todo += damage.of(damage.ready(undisturbed, folder / "readings"), options.damages, draw)
    if "malformed" in parts:
        rows = [*malformed_parameters.rows(), *malformed_gin.rows(), *malformed_files.rows()]
        todo += malformed.of(rows, undisturbed["convert"].folder)
    if "full_disk" in parts:
        todo += full_disk.of(verbs, 4, draw)
    if "two_at_once" in parts:
        todo += repeats.at_once(verbs, 3, draw)
    if "twice" in parts:
        todo += repeats.twice(verbs)
    todo = [trial for trial in todo if options.match in trial.name]
    draw.shuffle(todo)
    return todo


def _write(one: Ended, folder: pathlib.Path, number: int) -> None:
    """Write a failure to a file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:04d}-{one.trial.part.replace(' ', '_')}-{one.ending}.txt"
    path.write_text(f"{one.trial.name}\n{one.ending}\n\n{one.seen}\n")


if __name__ == "__main__":
    sys.exit(main())
