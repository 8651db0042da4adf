# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a task: its own, or the defaults of its kind of record."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mto_jax.metrics import text
from mto_jax.metrics.text import Metric


class TaskMetrics(NamedTuple):
    """The metrics of predictions on a task.

    Attributes:
      functions: all its metrics.
      decides: name of the value by which one model or template is preferred to another, such as
        "rougeL"; "" for the first value of the first function.
    """

    functions: tuple[Metric, ...]
    decides: str = ""


_TEXTS = TaskMetrics((text.rouge, text.bleu, text.exact_match), "rougeL")
OF_KIND = TaskMetrics((), "OF_KIND")  # stands for the defaults of a record's kind
BY_KIND = {
    "triple": TaskMetrics((text.rouge, text.bleu, text.exact_match, text.diversity), "rougeL"),
    "multiple_choice": TaskMetrics((text.accuracy,), "accuracy"),
    "labelled_text": TaskMetrics((text.accuracy,), "accuracy"),
    "generation": _TEXTS,
    "as_registered": _TEXTS,
}


def task_metrics(kind: str, functions: Sequence[Metric] | None, decides: str) -> TaskMetrics:
    """Returns the metrics of a task of this kind of record; None and "" stand for the defaults."""
    default = BY_KIND[kind]
    functions = default.functions if functions is None else tuple(functions)
    if not decides and default.functions[0] in functions:
        decides = default.decides
    return TaskMetrics(functions, decides)


def place(metric: Callable) -> str:
    """Returns "module:function", the name by which manifests and gin know a metric."""
    function = getattr(metric, "func", metric)  # functools.partial
    return f"{function.__module__}:{function.__qualname__}"
