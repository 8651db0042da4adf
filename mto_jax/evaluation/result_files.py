# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Results of a checkpoint as files, from which a second call takes what the first one has computed.

A folder holds `predictions-TASK-SPLIT.jsonl` for each task and one `metrics.json` with the metrics
of all and with what each came from: checkpoint, data, decoding, metrics and code. A result is only
taken if all are the same.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mto_jax import sources
from mto_jax.data.manifest import Prepared
from mto_jax.decoding.generation import Decoding
from mto_jax.errors import UserError
from mto_jax.evaluation.result import Result
from mto_jax.evaluation.task_metrics import metric_function, metric_names
from mto_jax.files import digest, read_record, write_atomically, write_record
from mto_jax.metrics.statistics import Interval

METRICS_FILE = "metrics.json"
# The packages whose code counts.
DECIDING_PACKAGES = tuple(
    f"mto_jax.{name}" for name in ("evaluation", "decoding", "models", "metrics")
)


def origin(checkpoint_digest: str, prepared: Prepared, decoding: Decoding) -> dict[str, Any]:
    """Returns all that a result of a task depends on, as JSON."""
    metrics = {}
    for metric in metric_names(prepared):  # a user's own may lie elsewhere
        metrics[metric] = getattr(metric_function(metric), "ready", str)()  # the model that it uses
    code = sources.definitions(
        ["mto_jax.evaluation.evaluator", "mto_jax.models.t5", *metrics],
        [*DECIDING_PACKAGES, *(metric.partition(":")[0] for metric in metrics)],
    )
    parts = {
        "checkpoint": checkpoint_digest,
        "data": prepared.path.name,
        "decoding": dataclasses.asdict(decoding),
        "metrics": metrics,
        "code": digest(json.dumps(code).encode()),
    }
    return json.loads(json.dumps(parts))


def read(folder: pathlib.Path, prepared: Prepared, wanted: Mapping[str, Any]) -> Result | None:
    """Returns the result of a task in `folder` if it is whole and of this origin, else None."""
    entry = _entries(folder).get((prepared.name, prepared.split))
    if entry is None or entry.get("origin") != wanted:
        return None
    path = _predictions(folder, prepared.name, prepared.split)
    if not path.exists() or digest(path.read_bytes()) != entry["predictions"]:
        return None
    metrics = {name: Interval(**values) for name, values in entry["metrics"].items()}
    with path.open() as file:
        rows = [*map(json.loads, file)]
    return Result(prepared.name, prepared.split, metrics, rows, entry["constant"])


def write(
    folder: pathlib.Path, checkpoint: str, step: int, result: Result, origin: Mapping[str, Any]
) -> None:
    """Put a result into `folder`, beside those of other tasks; each file at once or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = result.jsonl()
    write_atomically(_predictions(folder, result.task, result.split), rows)
    entries = _entries(folder)
    entries[result.task, result.split] = {
        "task": result.task,
        "split": result.split,
        "examples": len(result.rows),
        "metrics": {name: dataclasses.asdict(value) for name, value in result.metrics.items()},
        "constant": dict(result.constant),
        "predictions": digest(rows.encode()),
        "origin": dict(origin),
    }
    summary = {"checkpoint": checkpoint, "step": step, "results": [*entries.values()]}
    write_record(folder / METRICS_FILE, summary)


def _entries(folder: pathlib.Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the entries of `metrics.json` by (task, split)."""
    path = folder / METRICS_FILE
    try:
        known = read_record(path)["results"] if path.exists() else []
    except UserError as error:
        raise UserError(f"{error}. Remove it; it is written again.") from error
    return {(entry["task"], entry["split"]): entry for entry in known}


def _predictions(folder: pathlib.Path, task: str, split: str) -> pathlib.Path:
    return folder / f"predictions-{task}-{split}.jsonl"
