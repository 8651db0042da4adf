# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A command is killed at a random moment; started again, it ends as if nothing had been."""

import functools
import pathlib
import random
from collections.abc import Iterable, Iterator

from tests.campaign import process, results, undisturbed, world
from tests.campaign.trials import LOST, RIGHT, SILENT, TRACE, Trial
from tests.campaign.undisturbed import Undisturbed


def of(verbs: Iterable[Undisturbed], count: int, draw: random.Random) -> Iterator[Trial]:
    """So many kills of each verb."""
    for verb in verbs:
        for _ in range(count):
            after = draw.uniform(0, verb.seconds)
            name = f"mto {verb.verb.name}, killed after {after:.2f} s"
            yield Trial("kills", name, functools.partial(_kill, verb, after))


def _kill(verb: Undisturbed, after: float, folder: pathlib.Path) -> tuple[str, str]:
    world.copy(verb.start, folder)
    command = process.Command(verb.verb.argv, folder)
    command.kill(after)
    killed = command.outcome()
    return again(verb, folder, f"first: {killed.status}\n{killed.output}")


def again(verb: Undisturbed, folder: pathlib.Path, before: str) -> tuple[str, str]:
    """Run a command that was interrupted again, and judge its result."""
    finished = results.finished(verb.verb.finished, folder)
    outcome = process.run(verb.verb.argv, folder)
    seen = f"{before}\nagain: {outcome.status}\n{outcome.output}"
    if outcome.traced:
        return TRACE, seen
    different = undisturbed.judge(verb, folder)
    if outcome.status != 0 and (different or not outcome.refused):
        return LOST, seen
    if different:
        return SILENT, f"differs in {different}\n{seen}"
    if made_again := results.made_again(finished, folder):
        return LOST, f"made again: {made_again}\n{seen}"
    return RIGHT, seen
