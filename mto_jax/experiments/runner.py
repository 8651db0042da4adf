# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The runner of the paper's grids: a model, adapted or not, tuned on a few heads of a task under a template,
asked about heads that it was not tuned on.

Adapted models are made once, by `mto adapt` in a process of its own, and shared. Cells of one model follow each
other, so that it is loaded once; prompts over one model train together.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import itertools
import json
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import gin
import jax

from mto_jax import checkpoints, config
from mto_jax.checkpoints import Checkpoint
from mto_jax.errors import UserError, unknown
from mto_jax.evaluation.evaluator import evaluate_records, metric_names, value_names
from mto_jax.experiments.cache import once
from mto_jax.experiments.engine import Report, Stage
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.store import Result
from mto_jax.models import flops, t5
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.text2text import few_shot, records
from mto_jax.text2text.objectives import pair_objectives
from mto_jax.text2text.record_sets import Wanted, read
from mto_jax.text2text.task import Task, tokenise
from mto_jax.text2text.templates import TEMPLATES, SoftPrompt
from mto_jax.training.finetune import Example, Tuning, complete, epochs
from mto_jax.training.multi_adapter import Candidate, ManyTuning, Tuned, attach, tune_many
from mto_jax.training.performance import measured_flops, use_compilation_cache

METHODS = ("frozen", "fine_tune", "prompt_tune")


@gin.configurable
@dataclasses.dataclass(eq=False)
class FewShot:
    """Computes cells; what is bound here and decides a result belongs to the cell's settings.

    Attributes:
      models: the checkpoint of each name on the axis "model" (anything of `checkpoints.open`).
      task_feature_lengths: most tokens of inputs and targets.
      stages_dir: where adapted models are kept, and the state of prompts in training; shared by grids.
      tuning: how "fine_tune" trains; None means `Tuning()`, as gin binds it.
      prompt_tuning: how "prompt_tune" does; None means `ManyTuning()`.
      prompt_length: soft tokens of a prompt; PROMPT_LENGTH.
      prompt_encoder: see `PromptTuning`.
      at_once: prompts that train together, at most.
      tails: of each training head, at most.
      test_heads: heads asked about, None for all; from `test_split`.
      references: most references of each.
      test_split: "test" for what is published, "validation" for choices.
      adaptation: gin files of `mto adapt` that make the adapted models; needed where an objective is not "none".
      module: user module(s) that register tasks, comma-separated.
    """

    models: Mapping[str, str]
    task_feature_lengths: Mapping[str, int]
    stages_dir: str
    tuning: Tuning | None = None
    prompt_tuning: ManyTuning | None = None
    prompt_length: int = 10
    prompt_encoder: str = "table"
    at_once: int = 32
    tails: int = 3
    test_heads: int | None = 100
    references: int = 3
    test_split: str = "test"
    adaptation: Sequence[str] = ()
    module: str | None = None
    # Adaptations and teams of prompts that failed, by name.
    _lost: dict[str, UserError] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def known(self) -> Mapping[str, Collection[str]]:
        return {
            "model": tuple(self.models),
            "objective": ("none", *pair_objectives()),
            "template": tuple(TEMPLATES),
            "method": METHODS,
        }

    def check(self, cells: Sequence[Cell]) -> None:
        """Templates fit methods and tasks, models are there, tasks can be read."""
        for cell in cells:
            self._check_cell(cell)
        names = _each(cells, "model")
        self._checkpoints = {name: checkpoints.open(self.models[name]) for name in names}
        vocabularies = {n: model.adopt_vocabulary() for n, model in self._checkpoints.items()}
        if len({vocabulary.digest for vocabulary in vocabularies.values()}) > 1:
            raise UserError(
                f"The models {', '.join(vocabularies)} have different vocabularies; a grid has one. Make a grid "
                "for each vocabulary."
            )
        self._vocabulary = next(iter(vocabularies.values()))
        self._tasks = self._read(_each(cells, "task"))
        for cell in cells:
            kind = self._tasks[cell.task].kind
            if kind not in TEMPLATES[cell.template].kinds:
                raise UserError(
                    f"The template {cell.template} is not for {cell.task}, whose records are of the kind "
                    f"{kind}. Keep them apart with a constraint (Grid.constraints)."
                )
        self._model_digests = {n: model.digest for n, model in self._checkpoints.items()}
        self._data_digests = {name: _data_digest(task) for name, task in self._tasks.items()}
        self._teams = _teams(cells, self.at_once)
        use_compilation_cache()

    def metrics(self, cell: Cell) -> Collection[str]:
        return value_names(self._tasks[cell.task], TEMPLATES[cell.template])

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        found = {
            "model": self._model_digests[cell.model],
            "data": self._data_digests[cell.task],
            "lengths": dict(self.task_feature_lengths),
            "metrics": metric_names(self._tasks[cell.task]),
        }
        if cell.objective != "none":
            found["adaptation"] = self._adaptation_digest
        if cell.method != "frozen":
            found["tails"] = self.tails
        if cell.method == "fine_tune":
            found["tuning"] = repr(self._tuning)
        if cell.method == "prompt_tune":
            found |= {"tuning": repr(self._prompt_tuning), "adapters": repr(self._adapters)}
        return found

    def groups(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """Those of one model and shape follow each other; prompts over one model are together."""
        singles = [[cell] for cell in _sorted(cells) if cell.method != "prompt_tune"]
        open_cells = {_place(cell): cell for cell in cells}
        together = [
            mine
            for team in self._teams
            if (mine := [open_cells[place] for place in map(_place, team) if place in open_cells])
        ]
        return [*singles, *together]

    def run(self, group: Sequence[Cell], progress: Report) -> Iterator[tuple[Cell, Result]]:
        first = group[0]
        model = self._model(first.model, first.objective)
        if first.method == "prompt_tune":
            team = next(t for t in self._teams if _place(first) in map(_place, t))
            tuned = self._tune_prompts(model, team, progress)
            for cell in group:
                one = tuned[_place(cell)]
                if one.diverged is not None:
                    raise UserError(
                        f"The loss of the prompt ({cell}) was not finite by step {one.diverged}. Lower "
                        "the learning rate (ManyTuning.optimizer)."
                    )
                yield cell, self._ask(cell, attach(model, self._adapters, one.parameters))
        else:
            (cell,) = group
            yield cell, self._ask(cell, self._tune(model, cell, progress))

    def stages(self, cells: Sequence[Cell]) -> Sequence[Stage]:
        """Seconds from the FLOPs of training and the device's speed on one matrix product, a rough guess."""
        rate = measured_flops()
        found = []
        for name, objective in sorted({(c.model, c.objective) for c in cells}):
            if objective != "none" and not self._adapted_folder(name, objective).exists():
                size = _parameter_bytes(self._checkpoints[name].config)
                # Two checkpoints, each with two moments for every parameter.
                found.append(Stage(f"adapt {name}, {objective} (time not known)", 0.0, 6 * size))
        for method in _each(cells, "method"):
            mine = [cell for cell in cells if cell.method == method]
            seconds = sum(self._flops(cell) for cell in mine) / rate
            found.append(Stage(f"{len(mine)} cells, {method}", seconds, 20_000 * len(mine)))
        return found

    # ------------------------------------------------------------------- a cell

    def _ask(self, cell: Cell, model: T5) -> Result:
        task = self._tasks[cell.task]
        result = evaluate_records(
            model,
            task,
            TEMPLATES[cell.template],
            self._vocabulary,
            self.task_feature_lengths,
            soft=self._soft,
        )
        return {
            "scores": result.scores,
            "values": result.values(),
            "info": {
                "examples": _digest([records.to_json(record) for record in task.held_out]),
                "trained on": len(self._examples(cell)) if cell.method != "frozen" else 0,
                "distinct predictions": len(set(result.predictions)),
                "predictions": result.predictions,
            },
        }

    def _examples(self, cell: Cell) -> list[Example]:
        """What a cell trains on: the heads that `few_shot` draws for its seed, as everywhere."""
        task = self._tasks[cell.task]
        chosen = few_shot.few_shot(
            task.train, {}, shots=cell.shots, tails_per_head=self.tails, seed=cell.seed
        )
        return tokenise(
            TEMPLATES[cell.template],
            chosen,
            task,
            self._vocabulary,
            self.task_feature_lengths,
            soft=self._soft,
        )

    def _tune(self, model: T5, cell: Cell, progress: Report) -> T5:
        if cell.method == "frozen":
            return model
        examples, done = self._examples(cell), itertools.count(1)
        total = epochs(self._tuning.epochs, len(examples), self._tuning.batch_size)
        return self._tuning(
            model,
            examples,
            seed=cell.seed,
            progress=lambda _, loss: progress(cell, next(done), total, loss),
        )

    def _tune_prompts(self, model: T5, team: Sequence[Cell], progress: Report) -> dict[str, Tuned]:
        """The prompts of a whole team, also where only a few are asked for: results do not depend on it."""
        tuning = self._prompt_tuning
        candidates = [
            Candidate(_place(cell), self._examples(cell), seed=cell.seed) for cell in team
        ]
        done, total = itertools.count(1), max(map(tuning.steps, candidates))
        name = _digest([self.settings(cell) | {"place": _place(cell)} for cell in team])
        with self._told_once(name):
            tuned = tune_many(
                model,
                self._adapters,
                candidates,
                tuning,
                state_file=pathlib.Path(self.stages_dir, "prompts", f"{name}.npz"),
                progress=lambda _, loss: progress(team[0], next(done), total, loss),
            )
        return {one.name: one for one in tuned}

    @contextlib.contextmanager
    def _told_once(self, name: str) -> Iterator[None]:
        """What failed here by this name before fails at once: cells that share it all say why."""
        if name in self._lost:
            raise self._lost[name]
        try:
            yield
        except UserError as error:
            self._lost[name] = error
            raise

    @property
    def _tuning(self) -> Tuning:
        return complete(self.tuning or Tuning())

    @property
    def _prompt_tuning(self) -> ManyTuning:
        return complete(self.prompt_tuning or ManyTuning())

    @property
    def _soft(self) -> SoftPrompt:
        return SoftPrompt(length=self.prompt_length, first_row=0, shared_row=None)

    @property
    def _adapters(self) -> Adapters:
        # Enough for every template: a shared prompt has as many rows again.
        rows = max(self._soft.needs(template) for template in TEMPLATES.values())
        prompt = {"method": "prompt", "rows": rows, "encoder": self.prompt_encoder}
        return Adapters.from_dict({"methods": [prompt]})

    # ------------------------------------------------------------------- what cells share

    def _check_cell(self, cell: Cell) -> None:
        if cell.extra:
            raise UserError(
                f"FewShot knows no axis {cell.extra[0][0]!r} (Grid.extra): its cells would not differ on it."
            )
        soft = TEMPLATES[cell.template].soft != "none"
        if soft != (cell.method == "prompt_tune"):
            raise UserError(
                f"The template {cell.template} has {'a' if soft else 'no'} soft prompt, which the method "
                f"{cell.method!r} cannot {'train' if soft else 'do without'}. Keep them apart with constraints, "
                'such as {"when": {"method": "prompt_tune"}, "only": {"template": ["MaskedPrePT"]}} in '
                "Grid.constraints."
            )
        if cell.method != "frozen" and cell.shots == 0:
            raise UserError(
                f"The method {cell.method!r} trains on the heads of the axis 'shots', which is 0: only the "
                'method "frozen" goes without.'
            )
        if cell.objective != "none" and not self.adaptation:
            raise UserError(
                f"The objective {cell.objective!r} needs a model adapted under it: bind FewShot.adaptation to "
                "the gin files of `mto adapt` that make one, such as ['runs/adapt.gin']."
            )

    def _read(self, names: Sequence[str]) -> dict[str, Task]:
        train = [Wanted(name, "train", None) for name in names]
        test = [Wanted(name, self.test_split, self.test_heads, self.references) for name in names]
        found = read([*train, *test], self.module)
        return {
            name: Task.of(*both)
            for name, *both in zip(names, found[: len(names)], found[len(names) :], strict=True)
        }

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _model(self, name: str, objective: str) -> T5:
        """The model that cells start from; the last one is kept."""
        plain = objective == "none"
        checkpoint = self._checkpoints[name] if plain else self._adapted(name, objective)
        return checkpoint.model(self._vocabulary)

    @functools.cached_property
    def _adaptation_digest(self) -> str:
        return _digest([text for name in self.adaptation for text in _gin_texts(name)])

    def _adapted_folder(self, name: str, objective: str) -> pathlib.Path:
        digest = _digest([self._model_digests[name], self._adaptation_digest])[:12]
        return pathlib.Path(self.stages_dir, "adapted", f"{name}-{objective}-{digest}")

    def _adapted(self, name: str, objective: str) -> Checkpoint:
        """The model after adaptation, made by `mto adapt` unless it is there."""
        folder = self._adapted_folder(name, objective)

        def make(path: pathlib.Path) -> None:
            flags = [f"--gin_file={file}" for file in self.adaptation]
            flags += [
                f"--gin.INITIAL_CHECKPOINT_PATH={self.models[name]}",
                f"--gin.OBJECTIVE={objective}",
                f"--gin.MODEL_DIR={path}",
            ]
            log = path / "adapt.log"
            with log.open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # the child keeps it if this process is killed
                command = [sys.executable, "-m", "mto_jax.cli", "adapt", *flags]
                done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
            if done.returncode:
                said = log.read_text().strip().splitlines()
                raise UserError(
                    f"`mto adapt {shlex.join(flags)}` failed: {said[-1] if said else 'without a word'} (all of "
                    f"it is in {log})"
                )

        with self._told_once(folder.name):
            return checkpoints.open(once(folder.parent, folder.name, make))

    def _flops(self, cell: Cell) -> float:
        """Of training and asking, both at full lengths."""
        shape = self._checkpoints[cell.model].config
        task = self._tasks[cell.task]
        forward = flops.train_flops(shape, 1, **self.task_feature_lengths) / 3
        asked = len(task.held_out) * forward
        if cell.method == "frozen":
            return asked
        tuning = self._tuning if cell.method == "fine_tune" else self._prompt_tuning
        heads = len({record.head for record in task.train})
        count = len(task.train) if cell.shots is None else min(cell.shots, heads) * self.tails
        return asked + 3 * forward * tuning.epochs * count


def _gin_texts(name: str) -> list[str]:
    """A gin file and those that it includes, as `config.load` finds them."""
    places = (pathlib.Path(name), config.gin_directory() / name)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise unknown("gin file (FewShot.adaptation)", name, config.bundled("runs"))
    text = path.read_text()
    included = re.findall(r"""^include\s+['"](.+?)['"]""", text, re.MULTILINE)
    return [text, *(more for one in included for more in _gin_texts(one))]


def _each(cells: Sequence[Cell], axis: str) -> list:
    return list(dict.fromkeys(getattr(cell, axis) for cell in cells))


def _place(cell: Cell) -> str:
    return str(cell)


def _sorted(cells: Sequence[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda c: (c.model, c.objective, c.method, c.task, c.template))


def _teams(cells: Sequence[Cell], size: int) -> list[list[Cell]]:
    """Prompts that train together, fixed by the whole grid: those over one model, `size` at a time."""
    prompts = [cell for cell in _sorted(cells) if cell.method == "prompt_tune"]
    teams = []
    for _, mine in itertools.groupby(prompts, key=lambda c: (c.model, c.objective)):
        mine = list(mine)
        teams += [mine[i : i + size] for i in range(0, len(mine), size)]
    return teams


def _data_digest(task: Task) -> str:
    content = [records.to_json(record) for record in (*task.train, *task.held_out)]
    return _digest([content, repr(task.wording)])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _parameter_bytes(shape: T5Config) -> int:
    _, parameters = t5.abstract(shape)
    return sum(4 * leaf.size for leaf in jax.tree.leaves(parameters))
