# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The runner of the paper's grids: a model, adapted or not, tuned on a few heads of a task under a
template, and evaluated on heads that it was not tuned on.

Adapted models are made once and shared. Cells of one model follow each other, so that it is loaded
once; adapters on one model train together, and each is kept in a folder of its own.
"""

import dataclasses
import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gin
import numpy as np

from mto_jax import checkpoints, checks
from mto_jax.checkpoints import Checkpoint, peft
from mto_jax.checkpoints.compatibility import check_vocabulary
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.data.loader import assemble
from mto_jax.decoding.scoring import log_likelihood
from mto_jax.errors import UserError, unknown
from mto_jax.evaluation.evaluator import (
    all_metrics,
    best_constant,
    deciding_value,
    evaluate_records,
    metric_names,
    value_names,
)
from mto_jax.evaluation.in_context import InContext, asking
from mto_jax.experiments import adapters as adapters_lib
from mto_jax.experiments import made_models
from mto_jax.experiments.data import Data, read_data
from mto_jax.experiments.engine import OnStep, Stage
from mto_jax.experiments.grid import ASKED, Cell
from mto_jax.experiments.made_models import Pretraining
from mto_jax.experiments.store import Result
from mto_jax.files import Store, digest
from mto_jax.matching.teacher_forcing import tail_scores
from mto_jax.models import flops
from mto_jax.models.adapters import NONE, Adapters, Method, PromptTuning
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.models.t5 import T5
from mto_jax.text2text import few_shot, mapping, records
from mto_jax.text2text.task import Example, candidates, tokenise
from mto_jax.text2text.templates import TEMPLATES, reference_texts, templates_for
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training import state
from mto_jax.training.finetune import Tuning, complete, row_lengths
from mto_jax.training.multi_adapter import Candidate, MultiAdapterTuning, attach, tune_adapters
from mto_jax.training.performance import measured_flops, use_compilation_cache

# The methods that train adapters on the frozen model: the runner's prompt, or those of an axis.
ADAPTER_METHODS = ("prompt_tune", "adapter_tune")
# "constant": the best answer that is the same for all heads; "recall": see `RECALL`.
# The frozen model with solved examples in its source, in one or each in a source of its own.
IN_CONTEXT = ("in_context", "in_context_late")
UNTRAINED = ("constant", "frozen", "recall", *IN_CONTEXT)
# The free axes, and the methods that have them.
FREE_AXES = {
    "adapter": ADAPTER_METHODS,
    "learning_rate": (*ADAPTER_METHODS, "fine_tune"),
    **dict.fromkeys(("replay", "trainable"), ("fine_tune",)),
    **dict.fromkeys(ASKED, ("fine_tune",)),
}
CELL_METHODS = (*UNTRAINED, "fine_tune", *ADAPTER_METHODS)
MATCHED = "matched"  # an objective: what the mapping (`mapping.tasks`) has for the cell's task
DEV_LOSS = "dev_loss"  # the metric; per target token
# The metric: whether each word of a reference is the frozen model's first choice among all words,
# given those before, where the fact is asked as a sentence of a text, without the task's name in
# front. What a model knows, however long an answer its pre-training has taught it.
RECALL = "recall"


# What may train alone; more in `FewShot.trainable`.
PARTS: Mapping[str, Sequence[str]] = {"decoder": ["decoder.*"], "norms": ["*norm.scale"]}
REPLAYED = 4096  # examples that are replayed, over and over


class _Base(NamedTuple):
    """A model of the axis "model", before it is loaded."""

    checkpoint: Checkpoint
    vocabulary: Vocabulary


@gin.configurable
@dataclasses.dataclass(frozen=True, eq=False)
class FewShot:
    """Computes cells; what is bound here and decides a result belongs to the cell's settings.

    A grid may have the free axes "adapter" (names in `adapters`; for the method "adapter_tune"),
    "learning_rate" (None is the optimizer's), "trainable" (what "fine_tune" trains: a name in
    `trainable`; None is the tuning's), "replay" (the share of `replay` in the rows of "fine_tune";
    None is the tuning's), "asked" and "asked_template" (another task or template than
    "fine_tune" trains on, for the question; None is its own).

    Attributes:
      models: the checkpoint of each name on the axis "model" (anything of `checkpoints.open`), or
        the pre-training that makes them.
      task_feature_lengths: most tokens of inputs and targets.
      stages_dir: where adapted models and trained adapters are kept; shared by grids.
      tuning: how "fine_tune" trains; None means `Tuning()`, as gin binds it.
      prompt_tuning: how adapters train; None means `MultiAdapterTuning()`, as gin binds it.
      prompt_length: soft tokens of the prompt of "prompt_tune"; PROMPT_LENGTH.
      prompt_encoder: of that prompt, see `PromptTuning`.
      adapters: the method, or the methods together, that "adapter_tune" trains, by name on the
        axis "adapter".
      init: where prompts start; None means `PromptInit()`, as gin binds it.
      in_context: how "in_context" and "in_context_late" show the model solved examples, one of each
        training head; None means `InContext()`, as gin binds it.
      trainable: patterns of parameters' names, by name on the axis "trainable".
      replay: the pre-training data of which fine-tuning replays a share, against forgetting.
      at_once: most adapters that train together.
      tails: most references of a training head.
      dev_heads: heads of the validation split, none of them a test head, whose loss says when an
        adapter stops and which of its parameters are kept (`MultiAdapterTuning`); 0: the last are.
        Fine-tuned models are scored on them as well, for `Grid.choose`.
      test_heads: heads to evaluate on, None for all; from `test_split`.
      references: most references of a dev or test head.
      test_split: "test" for what is published, "validation" for choices.
      adaptation: gin files of `mto adapt` that make the adapted models; needed where an objective
        is not "none". The objective "matched" is that of the mapping for each task.
      module: user module(s) that register tasks, comma-separated.
      adapters_dir: a folder in which each adapter gets a folder called after its cell; None means
        one in `stages_dir`, with a digest behind the names.
    """

    models: Mapping[str, checks.Place] | Pretraining
    task_feature_lengths: Mapping[str, checks.Count]
    stages_dir: checks.Place
    tuning: Tuning | None = None
    prompt_tuning: MultiAdapterTuning | None = None
    prompt_length: checks.Count = 10
    prompt_encoder: str = "table"
    adapters: Mapping[str, Adapters | Method | Sequence[Method]] = dataclasses.field(
        default_factory=dict
    )
    init: PromptInit | None = None
    in_context: InContext | None = None
    trainable: Mapping[str, str | Sequence[str]] = dataclasses.field(
        default_factory=lambda: dict(PARTS)
    )
    replay: DatasetConfig | None = None
    at_once: checks.Count = 32
    tails: checks.Count = 3
    dev_heads: checks.Natural = 0
    test_heads: checks.Count | None = 100
    references: checks.Count = 3
    test_split: str = "test"
    adaptation: Sequence[str] = ()
    module: str | None = None
    adapters_dir: checks.Place | None = None
    # What was read, loaded or failed before, by what it belongs to.
    _bases: dict[str, _Base] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _data: dict[str, Data] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _loaded: dict[tuple, T5] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _failed: dict[str, UserError] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        checks.check_fields(self)

    def known(self) -> Mapping[str, Collection[str]]:
        """The names that exist, by axis."""
        return {
            "model": tuple(self._paths),
            "objective": (MATCHED, *mapping.objectives()),
            "template": tuple(TEMPLATES),
            "method": CELL_METHODS,
            "adapter": ("none", *self.adapters),
        }

    @property
    def missing_models(self) -> list[str]:
        """The models that `make_models` would train."""
        missing = self.models.missing() if isinstance(self.models, Pretraining) else []
        return [f"{arm}-{seed}" for arm, seed in missing]

    def make_models(self) -> None:
        """Pre-train the models that are to be made and are not there.

        Raises:
          UserError: a training failed; names the log.
        """
        if isinstance(self.models, Pretraining):
            self.models.make()

    def check(self, cells: Sequence[Cell]) -> None:
        """Check that templates fit methods and tasks, that models are there, tasks can be read.

        Raises:
          UserError: what is wrong, before anything is computed or written.
        """
        for cell in cells:
            self._check_cell(cell)
        bases = [self._base(name) for name in _each(cells, "model")]
        if len({base.vocabulary.digest for base in bases}) > 1:
            raise UserError(
                f"The models {', '.join(_each(cells, 'model'))} have different vocabularies; a "
                "grid has one. Make a grid for each vocabulary."
            )
        places = [place for cell in cells for place in (cell, cell.asked)]
        self._read(_each(places, "task"))
        for place in places:
            kind = self._of(place).task.kind
            if kind not in TEMPLATES[place.template].kinds:
                fitting = [t.name for t in templates_for(kind)]
                raise UserError(
                    f"The template {place.template} is not for {place.task}, whose records are of "
                    f"the kind {kind} ({', '.join(fitting)}). Keep them apart with a constraint "
                    "(Grid.constraints), or by commands of their own."
                )
        self._check_adapters([cell for cell in cells if cell.method in ADAPTER_METHODS])
        use_compilation_cache()

    def metrics(self, cell: Cell) -> Collection[str]:
        """The metrics that the result of a cell will have."""
        if cell.method == "recall":
            return [RECALL]
        has_loss = self.dev_heads and cell.method in ("frozen", *ADAPTER_METHODS)
        asked = self._of(cell.asked).task
        names = [*value_names(asked, TEMPLATES[cell.asked.template])]
        if self.dev_heads and cell.method == "fine_tune":
            own = self._of(cell).task
            names.append(f"validation_{deciding_value(own, TEMPLATES[cell.template])}")
        return [*names, *([DEV_LOSS] if has_loss else [])]

    def deciding_metric(self, task: str) -> str:
        """The metric that decides about a task."""
        self._read([task])
        of_task = self._data[task].task
        return deciding_value(of_task, candidates(of_task)[0])

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        """All that decides the result of a cell beside its place on the axes, as JSON."""
        settings = {
            "model": self._base(cell.model).checkpoint.digest,
            "data": self._of(cell).digest,
            "lengths": dict(self.task_feature_lengths),
            "metrics": metric_names(self._of(cell.asked).task),
        }
        if cell.asked.task != cell.task:
            settings["asked data"] = self._of(cell.asked).digest
        if self._objective(cell) != "none":
            settings["adaptation"] = self._adaptation_digest()
        if cell.objective == MATCHED:
            settings["matched"] = self._objective(cell)
        if cell.method not in UNTRAINED:
            settings["tails"] = self.tails
        if cell.method == "recall":
            settings["asked as"] = "sentences"
        if cell.method in IN_CONTEXT:
            settings["in_context"] = repr(self.in_context or InContext())
        if cell.method == "fine_tune":
            settings["tuning"] = repr(_without_rate(self._tuning, cell))
            settings |= {"dev": self.dev_heads} if self.dev_heads else {}
            if part := cell.values.get("trainable"):
                settings["trainable"] = self.trainable[part]
            if cell.values.get("replay") or self._tuning.replay_share:
                settings["replay"] = repr(self.replay)
        if cell.method in ADAPTER_METHODS:
            settings["tuning"] = repr(self._adapter_tuning(cell))
            settings["adapters"] = repr(self._adapters(cell))
            if self._init.kind != "uniform":
                settings["init"] = self._init.identity(peft.prompt_rows)
        return settings

    def groups(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """Cells of one model and shape follow each other; adapters that still have to train on one
        model are together, and what one tuned model is asked."""
        objective = self._objective
        cells = sorted(cells, key=lambda c: (c.model, objective(c), c.method, c.task, c.template))
        alone, cohorts = {}, {}
        for cell in cells:
            if cell.method not in ADAPTER_METHODS or peft.is_adapter(self._folder(cell)):
                alone.setdefault(cell.trained, []).append(cell)
            else:
                shared = (cell.model, objective(cell), repr(self._adapters(cell)))
                cohorts.setdefault(shared, []).append(cell)
        return [
            *alone.values(),
            *(
                cohort[i : i + self.at_once]
                for cohort in cohorts.values()
                for i in range(0, len(cohort), self.at_once)
            ),
        ]

    def run(self, group: Sequence[Cell], progress: OnStep) -> Iterator[tuple[Cell, Result]]:
        """Yields the result of each cell of a group."""
        first = group[0]
        if first.method == "constant":
            yield first, self._constant(first)
            return
        model = self._model(first.model, self._objective(first))
        if first.method in ADAPTER_METHODS:
            self._train_adapters(model, group, progress)
            for cell in group:
                yield cell, self._evaluate_adapter(model, cell)
        elif first.method == "recall":
            yield first, self._recall(model, first)
        elif first.method == "fine_tune":
            tuned = self._tune(model, first, progress)
            validation = self._validation(first, tuned)
            for cell in group:
                yield cell, self._evaluate(cell, tuned, validation)
        else:
            dev = self._examples(first, self._of(first).dev)
            losses = {DEV_LOSS: _mean_loss(model, dev)} if dev else {}
            yield first, self._evaluate(first, model, losses)

    def stages(self, cells: Sequence[Cell]) -> Sequence[Stage]:
        """The work that the cells need, by FLOPs and the device's speed, a rough guess."""
        rate = measured_flops()
        stages = []
        for name, objective in sorted({(c.model, self._objective(c)) for c in cells}):
            if objective != "none" and not self._adapted_folder(name, objective).exists():
                size = 4 * flops.num_parameters(self._base(name).checkpoint.config)
                # Two checkpoints, each with two moments for every parameter.
                stages.append(Stage(f"adapt {name}, {objective} (time not known)", 0.0, 6 * size))
        for method in _each(cells, "method"):
            same = [cell for cell in cells if cell.method == method]
            seconds = sum(self._flops(cell) for cell in same) / rate
            stages.append(Stage(f"{len(same)} cells, {method}", seconds, 20_000 * len(same)))
        return stages

    # ---- A cell -------------------------------------------------------------------------------

    def _evaluate(
        self, cell: Cell, model: T5, losses: Mapping[str, float] | None = None
    ) -> dict[str, Any]:
        result = evaluate_records(
            model,
            self._of(cell.asked).task,
            TEMPLATES[cell.asked.template],
            self._base(cell.model).vocabulary,
            self.task_feature_lengths,
            soft=adapters_lib.soft_prompt(self._plain_adapters(cell)),
            asking=self._asking(cell),
        )
        values = {**result.values(), **(losses or {})}
        return self._result(cell, result.scores, values, result.predictions, result.constant)

    def _validation(self, cell: Cell, model: T5) -> dict[str, float]:
        """The deciding metric on the dev heads, as "validation_rougeL"; empty without them."""
        data = self._of(cell)
        if not data.dev:
            return {}
        result = evaluate_records(
            model,
            dataclasses.replace(data.task, held_out=data.dev),
            TEMPLATES[cell.template],
            self._base(cell.model).vocabulary,
            self.task_feature_lengths,
        )
        name = deciding_value(data.task, TEMPLATES[cell.template])
        return {f"validation_{name}": result.metrics[name].value}

    def _constant(self, cell: Cell) -> Result:
        """The result of the best single answer to every head."""
        task, template = self._of(cell).task, TEMPLATES[cell.template]
        references = [reference_texts(template, r, task.wording) for r in task.held_out]
        constant = best_constant(all_metrics(task), references, task.metrics.decides)
        scores = {
            name: scores_N.tolist()
            for statistics in constant.resampled.values()
            for name, scores_N in statistics.per_example.items()
        }
        values = {name: interval.value for name, interval in constant.values.items()}
        return self._result(cell, scores, values, [constant.answer] * len(references))

    def _recall(self, model: T5, cell: Cell) -> Result:
        vocabulary, held_out = self._base(cell.model).vocabulary, self._of(cell).task.held_out
        words = range(vocabulary.unk_id + 1, vocabulary.num_pieces)
        task, template = self._of(cell).task, TEMPLATES[cell.template]
        examples = tokenise(
            template, held_out, task, vocabulary, self.task_feature_lengths, as_sentence=True
        )
        ranks = [s.rank_N for s in tail_scores(model, examples, vocabulary, rivals=words)]
        known = iter([float(np.all(rank_N == 0)) for rank_N in ranks])
        counts = [sum(1 for _ in records.one_per_reference([record])) for record in held_out]
        scores = [float(np.mean(list(itertools.islice(known, count)))) for count in counts]
        return self._result(cell, {RECALL: scores}, {RECALL: float(np.mean(scores))}, [])

    def _result(
        self,
        cell: Cell,
        scores: Mapping[str, Sequence[float]],
        values: Mapping[str, float],
        answers: Sequence[str],
        constant: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        held_out = self._of(cell.asked).task.held_out
        trained_on = 0 if cell.method in UNTRAINED else len(self._training_examples(cell))
        return {
            "scores": scores,
            "values": values,
            "info": {
                "examples": _digest([records.to_json(record) for record in held_out]),
                "trained on": trained_on,
                "distinct predictions": len(set(answers)),
                "predictions": answers,
                "best constant answer": constant or {},
            },
        }

    def _examples(self, cell: Cell, chosen: Sequence[records.Record]) -> list[Example]:
        """The records under the cell's template, as tokens."""
        return tokenise(
            TEMPLATES[cell.template],
            chosen,
            self._of(cell).task,
            self._base(cell.model).vocabulary,
            self.task_feature_lengths,
            soft=adapters_lib.soft_prompt(self._plain_adapters(cell)),
        )

    def _training_examples(self, cell: Cell) -> list[Example]:
        """The examples of the heads that `few_shot` draws for the cell's seed, as everywhere."""
        train = self._of(cell).task.train
        chosen = few_shot.few_shot(
            train, {}, shots=cell.shots, tails_per_head=self.tails, seed=cell.seed
        )
        return self._examples(cell, chosen)

    def _asking(self, cell: Cell) -> Callable[[Sequence[int]], list[int]] | None:
        """What puts the cell's solved examples, one of each of its heads, before a question."""
        if cell.method not in IN_CONTEXT:
            return None
        task = self._of(cell).task
        chosen = few_shot.few_shot(
            task.train, {}, shots=cell.shots, tails_per_head=1, seed=cell.seed
        )
        return asking(
            TEMPLATES[cell.template],
            chosen,
            task.wording,
            self._base(cell.model).vocabulary,
            self.in_context or InContext(),
            late=cell.method == "in_context_late",
        )

    def _tune(self, model: T5, cell: Cell, progress: OnStep) -> T5:
        examples, done = self._training_examples(cell), itertools.count(1)
        tuning = self._tuning
        if (rate := cell.values.get("learning_rate")) is not None:
            tuning = _with_rate(tuning, rate)
        if part := cell.values.get("trainable"):
            tuning = dataclasses.replace(tuning, trainable=self.trainable[part])
        if share := cell.values.get("replay"):
            tuning = dataclasses.replace(tuning, replay_share=share)
        total = tuning.steps(len(examples))
        return tuning(
            model,
            examples,
            replay=self._replayed if tuning.replay_share else (),
            seed=cell.seed,
            progress=lambda _, loss: progress(cell, next(done), total, loss),
        )

    @functools.cached_property
    def _replayed(self) -> Sequence[Example]:
        if self.replay is None:
            raise UserError(
                "A share is replayed, but nothing to replay is named: bind FewShot.replay to the "
                "DatasetConfig of what the models were pre-trained with."
            )
        return loader.sample(loader.ensure(self.replay), REPLAYED, seed=0)

    @property
    def _tuning(self) -> Tuning:
        return complete(self.tuning or Tuning())

    # ---- Adapters -----------------------------------------------------------------------------

    def _train_adapters(self, model: T5, group: Sequence[Cell], progress: OnStep) -> None:
        """Train the adapters of a group that have no folder yet, together, and write them."""
        cells = [cell for cell in group if not peft.is_adapter(self._folder(cell))]
        if not cells:
            return
        by_name = state.by_name(model)
        embedding_VxD = np.asarray(by_name["embedding"])
        candidates = [self._candidate(cell, embedding_VxD) for cell in cells]
        # The optimizer's own rate counts for candidates without one; the schedule is shared.
        tuning = self._adapter_tuning(cells[0])
        done, total = itertools.count(1), max(map(tuning.steps, candidates))
        keys = _digest([self._with_settings(cell).key for cell in cells])
        state_file = pathlib.Path(self.stages_dir, f"training-{keys}.npz")
        tuned = tune_adapters(
            model,
            self._adapters(cells[0]),
            candidates,
            tuning,
            state_file=state_file,
            progress=lambda _, loss: progress(cells[0], next(done), total, loss),
        )
        base = self._base(cells[0].model)
        fingerprint = peft.one_fingerprint(state.fingerprints(by_name))
        path = self._paths[cells[0].model]
        if (objective := self._objective(cells[0])) != "none":
            path = str(self._adapted_folder(cells[0].model, objective))
        about = {
            "vocabulary": base.vocabulary.digest,
            "base": {"path": path, "fingerprint": fingerprint},
        }
        for cell, result in zip(map(self._with_settings, cells), tuned, strict=True):
            adapters_lib.save(self._folder(cell), self._adapters(cell), result, cell, about)
        state_file.unlink()

    def _candidate(self, cell: Cell, embedding_VxD: np.ndarray) -> Candidate:
        dev = self._examples(cell, self._of(cell).dev)
        rate = cell.values.get("learning_rate")
        given = self._initial(cell, embedding_VxD)
        examples = self._training_examples(cell)
        return Candidate(adapters_lib.name(cell), examples, dev, rate, cell.seed, given)

    def _initial(self, cell: Cell, embedding_VxD: np.ndarray) -> dict[str, np.ndarray]:
        """The parameters of the cell's adapter that start as `init` says, by name."""
        return self._init.parameters(
            self._adapters(cell),
            embedding_VxD,
            self._of(cell).task,
            self._base(cell.model).vocabulary,
            peft.prompt_rows,
            cell.seed,
        )

    def _evaluate_adapter(self, model: T5, cell: Cell) -> Result:
        folder = self._folder(cell)
        adapters, parameters, description = peft.load_adapter(folder)
        course = description["info"]["course"]
        if course["diverged"] is not None:
            problem = (
                f"The loss of {adapters_lib.name(cell)} was not finite by step "
                f"{course['diverged']}. Lower its learning rate."
            )
            if not self.dev_heads or not course["step"]:
                raise UserError(f"{problem} Remove {folder} to train it again.")
            print(f"{problem} The parameters of step {course['step']} are kept.", file=sys.stderr)
        losses = {DEV_LOSS: course[DEV_LOSS]} if DEV_LOSS in course else {}
        result = self._evaluate(cell, attach(model, adapters, parameters), losses)
        result["info"] |= course
        peft.add_info(folder, {"held_out": result["values"]})
        return result

    def _plain_adapters(self, cell: Cell) -> Adapters:
        """The adapters that the cell trains, with the length of one prompt."""
        if cell.method == "adapter_tune":
            return Adapters.of(self.adapters[cell.values["adapter"]])
        if cell.method == "prompt_tune":
            return Adapters.of(PromptTuning(self.prompt_length, self.prompt_encoder))
        return NONE

    def _adapters(self, cell: Cell) -> Adapters:
        """The adapters that the cell trains, with rows for all soft tokens of its template."""
        return adapters_lib.for_template(self._plain_adapters(cell), TEMPLATES[cell.template])

    def _adapter_tuning(self, cell: Cell) -> MultiAdapterTuning:
        """The training of the cell's adapter; the axis "learning_rate" is the candidate's."""
        return _without_rate(complete(self.prompt_tuning or MultiAdapterTuning()), cell)

    @property
    def _init(self) -> PromptInit:
        return self.init or PromptInit()

    def _with_settings(self, cell: Cell) -> Cell:
        return cell.with_settings(self.settings(cell))

    def _folder(self, cell: Cell) -> pathlib.Path:
        name = adapters_lib.name(cell)
        if self.adapters_dir:
            return pathlib.Path(self.adapters_dir, name)
        return pathlib.Path(
            self.stages_dir, "adapters", f"{name}-{self._with_settings(cell).key[:12]}"
        )

    # ---- What cells share ---------------------------------------------------------------------

    @functools.cached_property
    def _paths(self) -> Mapping[str, str]:
        """Where each model is."""
        return self.models.models() if isinstance(self.models, Pretraining) else self.models

    def _base(self, name: str) -> _Base:
        if name not in self._bases:
            checkpoint = checkpoints.open(self._paths[name])
            self._bases[name] = _Base(checkpoint, checkpoint.adopt_vocabulary())
        return self._bases[name]

    def _of(self, cell: Cell) -> Data:
        self._read([cell.task])
        return self._data[cell.task]

    def _read(self, names: Sequence[str]) -> None:
        """Read the tasks that were not read before."""
        if missing := [name for name in names if name not in self._data]:
            data = read_data(
                missing,
                dev_heads=self.dev_heads,
                test_heads=self.test_heads,
                test_split=self.test_split,
                references=self.references,
                module=self.module,
            )
            self._data.update(data)

    @staticmethod
    def _objective(cell: Cell) -> str:
        """The objective under which the cell's model is adapted."""
        return (
            mapping.choice_of(cell.task).objective if cell.objective == MATCHED else cell.objective
        )

    def _model(self, name: str, objective: str) -> T5:
        """The model that cells start from; the last one is kept."""
        if (name, objective) not in self._loaded:
            base = self._base(name)
            plain = objective == "none"
            checkpoint = base.checkpoint if plain else self._adapted(name, objective)
            self._loaded.clear()
            self._loaded[name, objective] = checkpoint.model(base.vocabulary)
        return self._loaded[name, objective]

    def _adaptation_digest(self) -> str:
        texts = [text for name in self.adaptation for text in made_models.gin_texts(name)]
        return _digest(texts)

    def _adapted_folder(self, name: str, objective: str) -> pathlib.Path:
        made_from = _digest([self._base(name).checkpoint.digest, self._adaptation_digest()])[:12]
        return pathlib.Path(self.stages_dir, "adapted", f"{name}-{objective}-{made_from}")

    def _adapted(self, name: str, objective: str) -> Checkpoint:
        """The model after adaptation, made unless it is there.

        An adaptation that failed here before fails at once: cells that share it all say why.
        """
        folder = self._adapted_folder(name, objective)
        if folder.name in self._failed:
            raise self._failed[folder.name]

        def make(path: pathlib.Path) -> None:
            start = {"INITIAL_CHECKPOINT_PATH": self._paths[name], "OBJECTIVE": objective}
            made_models.make("adapt", path, self.adaptation, start)

        try:
            return checkpoints.open(Store(folder.parent).fill(folder.name, make))
        except UserError as error:
            self._failed[folder.name] = error
            raise

    def _flops(self, cell: Cell) -> float:
        """The FLOPs of training and evaluating, both at full lengths."""
        task = self._of(cell).task
        shape = self._base(cell.model).checkpoint.config
        forward = flops.train_flops(shape, 1, **self.task_feature_lengths) / 3
        evaluated = len(task.held_out) * forward
        if cell.method in UNTRAINED:
            return evaluated if cell.method in ("frozen", *IN_CONTEXT) else 0.0
        tuning = self._tuning if cell.method == "fine_tune" else self._adapter_tuning(cell)
        heads = len({record.head for record in task.train})
        count = len(task.train) if cell.shots is None else min(cell.shots, heads) * self.tails
        return evaluated + 3 * forward * tuning.epochs * count

    # ---- Checks -------------------------------------------------------------------------------

    def _check_cell(self, cell: Cell) -> None:
        for axis, value in cell.extra:
            if axis not in FREE_AXES:
                raise unknown("free axis (Grid.extra) that FewShot knows called", axis, FREE_AXES)
            if cell.method not in FREE_AXES[axis] and value not in (None, "none"):
                raise UserError(
                    f"The method {cell.method!r} has no {axis}, but that axis is {value!r}. Keep "
                    'them apart with a constraint (Grid.constraints): "none" is no adapter, None '
                    "the learning rate of the optimizer, or none, or the cell's own task or "
                    "template."
                )
        part = cell.values.get("trainable")
        if part is not None and part not in self.trainable:
            axis = "axis 'trainable' (Grid.extra)"
            raise unknown(f"value of the {axis}", str(part), self.trainable)
        if cell.asked.template not in TEMPLATES:
            axis = "axis 'asked_template' (Grid.extra)"
            raise unknown(f"value of the {axis}", cell.asked.template, TEMPLATES)
        if cell.method == "adapter_tune":
            if cell.values.get("adapter") not in self.adapters:
                raise UserError(
                    "The method 'adapter_tune' trains what the axis \"adapter\" names: give it in "
                    f"Grid.extra, one or more of {', '.join(self.adapters)} (FewShot.adapters)."
                )
            adapters_lib.check_fit(self._plain_adapters(cell), TEMPLATES[cell.template])
        elif (TEMPLATES[cell.template].soft != "none") != (cell.method == "prompt_tune"):
            soft = TEMPLATES[cell.template].soft != "none"
            raise UserError(
                f"The template {cell.template} has {'a' if soft else 'no'} soft prompt, which the "
                f"method {cell.method!r} cannot {'train' if soft else 'do without'}. Keep them "
                'apart with constraints, such as {"when": {"method": "prompt_tune"}, "only": '
                '{"template": ["MaskedPrePT"]}} in Grid.constraints.'
            )
        if cell.method in IN_CONTEXT and not cell.shots:
            raise UserError(
                f"The method {cell.method!r} shows the model as many solved examples as the axis "
                f"'shots' says, which is {cell.shots}: expected a number of 1 or more."
            )
        if cell.method not in UNTRAINED and cell.shots == 0:
            raise UserError(
                f"The method {cell.method!r} trains on the heads of the axis 'shots', which is 0: "
                'only the methods "frozen" and "constant" go without.'
            )
        if (objective := self._objective(cell)) != "none" and not self.adaptation:
            raise UserError(
                f"The objective {objective!r} needs a model adapted under it: bind "
                "FewShot.adaptation to the gin files of `mto adapt` that make one, such as "
                "['runs/adapt.gin']."
            )

    def _check_adapters(self, cells: Sequence[Cell]) -> None:
        """Bases, prompts and folders of cells that train adapters."""
        checked = set()
        for cell in cells:
            base, adapters = self._base(cell.model), self._adapters(cell)
            same = (cell.model, cell.task, cell.template, cell.shots, cell.seed, repr(adapters))
            if same not in checked:
                checked.add(same)
                self._check_training(cell, base, adapters)
            adapters_lib.check_folder(self._folder(cell), self._with_settings(cell))

    def _check_training(self, cell: Cell, base: _Base, adapters: Adapters) -> None:
        if base.checkpoint.adapters != NONE:
            path = self._paths[cell.model]
            raise UserError(
                f"{path} has adapters of its own. Write it as a plain model first: mto convert "
                f"--from={path} --to=native --output=..."
            )
        check_vocabulary(base.checkpoint.config, adapters, base.vocabulary)
        self._init.check(adapters)
        config = base.checkpoint.config
        self._initial(cell, np.broadcast_to(np.float32(0), (config.vocab_size, config.d_model)))
        self._training_examples(cell)
        self._examples(cell, self._of(cell).dev)


def _with_rate(tuning, rate: float):
    optimizer = dataclasses.replace(tuning.optimizer, learning_rate=rate)
    return dataclasses.replace(tuning, optimizer=optimizer)


def _without_rate(tuning, cell: Cell):
    """The tuning of a cell but for a rate that is its place on the axis "learning_rate"."""
    return tuning if cell.values.get("learning_rate") is None else _with_rate(tuning, 0.0)


def _each(cells: Sequence[Cell], axis: str) -> list:
    return list(dict.fromkeys(getattr(cell, axis) for cell in cells))


def _mean_loss(model: T5, examples: Sequence[Example], batch_size: int = 32) -> float:
    """The loss per target token, EOS and sentinels included, as `tune_adapters` computes it."""
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


def _digest(content: Any) -> str:
    return digest(content)[:16]
