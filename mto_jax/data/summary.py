# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is counted while a task's examples are prepared: for the manifest, and for a person."""

import array
from collections.abc import Callable, Mapping, Sequence
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
        self._measured: np.ndarray | None = None
        self._trimmed = dict.fromkeys(config.task_feature_lengths, 0)
        self._references: list[list[str]] = []
        self._too_long = self._unknown = 0
        self._lacking: dict[str, None] = {}

    @property
    def num_examples(self) -> int:
        return len(self.lengths())

    def lengths(self) -> np.ndarray:
        """int32 [N, 2] tokens of inputs and targets."""
        if self._measured is not None:
            return self._measured
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

    def state(self) -> dict[str, Any]:
        """Returns all but the lengths, as JSON, for `add`."""
        return {
            "trimmed": self._trimmed,
            "references": self._references,
            "too_long": self._too_long,
            "unknown": self._unknown,
            "lacking": [*self._lacking],
        }

    def add(self, state: Mapping[str, Any]) -> None:
        """Counts the examples of another summary, but for their lengths."""
        for key, count in state["trimmed"].items():
            self._trimmed[key] += count
        self._references += state["references"][: MOST_REFERENCES - len(self._references)]
        self._too_long += state["too_long"]
        self._unknown += state["unknown"]
        self._lacking |= dict.fromkeys(state["lacking"][: 3 - len(self._lacking)])

    def measure(self, lengths: np.ndarray) -> None:
        """Takes the lengths of all examples, int32 [N, 2], which may lie in a file."""
        self._measured = lengths

    def content(self) -> dict[str, Any]:
        """Returns what the manifest says."""
        lengths = self.lengths()
        columns = zip(self._trimmed, lengths.T, strict=True)
        return {
            "num_examples": len(lengths),
            "lengths_digest": digest(np.ascontiguousarray(lengths).data),
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
    """Returns statistics of int [N]; memory goes by the largest of them, not by N."""
    most, step = int(tokens.max()), 1 << 20
    counts = np.zeros(most + 1, np.int64)
    for start in range(0, len(tokens), step):
        counts += np.bincount(tokens[start : start + step], minlength=most + 1)
    ends = np.cumsum(counts)
    places = np.array([0.5, 0.95]) * (len(tokens) - 1)
    low, high = (
        np.searchsorted(ends, rounded.astype(np.int64), side="right")
        for rounded in (np.floor(places), np.ceil(places))
    )
    p50, p95 = (low + (high - low) * (places % 1)).tolist()
    total = int(counts @ np.arange(most + 1))
    return {"total": total, "mean": total / len(tokens), "p50": p50, "p95": p95, "max": most}
