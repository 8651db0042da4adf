# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mixtures that gin defines, such as a task with a share of its model's pre-training in it."""

from collections.abc import Mapping

import gin

from mto_jax.errors import UserError
from mto_jax.text2text.registry import add_mixture


@gin.configurable
def mixtures(rates: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, dict[str, float]]:
    """Returns the mixtures that gin binds: {name: {task or mixture: rate}}; none by default.

    Raises:
      UserError: a rate that is not above 0, or a mixture of nothing.
    """
    for name, members in (rates or {}).items():
        if not members or not all(rate > 0 for rate in members.values()):
            raise UserError(
                f"mixtures.rates[{name!r}] is {members!r}; expected {{task: rate above 0}}."
            )
    return {name: dict(members) for name, members in (rates or {}).items()}


def register_mixtures() -> None:
    """Registers the mixtures of `mixtures`.

    Raises:
      UserError: a member is not known, not even by the user's modules.
    """
    for name, members in mixtures().items():
        add_mixture(name, members)


def with_replay(task: str, replayed: str, share: float) -> str:
    """Adds the mixture of a task and what is replayed to what gin binds; returns its name.

    >>> with_replay("sst2_prompting", "c4_pretrain", 0.25)
    'sst2_prompting_replay'
    >>> mixtures()["sst2_prompting_replay"]
    {'sst2_prompting': 0.75, 'c4_pretrain': 0.25}

    Raises:
      UserError: a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UserError(
            f"The replay share is {share}; it is a part of the examples, between 0 and 1."
        )
    name = f"{task}_replay"
    with gin.unlock_config():
        gin.bind_parameter(
            "mixtures.rates", mixtures() | {name: {task: 1 - share, replayed: share}}
        )
    return name
