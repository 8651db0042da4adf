# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of `mto match`."""

from mto_jax.matching import outputs


def test_the_classifiers_table_ends_with_the_mean():
    classified = {"a": ("Mask-Filling", 0.25), "b": ("Map-Phrasal", 1.0)}
    assert outputs.classifier_rows(classified) == [
        ["task", "group", "pairs put there"],
        ["a", "Mask-Filling", "25%"],
        ["b", "Map-Phrasal", "100%"],
        ["mean", "", "62%"],
    ]


def test_decisions_look_different():
    looks = [*outputs._LOOKS.values(), outputs._GAIN]
    for part in zip(*looks, strict=True):
        assert len({*part}) == len(looks)
