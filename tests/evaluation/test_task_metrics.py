# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names of metrics and of their values, the task's own and those that gin adds."""

import gin
import pytest

from mto_jax.errors import UserError
from mto_jax.evaluation import task_metrics
from mto_jax.metrics import text as text_metrics
from mto_jax.text2text.templates import TEMPLATES
from tests.matching import common


def test_metric_names():
    assert task_metrics.metric_function("mto_jax.metrics.text:rouge") is text_metrics.rouge
    with pytest.raises(UserError, match="Did you mean 'rouge'"):
        task_metrics.metric_function("mto_jax.metrics.text:rogue")
    with pytest.raises(UserError, match="cannot be imported"):
        task_metrics.metric_function("no_such_module_at_all:f")


def test_gin_adds_to_the_metrics_of_a_task():
    task, template = common.SENTENCES, TEMPLATES["MaskedPrompting"]
    assert task_metrics.value_names(task, template) == ["accuracy", "matthews"]
    gin.bind_parameter("task_metrics.add", ["mto_jax.metrics.text:exact_match"])
    assert task_metrics.value_names(task, template) == ["accuracy", "matthews", "exact_match"]
    assert task_metrics.metric_names(task) == [
        "mto_jax.metrics.text:accuracy",
        "mto_jax.metrics.labels:matthews",
        "mto_jax.metrics.text:exact_match",
    ]
