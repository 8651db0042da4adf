# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mapping of tasks to objective and template, as gin holds it.

    mapping.tasks = {"atomic_xIntent": ("lm", "Prompting"), "atomic_xAttr": ("denoising",
    "MaskedPrompting")}

A person writes it (gin/mappings/expert.gin), or `mto match` does. Whatever takes the name of a task
then takes the bare name too: MIXTURE_OR_TASK_NAME = "atomic_xIntent" means
"atomic_xIntent_prompting", and `mto adapt` with TASK = "atomic_xIntent" adapts under "lm".
"""

import collections.abc
from typing import NamedTuple

import gin

from mto_jax.errors import UserError, unknown
from mto_jax.text2text.objectives import pair_objectives
from mto_jax.text2text.templates import TEMPLATES


class Choice(NamedTuple):
    """The objective of the adaptation ("none" for none) and the template of a task."""

    objective: str
    template: str


def objectives() -> list[str]:
    """The objectives that a model can be adapted under, and "none"."""
    return ["none", *pair_objectives()]


@gin.configurable
def mapping(
    tasks: collections.abc.Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, Choice]:
    """The mapping that gin binds: {task: (objective, template)}; none by default.

    Raises:
      UserError: an entry that is no pair, or of an unknown objective or template.
    """
    choices = {}
    for task, choice in (tasks or {}).items():
        if not isinstance(choice, tuple | list) or len(choice) != 2:
            raise UserError(
                f"mapping.tasks[{task!r}] is {choice!r}; expected a pair (objective, template), "
                'such as ("denoising", "MaskedPrompting").'
            )
        objective, template = choice
        if objective not in objectives():
            raise unknown(f"objective (mapping.tasks[{task!r}])", str(objective), objectives())
        if template not in TEMPLATES:
            raise unknown(f"template (mapping.tasks[{task!r}])", str(template), TEMPLATES)
        choices[task] = Choice(objective, template)
    return choices


def choice_of(task: str) -> Choice:
    """Objective and template of a task.

    Raises:
      UserError: there is no mapping, or it does not name the task.
    """
    choices = mapping()
    if not choices:
        raise UserError(
            f"What {task!r} wants is not known: there is no mapping (mapping.tasks). Give "
            "--gin_file=mappings/expert.gin, or the mapping.gin that `mto match` wrote."
        )
    if task not in choices:
        raise unknown("task in the mapping (mapping.tasks) called", task, choices)
    return choices[task]


def resolve_task(name: str) -> str:
    """Returns the SeqIO task that `name` means: a bare task gets the mapping's template.

    Under "AsRegistered" it is a SeqIO task itself.

    >>> gin.bind_parameter("mapping.tasks", {"atomic_xIntent": ("lm", "Prompting")})
    >>> resolve_task("atomic_xIntent"), resolve_task("atomic_xIntent_mapping")
    ('atomic_xIntent_prompting', 'atomic_xIntent_mapping')
    """
    choice = mapping().get(name)
    if choice is None or choice.template == "AsRegistered":
        return name
    return f"{name}_{TEMPLATES[choice.template].snake_name}"
