# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""mto evaluate: decode data sets with a checkpoint and score the predictions, with 95 % intervals.

mto evaluate --gin_file=runs/evaluate.gin --gin.MODEL_DIR=runs/a
"""

import contextlib
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import gin
import rich.console
import rich.progress
import rich.table

from mto_jax import cli, errors
from mto_jax import vocabulary as vocabulary_lib
from mto_jax.data import loader
from mto_jax.data.config import DatasetConfig
from mto_jax.evaluation.decoding import Decoding
from mto_jax.evaluation.evaluate import Result, check_vocabulary, evaluate_dataset, load_model
from mto_jax.training import checkpoints as checkpoints_lib
from mto_jax.training.digests import damage, write_atomically
from mto_jax.training.performance import use_compilation_cache

_CHOICES = ("best", "newest", "all")


@gin.configurable
def evaluate(
    *,
    model_dir: str,
    datasets: Sequence[DatasetConfig],
    checkpoints: str | int = "best",
    decoding: Decoding | None = None,
    batch_size: int = 32,
    output_dir: str | None = None,
) -> dict[int, list[Result]]:
    """Evaluate checkpoints on data sets; print a table and write the predictions.

    Writes `predictions-TASK-SPLIT.jsonl` (a row an example: input, references, prediction, scores) and
    `metrics.json`, each at once or not at all.

    Args:
      model_dir: a run directory, or one step folder of it.
      datasets: what to evaluate on; a mixture is evaluated task by task.
      checkpoints: of a run directory: "best" (by the run's dev metric, else the newest), "newest", "all", or
        the number of a step.
      decoding: how to decode; by default `Decoding()` as gin has it.
      batch_size: examples at once.
      output_dir: where to write; by default MODEL_DIR/evaluation. Each step has a folder in it.

    Returns:
      The results of every task, by step.

    Raises:
      UserError: no such checkpoint, or model and data have different vocabularies.
    """
    use_compilation_cache()
    decoding = decoding or Decoding()
    if not datasets:
        raise errors.UserError(
            "evaluate.datasets is empty: bind it to one or more data sets, for example "
            "evaluate.datasets = [@DatasetConfig()]."
        )
    vocabulary = vocabulary_lib.vocabulary()
    step_dirs = find_checkpoints(model_dir, checkpoints)
    tasks = [task for dataset in datasets for task in loader.ensure(dataset).tasks]
    for task in tasks:
        check_vocabulary(task, vocabulary)
    results = {}
    for step_dir in step_dirs:
        model = load_model(step_dir, vocabulary)
        found = []
        for task in tasks:
            with progress_bar(f"{task.name} ({task.split})", task.num_examples) as advance:
                found.append(
                    evaluate_dataset(
                        model, task, vocabulary, decoding, batch_size=batch_size, progress=advance
                    )
                )
        root = pathlib.Path(output_dir) if output_dir else step_dir.parent.parent / "evaluation"
        folder = root / step_dir.name
        _write(folder, step_dir, decoding, found)
        rich.console.Console().print(_table(f"{model_dir}, step {step_dir.name}", found))
        print(f"predictions and metrics are in {folder}")
        results[int(step_dir.name)] = found
    return results


def find_checkpoints(model_dir: str, which: str | int) -> list[pathlib.Path]:
    """The step folders that `evaluate.checkpoints` means; damaged ones are reported and left out.

    Raises:
      UserError: there is no such checkpoint, or only damaged ones.
    """
    which = int(which) if str(which).isdigit() else which
    if isinstance(which, int):
        steps = {int(path.name): path for path in checkpoints_lib.steps(model_dir)}
        if which not in steps:
            raise errors.unknown(f"checkpoint in {model_dir} of step", str(which), map(str, steps))
        return [checkpoints_lib.resolve(steps[which])]
    if which not in _CHOICES:
        raise errors.unknown("choice of checkpoints", which, (*_CHOICES, "the number of a step"))
    good = []
    for step_dir in checkpoints_lib.steps(model_dir) if which == "all" else ():
        problem = damage(step_dir)
        if problem is None:
            good.append(step_dir)
        else:
            print(f"checkpoint {step_dir} is damaged and left out: {problem}", file=sys.stderr)
    prefer = "best" if which == "best" else "newest"
    return good or [checkpoints_lib.resolve(model_dir, prefer)]


@contextlib.contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; gives the function that advances it."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


def _write(
    folder: pathlib.Path, step_dir: pathlib.Path, decoding: Decoding, results: Sequence[Result]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        write_atomically(folder / f"predictions-{result.task}-{result.split}.jsonl", result.jsonl())
    summary = {
        "checkpoint": str(step_dir),
        "step": int(step_dir.name),
        "decoding": dataclasses.asdict(decoding),
        "results": [
            {
                "task": result.task,
                "split": result.split,
                "examples": len(result.rows),
                "metrics": {
                    name: dataclasses.asdict(interval) for name, interval in result.metrics.items()
                },
            }
            for result in results
        ],
    }
    write_atomically(folder / "metrics.json", json.dumps(summary, indent=1) + "\n")


def _table(title: str, results: Sequence[Result]) -> rich.table.Table:
    table = rich.table.Table(title=title)
    for name in ("task", "split", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("examples", "value", "95 % interval"):
        table.add_column(name, justify="right")
    for result in results:
        for i, (name, interval) in enumerate(result.metrics.items()):
            head = (result.task, result.split) if i == 0 else ("", "")
            bounds = "" if interval.low is None else f"{interval.low:.3f} to {interval.high:.3f}"
            count = str(len(result.rows)) if i == 0 else ""
            table.add_row(*head, name, count, f"{interval.value:.3f}", bounds)
        table.add_section()
    return table


if __name__ == "__main__":
    cli.run("evaluate")
