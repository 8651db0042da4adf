# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names of topologies, and what their chips have."""

import importlib.util

import pytest

from mto_jax.errors import UserError
from mto_jax.planning import topologies


def test_slices_of_tpus_and_gpus():
    pod = topologies.parse("v5p:4x4x8", slices=2)
    assert (pod.size, pod.shape, pod.chip.kind) == (256, (4, 4, 8), "TPU v5")
    assert pod.egress == 600e9  # half of 1200 GB/s in both directions
    # 2 x 2 chips have one neighbour each way.
    assert topologies.parse("v5e:2x2").egress == 100e9
    gpus = topologies.parse("H100:8")
    assert (gpus.size, gpus.is_tpu, gpus.chip.peak_flops) == (8, False, 989e12)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("v5e:2x3", "v5e:2x2"), ("v5p:4x4x9", "v5p:4x4x8"), ("h10:8", "h100:8"), ("tpu", "Known")],
)
def test_others_are_told_with_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"no topology '{name}'.*{nearest}"):
        topologies.parse(name)


def test_gpus_have_no_slices():
    with pytest.raises(UserError, match="name all GPUs"):
        topologies.parse("h100:8", slices=2)


def test_the_compiler_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu.*pip install 'mto-jax\[tpu\]'"):
        topologies.parse("v5e:2x2").devices()
