# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What every verb does when nothing disturbs it: what all other trials are compared with."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from tests.campaign import process, results
from tests.campaign.world import VERBS, Verb, copy, remove


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """A verb's command, run to its end.

    Attributes:
      verb: the verb.
      start: the folder before the command, with what it reads.
      folder: the folder after it.
      result: what it wrote.
      seconds: that it takes when its programs are compiled.
    """

    verb: Verb
    start: pathlib.Path
    folder: pathlib.Path
    result: Mapping[str, Any]
    seconds: float


def run(
    world: pathlib.Path, folder: pathlib.Path, only: Iterable[str] | None = None
) -> dict[str, Undisturbed]:
    """Run every verb twice, each time in a fresh folder, the first time to compile its programs.

    Raises:
      RuntimeError: a command fails, or its two runs differ.
    """
    wanted = {verb.name for verb in VERBS} if only is None else set(only)
    wanted |= {name for verb in VERBS if verb.name in wanted for name in verb.needs}
    done: dict[str, Undisturbed] = {}
    while missing := [verb for verb in VERBS if verb.name in wanted - done.keys()]:
        next_ones = [verb for verb in missing if done.keys() >= {*verb.needs}]
        starts = [done[verb.needs[0]].folder if verb.needs else world for verb in next_ones]
        with process.pool() as pool:
            made = pool.map(_twice, next_ones, starts, [folder] * len(starts))
            done |= {result.verb.name: result for result in made}
    return {verb.name: done[verb.name] for verb in VERBS if verb.name in done}


def _twice(verb: Verb, start: pathlib.Path, folder: pathlib.Path) -> Undisturbed:
    runs = []
    for number in range(2):
        if runs:  # from now on the data that it reads are prepared
            start = copy(runs[0][0], folder / f"{verb.name}-start")
            remove(start / verb.output)
        place = copy(start, folder / f"{verb.name}-{number}")
        outcome = process.run(verb.argv, place)
        if outcome.status != 0:
            raise RuntimeError(f"mto {verb.name} ended with {outcome.status}: {outcome.output}")
        runs.append((place, results.of(verb, place), outcome.seconds))
    (_, first, _), (place, second, seconds) = runs
    if different := results.difference(first, second):
        raise RuntimeError(f"two runs of mto {verb.name} differ in {different}")
    return Undisturbed(verb, start, place, second, seconds)


def judge(undisturbed: Undisturbed, folder: pathlib.Path) -> str:
    """What differs from the undisturbed result; empty if nothing does."""
    return results.difference(undisturbed.result, results.of(undisturbed.verb, folder))
