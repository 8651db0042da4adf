# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters of a grid: their names, the templates that fit them, the folders of trained ones."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints import peft
from mto_jax.errors import UserError
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.store import differences
from mto_jax.models.adapters import NONE, Adapters, example
from mto_jax.text2text.templates import TEMPLATES, SoftPrompt, Template
from mto_jax.training.multi_adapter import Tuned


def name(cell: Cell) -> str:
    """The name of the adapter that a cell trains, and of its folder."""
    adapter, rate = cell.values.get("adapter"), cell.values.get("learning_rate")
    parts = [cell.task, cell.template, adapter, rate and f"lr{rate:g}", f"seed{cell.seed}"]
    return "-".join(filter(None, parts))


def soft_prompt(adapters: Adapters) -> SoftPrompt:
    """Returns the layout of a template's soft tokens in the adapter's prompt."""
    return SoftPrompt(length=adapters.prompt_rows, first_row=0, shared_row=None)


def for_template(adapters: Adapters, template: Template) -> Adapters:
    """`adapters` with a row for every soft token of the template: a shared prompt has rows too."""
    return adapters.with_prompt_rows(soft_prompt(adapters).needs(template))


def without_prompt(template: Template) -> Template:
    """The template of the frozen model: the same without its soft prompt.

    Behind a head, soft tokens stand where the words of the phrase do elsewhere, which so come back.
    """

    def axes(t: Template) -> tuple[bool, bool, bool, int]:
        return t.masked, t.in_place, t.verbalised or t.soft == "after", t.slots

    return next(
        plain
        for plain in TEMPLATES.values()
        if plain.soft == "none"
        and axes(plain) == axes(template)
        and {*template.kinds} <= {*plain.kinds}
    )


def check_fit(adapters: Adapters, template: Template) -> None:
    """Check that the adapter has a prompt if the template has soft tokens, and none otherwise.

    Raises:
      UserError: it does not fit, or the adapter adds nothing.
    """
    if adapters == NONE:
        raise UserError(f"An item of the adapters adds nothing: name one of {example()}.")
    plain = without_prompt(template)
    if template.soft == "none" and adapters.prompt_rows:
        soft = [
            t.name for t in TEMPLATES.values() if t.soft != "none" and without_prompt(t) == template
        ]
        raise UserError(
            f"The template {template.name} has no soft tokens, but the adapter {adapters.label} a "
            f"prompt, which would not be used. Take {' or '.join(soft)}, or "
            "an adapter without one."
        )
    if template.soft != "none" and not adapters.prompt_rows:
        raise UserError(
            f"The template {template.name} has soft tokens, but the adapter {adapters.label} no "
            f"prompt. Add @PromptTuning() to the adapters, or take the template {plain.name}."
        )


# ---- Folders of trained adapters --------------------------------------------------------------


def origin(cell: Cell) -> dict[str, Any]:
    """All that the adapter of a cell with settings depends on, as JSON."""
    return {**cell.values, **json.loads(cell.settings)}


def save(
    folder: pathlib.Path, adapters: Adapters, tuned: Tuned, cell: Cell, about: Mapping[str, Any]
) -> None:
    """Write what the training of a cell gave as an adapter folder."""
    losses = [loss for _, loss in tuned.dev_losses if np.isfinite(loss)]
    course = {"step": tuned.step, "diverged": tuned.diverged}
    course |= {"dev_loss": min(losses)} if losses else {}
    names = {"task": cell.task, "template": cell.template}
    info = {"course": course, "settings": origin(cell)}
    peft.save_adapter(folder, adapters, tuned.parameters, {**about, **names, "info": info})


def check_folder(folder: pathlib.Path, cell: Cell) -> None:
    """Check that `folder` is free, or has the adapter of a cell with these settings.

    Raises:
      UserError: it holds something else.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not peft.is_adapter(folder):
        raise UserError(f"{folder} exists and holds no adapter. Remove it to tune it again.")
    stored = peft.load_adapter(folder)[2].get("info", {}).get("settings", {})
    if changed := differences(stored, origin(cell)):
        raise UserError(
            f"{folder} holds an adapter of other settings: {changed}. Choose another OUTPUT_DIR, "
            "or remove that folder to tune it again."
        )
