# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What became of each run, as files: never computed twice, and never taken for another run's."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mto_jax.errors import UserError
from mto_jax.evaluation import evaluator
from mto_jax.files import write_atomically

FILE = "results.json"


@dataclasses.dataclass(frozen=True)
class Result:
    """How a tuned or frozen model answers the held-out records of a task.

    Attributes:
      name: of the run; of a frozen model, task and template.
      task, template: their names.
      settings: all that the result depends on.
      metric: what `scores` are.
      scores: one for each held-out record.
      values: all metrics over the records.
      predictions: one for each record.
      adapter: label of what was tuned; "" for the frozen model.
      rate, seed: of the run; None for the frozen model.
      step: the one whose parameters are kept, 0 being those that training started with.
      diverged: the step by which the loss was no longer finite; None: it always was.
      dev_loss: the least per target token; None without dev examples.
    """

    name: str
    task: str
    template: str
    settings: dict[str, Any]
    metric: str
    scores: list[float]
    values: dict[str, float]
    predictions: list[str]
    adapter: str = ""
    rate: float | None = None
    seed: int | None = None
    step: int = 0
    diverged: int | None = None
    dev_loss: float | None = None


def of(evaluated: evaluator.Result, decides: str) -> dict[str, Any]:
    """Returns the fields of a result that hold predictions and scores.

    `scores` are of the metric that decides, or, where this one scores no single examples, of the first that does.
    """
    scores = evaluated.scores
    metric = decides if decides in scores else next(iter(scores))
    return {
        "metric": metric,
        "scores": scores[metric],
        "values": evaluated.values(),
        "predictions": evaluated.predictions,
    }


def digest(content: Any) -> str:
    """Of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write(path: pathlib.Path, result: Result) -> None:
    """Wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(dataclasses.asdict(result), indent=1) + "\n")


def read(path: pathlib.Path, settings: Mapping[str, Any]) -> Result | None:
    """The result of these settings; None if there is none yet.

    Raises:
      UserError: it is damaged, or that of other settings.
    """
    if not path.exists():
        return None
    try:
        result = Result(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}). Remove its folder to compute it anew."
        ) from error
    check_same(path.parent, result.settings, settings)
    return result


def check_same(folder: pathlib.Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises a UserError unless what is in a folder was made with the wanted settings."""
    different = [name for name in wanted if stored.get(name) != wanted[name]]
    if different:
        shown = "; ".join(
            f"{name}: {stored.get(name)!r} there, {wanted[name]!r} now" for name in different[:3]
        )
        raise UserError(
            f"{folder} is of another configuration ({shown}). Choose another OUTPUT_DIR, or remove that folder to "
            "compute it anew."
        )
