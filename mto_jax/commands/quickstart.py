# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The whole method in a few minutes on a CPU: pre-train a tiny T5, match two relations to their objective, adapt,
tune with the aligned and with the misaligned template, evaluate, print a table.

Every stage is an ordinary `mto` command, which is printed before it runs. What is done already is not
done again: stop it and start it as you like.
"""

import collections
import dataclasses
import itertools
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import gin
import matplotlib
import matplotlib.figure
import numpy as np
import rich.console
import rich.table

from mto_jax import config
from mto_jax.commands import adapt, evaluate, match, train, tune
from mto_jax.evaluation.evaluator import Result
from mto_jax.files import write_atomically
from mto_jax.metrics import statistics
from mto_jax.metrics import text as text_metrics
from mto_jax.text2text import mapping
from mto_jax.text2text.templates import TEMPLATES, Template
from mto_jax.tuning import results as tuning_results

# One relation of short answers and one of phrases, with the group that the paper puts them in.
RELATIONS = {"AtLocation": "Mask-Filling", "xIntent": "Map-Phrasal"}
STARTS = {"pre-trained": "pretrain", "adapted": "adapted"}
VERBS = {
    "train": train.train,
    "match": match.match,
    "adapt": adapt.adapt,
    "evaluate": evaluate.evaluate,
    "tune": tune.tune,
}

Cell = tuple[str, str, str]  # relation, start, template


class Outcome(NamedTuple):
    """What a model answered to the test heads of a relation."""

    rouge_N: np.ndarray  # ROUGE-L of each head
    exact_match: float
    references: list[list[str]]


def add_flags(parser) -> None:
    parser.add_argument("--output_dir", metavar="DIR", help="default: runs/quickstart")


@gin.configurable
def quickstart(output_dir: str = "runs/quickstart") -> None:
    """Pre-train, match, adapt, tune on two relations with two templates each, evaluate on heads unseen in tuning.

    Writes table.md and figure.png into OUTPUT_DIR, beside one run directory for each model.

    Args:
      output_dir: where everything goes, prepared data included.
    """
    folder = pathlib.Path(output_dir)
    pretrained, adapted = (str(folder / place) for place in STARTS.values())
    tasks = [f"demo_{relation}" for relation in RELATIONS]
    common = {"DatasetConfig.prepared_dir": str(folder / "prepared")}
    stage("train", ["demo_pretrain"], {"MODEL_DIR": pretrained, **common})
    start = {"INITIAL_CHECKPOINT_PATH": pretrained}
    matched = {**start, "TASKS": tasks, "OUTPUT_DIR": str(folder / "match")}
    stage("match", ["demo_match"], {**matched, "match.scores": ["expert", "ranks", "probe"]})
    stage("adapt", ["demo_adapt"], {**start, "OBJECTIVE": "mixed", "MODEL_DIR": adapted, **common})

    gin.clear_config()
    config.load([str(folder / "match" / "mapping.gin")])
    aligned = {relation: mapping.choice_of(f"demo_{relation}") for relation in RELATIONS}
    results: dict[Cell, Outcome] = {}
    for relation, (label, origin) in itertools.product(RELATIONS, STARTS.items()):
        first = TEMPLATES[aligned[relation].template]
        for template in (first, rival(first)):
            task = f"demo_{relation}_{template.snake_name}"
            run = {"MODEL_DIR": str(folder / f"{task}-{origin}"), "MIXTURE_OR_TASK_NAME": task}
            initial = {"INITIAL_CHECKPOINT_PATH": str(folder / origin)}
            stage("train", ["demo_finetune"], {**run, **initial, **common})
            (found,) = stage("evaluate", ["demo_evaluate"], {**run, **common}).values()
            results[relation, label, template.name] = outcome(found[0])
    prompts = {**start, "TASKS": tasks, "OUTPUT_DIR": str(folder / "prompts")}
    tuned = stage("tune", ["demo_prompt_tune"], prompts)
    asked = sorted((folder / "prompts" / "frozen").glob("*.json"))
    frozen = [tuning_results.Result(**json.loads(path.read_text())) for path in asked]
    for one in (*frozen, *tuned):
        relation = one.task.removeprefix("demo_")
        references = next(o.references for cell, o in results.items() if cell[0] == relation)
        label = "prompt-tuned, frozen" if one.adapter else "frozen"
        found = Outcome(np.array(one.scores), one.values["exact_match"], references)
        results[relation, label, one.template] = found

    fits = {relation: choice.template for relation, choice in aligned.items()}
    results = ordered(results, fits)
    write_atomically(folder / "table.md", report(results, fits))
    figure(results, fits).savefig(folder / "figure.png", dpi=150)
    print(f"\nThe table is in {folder / 'table.md'}, its figure in {folder / 'figure.png'}.")


def stage(verb: str, gin_files: Sequence[str], macros: Mapping):
    """Run `mto VERB --gin_file=runs/FILE.gin --gin.MACRO=...` in this process; returns its result."""
    files = [f"runs/{name}.gin" for name in gin_files]
    flags = [f"--gin_file={name}" for name in files]
    flags += [f"--gin.{name}={value}" for name, value in macros.items()]
    print(f"\n$ mto {verb} {shlex.join(flags)}", flush=True)
    gin.clear_config()
    config.load(files, [f"{name} = {value!r}" for name, value in macros.items()])
    return VERBS[verb]()


def rival(template: Template) -> Template:
    """The template that differs in nothing but the sentinel."""
    wanted = dataclasses.replace(template, name="", masked=not template.masked)
    return next(t for t in TEMPLATES.values() if dataclasses.replace(t, name="") == wanted)


def outcome(result: Result) -> Outcome:
    """Of what `mto evaluate` found."""
    return Outcome(
        np.array([row["scores"]["rougeL"] for row in result.rows]),
        result.metrics["exact_match"].value,
        [row["references"] for row in result.rows],
    )


def is_aligned(template: str, fit: str) -> bool:
    """Whether a template has the sentinel if the matched one has it."""
    return TEMPLATES[template].masked == TEMPLATES[fit].masked


def ordered(results: Mapping[Cell, Outcome], fits: Mapping[str, str]) -> dict[Cell, Outcome]:
    """By relation and start in the order in which they came, of each first what is aligned."""
    places = list(dict.fromkeys(cell[:2] for cell in results))
    return {
        cell: results[cell]
        for cell in sorted(
            results,
            key=lambda cell: (places.index(cell[:2]), not is_aligned(cell[2], fits[cell[0]])),
        )
    }


def constant_answer(references: list[list[str]]) -> float:
    """ROUGE-L of the best single answer given to every head: what knowing nothing of the head is worth.

    Best of the twenty commonest references of the test set itself, so no constant guess can do
    much better.
    """
    common = collections.Counter(text for texts in references for text in texts).most_common(20)
    return max(
        text_metrics.rouge(references, [text] * len(references))["rougeL"] for text, _ in common
    )


def report(results: Mapping[Cell, Outcome], fits: Mapping[str, str]) -> str:
    """The tables, scores and effects: printed for a person, returned as Markdown.

    Args:
      fits: the matched template of each relation.
    """
    rows, effects = [], []
    for relation, group in RELATIONS.items():
        mine = {cell[1:]: found for cell, found in results.items() if cell[0] == relation}
        for (start, template), found in mine.items():
            fit = "aligned" if is_aligned(template, fits[relation]) else "misaligned"
            shown = f"{template} ({fit})"
            exact = f"{found.exact_match:.3f}"
            rows.append([relation, group, start, shown, str(interval(found)), exact])
        constant = constant_answer(next(iter(mine.values())).references)
        rows.append([relation, group, "-", "(best constant answer)", f"{constant:.3f}", ""])
        effects += [[relation, *effect] for effect in compared(mine, fits[relation])]
    scores = ["relation", "group", "start", "template", "ROUGE-L", "exact match"]
    text = ""
    for title, head, lines in (
        ("Heads never seen in tuning, ROUGE-L with 95 % intervals", scores, rows),
        ("What makes a difference", ["relation", "compared", "ROUGE-L", "verdict"], effects),
    ):
        table = rich.table.Table(*head, title=title)
        for line in lines:
            table.add_row(*line)
        rich.console.Console().print(table)
        marked = [head, ["---"] * len(head), *lines]
        text += "".join("| " + " | ".join(line) + " |\n" for line in marked) + "\n"
    return text


def interval(found: Outcome) -> statistics.Interval:
    """ROUGE-L over the heads."""
    return statistics.bootstrap(statistics.mean({"rougeL": found.rouge_N}))["rougeL"]


def compared(results: Mapping[tuple[str, str], Outcome], fit: str) -> list[list[str]]:
    """[what, difference, verdict]: of alignment from each start, of adaptation, of a soft prompt.

    Args:
      results: of one relation, by start and template.
      fit: its matched template.
    """
    starts = dict.fromkeys(start for start, _ in results)
    fits = {
        (start, is_aligned(template, fit)): found for (start, template), found in results.items()
    }
    pairs = {
        f"aligned less misaligned, {start}": ((start, True), (start, False)) for start in starts
    }
    pairs["adapted less pre-trained, aligned"] = (("adapted", True), ("pre-trained", True))
    pairs["soft prompt less none, frozen, aligned"] = (
        ("prompt-tuned, frozen", True),
        ("frozen", True),
    )
    rows = []
    for name, sides in pairs.items():
        one, other = (statistics.mean({"rougeL": fits[side].rouge_N}) for side in sides)
        found = statistics.compare(one, other)["rougeL"]
        shown = f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        rows.append([name, shown, f"p = {found.p:.3f}" if found.significant else "not significant"])
    return rows


def figure(results: Mapping[Cell, Outcome], fits: Mapping[str, str]) -> matplotlib.figure.Figure:
    """ROUGE-L as bars with intervals, a panel for each relation; what is misaligned is paler."""
    picture = matplotlib.figure.Figure(figsize=(8.5, 4), layout="constrained")
    panels = picture.subplots(1, len(RELATIONS), sharey=True)
    starts = list(dict.fromkeys(start for _, start, _ in results))
    for axes, (relation, group) in zip(panels, RELATIONS.items(), strict=True):
        mine = {cell[1:]: found for cell, found in results.items() if cell[0] == relation}
        bars = list(map(interval, mine.values()))
        values = np.array([bar.value for bar in bars])
        errors = np.array([[bar.value - bar.low, bar.high - bar.value] for bar in bars]).T
        colors = [
            matplotlib.colormaps["tab10"](
                starts.index(start), 1.0 if is_aligned(template, fits[relation]) else 0.5
            )
            for start, template in mine
        ]
        axes.bar(range(len(bars)), values, 0.8, yerr=errors, capsize=3, color=colors)
        constant = constant_answer(next(iter(mine.values())).references)
        axes.axhline(constant, color="k", linestyle=":", linewidth=1)
        axes.set_xticks(
            range(len(bars)), [t for _, t in mine], rotation=35, ha="right", fontsize="small"
        )
        axes.set_title(f"{relation} ({group})", fontsize="medium")
    for i, start in enumerate(starts):
        panels[0].bar(0, 0, color=matplotlib.colormaps["tab10"](i), label=start)
    panels[0].plot([], [], "k:", linewidth=1, label="best constant answer")
    panels[0].legend(fontsize="small")
    panels[0].set_ylabel("ROUGE-L on unseen heads")
    return picture
