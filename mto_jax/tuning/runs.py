# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainings of `mto tune`: every task under every template with every adapter, learning rate and seed."""

import dataclasses
import itertools
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax.errors import UserError, unknown
from mto_jax.models.adapters import NONE, Adapters, example
from mto_jax.text2text import few_shot, records
from mto_jax.text2text.record_sets import Wanted, read
from mto_jax.text2text.task import Example, Task, tokenise
from mto_jax.text2text.templates import TEMPLATES, SoftPrompt, Template
from mto_jax.tuning.results import digest


@dataclasses.dataclass(frozen=True)
class Run:
    """One adapter to be tuned.

    Attributes:
      task: name of the data set.
      template: what its records wear.
      adapters: what is trained. A template with a shared prompt has its prompt's rows of each kind; those of
        `SoftPrompt.decoder_length` come on top.
      rate: learning rate.
      seed: of the heads that are drawn, their order, and the adapter's first values.
    """

    task: str
    template: Template
    adapters: Adapters
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """What its folder is called."""
        adapter = self.adapters.label
        return f"{self.task}-{self.template.name}-{adapter}-lr{self.rate:g}-seed{self.seed}"

    @property
    def soft(self) -> SoftPrompt:
        """Which rows of the prompt the template's tokens are."""
        return SoftPrompt(length=self.adapters.prompt_rows, first_row=0, shared_row=None)

    @property
    def trained(self) -> Adapters:
        """`adapters` with a row for every soft token of the template."""
        return self.adapters.with_prompt_rows(self.soft.needs(self.template))


def product(
    tasks: Sequence[str],
    templates: Sequence[str],
    adapters: Sequence[Adapters],
    rates: Sequence[float],
    seeds: Sequence[int],
) -> list[Run]:
    """All runs, those of one adapter and task next to each other.

    Raises:
      UserError: nothing of a kind, the same twice, an unknown template, an adapter that adds nothing, or a
        template whose soft prompt the adapter lacks (or the other way round).
    """
    axes = {
        "tasks": tasks,
        "templates": templates,
        "adapters": adapters,
        "learning_rates": rates,
        "seeds": seeds,
    }
    for axis, values in axes.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"tune.{axis} = {values!r}: give a list of one or more.")
    for name in templates:
        if name not in TEMPLATES:
            raise unknown("template", name, TEMPLATES)
    for one, name in itertools.product(adapters, templates):
        _check_pair(one, TEMPLATES[name])
    found = [
        Run(task, TEMPLATES[template], one, float(rate), seed)
        for one, task, template, rate, seed in itertools.product(
            adapters, tasks, templates, rates, seeds
        )
    ]
    names = [run.name for run in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"tune asks for {name} twice: leave one of them out.")
    return found


def _check_pair(adapters: Adapters, template: Template) -> None:
    if adapters == NONE:
        raise UserError(f"tune.adapters has an item that adds nothing: name one of {example()}.")
    if template.soft == "none" and adapters.prompt_rows:
        same = [t.name for t in TEMPLATES.values() if t.soft != "none" and plain(t) == template]
        raise UserError(
            f"The template {template.name} has no soft tokens, but the adapter {adapters.label} a prompt, which "
            f"would not be used. Take {' or '.join(same)}, or an adapter without one."
        )
    if template.soft != "none" and not adapters.prompt_rows:
        raise UserError(
            f"The template {template.name} has soft tokens, but the adapter {adapters.label} no prompt. Add "
            f"@PromptTuning() to tune.adapters, or take the template {plain(template).name}."
        )


def plain(template: Template) -> Template:
    """What the frozen model is asked with: the template without its soft prompt.

    Behind a head, soft tokens stand where the words of the phrase do elsewhere, which so come back.
    """
    return next(
        one
        for one in TEMPLATES.values()
        if one.soft == "none"
        and _axes(one) == _axes(template)
        and {*template.kinds} <= {*one.kinds}
    )


def _axes(template: Template) -> tuple[bool, bool, int]:
    return template.masked, template.verbalised or template.soft == "after", template.slots


# ---- Their records ----------------------------------------------------------------------------


def read_tasks(
    names: Sequence[str],
    *,
    dev_heads: int,
    test_heads: int | None,
    test_split: str,
    references: int,
    module: str | None,
) -> dict[str, tuple[Task, list[records.Record]]]:
    """By name: the task with all its training records and the held-out ones, and dev records.

    Dev records are drawn from the validation split, never of a head that is held out for the test.

    Raises:
      UserError: an unknown task or split, or no dev head is left.
    """
    wanted = [Wanted(name, "train", None) for name in names]
    wanted += [Wanted(name, test_split, test_heads, references) for name in names]
    wanted += [Wanted(name, "validation", None, references) for name in names] * (dev_heads > 0)
    found = read(wanted, module)
    train, test, validation = (
        found[i * len(names) : (i + 1) * len(names)] or [None] * len(names) for i in range(3)
    )
    tasks = {}
    for name, one, held_out, rest in zip(names, train, test, validation, strict=True):
        taken = {few_shot.normal(record.head) for record in held_out.records}
        free = [r for r in (rest.records if rest else ()) if few_shot.normal(r.head) not in taken]
        if rest and not free:
            raise UserError(
                f"All validation heads of {name} are in the test ({test_split}): none is left for tune.dev_heads. "
                "Lower tune.test_heads, or set tune.dev_heads = 0, which keeps the last parameters."
            )
        dev = few_shot.evaluation_sample(free, {}, heads=dev_heads or None, references=references)
        tasks[name] = (Task.of(one, held_out), dev)
    return tasks


def check_kinds(runs: Sequence[Run], tasks: Mapping[str, Task]) -> None:
    """Raises a UserError if a task's records cannot wear a template."""
    for run in runs:
        kind = tasks[run.task].kind
        if kind not in run.template.kinds:
            raise UserError(
                f"The template {run.template.name} is not for {run.task}, whose records are of the kind {kind}. "
                "Tune tasks of different kinds by commands of their own."
            )


def tell_of_few(tasks: Mapping[str, Task], shots: int | None) -> None:
    """Says on standard error which tasks have fewer training heads than are asked for."""
    for name, task in tasks.items():
        there = len({few_shot.normal(record.head) for record in task.train})
        if shots is not None and there < shots:
            print(f"{name} has {there} training heads, not {shots}: all are taken", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Job:
    """A run and what it is made of.

    Attributes:
      train: examples of the heads that `few_shot` draws for the run's seed, as everywhere.
      settings: all that its result depends on, as JSON has it.
      folder: where its adapter and its result go.
    """

    run: Run
    task: Task
    train: list[Example]
    dev: list[Example]
    settings: dict[str, Any]
    folder: pathlib.Path


def job(
    run: Run,
    task: Task,
    dev: Sequence[records.Record],
    folder: pathlib.Path,
    settings: Mapping[str, Any],
    *,
    shots: int | None,
    tails: int,
    vocabulary: Any,
    lengths: Mapping[str, int],
) -> Job:
    """The job of a run; `folder` is that of all runs, `settings` those that it shares with others.

    Raises:
      UserError: shots or tails below one, or an example that does not fit the lengths.
    """
    chosen = few_shot.few_shot(task.train, {}, shots=shots, tails_per_head=tails, seed=run.seed)
    train, dev = (
        tokenise(run.template, some, task, vocabulary, lengths, soft=run.soft)
        for some in (chosen, dev)
    )
    own = {
        "adapters": run.trained.as_dict(),
        "template": run.template.name,
        "rate": run.rate,
        "seed": run.seed,
        "train": digest(train),
        "dev": digest(dev),
    }
    everything = json.loads(json.dumps({**settings, **own}))
    return Job(run, task, train, dev, everything, folder / run.name)


def records_digest(task: Task) -> str:
    """Of the held-out records, and of the words that they wear."""
    return digest([repr(task.wording), list(map(records.to_json, task.held_out))])
