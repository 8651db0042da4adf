# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is counted while a task's examples are prepared: for the manifest, and for a person."""

import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rich.progress
import rich.text

from mto_jax.data import packing
from mto_jax.data.dataset import DatasetConfig
from mto_jax.files import digest
from mto_jax.metrics import text as metrics
from mto_jax.text2text import vocabulary

MOST_REFERENCES = 100_000  # that are looked at for doubts about metrics


class _Speed(rich.progress.ProgressColumn):
    """Examples per second."""

    def render(self, task: rich.progress.Task) -> rich.text.Text:
        speed = task.finished_speed or task.speed
        return rich.text.Text(f"{speed:.0f}/s" if speed else "")


PROGRESS = (
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.TextColumn("{task.completed} examples"),
    _Speed(),
    rich.progress.TimeElapsedColumn(),
)


class Summary:
    """Counts of the examples of a task: lengths, those trimmed or left out, what is doubtful.

    Args:
      config: of the data.
      task: the task's name.
      metric_fns: its metrics.
    """

    def __init__(self, config: DatasetConfig, task: str, metric_fns: Sequence[Callable]):
        self._config, self._task, self._metrics = config, task, metric_fns
        self._vocabulary = vocabulary.vocabulary()
        self._lengths = array.array("i")
        self._trimmed = dict.fromkeys(config.task_feature_lengths, 0)
        self._references: list[list[str]] = []
        self._too_long = self._unknown = 0
        self._lacking: dict[str, None] = {}

    @property
    def num_examples(self) -> int:
        return len(self._lengths) // 2

    def lengths(self) -> np.ndarray:
        """int32 [N, 2] tokens of inputs and targets."""
        return np.frombuffer(self._lengths, np.int32).reshape(-1, 2)

    def take(self, example: dict[str, Any]) -> bool:
        """Counts an example and trims it to the lengths; False for one that is to be left out."""
        if "too_long" in example:
            self._too_long += 1
            return False
        if example.get("references") and len(self._references) < MOST_REFERENCES:
            self._references.append(example["references"])
        if self._vocabulary.unk_id in example["targets"]:
            self._unknown += 1
            if len(self._lacking) < 3:
                text = example.get("targets_pretokenized", "")
                self._lacking |= dict.fromkeys(self._vocabulary.lacks(text))
        for key, limit in self._config.task_feature_lengths.items():
            cut = example.pop(f"{key}_truncated", 0)  # templates cut their own parts, and say so
            self._trimmed[key] += bool(cut) or len(example[key]) > limit
            example[key] = example[key][:limit]
            self._lengths.append(len(example[key]))
        return True

    def content(self) -> dict[str, Any]:
        """Returns what the manifest says."""
        lengths = self.lengths()
        columns = zip(self._trimmed, lengths.T, strict=True)
        return {
            "num_examples": len(lengths),
            "lengths_digest": digest(lengths.tobytes()),
            "features": {key: _statistics(column) for key, column in columns},
            "trimmed": self._trimmed,
            "too_long": self._too_long,
        }

    def show(self) -> None:
        """Prints the lengths, those that would fill rows better, and warnings."""
        lengths, limits = self.lengths(), self._config.task_feature_lengths
        mean, most = lengths.mean(axis=0), lengths.max(axis=0)
        print(
            f"{self._task} ({self._config.split}): {len(lengths)} examples; inputs have "
            f"{mean[0]:.1f} tokens on average and {most[0]} at most, targets {mean[1]:.1f} and "
            f"{most[1]}"
        )
        if self._config.split == "train":
            sample = packing.sample(lengths)
            now = packing.non_padding(sample, (limits["inputs"], limits["targets"]))
            best, share = packing.recommend(sample, limits["inputs"])
            print(
                f"packed rows: {now:.1%} non-padding; for inputs {limits['inputs']}, targets of "
                f"{best} fill best ({share:.1%})"
            )
        for warning in self._warnings():
            print(f"warning: {warning}")

    def _warnings(self) -> list[str]:
        warnings = [
            f"{count} of {self.num_examples} examples had longer {key} than "
            f"{self._config.task_feature_lengths[key]} tokens and were trimmed"
            for key, count in self._trimmed.items()
            if count
        ]
        if self._references:
            warnings += metrics.doubts(self._metrics, self._references)
        if self._unknown:
            warnings.append(
                f"{self._unknown} of {self.num_examples} targets have characters that the "
                f"vocabulary lacks{vocabulary.listed(self._lacking)}: they are trained on as "
                "unknown."
            )
        if self._too_long:
            warnings.append(f"{self._too_long} examples were too long, and were left out.")
        return warnings


def _statistics(tokens: np.ndarray) -> dict[str, float]:
    p50, p95 = np.percentile(tokens, (50, 95)).tolist()
    total = int(tokens.sum(dtype=np.int64))
    mean, most = total / len(tokens), int(tokens.max())
    return {"total": total, "mean": mean, "p50": p50, "p95": p95, "max": most}
