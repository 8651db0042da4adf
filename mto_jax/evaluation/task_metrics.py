# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The metrics by which a task is scored: its own, and those that gin adds to any task."""

import functools
import importlib
import os
import sys
from collections.abc import Sequence

import gin

from mto_jax import errors
from mto_jax.data.manifest import Prepared
from mto_jax.metrics.by_kind import place
from mto_jax.metrics.text import Metric
from mto_jax.text2text import templates
from mto_jax.text2text.task import Task
from mto_jax.text2text.templates import Template


def metric_names(task: Prepared | Task) -> list[str]:
    """Names "module:function" of the metrics of a task: its own, and those that gin adds.

    A prepared task without metrics (an objective) gets none.
    """
    own = task.metrics if isinstance(task, Prepared) else map(place, task.metrics.functions)
    return list(dict.fromkeys([*own, *added_metrics()])) if task.metrics else []


def all_metrics(task: Prepared | Task) -> list[Metric]:
    """Returns the metrics of a task, its own and those that gin adds, ready to be used.

    Raises:
      UserError: a metric cannot be imported, or its model is missing.
    """
    if isinstance(task, Prepared):
        functions = [metric_function(name) for name in metric_names(task)]
    else:
        functions = [*task.metrics.functions, *map(metric_function, added_metrics())]
    for function in functions:
        getattr(function, "ready", str)()  # before the long work
    return list(dict.fromkeys(functions))


def value_names(task: Task, template: Template) -> list[str]:
    """Returns the names of the values that `evaluate_records` gives, such as "rougeL".

    Found by scoring the references of the held-out records themselves.
    """
    references = tuple(
        dict.fromkeys(
            tuple(templates.reference_texts(template, record, task.wording))
            for record in task.held_out
        )
    )
    return _value_names(tuple(all_metrics(task)), references)


def deciding_value(task: Task, template: Template) -> str:
    """Returns the name of the value that decides about a task, of its metrics'."""
    return task.metrics.decides or value_names(task, template)[0]


@functools.lru_cache(maxsize=1024)
def _value_names(functions, references) -> list[str]:
    predictions = [texts[0] for texts in references]
    return [name for function in functions for name in function(references, predictions)]


@gin.configurable("task_metrics")
def added_metrics(add: Sequence[str] = ()) -> tuple[str, ...]:
    """Names "module:function" of the metrics that gin adds to those of any task."""
    return tuple(add)


def metric_function(name: str) -> Metric:
    """The metric "module:function".

    Raises:
      UserError: no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise errors.UserError(
            f"The metric {name!r} cannot be imported ({error}). Start from the folder that holds "
            "the module, or install it."
        ) from error
    if not callable(getattr(module, function_name, None)):
        known = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise errors.unknown(f"metric in {module_name} called", function_name, known)
    return getattr(module, function_name)
