# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A mapping in gin: what a bare task name means, and what is wrong with a bad one."""

import gin
import pytest

from mto_jax.errors import UserError
from mto_jax.matching import expert
from mto_jax.matching.verdict import MAP_PHRASAL, MASK_FILLING
from mto_jax.text2text import mapping
from mto_jax.text2text.mapping import Choice


def bind(**tasks):
    gin.bind_parameter("mapping.tasks", tasks)


def test_a_bare_name_means_the_task_under_its_template():
    bind(atomic_xIntent=("lm", "Prompting"), copa=["denoising", "MaskedAnswerPrompting"])
    assert mapping.resolve_task("atomic_xIntent") == "atomic_xIntent_prompting"
    assert mapping.resolve_task("copa") == "copa_masked_answer_prompting"
    for other in ("atomic_xIntent_mapping", "demo_pretrain"):
        assert mapping.resolve_task(other) == other
    assert mapping.choice_of("copa") == Choice("denoising", "MaskedAnswerPrompting")
    with pytest.raises(UserError, match="Did you mean 'atomic_xIntent'"):
        mapping.choice_of("atomic_xIntnt")


def test_the_expert_is_the_mapping():
    bind(a=("lm", "Prompting"), b=("denoising", "MaskedPrompting"))
    assert expert.expert("a").decision == MAP_PHRASAL
    assert expert.expert("b").decision == MASK_FILLING
    assert expert.expert("c") is None


@pytest.mark.parametrize(
    "choice, message",
    [
        ("Prompting", "expected a pair"),
        (("denoise", "Prompting"), "Did you mean 'denoising'"),
        (("lm", "Promting"), "Did you mean 'Prompting'"),
    ],
)
def test_bad_entries(choice, message):
    bind(a=choice)
    with pytest.raises(UserError, match=message):
        mapping.resolve_task("b")


def test_the_papers_mapping_names_tasks_that_exist():
    """Every entry is a registered task, and a data set without one has none."""
    from mto_jax import config, tasks

    gin.parse_config_file(str(config.gin_directory() / "mappings/expert.gin"))
    gin.bind_parameter("vocabulary.name", "demo")
    import seqio

    tasks.register_all()
    from mto_jax.text2text import registration

    known = mapping.mapping()
    # The laboratory's relations are made so that neither group is theirs.
    assert set(known) == {name for name in registration.DATA_SETS if not name.startswith("lab_")}
    names = set(seqio.TaskRegistry.names())
    for task, choice in known.items():
        assert mapping.resolve_task(task) in names
        assert f"{task}_{choice.objective}" in names
