# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Find the pre-training objective, and with it the template, that each task wants from a model.

    mto match --gin_file=runs/match.gin --gin.TASKS="['atomic_xIntent', 'atomic_xAttr']" \\
      --gin.CORPUS=sentences.txt --gin.INITIAL_CHECKPOINT_PATH=runs/base --gin.OUTPUT_DIR=runs/match

Prints a table of scores by task and writes it (table.md), its figure (figure.png), everything as
JSON (match.json) and the mapping (mapping.gin), which every other verb takes with --gin_file.
Scores that are there already are not computed again. Then prints the commands that adapt, tune and
evaluate the model for each task as the mapping says; with --apply it also runs them.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import gin

from mto_jax import peers
from mto_jax.commands import adapt, evaluate, train
from mto_jax.commands.stage import Stage
from mto_jax.console import wide
from mto_jax.errors import UserError
from mto_jax.matching import match as library
from mto_jax.matching.matching import Matching
from mto_jax.training.finetune import epochs
from mto_jax.training.performance import use_compilation_cache

# As the probe trains: runs/finetune.gin and runs/match.gin.
EPOCHS, TAILS, BATCH = 5, 3, 8


def add_flags(parser) -> None:
    parser.add_argument(
        "--apply",
        action="store_true",
        default=None,
        help="adapt, tune and evaluate the model for each task as the mapping says",
    )


@functools.wraps(library.match)  # its name, parameters and documentation are those of the verb
def match(apply: bool = False, **given) -> None:
    use_compilation_cache()
    matching = library.match(**given)
    if peers.index() == 0:
        _show(matching)
    stages = next_stages(matching, matching.folder) if matching.folder else []
    if peers.index() == 0:
        print("\nNext:" * bool(stages))
    for stage in stages:
        if apply:
            stage.run()
        elif peers.index() == 0:
            print(stage.command)


def _show(matching: Matching) -> None:
    wide().print(*matching.tables(), sep="\n")
    print(*matching.warnings(), sep="\n")
    if matching.folder:
        print(f"mapping, table, figure and JSON are in {matching.folder}")


@gin.configurable("apply")
def next_stages(
    matching: Matching,
    folder: pathlib.Path,
    files: Mapping[str, str] | None = None,
    macros: Mapping[str, Any] | None = None,
) -> list[Stage]:
    """Returns the stages from each task to its tuned model.

    Without raw text nothing is adapted, and a line says so: a model is tuned as it is.

    Args:
      matching: what was decided.
      folder: of the mapping; the models come into folders of the tasks in it.
      files: the gin file of "adapt", "train" and "evaluate"; without it there are no stages.
      macros: values of INITIAL_CHECKPOINT_PATH, SHOTS and CORPUS, and of macros that all three
        files have; None leaves one out.

    Raises:
      UserError: a verb has no file.
    """
    if not files:
        return []
    given = {name: value for name, value in (macros or {}).items() if value is not None}
    for name in ("adapt", "train", "evaluate"):
        if name not in files:
            raise UserError(f"apply.files = {files!r}: the gin file of {name!r} is missing.")
    base, shots = str(given.pop("INITIAL_CHECKPOINT_PATH")), given.pop("SHOTS")
    corpus = {"CORPUS": given.pop("CORPUS")} if "CORPUS" in given else {}
    written = str(folder / "mapping.gin")
    stages = []
    for task, decision in matching.decisions.items():
        start = base
        if decision.choice.objective != "none" and not corpus:
            print(
                f"{task}: an adaptation under {decision.choice.objective} goes with its template. "
                "It was not compared, and without a CORPUS the model is tuned as it is."
            )
        elif decision.choice.objective != "none":
            place = str(folder / task / "adapted")
            changes = {"TASK": task, "INITIAL_CHECKPOINT_PATH": start, "MODEL_DIR": place}
            adapting = given | corpus | changes
            stages.append(Stage("adapt", [files["adapt"], written], adapting, adapt.adapt))
            start = place
        named = given | {"MIXTURE_OR_TASK_NAME": task}
        if shots:
            place = str(folder / task / "tuned")
            changes = {"INITIAL_CHECKPOINT_PATH": start, "MODEL_DIR": place}
            few = {"few_shot.shots": shots, "TRAIN_STEPS": epochs(EPOCHS, shots * TAILS, BATCH)}
            configs = [files["train"], written]
            stages.append(Stage("train", configs, named | changes | few, train.train))
            start = place
        asked = named | {"MODEL_DIR": start}
        stages.append(Stage("evaluate", [files["evaluate"], written], asked, evaluate.evaluate))
    return stages
