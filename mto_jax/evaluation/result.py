# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The result of an evaluation: predictions, scores and what makes these doubtful."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax.frames import frame
from mto_jax.metrics import statistics


@dataclasses.dataclass(frozen=True)
class Result:
    """The predictions of a model on a task, and their scores.

    Attributes:
      task: name of the task.
      split: name of the split.
      metrics: values with their 95 % bootstrap intervals over the examples.
      rows: one JSON-like dict an example: "input", "references", "prediction", "raw_prediction"
        (sentinels included), "log_likelihood" of the prediction, "scores" by metric name, for those
        metrics that score single examples, and, where only some answers are allowed, these as
        "choices" and, where they are ranked, the likeliest as "ranked_prediction". Of an objective:
        "input", "references", "log_likelihood", "tokens".
      constant: the same metrics of the best answer that is the same for every example, the value
        that decides first; empty where nothing is predicted.
      resampled: for each value in `metrics` what the bootstrap needs; empty for a result that was
        read.
    """

    task: str
    split: str
    metrics: dict[str, statistics.Interval]
    rows: list[dict[str, Any]]
    constant: Mapping[str, float] = dataclasses.field(default_factory=dict)
    resampled: Mapping[str, statistics.Statistics] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def title(self) -> str:
        """The task and its split, for a person."""
        return f"{self.task} ({self.split})"

    @property
    def predictions(self) -> list[str]:
        """The prediction of each example, without sentinels."""
        return [row["prediction"] for row in self.rows]

    @property
    def references(self) -> list[list[str]]:
        """The references of each example, without sentinels."""
        return [row["references"] for row in self.rows]

    @property
    def scores(self) -> dict[str, list[float]]:
        """The scores of the single examples, by name of the metrics that have them."""
        return {name: [row["scores"][name] for row in self.rows] for name in self.rows[0]["scores"]}

    @property
    def distinct(self) -> int:
        """How many of the predictions are different from each other."""
        return len({*self.predictions})

    def warnings(self) -> list[str]:
        """Returns in words what makes the scores doubtful."""
        answers = self.predictions if self.constant else []
        return doubts(self.title, self.values(), self.constant, answers)

    def values(self) -> dict[str, float]:
        """The metrics without their intervals."""
        return {name: interval.value for name, interval in self.metrics.items()}

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row an example, the scores in columns of their own."""
        head = {"task": self.task, "split": self.split}
        return frame(
            head | {k: v for k, v in row.items() if k != "scores"} | row.get("scores", {})
            for row in self.rows
        )

    def jsonl(self) -> str:
        """The rows, one JSON object a line."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)


def doubts(
    title: str,
    values: Mapping[str, float],
    constant: Mapping[str, float],
    predictions: Sequence[str],
) -> list[str]:
    """Returns in words where scores are not above the best constant answer's, or answers all alike.

    Args:
      title: of what was evaluated.
      values: by name of the metric.
      constant: those of the best constant answer, the one that decides first.
      predictions: the answers.
    """
    texts = []
    if constant and values[name := next(iter(constant))] <= constant[name]:
        texts.append(
            f"{title}: {name} {values[name]:.3f} is not above the {constant[name]:.3f} of the best "
            "constant answer: these predictions show no knowledge of the single examples."
        )
    if constant and len({*predictions}) == 1 < len(predictions):
        texts.append(f"{title}: all {len(predictions)} predictions are the same.")
    return texts
