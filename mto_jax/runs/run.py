# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The result of a training run."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mto_jax.decoding.model import Model
from mto_jax.frames import frame


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run that has ended.

    Attributes:
      folder: the run directory, which `load` takes.
      metrics: the last value of each, such as "train/loss" and "dev/TASK/loss".
    """

    folder: pathlib.Path
    metrics: Mapping[str, float]

    def load(self, checkpoint: str | int = "best") -> Model:
        """Returns the trained model: "best" by the dev metric, "newest" or the number of a step."""
        return Model.open(self.folder, checkpoint)

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row for each line of the log, `step` and its metrics."""
        return frame(map(json.loads, (self.folder / "metrics.jsonl").read_text().splitlines()))
