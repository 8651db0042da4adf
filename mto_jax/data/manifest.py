# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which prepared data belong to a configuration: fingerprints, manifests and their freshness.

No TensorFlow here: a training process decides by itself whether what lies on disk is what it wants.
A prepared data set is a folder NAME-SPLIT-FINGERPRINT-FILES, where FILES stands for the raw input files.
Nothing is ever overwritten: other code, configuration or input makes another folder.
"""

import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

import gin
import numpy as np

from mto_jax import errors
from mto_jax.data.dataset import DatasetConfig
from mto_jax.text2text import vocabulary

MANIFEST = "manifest.json"
LENGTHS = "lengths.npy"
# The modules of mto_jax that decide what an example looks like.
MODULES = ("few_shot", "objectives", "phrases", "readers", "records", "templates", "vocabulary")
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
        """{"inputs": S, "targets": T}: the shape of the rows."""
        return dict(self.manifest["task_feature_lengths"])

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

    def lengths(self) -> np.ndarray:
        """int32 [N, 2] tokens of inputs and targets of each record (one task; read lazily)."""
        return np.load(self.path / LENGTHS, mmap_mode="r")


def fingerprint(config: DatasetConfig) -> dict:
    """Everything that decides the content of a prepared data set, apart from its raw input files.

    Raises:
      UserError: the vocabulary or the user's module is not there.
    """
    return {
        "format": 1,
        "task": config.mixture_or_task_name,
        "split": config.split,
        "lengths": dict(config.task_feature_lengths),
        "seed": config.seed,
        "passes": config.passes,
        "limit": config.limit,
        "vocabulary": vocabulary.vocabulary().digest,
        "gin": [line for line in bindings(config) if "mto_jax.text2text.vocabulary." not in line],
        "code": {name: digest(path.read_bytes())[:16] for name, path in _sources(config)},
    }


def bindings(config: DatasetConfig) -> list[str]:
    """gin statements for the configurables that make examples, macros resolved, in a fixed order."""
    prefixes = [f"mto_jax.{name}" for name in (*MODULES, "tasks")] + config.modules
    statements = []
    for scope, selector in gin.config._CONFIG:  # gin offers no public list of what is bound.
        if any(selector.startswith(f"{prefix}.") for prefix in prefixes):
            name = f"{scope}/{selector}" if scope else selector
            for parameter, value in gin.get_bindings(name, inherit_scopes=False).items():
                statements.append(f"{name}.{parameter} = {value!r}")
    # MTO-JAX's own first: a user's module may ask for the vocabulary when it is imported.
    return sorted(statements, key=lambda s: ("mto_jax." not in s.partition(" = ")[0], s))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def prefix(config: DatasetConfig, parts: Mapping) -> str:
    """The folder's name up to the part that stands for the raw input files."""
    key = digest(json.dumps(parts, sort_keys=True).encode())[:12]
    return f"{_slug(config)}{key}"


def _slug(config: DatasetConfig) -> str:
    return re.sub(r"[^\w.-]", "_", f"{config.mixture_or_task_name}-{config.split}") + "-"


def find(config: DatasetConfig, parts: Mapping | None = None) -> Prepared | None:
    """The fresh prepared data of this configuration (`parts`: its fingerprint, if known), or None."""
    folders = config.directory.glob(f"{prefix(config, parts or fingerprint(config))}-*/{MANIFEST}")
    for path in sorted(folders, key=lambda p: p.stat().st_mtime_ns, reverse=True):
        prepared = read(path.parent)
        if all(not changed_files(task.manifest) for task in prepared.tasks):
            return prepared
    return None


def read(folder: pathlib.Path) -> Prepared:
    """The prepared data in `folder`.

    Raises:
      UserError: the manifest, or that of a mixture's member, is missing or not JSON.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        members = tuple(read(folder.parent / name) for name in manifest.get("members", ()))
    except (OSError, ValueError) as error:
        raise errors.UserError(
            f"{folder / MANIFEST} cannot be read ({error}). Delete the folder {folder}; it is "
            "prepared again on the next start."
        ) from error
    return Prepared(folder, manifest, members)


def changed_files(manifest: Mapping) -> list[str]:
    """Raw input files that are no longer what they were. Files that are not here count as unchanged."""
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
    """Path, size, time stamp and (up to a gigabyte) SHA-256 of a raw input file."""
    status = os.stat(path)
    entry = {
        "path": os.path.abspath(path),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    if status.st_size <= HASHED_BYTES:
        with open(path, "rb") as file:
            entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return entry


def why_not(config: DatasetConfig) -> str:
    """One sentence: why no prepared data fit, compared with the newest of the same task and split."""
    paths = [*config.directory.glob(f"{_slug(config)}????????????-*/{MANIFEST}")]
    if not paths:
        return f"nothing is prepared for it in {config.directory}"
    newest = read(max(paths, key=lambda p: p.stat().st_mtime_ns).parent)
    old, new = newest.manifest["fingerprint"], fingerprint(config)
    changes = [key for key in new if old.get(key) != new[key]]
    told = []
    for key in changes:
        if key == "vocabulary":
            told.append("the vocabulary changed")
        elif key == "code":
            files = [
                f
                for f in {**old["code"], **new["code"]}
                if old["code"].get(f) != new["code"].get(f)
            ]
            told.append(f"{', '.join(sorted(files))} changed")
        elif key == "gin":
            lines = sorted(set(old["gin"]) ^ set(new["gin"]))
            told.append(f"the configuration changed ({'; '.join(lines)})")
        else:
            told.append(f"{key} changed from {old.get(key)} to {new[key]}")
    files = [f for task in newest.tasks for f in changed_files(task.manifest)]
    if files:
        told.append(f"the input {', '.join(files)} changed")
    return f"{' and '.join(told) or 'it is incomplete'} since {newest.path} was prepared"


def _sources(config: DatasetConfig) -> Iterator[tuple[str, pathlib.Path]]:
    """Name and path of every source file that has a say in the examples."""
    package = pathlib.Path(__file__).parent.parent
    for name in (*MODULES, "data/prepare", "data/shards"):
        if (package / f"{name}.py").exists():
            yield f"mto_jax/{name}.py", package / f"{name}.py"
    tasks = importlib.util.find_spec("mto_jax.tasks")
    for folder in map(pathlib.Path, tasks.submodule_search_locations if tasks else ()):
        for path in sorted(folder.rglob("*.py")):
            yield f"tasks/{path.relative_to(folder).as_posix()}", path
    for module in config.modules:
        yield module, find_module(module)


def find_module(name: str) -> pathlib.Path:
    """The source file of a module, found without importing it or its packages.

    Raises:
      UserError: there is no such module on the Python path or in the working directory.
    """
    places: Sequence[str] | None = [os.getcwd(), *sys.path]
    spec = None
    parts = name.split(".")
    for i in range(len(parts)):
        qualified = ".".join(parts[: i + 1])
        spec = importlib.machinery.PathFinder.find_spec(qualified, places) if places else None
        places = spec.submodule_search_locations if spec else None
    if spec is None or not spec.origin:
        raise errors.UserError(
            f"There is no Python module {name!r} (DatasetConfig.module): it is neither in the working "
            f"directory {os.getcwd()} nor installed. Give the name as in 'import {name}'."
        )
    return pathlib.Path(spec.origin)
