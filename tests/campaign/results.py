# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The result of a command, as far as two runs of it must agree."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from mto_jax import files
from tests.campaign import process
from tests.campaign.world import Verb

# Measured by the clock, or a digest of something that was, or a place on the disk.
_VOLATILE = {"seconds", "host", "finished", "created", "digest", "report", "input_files"}
_VOLATILE |= {"seconds_of_a_cell"}
_SUFFIXES = (".json", ".jsonl", ".md", ".csv", ".tex", ".gin", ".safetensors", ".model", ".npy")
_SUFFIXES += (".array_record",)
# For people, or with a date in it; of checkpoints the newest is read by `mto convert`.
_SKIPPED = (
    "checkpoints",
    "damaged",
    "events.",
    "model-info",
    "config.gin",
    "operative_config",
    "README",
    "seconds.",  # the table of what cells took
)


def of(verb: Verb, folder: pathlib.Path, since: int = -1) -> dict[str, Any]:
    """The content of what a verb wrote, by file; of a training also the parameters.

    Args:
      verb: whose output it is.
      folder: the working directory of the command.
      since: of a training: only the log after this step.
    """
    output = folder / verb.output
    paths = [output] if output.is_file() else sorted(output.rglob("*"))
    content = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        parts = path.relative_to(folder).parts
        skipped = any(part.startswith((".", *_SKIPPED)) for part in parts)
        if path.is_file() and path.suffix in _SUFFIXES and not skipped:
            content[name] = _content(path, since)
    if (output / "checkpoints").is_dir():
        content["parameters"] = _parameters(verb, folder)
    return content


def _content(path: pathlib.Path, since: int) -> Any:
    try:
        if path.suffix == ".json":
            return _stable(json.loads(path.read_text()))
        if path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            return [_stable(row) for row in rows if row["step"] > since]
    except (ValueError, KeyError, TypeError):
        return "unreadable"
    return files.file_digest(path)


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _stable(item)
            for key, item in value.items()
            if key not in _VOLATILE and not key.startswith("speed/")
        }
    return [*map(_stable, value)] if isinstance(value, list) else value


def _parameters(verb: Verb, folder: pathlib.Path) -> str:
    """The digest of the newest checkpoint's parameters, or why there are none."""
    argv = ("convert", f"--from={verb.output}", "--to=hf", f"--output=read-{verb.name}")
    said = process.run(argv, folder)
    path = folder / f"read-{verb.name}" / "model.safetensors"
    return files.file_digest(path) if path.exists() else said.output


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """The files in which two results differ; empty if they are the same."""
    names = sorted(expected.keys() | found.keys())
    return ", ".join(name for name in names if expected.get(name) != found.get(name))


def finished(patterns: Sequence[str], folder: pathlib.Path) -> dict[str, int]:
    """When each file of finished work was written."""
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in paths}


def made_again(before: dict[str, int], folder: pathlib.Path) -> list[str]:
    """The files of finished work that were written again since."""
    return [
        name
        for name, time in before.items()
        if (folder / name).exists() and (folder / name).stat().st_mtime_ns != time
    ]
