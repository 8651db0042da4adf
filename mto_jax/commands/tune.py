# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tune many prompts, LoRAs, ... at once on a frozen model, and ask each about heads that it has not seen.

    mto tune --gin_file=runs/prompt_tune.gin --gin.TASKS="['atomic_xIntent', 'atomic_xAttr']" \\
      --gin.INITIAL_CHECKPOINT_PATH=runs/base --gin.OUTPUT_DIR=runs/prompts

A run is a task under a template with an adapter, a learning rate and a seed; runs of one adapter train together
in one step. OUTPUT_DIR gets a folder for every run (the adapter, as `mto convert` reads it, and
results.json), results.jsonl, a table (table.md) and a figure (figure.png) beside the frozen model. The
same command goes on where it was interrupted; what is there is not computed again.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np

from mto_jax import checkpoints
from mto_jax.checkpoints import peft
from mto_jax.checkpoints.compatibility import check_vocabulary
from mto_jax.console import progress_bar, wide
from mto_jax.data.loader import assemble
from mto_jax.decoding.scoring import log_likelihood
from mto_jax.errors import UserError
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.experiments.figures import encode
from mto_jax.files import write_atomically
from mto_jax.matching import report as tables
from mto_jax.models.adapters import NONE, Adapters, Method
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.models.t5 import T5
from mto_jax.text2text.records import Record
from mto_jax.text2text.task import Example, Task, tokenise
from mto_jax.text2text.templates import Template
from mto_jax.training import state as states
from mto_jax.training.finetune import row_lengths
from mto_jax.training.multi_adapter import Candidate, ManyTuning, Tuned, attach, tune_many
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.performance import use_compilation_cache
from mto_jax.tuning import report, results, runs
from mto_jax.tuning.results import Result
from mto_jax.tuning.runs import Job


@gin.configurable
def tune(
    *,
    tasks: Sequence[str],
    templates: Sequence[str],
    initial_checkpoint_path: str,
    output_dir: str,
    task_feature_lengths: Mapping[str, int],
    adapters: Adapters | Method | Sequence[Adapters | Method | Sequence[Method]],
    seeds: Sequence[int] = (0,),
    learning_rates: Sequence[float] | None = None,
    shots: int | None = 30,
    tails: int = 3,
    dev_heads: int = 30,
    test_heads: int | None = 100,
    references: int = 3,
    test_split: str = "test",
    init: PromptInit | None = None,
    tuning: ManyTuning | None = None,
    at_once: int = 32,
    module: str | None = None,
) -> list[Result]:
    """Train what is missing, ask what has not been asked, write table and figure; returns all results.

    Args:
      tasks: names of data sets without a template, e.g. ["atomic_xIntent", "commonsenseqa"].
      templates: what their records wear; with soft tokens where an adapter has a prompt, without elsewhere.
      initial_checkpoint_path: the frozen model, any checkpoint without adapters (`checkpoints.open`).
      output_dir: where everything is written.
      task_feature_lengths: most tokens of inputs and targets.
      adapters: what is trained: a method, or a list of methods, or of lists of methods that train together.
        `PromptTuning.rows` is the length of the task's own prompt and, under a template with a shared
        one, of that as well.
      seeds: of the heads that are drawn, their order, and an adapter's first values.
      learning_rates: None means the optimizer's.
      shots: heads to train on; None takes all.
      tails: most references of each.
      dev_heads: heads of the validation split whose loss says when a run stops and which of its parameters are
        kept (`ManyTuning`); 0: the last are.
      test_heads: heads that the tuned models are asked about; None takes all. None of them is a dev head.
      references: most references of a dev or test head.
      test_split: "test" for what is published, "validation" for choices.
      init: where prompts start; None means `PromptInit()`, as gin binds it.
      tuning: how runs train; None means `ManyTuning()`, as gin binds it.
      at_once: most runs in one step.
      module: user module(s) that register tasks, comma-separated.

    Raises:
      UserError: what does not fit together (`runs.product`, `PromptInit`), an unknown task, no model there or
        one with another vocabulary, too many runs for the memory, results of another configuration.
    """
    tuning = tuning or ManyTuning()
    tuning = dataclasses.replace(tuning, optimizer=tuning.optimizer or Optimizer())
    init = init or PromptInit()
    listed = adapters if isinstance(adapters, list | tuple) else [adapters]
    adapters = [Adapters.of(item) for item in listed]
    rates = learning_rates or [tuning.optimizer.learning_rate]
    wanted = runs.product(tasks, templates, adapters, rates, seeds)
    for one in adapters:
        init.check(one)
    if at_once < 1:
        raise UserError(f"tune.at_once is {at_once}; it must be at least 1.")
    use_compilation_cache()
    base = _Base(initial_checkpoint_path, adapters)
    data = runs.read_tasks(
        tasks,
        dev_heads=dev_heads,
        test_heads=test_heads,
        test_split=test_split,
        references=references,
        module=module,
    )
    todo = {name: task for name, (task, _) in data.items()}
    runs.check_kinds(wanted, todo)
    runs.tell_of_few(todo, shots)

    folder, lengths = pathlib.Path(output_dir), dict(task_feature_lengths)
    of_asking = {
        name: {**base.settings, "lengths": lengths, "test": runs.records_digest(task)}
        for name, task in todo.items()
    }
    course = dataclasses.replace(
        tuning, optimizer=dataclasses.replace(tuning.optimizer, learning_rate=0.0)
    )
    of_training = {"tuning": repr(course), "init": init.identity(peft.prompt_rows)}
    jobs = [
        runs.job(
            run,
            *data[run.task],
            folder,
            {**of_asking[run.task], **of_training},
            shots=shots,
            tails=tails,
            vocabulary=base.vocabulary,
            lengths=lengths,
        )
        for run in wanted
    ]
    teams = _teams([job for job in jobs if not _is_tuned(job)], at_once)
    candidates = [[_candidate(base, job, init) for job in team] for team in teams]
    questions = dict.fromkeys((run.task, runs.plain(run.template)) for run in wanted)
    with progress_bar("ask the frozen model", len(questions)) as advance:
        frozen = {}
        for name, template in questions:
            frozen[name, template] = _ask_frozen(
                base, *data[name], template, folder, of_asking[name]
            )
            advance(1)
    for team, own in zip(teams, candidates, strict=True):
        _train(base, team, own, tuning, folder)
    with progress_bar("ask the tuned models", len(jobs)) as advance:
        found = []
        for job in jobs:
            found.append(_ask_tuned(base, job))
            advance(1)
    baseline = {
        (run.task, run.template.name): frozen[run.task, runs.plain(run.template)] for run in wanted
    }
    _write(folder, base.checkpoint.title, found, baseline)
    return found


class _Base:
    """The frozen model of all runs, loaded when it is first needed."""

    def __init__(self, path: str, adapters: Sequence[Adapters]):
        self.path, self.checkpoint = path, checkpoints.open(path)
        if self.checkpoint.adapters != NONE:
            raise UserError(
                f"{path} has adapters of its own. Write it as a plain model first: mto convert --from={path} "
                "--to=native --output=..."
            )
        self.vocabulary = self.checkpoint.adopt_vocabulary()
        for one in adapters:
            check_vocabulary(self.checkpoint.config, one, self.vocabulary)
        self.settings = {"model": self.checkpoint.digest, "vocabulary": self.vocabulary.digest}

    @functools.cached_property
    def model(self) -> T5:
        return self.checkpoint.model(self.vocabulary)

    @functools.cached_property
    def embedding_VxD(self) -> np.ndarray:
        return np.asarray(states.by_name(self.model)["embedding"])

    @functools.cached_property
    def description(self) -> dict[str, str]:
        """As adapter folders name it."""
        fingerprints = states.fingerprints(states.by_name(self.model))
        return {"path": self.path, "fingerprint": peft.one_fingerprint(fingerprints)}


def _teams(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Jobs that train together: those of one adapter, `size` at most."""
    teams = []
    for _, same in itertools.groupby(jobs, key=lambda job: job.run.trained):
        mine = list(same)
        teams += [mine[i : i + size] for i in range(0, len(mine), size)]
    return teams


def _is_tuned(job: Job) -> bool:
    """Whether its adapter is there.

    Raises:
      UserError: what is there is another run's.
    """
    results.read(job.folder / results.FILE, job.settings)
    if not job.folder.exists() or not any(job.folder.iterdir()):
        return False
    if not peft.is_adapter(job.folder):
        raise UserError(f"{job.folder} exists and holds no adapter. Remove it to tune it anew.")
    info = peft.load_adapter(job.folder)[2].get("info", {})
    results.check_same(job.folder, info.get("settings", {}), job.settings)
    return True


def _candidate(base: _Base, job: Job, init: PromptInit) -> Candidate:
    run = job.run
    given = init.parameters(
        run.trained, base.embedding_VxD, job.task, base.vocabulary, peft.prompt_rows, run.seed
    )
    return Candidate(run.name, job.train, job.dev, run.rate, run.seed, given)


def _train(
    base: _Base,
    team: Sequence[Job],
    candidates: Sequence[Candidate],
    tuning: ManyTuning,
    folder: pathlib.Path,
) -> None:
    """Train the jobs of a team in one step and write their adapters."""
    adapters = team[0].run.trained
    state_file = folder / f"training-{results.digest([job.settings for job in team])}.npz"
    title = f"tune {len(team)} x {team[0].run.adapters.label}"
    with progress_bar(title, max(map(tuning.steps, candidates))) as advance:
        tuned = tune_many(
            base.model,
            adapters,
            candidates,
            tuning,
            state_file=state_file,
            progress=lambda count, _: advance(count),
        )
    for job, one in zip(team, tuned, strict=True):
        _save(base, job, one)
    state_file.unlink()


def _save(base: _Base, job: Job, one: Tuned) -> None:
    if one.diverged is not None:
        print(
            f"{one.name}: the loss was not finite by step {one.diverged}; the parameters of step {one.step} are "
            "kept. Lower its learning rate (tune.learning_rates).",
            file=sys.stderr,
        )
    losses = [loss for _, loss in one.dev_losses if np.isfinite(loss)]
    course = {
        "step": one.step,
        "diverged": one.diverged,
        "dev_loss": min(losses) if losses else None,
    }
    description = {
        "task": job.run.task,
        "template": job.run.template.name,
        "vocabulary": base.vocabulary.digest,
        "base": base.description,
        "info": {"course": course, "settings": job.settings},
    }
    peft.save_adapter(job.folder, job.run.trained, one.parameters, description)


def _ask_frozen(
    base: _Base,
    task: Task,
    dev: Sequence[Record],
    template: Template,
    folder: pathlib.Path,
    settings: Mapping[str, Any],
) -> Result:
    """How the frozen model answers under a template without a soft prompt."""
    lengths = settings["lengths"]
    examples = tokenise(template, dev, task, base.vocabulary, lengths)
    settings = {**settings, "template": template.name, "dev": results.digest(examples)}
    name = f"{task.name}-{template.name}"
    path = folder / "frozen" / f"{name}.json"
    if (known := results.read(path, settings)) is not None:
        return known
    evaluated = evaluate_records(base.model, task, template, base.vocabulary, lengths)
    loss = _loss(base.model, examples) if examples else None
    found = Result(
        name,
        task.name,
        template.name,
        settings,
        dev_loss=loss,
        **results.of(evaluated, task.metrics.decides),
    )
    results.write(path, found)
    return found


def _loss(model: T5, examples: Sequence[Example], batch_size: int = 32) -> float:
    """Of a model per target token, EOS and sentinels included, as `tune_many` has it."""
    capacity = row_lengths(examples)
    rows = [
        {"inputs": np.asarray(inputs, np.int32), "targets": np.asarray(targets, np.int32)}
        for inputs, targets in examples
    ]
    total = count = 0.0
    for start in range(0, len(rows), batch_size):
        taken = rows[start : start + batch_size]
        batch = assemble(taken, np.arange(len(taken)), batch_size, capacity)
        sum_B, count_B = log_likelihood(model, batch)
        total, count = total - float(sum_B.sum()), count + float(count_B.sum())
    return total / count


def _ask_tuned(base: _Base, job: Job) -> Result:
    path, run = job.folder / results.FILE, job.run
    if (known := results.read(path, job.settings)) is not None:
        return known
    adapters, parameters, description = peft.load_adapter(job.folder)
    evaluated = evaluate_records(
        attach(base.model, adapters, parameters),
        job.task,
        run.template,
        base.vocabulary,
        job.settings["lengths"],
        soft=run.soft,
    )
    found = Result(
        run.name,
        run.task,
        run.template.name,
        job.settings,
        adapter=run.adapters.label,
        rate=run.rate,
        seed=run.seed,
        **description["info"]["course"],
        **results.of(evaluated, job.task.metrics.decides),
    )
    results.write(path, found)
    return found


def _write(
    folder: pathlib.Path,
    model: str,
    found: Sequence[Result],
    frozen: Mapping[tuple[str, str], Result],
) -> None:
    lines = [json.dumps(dataclasses.asdict(one)) + "\n" for one in found]
    write_atomically(folder / "results.jsonl", "".join(lines))
    single, means = report.lines(found, frozen)
    rows = report.rows([*single, *means])
    write_atomically(folder / "table.md", tables.markdown(rows))
    write_atomically(folder / "figure.png", encode(report.figure(single), "png"))
    console = wide()
    console.print(tables.table(f"{model}: tuned and frozen, 95 % intervals over heads", rows))
    print(f"adapters, results, table and figure are in {folder}")
