# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The whole method in a few minutes on a CPU: pre-train a tiny T5, match two relations to their
objective, then adapt, tune with the aligned and with the misaligned template, evaluate, and print a
table.

Every stage is an ordinary `mto` command, which is printed before it runs. What is done already is
not done again: stop it and start it as you like.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gin

from mto_jax import checks, config, remote
from mto_jax.commands import match, train
from mto_jax.commands.stage import Stage
from mto_jax.experiments.figures import Figure
from mto_jax.experiments.grid import Where
from mto_jax.experiments.results import Results
from mto_jax.experiments.run import run_grid
from mto_jax.experiments.tables import Table
from mto_jax.files import write_atomically
from mto_jax.text2text import mapping
from mto_jax.text2text.templates import TEMPLATES, Template

# What the tuning starts from -> the cells of gin/tables/quickstart.gin.
STARTS: Mapping[str, Where] = {
    "pre-trained": {"method": "fine_tune", "objective": "none"},
    "adapted": {"method": "fine_tune", "objective": "matched"},
    "frozen": {"method": "frozen"},
    "prompt-tuned, frozen": {"method": "prompt_tune"},
}
TASKS = ["demo_AtLocation", "demo_xIntent"]
SHOTS = 3  # as in the grid; the fewer, the more the template matters


def add_flags(parser) -> None:
    parser.add_argument("--output_dir", metavar="DIR", help="default: runs/quickstart")


@gin.configurable
def quickstart(output_dir: checks.Name = "runs/quickstart") -> Results:
    """Pre-train, match, then adapt, tune and evaluate on heads unseen in tuning; returns results.

    Writes table.md and figure.png into OUTPUT_DIR, beside the pre-trained run, the mapping and the
    results folder of the grid.
    """
    checks.check(quickstart, locals())
    folder = remote.local(output_dir)
    model = str(folder / "pretrain")
    prepared = {"DatasetConfig.prepared_dir": str(folder / "prepared")}
    Stage("train", ["runs/demo_pretrain.gin"], {"MODEL_DIR": model, **prepared}, train.train).run()
    start = {"INITIAL_CHECKPOINT_PATH": model, "OUTPUT_DIR": str(folder / "match")}
    matched = {
        **start,
        "TASKS": TASKS,
        "SHOTS": SHOTS,
        "OBJECTIVES": ["none"],
        "match.scores": ["expert", "ranks", "probe"],
    }
    Stage("match", ["runs/demo_match.gin"], matched, match.match).run()
    decided = str(folder / "match" / "mapping.gin")
    gin.clear_config()
    config.load([decided])
    aligned = {task: TEMPLATES[mapping.choice_of(task).template] for task in TASKS}

    out, shown = folder / "grid", tables(aligned)
    rows: Any = shown[0].rows
    bars = Figure("bars", "bars", "task", rows, title=shown[0].title)
    places = {"MODEL": model, "OUTPUT_DIR": str(out), "STAGES_DIR": str(folder / "stages")}

    def run() -> Results:
        grid, runner = (gin.get_configurable(name)() for name in ("Grid", "FewShot"))
        return run_grid(grid=grid, runner=runner, output_dir=str(out), tables=shown, figures=[bars])

    results = Stage("tables", ["tables/quickstart.gin", decided], places, run).run()
    texts = [(out / "tables" / f"{table.name}.md").read_text() for table in shown]
    write_atomically(folder / "table.md", "\n".join(texts))
    write_atomically(folder / "figure.png", (out / "figures" / "bars.png").read_bytes())
    print(f"\nThe table is in {folder / 'table.md'}, its figure in {folder / 'figure.png'}.")
    return results


def counterpart(template: Template, **changes) -> str:
    """The name of the template that differs in nothing but `changes`."""
    wanted = dataclasses.replace(template, name="", **changes)
    return next(t.name for t in TEMPLATES.values() if dataclasses.replace(t, name="") == wanted)


def tables(aligned: Mapping[str, Template]) -> list[Table]:
    """Scores of every start with aligned and misaligned templates, and what makes a difference."""
    rows: dict[str, list[Where]] = {}
    for start, place in STARTS.items():
        changes = {"soft": "before"} if "prompt" in start else {}
        for fit in ("aligned", "misaligned"):
            rows[f"{start}, {fit}"] = [
                {
                    **place,
                    "task": task,
                    "template": counterpart(
                        template,
                        verbalised=True,
                        masked=template.masked == (fit == "aligned"),
                        **changes,
                    ),
                }
                for task, template in aligned.items()
            ]
    constant = {"best constant answer": [{"method": "constant"}]}
    by_alignment = {f"{start}, aligned": f"{start}, misaligned" for start in STARTS}
    by_start = {
        "adapted, aligned": "pre-trained, aligned",
        "prompt-tuned, frozen, aligned": "frozen, aligned",
    }
    gains = {"rows": rows, "differences": True}
    return [
        Table(
            "scores", rows | constant, title="Heads never seen in tuning", counterparts=by_alignment
        ),
        Table(
            "alignment", title="Gain of the aligned template", counterparts=by_alignment, **gains
        ),
        Table("starts", title="Gain of adaptation and of prompts", counterparts=by_start, **gains),
    ]
