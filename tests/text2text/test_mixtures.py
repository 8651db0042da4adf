# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mixtures of gin, in SeqIO's registry."""

import gin
import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import mixtures, registry


def test_a_task_and_what_is_replayed_are_a_mixture_of_seqio():
    seqio = pytest.importorskip("seqio")
    gin.bind_parameter("vocabulary.name", "demo")
    name = mixtures.with_replay("demo_AtLocation_prompting", "demo_pretrain", 0.4)
    registry.register_all()
    registry.add_waiting()
    mixture = seqio.get_mixture_or_task(name)
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == pytest.approx(
        {
            "demo_AtLocation_prompting": 0.6,
            "demo_span_corruption": 0.2,
            "demo_prefix_lm": 0.2,
        }
    )
    mixtures.with_replay("demo_AtLocation_prompting", "demo_pretrian", 0.4)
    with pytest.raises(UserError, match="demo_pretrain"):
        registry.register_all()


@pytest.mark.parametrize("rates", [{"mine": {}}, {"mine": {"demo_pretrain": 0.0}}])
def test_a_mixture_of_nothing_is_refused(rates):
    gin.bind_parameter("mixtures.rates", rates)
    with pytest.raises(UserError, match="mixtures.rates"):
        mixtures.mixtures()


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_a_share_is_a_part(share):
    with pytest.raises(UserError, match="between 0 and 1"):
        mixtures.with_replay("task", "replayed", share)
