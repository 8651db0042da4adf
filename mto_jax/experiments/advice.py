# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which way of adapting a model fits a task, its data and a budget: strategies are measured at
growing numbers of shots, the worse half leaves, and the cheapest of the best is chosen."""

import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np
import psutil

from mto_jax import checks, remote
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError, unknown
from mto_jax.experiments import advice_gin, advice_page
from mto_jax.experiments.base_models import MATCHED
from mto_jax.experiments.choice import DEVICES, Limits
from mto_jax.experiments.figures import Figure
from mto_jax.experiments.grid import Where
from mto_jax.experiments.halving import Candidate, Measured, Question, in_plan, race
from mto_jax.experiments.recommendation import Adviser
from mto_jax.experiments.run import SECONDS, run_grid
from mto_jax.experiments.runner import FewShot, few_shot
from mto_jax.experiments.store import CellStore
from mto_jax.experiments.strategies import STRATEGIES
from mto_jax.experiments.tables import Table
from mto_jax.files import only_writer, write_atomically, write_json
from mto_jax.text2text import mapping
from mto_jax.text2text.task import candidates, tokenise
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.training.finetune import Tuning
from mto_jax.training.multi_adapter import MultiAdapterTuning

_COSTS = {
    "trained_parameters": "Trained parameters",
    "stored_mb": "Megabytes to store for each task",
    "memory_gb": "Gigabytes at the peak of training, estimated",
    SECONDS: "Seconds of a cell, evaluation included",
}
_UNKNOWN = 0.05  # most tokens of a task that the vocabulary may not know


@gin.configurable
def advise(
    *,
    task: checks.Name,
    initial_checkpoint_path: checks.Place,
    output_dir: checks.Place,
    task_feature_lengths: Mapping[str, checks.Count],
    template: str | None = None,
    shots: checks.Count | None = None,
    strategies: Sequence[checks.Name] | None = None,
    rates: Mapping[str, Sequence[checks.Positive]] | None = None,
    objectives: Sequence[checks.Name] = ("none",),
    adaptation: Sequence[checks.Name] = (),
    device: checks.Name = "cpu",
    minutes: checks.Positive | None = None,
    memory_gb: checks.Positive | None = None,
    tasks_served: checks.Count = 1,
    keep: Sequence[checks.Name] = (),
    most_forgotten: checks.Share = 0.05,
    replay: DatasetConfig | None = None,
    probe_shots: checks.Count = 300,
    seeds: Sequence[checks.Seed] = (0, 1),
    tuning: Tuning | None = None,
    prompt_tuning: MultiAdapterTuning | None = None,
    tails: checks.Count = 3,
    dev_heads: checks.Count = 30,
    test_heads: checks.Count | None = 100,
    references: checks.Count = 3,
    test_split: str = "test",
    module: str | None = None,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Measure what is missing, write the advice, tables and figures; returns advice.json's content.

    The results are cells of one grid, so the same command resumes where it was interrupted.

    Args:
      task: name of a data set, without a template.
      initial_checkpoint_path: the model, any checkpoint without adapters.
      output_dir: where everything is written.
      task_feature_lengths: most tokens of inputs and targets.
      template: without soft prompt; None takes that of the mapping (`mapping.tasks`).
      shots: heads to train on in the end; None means all there are.
      strategies: of `strategies.STRATEGIES`; None takes all ("full_replay" with `replay` alone).
      rates: {strategy: learning rates to try}, in place of its own.
      objectives: of an adaptation before: "none", "matched" (that of the mapping for the task), or
        others.
      adaptation: gin files of `mto adapt`, for objectives that are not "none".
      device: of `choice.DEVICES`, to adapt the model on.
      minutes: most minutes of the training that is advised.
      memory_gb: most memory of it, and of serving; None means the device's.
      tasks_served: tasks like this one that are served together, each tuned by itself.
      keep: tasks that a model whose own parameters train must not forget.
      most_forgotten: share of its score on them that it may lose.
      replay: what the model was pre-trained with, for "full_replay".
      probe_shots: most heads that anything is measured at; beyond, curves are extrapolated.
      seeds: of the heads that are drawn, and of the training.
      tuning, prompt_tuning: of what trains parts of the model, and adapters; None means as gin
        binds it. The learning rates are those of the strategies.
      tails, dev_heads, test_heads, references, test_split, module: as `FewShot` has them.
      retry_failed: compute failed cells again.

    Raises:
      UserError: an unknown name, a task that the vocabulary does not know, a budget that no
        strategy fits (with the least one that one does).
    """
    checks.check(advise, locals())
    for name in (*(strategies or ()), *(rates or ())):
        if name not in STRATEGIES:
            raise unknown("strategy (advise.strategies, advise.rates) called", name, STRATEGIES)
    if device not in DEVICES:
        raise unknown("device (advise.device)", device, DEVICES)
    if "full_replay" in (strategies or ()) and replay is None:
        raise UserError(
            "The strategy 'full_replay' replays pre-training data, but nothing says which: bind "
            "advise.replay to their DatasetConfig, or leave it out of advise.strategies."
        )
    # That of this task, also where what is adapted is asked about the tasks to be kept.
    wanted = dict.fromkeys(
        mapping.choice_of(task).objective if name == MATCHED else name for name in objectives
    )
    names = [n for n in strategies or STRATEGIES if n != "full_replay" or replay is not None]
    plain = template or mapping.choice_of(task).template
    if plain not in TEMPLATES:
        raise unknown("template (advise.template) called", plain, TEMPLATES)
    if TEMPLATES[plain].soft != "none":
        raise UserError(
            f"The template {plain} has a soft prompt, which only one of the strategies trains: "
            "give advise.template without; that strategy adds its own."
        )
    folder = remote.local(output_dir)
    models = {"base": initial_checkpoint_path}
    runner = few_shot(locals(), stages_dir=folder / "stages")
    several = (
        ", so what is forgotten cannot be averaged. Leave those of another metric out of "
        "advise.keep."
    )
    question = Question(
        runner,
        task,
        plain,
        runner.tasks.metric((task, *keep), several),
        [Candidate(*pair) for pair in itertools.product(names, wanted)],
        {name: tuple((rates or {}).get(name, STRATEGIES[name].rates)) for name in names},
        [*seeds],
        [*keep],
        shots,
        probe_shots,
    )
    _check_vocabulary(runner, (task, *keep))
    memory = memory_gb * 1e9 if memory_gb else DEVICES[device].memory
    limits = Limits(
        minutes, memory or psutil.virtual_memory().total, most_forgotten if keep else math.inf
    )
    adviser = Adviser(question, DEVICES[device], limits, tasks_served)
    with only_writer(folder, make_folder=True):
        return _advise(adviser, folder, retry_failed)


def _check_vocabulary(runner: FewShot, tasks: Sequence[str]) -> None:
    """The tasks are made of words that the model's vocabulary knows."""
    vocabulary = runner.bases["base"].vocabulary
    for name in tasks:
        task, lengths = runner.tasks[name].task, runner.task_feature_lengths
        examples = tokenise(candidates(task)[0], task.train[:200], task, vocabulary, lengths)
        tokens = [token for example in examples for part in example for token in part]
        share = np.mean(np.array(tokens) == vocabulary.unk_id)
        if share > _UNKNOWN:
            raise UserError(
                f"The model's vocabulary does not know {share:.0%} of the tokens of {name}: it "
                "is of another vocabulary (another language, perhaps). Take a model that was "
                "pre-trained on such texts."
            )


def _advise(adviser: Adviser, folder: pathlib.Path, retry_failed: bool) -> dict[str, Any]:
    """Measure, choose, write."""
    question = adviser.question
    fitting, unfit = adviser.fitting()
    measured, failed = race(question, fitting, CellStore(folder), retry_failed)
    tables, figures = _shown(measured)
    grid, runner = question.grid(measured.plan), question.runner
    run_grid(grid=grid, runner=runner, output_dir=folder, tables=tables, figures=figures)
    summary, chosen = adviser.recommend(measured, unfit | failed)
    way, text = advice_gin.text(runner, chosen, question.examples(chosen.shots or 0), folder)
    write_atomically(folder / "advice.gin", text)
    summary["command"] = f"mto {way} --gin_file={folder / 'advice.gin'}"
    write_json(folder / "advice.json", summary)
    write_atomically(folder / "advice.md", advice_page.page(summary))
    print(f"{advice_page.sentence(summary)}\nmore: {folder / 'advice.md'}")
    return summary


def _shown(measured: Measured) -> tuple[list[Table], list[Figure]]:
    """The tables of scores and costs by shots, and the curves."""
    question = measured.question
    rows: dict[str, list[Where]] = {
        str(candidate): [
            question.place(candidate, shots, measured.rate(candidate, shots))
            for shots in measured.shots(candidate)
        ]
        for candidate in in_plan(measured.plan)
    }
    tables = [Table("scores", rows, "shots", title=f"Scores of {question.task}", average=False)]
    tables += [
        Table(name, rows, "shots", metric=name, title=title, average=False, lowest=True)
        for name, title in _COSTS.items()
    ]
    curves = {name: places for name, places in rows.items() if places[0]["shots"]}
    figure = Figure("curves", "curve", "shots", curves, title="Scores by shots")
    return tables, [figure] if curves else []
