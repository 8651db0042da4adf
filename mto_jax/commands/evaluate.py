# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""mto evaluate: decode data sets with a checkpoint and score the predictions, with 95 % intervals.

mto evaluate --gin.MODEL_DIR=runs/a
"""

import argparse
import datetime
import pathlib
import shlex
import sys
from collections.abc import Sequence

import gin
import rich.progress
import rich.table

import mto_jax
from mto_jax import checks, errors, hub, peers, remote
from mto_jax.checkpoints import Checkpoint, open_all
from mto_jax.checkpoints.trained import adopt
from mto_jax.console import progress_bar, wide
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.decoding.generation import Decoding
from mto_jax.evaluation import report as report_lib
from mto_jax.evaluation import result_files
from mto_jax.evaluation.evaluator import check_vocabulary, evaluate_dataset
from mto_jax.evaluation.result import Result
from mto_jax.files import write_atomically
from mto_jax.models.flops import num_parameters
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training.performance import use_compilation_cache

_SEVERAL = ("all", "new")
_CHOICES = ("best", "newest", *_SEVERAL)


GIN_FILE = "runs/evaluate.gin"  # where the user names none


def add_flags(parser: argparse._ActionsContainer) -> None:
    """The flags of `mto evaluate` besides gin's."""
    parser.add_argument(
        "--report", action="store_true", default=None, help="also write report.html for each step"
    )


@gin.configurable
def evaluate(
    *,
    model_dir: checks.Place,
    datasets: Sequence[DatasetConfig] | None = None,
    checkpoints: str | checks.Natural = "best",
    decoding: Decoding | None = None,
    batch_size: checks.Count = 32,
    output_dir: checks.Place | None = None,
    report: bool = False,
) -> dict[int, list[Result]]:
    """Evaluate checkpoints on data sets; print a table and write the predictions.

    Beside every score stands that of the best answer that is the same for every example; scores
    that are not above it, and predictions that are all alike, are named.

    Writes `predictions-TASK-SPLIT.jsonl` (a row an example: input, references, prediction, scores)
    and `metrics.json`, each at once or not at all. What is there already, of the same checkpoint,
    data and decoding, is taken from there.

    Args:
      model_dir: a run directory, one step folder of it, or any other checkpoint
        (`checkpoints.open`).
      datasets: what to evaluate on; a mixture is evaluated task by task. None means
        `DatasetConfig()` as gin binds it, in which task, module and lengths are by default those
        that the run was trained with.
      checkpoints: of a run directory: "best" (by the run's dev metric, else the newest), "newest",
        "all", "new" (those without results for all the data sets), or the number of a step.
      decoding: how to decode; by default `Decoding()` as gin has it.
      batch_size: examples at once.
      output_dir: where to write; by default MODEL_DIR/evaluation, or ./evaluation/NAME for a
        checkpoint of another program. Each step has a folder in it.
      report: also write `report.html` there, a page to look at in a browser.

    On several hosts each process decodes a part of the examples, and the first writes and prints.

    Returns:
      The results of every task, by step.

    Raises:
      UserError: no such checkpoint, or model and data have different vocabularies.
    """
    checks.check(evaluate, locals())
    use_compilation_cache()
    decoding = decoding or Decoding()
    if datasets is not None and not datasets:
        raise errors.UserError(
            "evaluate.datasets is empty: bind it to one or more data sets, for example "
            "evaluate.datasets = [@DatasetConfig()]."
        )
    chosen = open_all(model_dir, checkpoints)
    _ = chosen[-1].mesh  # what is wrong with it is said before data are prepared
    adopt(chosen[-1])
    if datasets is None:
        datasets = [gin.get_configurable(DatasetConfig)()]
    vocabulary = chosen[-1].adopt_vocabulary()
    tasks = [task for prepared in loader.ensure_all(datasets) for task in prepared.tasks]
    titles = [f"{task.name} ({task.split})" for task in tasks]
    for task in tasks:
        check_vocabulary(task, vocabulary)
    results: dict[int, list[Result]] = {}
    places = {}
    for checkpoint in chosen:
        step = checkpoint.step
        folder = remote.local(output_dir or _output_dir(checkpoint)) / str(step)
        digest = f"{checkpoint.digest} {checkpoint.config.dtype}"
        origins = [result_files.origin(digest, task, decoding) for task in tasks]
        stored = [result_files.read(folder, *both) for both in zip(tasks, origins, strict=True)]
        stored = peers.of_first(stored)
        missing = stored.count(None)
        if checkpoints == "new" and not missing:
            continue
        if missing < len(tasks):
            print(f"{len(tasks) - missing} of {len(tasks)} results are taken from {folder}")
        model, evaluated = None, []
        for task, title, origin, result in zip(tasks, titles, origins, stored, strict=True):
            if result is None:
                if model is None:
                    model = checkpoint.model(vocabulary)
                with progress_bar(title, task.num_examples) as advance:
                    result = evaluate_dataset(
                        model, task, vocabulary, decoding, batch_size=batch_size, progress=advance
                    )
                if peers.index() == 0:
                    result_files.write(folder, checkpoint.title, step, result, origin)
            evaluated.append(result)
        results[step], places[step] = evaluated, (checkpoint, folder)
        if peers.index():
            continue
        title = f"{model_dir}, step {step}: {_sample()}"
        wide().print(_table(title, evaluated))
        print(*(text for result in evaluated for text in result.warnings()), sep="\n")
        print(f"predictions and metrics are in {remote.name_of(folder)}")
    if not results:
        print(f"nothing new in {model_dir}: {len(chosen)} checkpoints are evaluated already")
    for step, (checkpoint, folder) in places.items() if report and peers.index() == 0 else ():
        facts = _facts(checkpoint, step, results[step], vocabulary, decoding)
        title = f"{model_dir}, step {step:,}"
        page = report_lib.page(title, facts, results[step], results, step, gin.config_str())
        write_atomically(folder / "report.html", page)
        print(f"the report is {remote.name_of(folder / 'report.html')}")
    return results


def _facts(
    checkpoint: Checkpoint,
    step: int,
    results: Sequence[Result],
    vocabulary: Vocabulary,
    decoding: Decoding,
) -> dict[str, str]:
    """Returns the facts at the head of the report, by their labels."""
    config = checkpoint.config
    size = num_parameters(config)
    layers = f"{config.num_encoder_layers} + {config.num_decoder_layers} layers"
    return {
        "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "model": f"{checkpoint.title}, step {step:,}",
        "size": f"{size / 1e6:,.1f} million parameters, {layers}, d_model {config.d_model}",
        "vocabulary": f"{vocabulary.path}, {vocabulary.size:,} ids",
        "data": ", ".join(f"{r.title}: {len(r.rows):,} examples" for r in results),
        "sample": _sample(),
        "decoding": str(decoding),
        "written": f"{datetime.datetime.now():%Y-%m-%d %H:%M}, MTO-JAX {mto_jax.__version__}",
    }


def _sample() -> str:
    """Which part of their splits the tasks are evaluated on, as gin binds it."""
    bound = gin.get_bindings("evaluation_sample")
    heads, count = bound.get("heads"), bound.get("references")
    shown = "all heads" if heads is None else f"at most {heads} heads"
    return f"{shown}, {'all' if count is None else f'at most {count}'} references of each"


def _output_dir(checkpoint: Checkpoint) -> pathlib.Path:
    """Beside the steps of a run; the results of other checkpoints stay in the working directory."""
    if checkpoint.run_dir is not None:
        return checkpoint.run_dir / "evaluation"
    name = checkpoint.title.removeprefix(hub.PREFIX).partition("@")[0]
    return pathlib.Path("evaluation", pathlib.Path(name).name)


def _table(title: str, results: Sequence[Result]) -> rich.table.Table:
    table = rich.table.Table(title=title)
    for name in ("task", "split", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("examples", "value", "95 % interval", "best constant answer"):
        table.add_column(name, justify="right")
    for result in results:
        for i, (name, interval) in enumerate(result.metrics.items()):
            head = (result.task, result.split) if i == 0 else ("", "")
            bounds = "" if interval.low is None else f"{interval.low:.3f} to {interval.high:.3f}"
            count = str(len(result.rows)) if i == 0 else ""
            constant = f"{result.constant[name]:.3f}" if name in result.constant else ""
            table.add_row(*head, name, count, f"{interval.value:.3f}", bounds, constant)
        if result.constant:
            share = f"{result.distinct / len(result.rows):.0%}"
            table.add_row("", "", "distinct predictions", "", share, "", "")
        table.add_section()
    return table
