# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many adapters a device computes at a time."""

import pytest

from mto_jax import cores
from mto_jax.models.adapters import Adapters, PromptTuning
from mto_jax.training import multi_adapter_step
from mto_jax.training.multi_adapter_step import Shape
from mto_jax.training.optimizers import Optimizer

from .common import TINY


@pytest.mark.parametrize(
    ("platform", "count", "cut", "expected"),
    [
        ("cpu", 1, (1, 1), 4),  # 512 tokens: 5 candidates of 4 x (16 + 8), 4 of which divide 24
        ("cpu", 2, (1, 1), 8),  # 1,024 tokens: 10
        ("cpu", 2, (2, 1), 4),  # two devices of a core each, with 12 candidates
        ("cpu", 2, (1, 2), 8),  # two devices that share the examples: 512 tokens each
        ("cpu", 64, (1, 1), 24),
        ("gpu", 1, (1, 1), 24),
        ("gpu", 1, (2, 1), 12),
    ],
)
def test_a_core_takes_what_its_caches_hold(monkeypatch, platform, count, cut, expected):
    monkeypatch.setattr(multi_adapter_step, "platform", lambda: platform)
    monkeypatch.setattr(cores, "count", lambda: count)
    shape = Shape(TINY, Adapters.of(PromptTuning(3)), 24, 4, 16, 8, Optimizer("adamw"))
    assert multi_adapter_step._group_size(shape, *cut) == expected
