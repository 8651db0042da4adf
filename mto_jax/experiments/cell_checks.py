# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the places of a cell on the axes of a grid fit together."""

from collections.abc import Sequence

from mto_jax.errors import UserError, unknown
from mto_jax.experiments import adapters as adapters_lib
from mto_jax.experiments.base_models import objective
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.recipes import Recipes
from mto_jax.experiments.strategies import ADAPTER_METHODS, FREE_AXES, IN_CONTEXT, UNTRAINED
from mto_jax.text2text.templates import TEMPLATES, templates_for


def check_cell(cell: Cell, recipes: Recipes, adaptation: Sequence[str]) -> None:
    """Check a cell without reading a model or data.

    Args:
      adaptation: `FewShot.adaptation`.

    Raises:
      UserError: values that do not go together, or an unknown one of a free axis.
    """
    _check_free_axes(cell, recipes)
    _check_prompt(cell, recipes)
    if cell.method in IN_CONTEXT and not cell.shots:
        raise UserError(
            f"The method {cell.method!r} shows the model as many solved examples as the axis "
            f"'shots' says, which is {cell.shots}: expected a number of 1 or more."
        )
    if cell.method not in UNTRAINED and cell.shots == 0:
        raise UserError(
            f"The method {cell.method!r} trains on the heads of the axis 'shots', which is 0: "
            'only the methods "frozen" and "constant" go without.'
        )
    if (adapted := objective(cell)) != "none" and not adaptation:
        raise UserError(
            f"The objective {adapted!r} needs a model adapted under it: bind "
            "FewShot.adaptation to the gin files of `mto adapt` that make one, such as "
            "['runs/adapt.gin']."
        )


def _check_free_axes(cell: Cell, recipes: Recipes) -> None:
    for axis, value in cell.extra:
        if axis not in FREE_AXES:
            raise unknown("free axis (Grid.extra) that FewShot knows called", axis, FREE_AXES)
        if cell.method not in FREE_AXES[axis] and value not in (None, "none"):
            raise UserError(
                f"The method {cell.method!r} has no {axis}, but that axis is {value!r}. Keep "
                'them apart with a constraint (Grid.constraints): "none" is no adapter, None '
                "the learning rate of the optimizer, or none, or the cell's own task or "
                "template."
            )
    if cell.measure not in (None, "recall", "loss"):
        asked, known = str(cell.values["asked"]), ["recall:TASK", "loss:NAME"]
        raise unknown("value of the axis 'asked' (Grid.extra)", asked, known)
    part = cell.values.get("trainable")
    for axis, value, known in (
        ("trainable", part, recipes.trainable),
        ("asked_template", cell.asked.template, TEMPLATES),
    ):
        if value is not None and value not in known:
            raise unknown(f"value of the axis {axis!r} (Grid.extra)", str(value), known)


def _check_prompt(cell: Cell, recipes: Recipes) -> None:
    """Only a template with soft tokens is for a method that trains a prompt."""
    if cell.method == "adapter_tune" and cell.values.get("adapter") not in recipes.adapters:
        raise UserError(
            "The method 'adapter_tune' trains what the axis \"adapter\" names: give it in "
            f"Grid.extra, one or more of {', '.join(recipes.adapters)} (FewShot.adapters)."
        )
    template = TEMPLATES[cell.template]
    if cell.method in ADAPTER_METHODS and cell.method != "prompt_tune":
        adapters_lib.check_fit(recipes.adapters_of(cell), template)
    elif (soft := template.soft != "none") != (cell.method == "prompt_tune"):
        raise UserError(
            f"The template {cell.template} has {'a' if soft else 'no'} soft prompt, which the "
            f"method {cell.method!r} cannot {'train' if soft else 'do without'}. Keep them "
            'apart with constraints, such as {"when": {"method": "prompt_tune"}, "only": '
            '{"template": ["MaskedPrePT"]}} in Grid.constraints.'
        )


def check_kind(place: Cell, kind: str) -> None:
    """Check that the template of a place is one for records of a kind.

    Raises:
      UserError: it is not; names those that are.
    """
    if kind not in TEMPLATES[place.template].kinds:
        fitting = [t.name for t in templates_for(kind)]
        raise UserError(
            f"The template {place.template} is not for {place.task}, whose records are of "
            f"the kind {kind} ({', '.join(fitting)}). Keep them apart with a constraint "
            "(Grid.constraints), or by commands of their own."
        )
