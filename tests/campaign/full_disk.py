# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The disk is full at some byte of a command's output: said in words; with room again, it ends."""

import contextlib
import functools
import os
import pathlib
import random
import resource
import subprocess
from collections.abc import Iterable, Iterator

from tests.campaign import kills, process, world
from tests.campaign.trials import REFUSED, RIGHT, TRACE, Trial
from tests.campaign.undisturbed import Undisturbed


def mounts() -> bool:
    """Whether a tmpfs may be mounted here."""
    folder = pathlib.Path(os.environ.get("TMPDIR", "/tmp"), f"campaign-mount-{os.getpid()}")
    folder.mkdir()
    with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
        with _tmpfs(folder, 1 << 20):
            pass
        folder.rmdir()
        return True
    folder.rmdir()
    return False


@contextlib.contextmanager
def _tmpfs(folder: pathlib.Path, size: int) -> Iterator[None]:
    options = f"size={size}"
    quiet = {"check": True, "capture_output": True}
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "campaign", folder], **quiet)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], **quiet)


def of(verbs: Iterable[Undisturbed], count: int, draw: random.Random) -> Iterator[Trial]:
    """Each verb's command, so many times, with room for a part of what it writes.

    Where no tmpfs may be mounted, single files are limited instead (RLIMIT_FSIZE).
    """
    mounted = mounts()
    for verb in verbs:
        for _ in range(count):
            part = draw.random()
            if mounted:
                call = functools.partial(_on_tmpfs, verb, part)
                name = f"mto {verb.verb.name} on a tmpfs with room for {part:.0%} of its output"
            else:
                call = functools.partial(_limited, verb, part)
                name = f"mto {verb.verb.name}, files of {part:.0%} of its largest at most"
            yield Trial("full disk", name, call)


def _size(folder: pathlib.Path) -> int:
    """Bytes of a folder, in pages of 4096."""
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))


def _on_tmpfs(verb: Undisturbed, part: float, folder: pathlib.Path) -> tuple[str, str]:
    before, after = _size(verb.start), _size(verb.folder)
    folder.mkdir()
    with _tmpfs(folder, before + int((after - before) * part) + (64 << 10)):
        place = world.copy(verb.start, folder / "trial")
        outcome = process.run(verb.verb.argv, place, log=folder.parent / "log")
        remount = f"remount,size={4 * after + (1 << 20)}"
        subprocess.run(["mount", "-o", remount, folder], check=True, capture_output=True)
        return _judge(verb, place, outcome)


def _limited(verb: Undisturbed, part: float, folder: pathlib.Path) -> tuple[str, str]:
    world.copy(verb.start, folder)
    largest = max(p.stat().st_size for p in verb.folder.rglob("*") if p.is_file())
    limit = 8192 + int(part * largest)
    before = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    return _judge(verb, folder, process.run(verb.verb.argv, folder, before))


def _judge(verb: Undisturbed, folder: pathlib.Path, outcome) -> tuple[str, str]:
    seen = f"first: {outcome.status}\n{outcome.output}"
    if outcome.traced or (outcome.status and not outcome.refused):
        return TRACE, seen
    left = [path.name for path in folder.rglob(f".*.{os.uname().nodename}.*")]
    if left:
        return TRACE, f"temporary files stay: {left}\n{seen}"
    ending, seen = kills.again(verb, folder, seen)
    return (ending if ending != RIGHT or outcome.status == 0 else REFUSED), seen
