# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which configurations of data are accepted."""

import pathlib

import pytest

from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError

LENGTHS = {"inputs": 8, "targets": 4}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task_feature_lengths": {"inputs": 8}}, "'inputs' and for 'targets'"),
        ({"task_feature_lengths": {"inputs": 8, "targets": 0}}, "whole number of 1 or more"),
        ({"passes": 0}, "passes is 0"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_senseless_values_are_told(fields, message):
    with pytest.raises(UserError, match=message):
        DatasetConfig("task", **{"task_feature_lengths": LENGTHS, **fields})


def test_the_folder_comes_from_the_field_then_the_environment_then_the_home(monkeypatch):
    monkeypatch.setenv("MTO_CACHE_DIR", "/scratch/mto")
    assert DatasetConfig("t", LENGTHS).directory == pathlib.Path("/scratch/mto")
    assert DatasetConfig("t", LENGTHS, prepared_dir="here").directory == pathlib.Path("here")
    monkeypatch.delenv("MTO_CACHE_DIR")
    assert DatasetConfig("t", LENGTHS).directory == pathlib.Path.home() / ".cache/mto_jax"


def test_modules_are_a_list_and_the_order_of_lengths_does_not_matter():
    config = DatasetConfig("t", {"targets": 4, "inputs": 8}, module="a.b, c")
    assert config.modules == ["a.b", "c"]
    assert list(config.task_feature_lengths) == ["inputs", "targets"]
