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
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import gin

from mto_jax import checks
from mto_jax.checkpoints import peft
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError
from mto_jax.evaluation.in_context import InContext
from mto_jax.evaluation.task_metrics import metric_names
from mto_jax.experiments import adapters as adapters_lib
from mto_jax.experiments import costs, plan, scoring
from mto_jax.experiments.base_models import MATCHED, BaseModels, objective
from mto_jax.experiments.cell_checks import check_cell, check_kind
from mto_jax.experiments.data import CellData, Tasks, tested
from mto_jax.experiments.engine import OnStep, Stage
from mto_jax.experiments.grid import Cell, each
from mto_jax.experiments.made_models import Pretraining
from mto_jax.experiments.recipes import Recipes
from mto_jax.experiments.scoring import DEV_LOSS, RECALL
from mto_jax.experiments.store import Result
from mto_jax.experiments.strategies import (
    ADAPTER_METHODS,
    CELL_METHODS,
    FINE_TUNE,
    IN_CONTEXT,
    UNTRAINED,
)
from mto_jax.files import digest
from mto_jax.models.adapters import Adapters, Method
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text import mapping
from mto_jax.text2text.task import Example
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.training.finetune import Tuning, complete
from mto_jax.training.multi_adapter import MultiAdapterTuning
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.performance import use_compilation_cache

# What may train alone; more in `FewShot.trainable`.
PARTS: Mapping[str, Sequence[str]] = {"decoder": ["decoder.*"], "norms": ["*norm.scale"]}
REPLAYED = 4096  # examples that are replayed, over and over


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

    def __post_init__(self):
        checks.check_fields(self)

    @functools.cached_property
    def bases(self) -> BaseModels:
        """The models that cells start from."""
        return BaseModels(self.models, self.stages_dir, self.adaptation)

    @functools.cached_property
    def tasks(self) -> Tasks:
        """The data of tasks by name."""
        return Tasks(self.dev_heads, self.test_heads, self.test_split, self.references, self.module)

    @property
    def recipes(self) -> Recipes:
        """What cells train, and how."""
        return Recipes(
            complete(self.tuning or Tuning()),
            complete(self.prompt_tuning or MultiAdapterTuning()),
            self.prompt_length,
            self.prompt_encoder,
            self.adapters,
            self.init or PromptInit(),
            self.trainable,
            self.replay,
        )

    def known(self) -> Mapping[str, Collection[str]]:
        """The names that exist, by axis."""
        return {
            "model": tuple(self.bases.paths),
            "objective": (MATCHED, *mapping.objectives()),
            "template": tuple(TEMPLATES),
            "method": CELL_METHODS,
            "adapter": ("none", *self.adapters),
        }

    @property
    def missing_models(self) -> list[str]:
        """The models that `make_models` would train, or that are not on this machine."""
        return self.bases.missing()

    def make_models(self) -> None:
        """Pre-train the models that are to be made and are not there."""
        self.bases.make()

    def check(self, cells: Sequence[Cell]) -> None:
        """Check that templates fit methods and tasks, that models are there, tasks can be read.

        Raises:
          UserError: what is wrong, before anything is computed or written.
        """
        recipes = self.recipes
        for cell in cells:
            check_cell(cell, recipes, self.adaptation)
        names = each(cells, "model")
        if len({self.bases[name].vocabulary.digest for name in names}) > 1:
            raise UserError(
                f"The models {', '.join(names)} have different vocabularies; a "
                "grid has one. Make a grid for each vocabulary."
            )
        places = [place for cell in cells for place in (cell, tested(cell))]
        self.tasks.read(each(places, "task"))
        for place in places:
            check_kind(place, self.tasks[place.task].task.kind)
        self._check_adapters([cell for cell in cells if cell.method in ADAPTER_METHODS])
        use_compilation_cache()

    def _check_adapters(self, cells: Sequence[Cell]) -> None:
        """Bases, prompts and folders of cells that train adapters."""
        checked = set()
        for cell in cells:
            adapters = self.recipes.with_all_rows(cell)
            same = (cell.model, cell.task, cell.template, cell.shots, cell.seed, adapters)
            if repr(same) not in checked:
                checked.add(repr(same))
                base, path = self.bases[cell.model], self.bases.paths[cell.model]
                adapters_lib.check_training(self.of(cell), base, path, self.recipes.init)
            adapters_lib.check_folder(self._folder(cell), self._with_settings(cell))

    def metrics(self, cell: Cell) -> Collection[str]:
        """The metrics that the result of a cell will have."""
        own, asked = self.tasks[cell.task].task, self.tasks[tested(cell).task].task
        return scoring.metrics(cell, own, asked, self.dev_heads > 0)

    # ---- Data ---------------------------------------------------------------------------------

    def of(self, cell: Cell) -> CellData:
        """The examples of a cell."""
        return CellData(
            cell,
            self.tasks[cell.task],
            self.tasks[tested(cell).task],
            self.bases[cell.model].vocabulary,
            self.task_feature_lengths,
            self.recipes.with_all_rows(cell),
            adapters_lib.soft_prompt(self.recipes.adapters_of(cell)),
            self.tails,
        )

    def _objective_data(self, cell: Cell) -> DatasetConfig:
        """The validation data of the objective whose loss is asked for."""
        name = str(cell.values["asked"]).removeprefix("loss:")
        lengths = self.replay.task_feature_lengths if self.replay else self.task_feature_lengths
        return DatasetConfig(name, lengths, "validation", module=self.module)

    @functools.cached_property
    def _replayed(self) -> Sequence[Example]:
        if self.replay is None:
            raise UserError(
                "A share is replayed, but nothing to replay is named: bind FewShot.replay to the "
                "DatasetConfig of what the models were pre-trained with."
            )
        return loader.sample(loader.ensure(self.replay), REPLAYED, seed=0)

    # ---- Cells --------------------------------------------------------------------------------

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        """All that decides the result of a cell beside its place on the axes, as JSON."""
        settings = {
            "model": self.bases[cell.model].checkpoint.digest,
            "data": self.tasks[cell.task].digest,
            "lengths": dict(self.task_feature_lengths),
            "metrics": metric_names(self.tasks[tested(cell).task].task),
        }
        if cell.measure == "loss":
            settings["asked data"] = repr(self._objective_data(cell))
        elif cell.asked.task != cell.task:
            settings["asked data"] = self.tasks[cell.asked.task].digest
        if objective(cell) != "none":
            settings["adaptation"] = self.bases.adaptation_digest()
        if cell.objective == MATCHED:
            settings["matched"] = objective(cell)
        if RECALL in (cell.method, cell.measure):
            settings["asked as"] = "sentences"
        if cell.method in IN_CONTEXT:
            settings["in_context"] = repr(self.in_context or InContext())
        if cell.method not in UNTRAINED:
            settings |= {"tails": self.tails, **self.recipes.settings(cell)}
        if cell.method in FINE_TUNE and self.dev_heads:
            settings["dev"] = self.dev_heads
        return settings

    def groups(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """Cells of one model and shape follow each other; adapters that still have to train on one
        model are together, and what one tuned model is asked."""
        cells = sorted(cells, key=lambda c: (c.model, objective(c), c.method, c.task, c.template))
        alone, cohorts = {}, {}
        for cell in cells:
            if cell.method not in ADAPTER_METHODS or peft.is_adapter(self._folder(cell)):
                alone.setdefault(cell.trained, []).append(cell)
            else:
                shared = (cell.model, objective(cell), repr(self.recipes.with_all_rows(cell)))
                cohorts.setdefault(shared, []).append(cell)
        count = self.at_once
        return [
            *alone.values(),
            *(c[i : i + count] for c in cohorts.values() for i in range(0, len(c), count)),
        ]

    def run(self, group: Sequence[Cell], progress: OnStep) -> Iterator[tuple[Cell, Result]]:
        """Yields the result of each cell of a group."""
        first = group[0]
        if first.method == "constant":
            yield first, scoring.constant(self.of(first))
            return
        model = self.bases.load(first)
        if first.method in ADAPTER_METHODS:
            self._train_adapters(model, group, progress)
            for cell in group:
                yield cell, self._evaluate_adapter(model, cell)
            return
        data = self.of(first)
        more = {}
        if first.method in FINE_TUNE:
            model = self._tune(model, data, progress)
            more = scoring.validation(model, data)
        elif first.method != "recall" and (dev := data.dev()):
            more = {DEV_LOSS: scoring.mean_loss(model, dev)}
        for cell in group:
            yield cell, self._answer(model, cell, more)

    def _answer(self, model: EncoderDecoder, cell: Cell, more: Mapping[str, float]) -> Result:
        """The result of what the cell asks; `more` are metrics beside those of the answers."""
        data = self.of(cell)
        if RECALL in (cell.method, cell.measure):
            return scoring.recall(model, data)
        if cell.measure:
            return scoring.objective_loss(model, data, self._objective_data(cell))
        asking = data.asking(self.in_context or InContext())
        return scoring.answers(model, data, {**more, **self.cost(cell).values()}, asking)

    def _tune(self, model: EncoderDecoder, data: CellData, progress: OnStep) -> EncoderDecoder:
        examples, done = data.training(), itertools.count(1)
        tuning = self.recipes.fine_tuning(data.cell)
        total = tuning.steps(len(examples))
        return tuning(
            model,
            examples,
            replay=self._replayed if tuning.replay_share else (),
            seed=data.cell.seed,
            progress=lambda _, loss: progress(data.cell, next(done), total, loss),
        )

    def _train_adapters(
        self, model: EncoderDecoder, group: Sequence[Cell], progress: OnStep
    ) -> None:
        """Train the adapters of a group that have no folder yet, together, and write them."""
        cells = [self._with_settings(c) for c in group if not peft.is_adapter(self._folder(c))]
        if not cells:
            return
        keys = digest([cell.key for cell in cells])[:16]
        adapters_lib.train(
            model,
            {self._folder(cell): self.of(cell) for cell in cells},
            self.recipes.shared(cells[0]),
            self.recipes.init,
            self.bases.start(cells[0]),
            pathlib.Path(self.stages_dir, f"training-{keys}.npz"),
            progress,
        )

    def _evaluate_adapter(self, model: EncoderDecoder, cell: Cell) -> Result:
        data, folder = self.of(cell), self._folder(cell)
        tuned, course = adapters_lib.load(folder, model, data)
        losses = {DEV_LOSS: course[DEV_LOSS]} if DEV_LOSS in course else {}
        result = scoring.answers(tuned, data, {**losses, **self.cost(cell).values()})
        result["info"] |= course
        info = result["info"]
        example = {"source": info["sources"][0], "prediction": info["predictions"][0]}
        peft.add_info(folder, {"held_out": result["values"], "example": example})
        return result

    def _with_settings(self, cell: Cell) -> Cell:
        return cell.with_settings(self.settings(cell))

    def _folder(self, cell: Cell) -> pathlib.Path:
        name = adapters_lib.name(cell)
        if self.adapters_dir:
            return pathlib.Path(self.adapters_dir, name)
        return pathlib.Path(
            self.stages_dir, "adapters", f"{name}-{self._with_settings(cell).key[:12]}"
        )

    # ---- What cells cost ----------------------------------------------------------------------

    def cost(self, cell: Cell) -> costs.Cost:
        """What the cell's method costs, by formula."""
        training = self.recipes.of(cell)
        return costs.cost(
            self.bases[cell.model].checkpoint.config,
            self.task_feature_lengths,
            training.batch_size if training else 1,
            (training and training.optimizer) or Optimizer(),
            adapters=self.recipes.with_all_rows(cell),
            trainable=training.trainable if isinstance(training, Tuning) else None,
            shown=(cell.shots or 0) if cell.method in IN_CONTEXT else 0,
        )

    def work(self, cells: Sequence[Cell]) -> Sequence[str]:
        """What is trained and asked, by method."""
        return plan.work(cells, self.recipes, self.tails, self.test_heads)

    def stages(self, cells: Sequence[Cell]) -> Sequence[Stage]:
        """The work that the cells need."""
        return plan.stages(cells, self.bases, self._flops)

    def _flops(self, cell: Cell) -> float:
        config = self.bases[cell.model].checkpoint.config
        return plan.flops(self.of(cell), config, self.recipes.of(cell))


def few_shot(arguments: Mapping[str, Any], **more: Any) -> FewShot:
    """Returns the runner whose fields are the arguments of a verb by the same names, and `more`."""
    fields = [field.name for field in dataclasses.fields(FewShot) if field.name in arguments]
    return FewShot(**{**{name: arguments[name] for name in fields}, **more})
