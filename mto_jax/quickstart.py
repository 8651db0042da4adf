# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The whole way in a few minutes on a CPU: pre-train a tiny T5, tune it few-shot, evaluate, print a table.

Every stage is an ordinary `mto` command, which is printed before it runs. What is done already is not
done again: stop it and start it as you like.
"""

import collections
import itertools
import pathlib
import shlex

import gin
import matplotlib
import matplotlib.figure
import numpy as np
import rich.console
import rich.table

from mto_jax import cli, config, evaluate, train
from mto_jax.evaluation import metrics
from mto_jax.evaluation.evaluate import Result
from mto_jax.training.digests import write_atomically

# One relation of short answers (Mask-Filling) and one of phrases (Map-Phrasal).
RELATIONS = ("AtLocation", "xIntent")
TEMPLATES = ("mapping", "masked_prompting")
STARTS = {"pre-trained": "pretrain", "from scratch": None}


def add_flags(parser) -> None:
    parser.add_argument("--output_dir", metavar="DIR", help="default: runs/quickstart")


@gin.configurable
def quickstart(output_dir: str = "runs/quickstart") -> None:
    """Pre-train, fine-tune on two relations with two templates each, evaluate on heads unseen in tuning.

    Writes table.md and figure.png into OUTPUT_DIR, beside one run directory for each model.

    Args:
      output_dir: where everything goes, prepared data included.
    """
    folder = pathlib.Path(output_dir)
    common = {"DatasetConfig.prepared_dir": str(folder / "prepared")}
    stage("train", "demo_pretrain", {"MODEL_DIR": str(folder / "pretrain"), **common})

    results: dict[tuple[str, str, str], Result] = {}
    constants: dict[str, float] = {}
    for relation, template, (start, origin) in itertools.product(
        RELATIONS, TEMPLATES, STARTS.items()
    ):
        task = f"demo_{relation}_{template}"
        run = folder / f"{task}-{start.replace(' ', '_')}"
        macros = {"MODEL_DIR": str(run), "MIXTURE_OR_TASK_NAME": task, **common}
        initial = str(folder / origin) if origin else None
        stage("train", "demo_finetune", {**macros, "INITIAL_CHECKPOINT_PATH": initial})
        (found,) = stage("evaluate", "demo_evaluate", macros).values()
        results[relation, template, start] = found[0]
        constants.setdefault(relation, constant_answer(found[0]))

    table = report(results, constants)
    write_atomically(folder / "table.md", table)
    figure(results, constants).savefig(folder / "figure.png", dpi=150)
    print(f"\nThe table is in {folder / 'table.md'}, its figure in {folder / 'figure.png'}.")


def stage(verb: str, gin_file: str, macros: dict):
    """Run `mto VERB --gin_file=runs/GIN_FILE.gin --gin.MACRO=...` in this process; returns its result."""
    flags = [f"--gin.{name}={value}" for name, value in macros.items()]
    print(f"\n$ mto {verb} --gin_file=runs/{gin_file}.gin {shlex.join(flags)}", flush=True)
    gin.clear_config()
    config.load([f"runs/{gin_file}.gin"], [f"{name} = {value!r}" for name, value in macros.items()])
    return {"train": train.train, "evaluate": evaluate.evaluate}[verb]()


def constant_answer(result: Result) -> float:
    """ROUGE-L of the best single answer given to every head: what knowing nothing of the head is worth.

    Best of the twenty commonest references of the test set itself, so no constant guess can do
    much better.
    """
    references = [row["references"] for row in result.rows]
    common = collections.Counter(text for texts in references for text in texts).most_common(20)
    return max(metrics.rouge(references, [text] * len(references))["rougeL"] for text, _ in common)


def report(results: dict[tuple[str, str, str], Result], constants: dict[str, float]) -> str:
    """The table: printed for a person, returned as Markdown."""
    columns = ["relation", "template", "start", "ROUGE-L", "exact match"]
    rows = [
        [relation, template, start, str(found.metrics["rougeL"]), str(found.metrics["exact_match"])]
        for (relation, template, start), found in results.items()
    ]
    rows += [
        [relation, "(best constant answer)", "-", f"{value:.3f}", ""]
        for relation, value in constants.items()
    ]
    rows.sort(key=lambda row: RELATIONS.index(row[0]))
    table = rich.table.Table(*columns, title="Heads never seen in tuning, with 95 % intervals")
    for row in rows:
        table.add_row(*row)
    rich.console.Console().print(table)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def figure(
    results: dict[tuple[str, str, str], Result], constants: dict[str, float]
) -> matplotlib.figure.Figure:
    """ROUGE-L as bars with intervals, a group for each relation."""
    picture = matplotlib.figure.Figure(figsize=(7, 3.6), layout="constrained")
    axes = picture.subplots()
    bars = list(itertools.product(TEMPLATES, STARTS))
    width = 0.8 / len(bars)
    places = np.arange(len(RELATIONS))
    for i, (template, start) in enumerate(bars):
        found = [results[relation, template, start].metrics["rougeL"] for relation in RELATIONS]
        values = np.array([interval.value for interval in found])
        errors = np.array([[f.value - f.low, f.high - f.value] for f in found]).T
        color = matplotlib.colormaps["tab20"](
            2 * TEMPLATES.index(template) + (start != "pre-trained")
        )
        at = places + (i - (len(bars) - 1) / 2) * width
        axes.bar(
            at, values, width, yerr=errors, capsize=3, color=color, label=f"{template}, {start}"
        )
    for place, relation in zip(places, RELATIONS, strict=True):
        axes.plot([place - 0.4, place + 0.4], [constants[relation]] * 2, "k:", linewidth=1)
    axes.plot([], [], "k:", linewidth=1, label="best constant answer")
    axes.set_xticks(places, RELATIONS)
    axes.set_ylabel("ROUGE-L on unseen heads")
    axes.legend(fontsize="small")
    return picture


if __name__ == "__main__":
    cli.run("quickstart")
