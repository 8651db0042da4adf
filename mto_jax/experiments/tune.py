# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The short way into a grid: task, template, adapter, learning rate and seed, beside the frozen
model."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gin

from mto_jax import checks, remote
from mto_jax.checkpoints import peft_form
from mto_jax.errors import UserError, unknown
from mto_jax.experiments.adapters import without_prompt
from mto_jax.experiments.figures import Figure
from mto_jax.experiments.grid import Grid, Where
from mto_jax.experiments.results import Results
from mto_jax.experiments.run import run_grid
from mto_jax.experiments.runner import few_shot
from mto_jax.experiments.scoring import DEV_LOSS
from mto_jax.experiments.tables import Table
from mto_jax.files import only_writer, write_atomically
from mto_jax.models.adapters import Adapters, Method
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.training.finetune import complete
from mto_jax.training.multi_adapter import MultiAdapterTuning


@gin.configurable
def tune(
    *,
    tasks: Sequence[checks.Name],
    templates: Sequence[checks.Name],
    initial_checkpoint_path: checks.Place,
    output_dir: checks.Place,
    task_feature_lengths: Mapping[str, checks.Count],
    adapters: Adapters | Method | Sequence[Adapters | Method | Sequence[Method]],
    seeds: Sequence[checks.Seed] = (0,),
    learning_rates: Sequence[checks.Positive] | None = None,
    shots: checks.Count | None = 30,
    tails: checks.Count = 3,
    dev_heads: checks.Natural = 30,
    test_heads: checks.Count | None = 100,
    references: checks.Count = 3,
    test_split: str = "test",
    init: PromptInit | None = None,
    tuning: MultiAdapterTuning | None = None,
    at_once: checks.Count = 32,
    module: str | None = None,
    retry_failed: bool = False,
) -> Results:
    """Train and evaluate what is missing, write tables and figure; returns all results.

    Args:
      tasks: names of data sets without a template, e.g. ["atomic_xIntent", "commonsenseqa"].
      templates: applied to their records; with soft tokens where an adapter has a prompt, without
        elsewhere. Every adapter is combined with every template.
      initial_checkpoint_path: the frozen model, any checkpoint without adapters.
      output_dir: where everything is written.
      task_feature_lengths: most tokens of inputs and targets.
      adapters: what is trained: a method, or a list of methods, or of lists of methods that train
        together. `PromptTuning.rows` is the length of the task's own prompt and, under a template
        with a shared one, of that as well.
      seeds: of the heads that are drawn, their order, and an adapter's first values.
      learning_rates: None means the optimizer's.
      shots: heads to train on; None takes all.
      tails: most references of each.
      dev_heads, test_heads, references, test_split, at_once, module: as `FewShot` has them.
      init: where prompts start; None means `PromptInit()`, as gin binds it.
      tuning: how adapters train; None means `MultiAdapterTuning()`, as gin binds it.
      retry_failed: compute failed runs again.

    Raises:
      UserError: what does not fit together, an unknown task, no model there or one with another
        vocabulary, results of other settings; or, after the tables are written, runs that failed.
    """
    checks.check(tune, locals())
    folder = remote.local(output_dir)
    items: Sequence[Any] = adapters if isinstance(adapters, list | tuple) else [adapters]
    adapters = [Adapters.of(item) for item in items]
    rates = learning_rates or [complete(tuning or MultiAdapterTuning()).optimizer.learning_rate]
    axes = {
        "tasks": tasks,
        "templates": templates,
        "adapters": adapters,
        "learning_rates": rates,
        "seeds": seeds,
    }
    _check_axes(axes)
    by_label = {a.label: a for a in adapters}
    runner = few_shot(
        locals(),
        models={"base": initial_checkpoint_path},
        stages_dir=folder,
        tuning=None,
        prompt_tuning=tuning,
        adapters=by_label,
        adapters_dir=folder,
    )
    for text in _left_to_peft(by_label.values(), templates, initial_checkpoint_path):
        print(text)
    metric = runner.tasks.metric(tasks, ": tune them by commands of their own.")
    rates = [float(rate) for rate in rates]
    frozen = list(dict.fromkeys(without_prompt(TEMPLATES[name]).name for name in templates))
    tuned_only = {
        "template": templates,
        "shots": shots,
        "adapter": list(by_label),
        "learning_rate": rates,
    }
    frozen_only = {
        "template": frozen,
        "shots": 0,
        "seed": seeds[0],
        "adapter": "none",
        "learning_rate": None,
    }
    grid = Grid(
        name="tune",
        model=["base"],
        template=[*dict.fromkeys((*templates, *frozen))],
        task=tasks,
        metric=metric,
        shots=[shots, 0],
        seed=seeds,
        method=["adapter_tune", "frozen"],
        extra={"adapter": [*by_label, "none"], "learning_rate": [*rates, None]},
        constraints=[
            {"when": {"method": "adapter_tune"}, "only": tuned_only},
            {"when": {"method": "frozen"}, "only": frozen_only},
        ],
    )
    tables = _tables(templates, list(by_label), rates, dev_heads > 0)
    rows: Any = tables[0].rows
    figure = Figure("scores", "bars", "task", rows)
    try:
        with only_writer(folder, make_folder=True):
            return run_grid(
                grid=grid,
                runner=runner,
                output_dir=folder,
                tables=tables,
                figures=[figure],
                retry_failed=retry_failed,
            )
    finally:
        paths = [folder / "tables" / f"{table.name}.md" for table in tables]
        if all(path.exists() for path in paths):
            paths.append(folder / "tables" / "notes.md")
            text = "\n".join(path.read_text() for path in paths if path.exists())
            write_atomically(folder / "table.md", text)
            picture = (folder / "figures" / "scores.png").read_bytes()
            write_atomically(folder / "figure.png", picture)


def _check_axes(axes: Mapping[str, Sequence]) -> None:
    """Every axis has values, none twice, and the templates exist."""
    for axis, values in axes.items():
        if not values:
            raise UserError(f"tune.{axis} = {values!r}: give a list of one or more.")
        names = [v.label if isinstance(v, Adapters) else v for v in values]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"tune.{axis} asks for {name!r} twice: leave one of them out.")
    for name in axes["templates"]:
        if name not in TEMPLATES:
            raise unknown("template (tune.templates) called", name, TEMPLATES)


def _left_to_peft(adapters: Collection[Adapters], templates: Sequence[str], base: str) -> list[str]:
    """Sentences, each once, on what Hugging Face PEFT would not repeat of these adapters."""
    texts = [
        text
        for each, template in itertools.product(adapters, templates)
        for text in peft_form.differences(each, {"template": template, "base": {"path": base}})
    ]
    return [*dict.fromkeys(texts)]


def _tables(
    templates: Sequence[str], adapters: Sequence[str], rates: Sequence[float], has_dev: bool
) -> list[Table]:
    """Scores, gains over the frozen model, dev losses; a row for each run but its seed."""
    frozen: dict[str, list[Where]] = {}
    tuned: dict[str, list[Where]] = {}
    counterparts = {}
    for template, adapter, rate in itertools.product(templates, adapters, rates):
        plain = without_prompt(TEMPLATES[template]).name
        row, counterpart = f"{template}, {adapter}, rate {rate:g}", f"{plain}, frozen"
        frozen[counterpart] = [{"method": "frozen", "template": plain}]
        place = {"template": template, "adapter": adapter, "learning_rate": rate}
        tuned[row] = [{"method": "adapter_tune", **place}]
        counterparts[row] = counterpart
    options = {"rows": {**frozen, **tuned}, "columns": "task", "counterparts": counterparts}
    gain = {"title": "Gain over the frozen model", "differences": True}
    loss = {"title": "Dev loss per target token", "metric": DEV_LOSS, "lowest": True}
    tables = [Table("scores", **options), Table("gains", **options, **gain)]
    return [*tables, Table(DEV_LOSS, **options, **loss)] if has_dev else tables
