# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The expert's word: the mapping that gin binds (gin/mappings/expert.gin holds the paper's)."""

from mto_jax.matching.verdict import MAP_PHRASAL, MASK_FILLING, Verdict
from mto_jax.text2text import mapping
from mto_jax.text2text.templates import TEMPLATES


def expert(task: str) -> Verdict | None:
    """Returns the verdict of `mapping.tasks`; None where it does not name the task."""
    choice = mapping.mapping().get(task)
    if choice is None:
        return None
    decision = MASK_FILLING if TEMPLATES[choice.template].masked else MAP_PHRASAL
    return Verdict(task, "expert", None, None, None, 0.0, decision)
