# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo's relations as tasks."""

import gin
import seqio

from mto_jax.tasks import demo as demo_tasks
from mto_jax.text2text import demo


def test_tasks_hold_the_splits():
    gin.bind_parameter("vocabulary.name", "demo")
    names = demo_tasks.register()
    assert demo_tasks.register() == names, "registering again changes nothing"
    task = seqio.get_mixture_or_task("demo_AtLocation_masked_prompting")
    lengths = {"inputs": 64, "targets": 16}
    rows = list(task.get_dataset(lengths, "test", shuffle=False).as_numpy_iterator())
    expected = demo.triples("AtLocation", "test")
    assert len(rows) == len(expected)
    assert tuple(t.decode() for t in rows[0]["references"]) == expected[0].tails
    source = rows[0]["inputs_pretokenized"].decode()
    assert source.startswith("AtLocation: ")
    assert source.endswith(f"{expected[0].head} is located at <extra_id_0>")
