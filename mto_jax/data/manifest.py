# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Manifests of prepared data, and whether the data still belong to a configuration.

No TensorFlow here: a training process decides by itself whether what lies on disk is what it wants.
A prepared data set is a folder NAME-SPLIT-CONFIGURATION-SOURCES. Its manifest lists what the data
were made from: the definitions in code that the task depends on (`mto_jax.sources`), the gin
parameters of these modules, and the raw input files. It is fresh as long as none of them differs.
Nothing is ever overwritten: other code, parameters or files make another folder.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import gin
import gin.config
import numpy as np

from mto_jax import config as gin_files
from mto_jax import errors, sources
from mto_jax.data import packing
from mto_jax.data.dataset import DatasetConfig
from mto_jax.files import digest, file_digest, read_record
from mto_jax.frames import frame
from mto_jax.text2text import vocabulary

# Version of the folders' content, apart from the examples: raised when this room writes other
# files.
FORMAT = 2
MANIFEST = "manifest.json"
LENGTHS = "lengths.npy"
# The packages and modules of MTO-JAX that decide what an example looks like.
PACKAGES = (
    "mto_jax.text2text",
    "mto_jax.tasks",
    "mto_jax.adaptation.tasks",
    "mto_jax.adaptation.pairs",
)
# Files up to this size are compared by content when their time stamp differs.
HASHED_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared data set on disk.

    Attributes:
      path: its folder.
      manifest: what manifest.json holds.
      members: the tasks of a mixture; empty for a task.
    """

    path: pathlib.Path
    manifest: Mapping
    members: tuple["Prepared", ...] = ()

    @property
    def tasks(self) -> tuple["Prepared", ...]:
        """The tasks it consists of: the members of a mixture, or itself."""
        return self.members or (self,)

    @property
    def name(self) -> str:
        """Name of the SeqIO task or mixture."""
        return self.manifest["task"]

    @property
    def split(self) -> str:
        return self.manifest["split"]

    @property
    def task_feature_lengths(self) -> dict[str, int]:
        """{"inputs": S, "targets": T}: the most tokens of an example, and a packed row's."""
        return dict(self.manifest["task_feature_lengths"])

    @property
    def row_lengths(self) -> dict[str, int]:
        """{"inputs": S, "targets": T} of rows with one example each.

        They hold the longest example, rounded up by `packing.bucket`, but for the limits above.

        Raises:
          UserError: see `check_lengths`.
        """
        self.check_lengths()
        longest_2 = np.max([task.lengths().max(axis=0) for task in self.tasks], axis=0)
        limits = self.task_feature_lengths.items()
        return {
            name: min(packing.bucket(int(length)), limit)
            for (name, limit), length in zip(limits, longest_2, strict=True)
        }

    @property
    def rates(self) -> tuple[float, ...]:
        """Relative rate of each of `tasks`, in examples."""
        return tuple(self.manifest.get("rates", (1.0,)))

    @property
    def num_examples(self) -> int:
        """Records of all tasks; several passes count several times."""
        return sum(task.manifest["num_examples"] for task in self.tasks)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The tasks' metric functions as "module:function"."""
        return tuple(dict.fromkeys(m for task in self.tasks for m in task.manifest["metrics"]))

    @property
    def vocabulary(self) -> dict[str, str]:
        """{"name": ..., "digest": ...} of the vocabulary that made the token ids."""
        return dict(self.manifest["vocabulary"])

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row a task, its examples and the tokens of a feature."""
        return frame(
            {"task": task.name, "split": task.split, "examples": task.num_examples}
            | {
                f"{feature} {name}": value
                for feature, sizes in task.manifest["features"].items()
                for name, value in sizes.items()
            }
            for task in self.tasks
        )

    def lengths(self) -> np.ndarray:
        """int32 [N, 2] tokens of inputs and targets of each record (one task; read lazily)."""
        return np.load(self.path / LENGTHS, mmap_mode="r")

    def check_lengths(self) -> None:
        """Raises a UserError unless the `lengths` of every task are as they were written."""
        for task in self.tasks:
            try:
                lengths = np.ascontiguousarray(task.lengths())
                whole = digest(lengths.data) == task.manifest["lengths_digest"]
            except Exception:  # NumPy reads a damaged header as Python
                whole = False
            if not whole:
                raise errors.UserError(
                    f"{task.path / LENGTHS} is not as it was written. Delete the folder "
                    f"{task.path}; it is prepared again on the next start."
                )


def identity(config: DatasetConfig) -> dict:
    """Return what names a prepared data set: its configuration and vocabulary.

    Raises:
      UserError: the vocabulary or the user's module is not there.
    """
    for module in config.modules:
        sources.find_module(module)
    return {
        "format": FORMAT,
        "task": config.mixture_or_task_name,
        "split": config.split,
        "lengths": dict(config.task_feature_lengths),
        "seed": config.seed,
        "passes": config.passes,
        "limit": config.limit,
        "too_long": config.too_long,
        "module": config.modules,
        "vocabulary": vocabulary.vocabulary().digest,
    }


def packages(config: DatasetConfig) -> list[str]:
    """Return the packages whose code counts: ours, the user's, and modules beside the user's."""
    names = [name.partition(".")[0] for name in config.modules]
    for name in config.modules:
        path = sources.find_module(name)
        beside = path.parents[name.count(".") + (path.name == "__init__.py")]
        names += [module.stem for module in beside.glob("*.py")]
    return [*PACKAGES, *names]


def bindings(config: DatasetConfig, code: Iterable[str] | None = None) -> list[str]:
    """Return gin statements for configurables that make examples, sorted, macros resolved.

    Args:
      code: definitions, "module:name"; only configurables of their modules count. None means all.
    """
    within = packages(config)
    modules = None if code is None else {reference.partition(":")[0] for reference in code}
    statements = []
    for scope, selector in gin_files.bound():
        module = selector.rpartition(".")[0]
        if modules is None:
            counts = any(f"{module}.".startswith(f"{package}.") for package in within)
        else:
            counts = module in modules
        if counts:
            name = f"{scope}/{selector}" if scope else selector
            for parameter, value in gin.get_bindings(name, inherit_scopes=False).items():
                statements.append(f"{name}.{parameter} = {value!r}")
    # MTO-JAX's own first: a user's module may ask for the vocabulary when it is imported.
    return sorted(statements, key=lambda s: ("mto_jax." not in s.partition(" = ")[0], s))


def parameters(config: DatasetConfig, code: Iterable[str]) -> list[str]:
    """Return the gin statements that `code` depends on; the vocabulary counts by content."""
    vocabulary_name = "mto_jax.text2text.vocabulary."
    return [line for line in bindings(config, code) if vocabulary_name not in line]


def prefix(config: DatasetConfig) -> str:
    """Return the folder's name up to the part that stands for code, parameters and input files."""
    key = digest(json.dumps(identity(config), sort_keys=True).encode())[:12]
    return f"{_slug(config)}{key}"


def _slug(config: DatasetConfig) -> str:
    return re.sub(r"[^\w.-]", "_", f"{config.mixture_or_task_name}-{config.split}") + "-"


def find(config: DatasetConfig) -> Prepared | None:
    """Return the fresh prepared data of this configuration, or None."""
    folders = config.directory.glob(f"{prefix(config)}-*/{MANIFEST}")
    for path in sorted(folders, key=lambda p: p.stat().st_mtime_ns, reverse=True):
        prepared = read(path.parent)
        if not _changes(config, prepared):
            return prepared
    return None


def _changes(config: DatasetConfig, prepared: Prepared) -> list[str]:
    """Returns what differs from the origin of the data and of a mixture's members."""
    changes = []
    for part in dict.fromkeys((prepared.path, *(task.path for task in prepared.tasks))):
        made_from = read(part).manifest
        changes += [f"{name.rstrip(':')} changed" for name in sources.changed(made_from["code"])]
        lines = set(made_from["gin"]) ^ set(parameters(config, made_from["code"]))
        if lines:
            changes.append(f"the configuration changed ({'; '.join(sorted(lines))})")
        changes += [f"the input {path} changed" for path in changed_files(made_from)]
    return list(dict.fromkeys(changes))


def read(folder: pathlib.Path) -> Prepared:
    """Return the prepared data in `folder`.

    Raises:
      UserError: the manifest, or that of a mixture's member, is missing or not JSON.
    """
    try:
        manifest = read_record(folder / MANIFEST, unsigned=True)
        members = tuple(read(folder.parent / name) for name in manifest.get("members", ()))
    except (OSError, ValueError) as error:
        raise errors.UserError(
            f"{folder / MANIFEST} cannot be read ({error}). Delete the folder {folder}; it is "
            "prepared again on the next start."
        ) from error
    return Prepared(folder, manifest, members)


def changed_files(manifest: Mapping) -> list[str]:
    """Return raw input files that differ from the manifest; missing ones count as unchanged."""
    changed = []
    for entry in manifest["input_files"]:
        if not os.path.exists(entry["path"]):
            continue
        status = os.stat(entry["path"])
        same_stamp = status.st_mtime_ns == entry["mtime_ns"]
        if status.st_size != entry["size"] or not (same_stamp or _same_content(entry)):
            changed.append(entry["path"])
    return changed


def _same_content(entry: Mapping) -> bool:
    return "sha256" in entry and describe_file(entry["path"]).get("sha256") == entry["sha256"]


def describe_file(path: str) -> dict:
    """Return path, size, time stamp and (up to a gigabyte) SHA-256 of a raw input file."""
    status = os.stat(path)
    entry = {"path": os.path.abspath(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if status.st_size <= HASHED_BYTES:
        entry["sha256"] = file_digest(path)
    return entry


def why_not(config: DatasetConfig) -> str:
    """Return a sentence: why no data fit, compared with the newest of the same task and split."""
    paths = [*config.directory.glob(f"{_slug(config)}????????????-*/{MANIFEST}")]
    if not paths:
        return f"nothing is prepared for it in {config.directory}"
    newest = read(max(paths, key=lambda p: p.stat().st_mtime_ns).parent)
    old, new = newest.manifest.get("identity", {}), identity(config)
    changes = [
        "the vocabulary changed"
        if key == "vocabulary"
        else f"{key} changed from {old.get(key)} to {new[key]}"
        for key in new
        if old.get(key) != new[key]
    ]
    changes += _changes(config, newest) if old.get("format") == FORMAT else []
    return f"{' and '.join(changes) or 'it is incomplete'} since {newest.path} was prepared"
