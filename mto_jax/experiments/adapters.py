# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters of a grid: their names, the templates that fit them, their training, their folders."""

import itertools
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import gin
import numpy as np

from mto_jax.checkpoints import peft
from mto_jax.checkpoints.compatibility import check_vocabulary
from mto_jax.errors import UserError
from mto_jax.experiments.base_models import Base
from mto_jax.experiments.data import CellData
from mto_jax.experiments.engine import OnStep
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.store import differences
from mto_jax.experiments.strategies import STRATEGIES
from mto_jax.models.adapters import NONE, Adapters, example
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text.templates import TEMPLATES, Template
from mto_jax.text2text.tokenising import SoftPrompt
from mto_jax.training import state
from mto_jax.training.multi_adapter import (
    Candidate,
    MultiAdapterTuning,
    Tuned,
    attach,
    tune_adapters,
)


def name(cell: Cell) -> str:
    """The name of the adapter that a cell trains, and of its folder."""
    adapter, rate = cell.values.get("adapter"), cell.values.get("learning_rate")
    adapter = cell.method if cell.method in STRATEGIES else adapter
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


def with_prompt(template: Template) -> list[Template]:
    """The templates that are this one but for a soft prompt."""
    return [t for t in TEMPLATES.values() if t.soft != "none" and without_prompt(t) == template]


def check_fit(adapters: Adapters, template: Template) -> None:
    """Check that the adapter has a prompt if the template has soft tokens, and none otherwise.

    Raises:
      UserError: it does not fit, or the adapter adds nothing.
    """
    if adapters == NONE:
        raise UserError(f"An item of the adapters adds nothing: name one of {example()}.")
    plain = without_prompt(template)
    if template.soft == "none" and adapters.prompt_rows:
        soft = [t.name for t in with_prompt(template)]
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


# ---- Training ---------------------------------------------------------------------------------


def check_training(data: CellData, base: Base, path: Any, init: PromptInit) -> None:
    """Check that a cell's adapter can be trained on a model, from values that `init` can give.

    Raises:
      UserError: it cannot.
    """
    if base.checkpoint.adapters != NONE:
        raise UserError(
            f"{path} has adapters of its own. Write it as a plain model first: mto convert "
            f"--from={path} --to=native --output=..."
        )
    config = base.checkpoint.config
    check_vocabulary(config, data.adapters, base.vocabulary)
    init.check(data.adapters)
    shape = config.vocab_size, config.of_encoder.d_model
    _candidate(data, init, np.broadcast_to(np.float32(0), shape))


def train(
    model: EncoderDecoder,
    cells: Mapping[pathlib.Path, CellData],
    tuning: MultiAdapterTuning,
    init: PromptInit,
    start: str,
    state_file: pathlib.Path,
    progress: OnStep,
) -> None:
    """Train an adapter for each cell, of one shape, and write them.

    Args:
      cells: by the folder of their adapter; with settings.
      tuning: its rate counts for cells without one; the schedule is shared.
      start: path of the model.
      state_file: of an interrupted training; removed at the end.
    """
    first = next(iter(cells.values()))
    by_name = state.by_name(model)
    embedding_VxD = np.asarray(by_name[model.config.source_embedding])
    candidates = [_candidate(data, init, embedding_VxD) for data in cells.values()]
    done, total = itertools.count(1), max(tuning.steps(len(c.examples)) for c in candidates)
    tuned = tune_adapters(
        model,
        first.adapters,
        candidates,
        tuning,
        state_file=state_file,
        progress=lambda _, loss: progress(first.cell, next(done), total, loss),
    )
    fingerprint = peft.one_fingerprint(state.fingerprints(by_name))
    about = {
        "vocabulary": first.vocabulary.digest,
        "base": {"path": start, "fingerprint": fingerprint, "family": model.config.family},
    }
    for (folder, data), result in zip(cells.items(), tuned, strict=True):
        save(folder, data.adapters, result, data.cell, about)
    state_file.unlink()


def _candidate(data: CellData, init: PromptInit, embedding_VxD: np.ndarray) -> Candidate:
    cell = data.cell
    initial = init.parameters(
        data.adapters, embedding_VxD, data.own.task, data.vocabulary, peft.prompt_rows, cell.seed
    )
    rate = cell.values.get("learning_rate")
    return Candidate(name(cell), data.training(), data.dev(), rate, cell.seed, initial)


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
    info = {"course": course, "settings": origin(cell), "gin": gin.config_str()}
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


def load(
    folder: pathlib.Path, model: EncoderDecoder, data: CellData
) -> tuple[EncoderDecoder, dict[str, Any]]:
    """Returns (the model with the adapter of a cell, how its training went).

    Raises:
      UserError: the training diverged before anything was kept.
    """
    adapters, parameters, description = peft.load_adapter(folder)
    course = description["info"]["course"]
    if course["diverged"] is not None:
        problem = (
            f"The loss of {name(data.cell)} was not finite by step "
            f"{course['diverged']}. Lower its learning rate."
        )
        if not data.own.dev or not course["step"]:
            raise UserError(f"{problem} Remove {folder} to train it again.")
        print(f"{problem} The parameters of step {course['step']} are kept.", file=sys.stderr)
    return attach(model, adapters, parameters), course
