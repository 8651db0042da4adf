# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The same command twice, one after the other or both at once, in one folder."""

import functools
import pathlib
import random
from collections.abc import Iterable, Iterator

from tests.campaign import process, results, undisturbed, world
from tests.campaign.trials import LOST, REFUSED, RIGHT, SILENT, TRACE, Trial
from tests.campaign.undisturbed import Undisturbed


def twice(verbs: Iterable[Undisturbed]) -> Iterator[Trial]:
    """Each verb's command once more after it has ended."""
    for verb in verbs:
        call = functools.partial(_twice, verb)
        yield Trial("twice", f"mto {verb.verb.name}, twice", call)


def _twice(verb: Undisturbed, folder: pathlib.Path) -> tuple[str, str]:
    world.copy(verb.folder, folder)
    finished = results.finished(verb.verb.finished, folder)
    outcome = process.run(verb.verb.argv, folder)
    if outcome.traced:
        return TRACE, outcome.output
    if different := undisturbed.judge(verb, folder):
        return SILENT, f"differs in {different}\n{outcome.output}"
    if made_again := results.made_again(finished, folder):
        return LOST, f"made again: {made_again}\n{outcome.output}"
    return REFUSED if outcome.refused else RIGHT, outcome.output


def at_once(verbs: Iterable[Undisturbed], count: int, draw: random.Random) -> Iterator[Trial]:
    """Each verb's command beside itself, so many times, the second begun a moment later."""
    for verb in verbs:
        for _ in range(count):
            delay = draw.uniform(0, verb.seconds)
            name = f"mto {verb.verb.name}, a second one {delay:.2f} s later"
            yield Trial("two at once", name, functools.partial(_at_once, verb, delay))


def _at_once(verb: Undisturbed, delay: float, folder: pathlib.Path) -> tuple[str, str]:
    world.copy(verb.start, folder)
    first = process.Command(verb.verb.argv, folder)
    first.wait(delay)
    second = process.Command(verb.verb.argv, folder)
    outcomes = [first.outcome(), second.outcome()]
    seen = "\n".join(f"{outcome.status}\n{outcome.output}" for outcome in outcomes)
    if any(outcome.traced for outcome in outcomes):
        return TRACE, seen
    refused = [outcome.refused for outcome in outcomes]
    if all(refused) or any(o.status != 0 for o in outcomes if not o.refused):
        return LOST, seen
    if different := undisturbed.judge(verb, folder):
        return SILENT, f"differs in {different}\n{seen}"
    return REFUSED if any(refused) else RIGHT, seen
