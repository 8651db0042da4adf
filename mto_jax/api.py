# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The functions of `import mto_jax as mto`: models and verbs with plain arguments.

Nothing has to be bound in gin; what is bound there counts where an argument says nothing.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from mto_jax import config, errors, remote
from mto_jax.adaptation.adapt import adapt as adapt_run
from mto_jax.console import progress_bar
from mto_jax.data import loader
from mto_jax.data.dataset import LENGTHS, DatasetConfig
from mto_jax.data.manifest import Prepared as Prepared
from mto_jax.decoding.generation import Decoding
from mto_jax.decoding.model import Model as Model
from mto_jax.decoding.model import Prediction as Prediction
from mto_jax.decoding.model import Predictions as Predictions
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.evaluation.result import Result as Result
from mto_jax.experiments import advice as advising
from mto_jax.experiments import trajectory as trajectories
from mto_jax.experiments import tune as tuning
from mto_jax.experiments.results import Results as Results
from mto_jax.frames import frame
from mto_jax.matching import match as matching
from mto_jax.matching.matching import Matching as Matching
from mto_jax.models.adapters import Adapters, Method
from mto_jax.models.config import ModelConfig, bindings
from mto_jax.models.config import T5Config as T5Config
from mto_jax.models.config import T5GemmaConfig as T5GemmaConfig
from mto_jax.runs.run import Run as Run
from mto_jax.runs.train import train as train_run
from mto_jax.text2text import task as tasks
from mto_jax.text2text import templates
from mto_jax.text2text.record_sets import RecordSet, Wanted, read
from mto_jax.text2text.registration import register_file as register_file
from mto_jax.text2text.registration import register_records as register_records
from mto_jax.text2text.templates import Template
from mto_jax.training.finetune import Tuning, fit
from mto_jax.training.finetune import epochs as steps_of
from mto_jax.training.multi_adapter import MultiAdapterTuning
from mto_jax.training.optimizers import Optimizer


def load(path: str | os.PathLike, checkpoint: str | int = "best") -> Model:
    """Returns the model of a checkpoint with its own vocabulary.

    It stands whole on the first local device, and is copied to the others when they predict. A
    model of more than half of a device's memory is cut over all local devices; so is any where gin
    binds `mesh.fsdp` or `mesh.tensor`.

    Args:
      path: "hf://org/name[@revision]", a run directory or a step of one, a folder of Hugging Face
        or T5X, or the folder of an adapter, which stands for its base with the adapter on it.
      checkpoint: of a run directory: "best", "newest" or the number of a step.

    Raises:
      UserError: nothing there, damaged, not a T5, its vocabulary is not known, or it is to be cut
        over devices that are not there.
    """
    model = Model.open(path, checkpoint)
    _ = model.network  # errors come here, not at the first use
    return model


def match(
    model: Model | str,
    tasks: Sequence[str],
    *,
    scores: Sequence[str] = ("expert", "length_rule", "ranks", "probe"),
    lengths: Mapping[str, int] = LENGTHS,
    output_dir: str | None = None,
    **settings: Any,
) -> Matching:
    """Returns which objective and template each task wants from a model.

    Args:
      model: a loaded one, or its path.
      tasks: names of data sets, as `register_file` got them, or "atomic_xIntent", "sst2", ...
      scores: what judges them: see `mto_jax.matching.match`.
      lengths: most tokens of inputs and targets.
      output_dir: also write table, figure, JSON and mapping there, and take from there what an
        earlier call has computed.
      settings: other parameters of `mto_jax.matching.match.match`, such as heads=50, shots=10, or
        objectives=["none", "lm"] with pairs=PairConfig(corpus="sentences.txt", ...), the raw text
        that the model is adapted on.

    Raises:
      UserError: an unknown task or score, or no model at the path.
    """
    return matching.match(
        tasks=tasks,
        initial_checkpoint_path=model,
        output_dir=output_dir,
        task_feature_lengths=lengths,
        scores=scores,
        **settings,
    )


def fine_tune(
    model: Model,
    task: str,
    template: str,
    *,
    heads: int | None = None,
    references: int = 3,
    epochs: int = 5,
    batch_size: int = 8,
    learning_rate: float = 5e-4,
    optimizer: str = "adafactor",
    dropout_rate: float = 0.1,
    lengths: Mapping[str, int] = LENGTHS,
    seed: int = 0,
    module: str | None = None,
) -> Model:
    """Returns a copy of a model that is trained on a task under a template, in memory.

    Args:
      model: stays as it is.
      task: name of a data set.
      template: name of one of its kind's templates, such as "MaskedPrompting", or what
        `match(...).templates` says.
      heads: train on so many heads (questions, texts); None takes the whole training split.
      references: most tails of each of these heads.
      epochs: times that every example is seen.
      batch_size: examples of a step.
      learning_rate: of every step.
      optimizer: name of an optimizer of optax.
      dropout_rate: in training.
      lengths: most tokens of inputs and targets.
      seed: of the order and of dropout.
      module: module(s) that register your own tasks, comma-separated.

    Raises:
      UserError: an unknown task or template, no records, or a loss that is NaN or infinite.
    """
    (known,) = read([Wanted(task, "train", heads, references)], module)
    examples = tasks.tokenise(
        _template(template, known),
        known.records,
        tasks.Task.of(known, dataclasses.replace(known, records=())),
        model.vocabulary,
        lengths,
    )
    steps = steps_of(epochs, len(examples), batch_size)
    with progress_bar(f"fine-tune {task}", steps) as advance:
        network = fit(
            model.network,
            examples,
            steps=steps,
            batch_size=batch_size,
            optimizer=Optimizer(name=optimizer, learning_rate=learning_rate),
            dropout_rate=dropout_rate,
            seed=seed,
            progress=lambda count, loss: advance(count),
        )
    return Model(model.config, model.vocabulary, f"{model.title} on {task}", lambda: network)


def evaluate(
    model: Model,
    task: str,
    template: str,
    *,
    split: str = "validation",
    heads: int | None = 100,
    references: int | None = 3,
    max_length: int | None = None,
    batch_size: int = 32,
    lengths: Mapping[str, int] = LENGTHS,
    module: str | None = None,
    **options: Any,
) -> Result:
    """Returns the predictions of a model on a task under a template, and their scores.

    Args:
      model: the model.
      task: name of a data set.
      template: see `fine_tune`.
      split: of the data set: "validation" or "test".
      heads: evaluate on so many heads, always the same; None takes all.
      references: most references of each; None keeps all.
      max_length: most tokens of a prediction; None takes `lengths["targets"]`.
      batch_size: examples at once.
      lengths: most tokens of inputs and targets.
      module: module(s) that register your own tasks, comma-separated.
      options: other fields of `Decoding`, such as preset="beam".

    Raises:
      UserError: an unknown task, split, template or option, or a metric whose model is missing.
    """
    decoding = Decoding.from_dict({"max_length": max_length or lengths["targets"], **options})
    (known,) = read([Wanted(task, split, heads, references)], module)
    with progress_bar(f"{task} ({split})", len(known.records)) as advance:
        result = evaluate_records(
            model.network,
            tasks.Task.of(dataclasses.replace(known, records=()), known),
            _template(template, known),
            model.vocabulary,
            lengths,
            decoding=decoding,
            batch_size=batch_size,
            progress=advance,
        )
    return dataclasses.replace(result, split=split)


def tune(
    model: str | os.PathLike,
    tasks: Sequence[str],
    templates: Sequence[str],
    adapters: Adapters | Method | Sequence[Adapters | Method | Sequence[Method]],
    output_dir: str | os.PathLike,
    *,
    learning_rates: Sequence[float] = (0.1,),
    seeds: Sequence[int] = (0,),
    epochs: int = 15,
    batch_size: int = 8,
    optimizer: str = "adafactor",
    lengths: Mapping[str, int] = LENGTHS,
    **settings: Any,
) -> Results:
    """Returns the results of adapters trained on a frozen model, beside those of the model itself.

    Every adapter is trained on every task under every template, at every rate and seed, and
    evaluated on heads that it has not seen. What `output_dir` holds already is not computed again.

    Args:
      model: path of a checkpoint without adapters; save a model of this process first.
      tasks: names of data sets.
      templates: such as "MaskedPrePT", with soft tokens where an adapter has a prompt.
      adapters: of `mto_jax.models.adapters`: `PromptTuning(10)`, `LoRA(8)`, ..., or a list.
      output_dir: receives tables, figures and a folder for each adapter, which `load` takes.
      learning_rates: peak rates; prompts want about 0.1, LoRA about 1e-3.
      seeds: of the heads that are drawn, their order, and an adapter's first values.
      epochs: times that every example is seen.
      batch_size: examples of an adapter in a step.
      optimizer: name of an optimizer of optax.
      lengths: most tokens of inputs and targets.
      settings: other parameters of `mto_jax.experiments.tune.tune`, such as shots=30, dev_heads=0.

    Raises:
      UserError: what does not fit together, an unknown name, no model at the path, or, after the
        tables are written, runs that failed.
    """
    with config.temporary(values={"vocabulary.name": None}):
        return tuning.tune(
            tasks=tasks,
            templates=templates,
            initial_checkpoint_path=os.fspath(model),
            output_dir=os.fspath(output_dir),
            task_feature_lengths=lengths,
            adapters=adapters,
            seeds=seeds,
            learning_rates=learning_rates,
            tuning=MultiAdapterTuning(epochs, batch_size, Optimizer(optimizer)),
            **settings,
        )


@dataclasses.dataclass(frozen=True)
class Advice:
    """Which way of adapting a model fits a task, as `mto advise` says it.

    Attributes:
      folder: has advice.md, one page, advice.json, advice.gin, tables and figures.
      recommended: name of the strategy.
      best: the one with the highest score.
      runner_up: the next choice; None if there is no other.
      command: that does what is recommended.
      summary: all of it, the content of advice.json.
    """

    folder: pathlib.Path
    recommended: str
    best: str
    runner_up: str | None
    command: str
    summary: Mapping[str, Any]

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row for each strategy, its score and its costs."""
        nested = ("measured", "in the end")
        return frame(
            {"strategy": name, **row["in the end"]}
            | {key: value for key, value in row.items() if key not in nested}
            for name, row in self.summary["strategies"].items()
        )


def advise(
    model: str | os.PathLike,
    task: str,
    output_dir: str | os.PathLike,
    *,
    template: str | None = None,
    heads: int | None = None,
    device: str = "cpu",
    minutes: float | None = None,
    memory_gb: float | None = None,
    tasks_served: int = 1,
    keep: Sequence[str] = (),
    strategies: Sequence[str] | None = None,
    replay: str | None = None,
    epochs: int = 5,
    adapter_epochs: int = 15,
    batch_size: int = 8,
    dropout_rate: float = 0.1,
    optimizer: str = "adafactor",
    lengths: Mapping[str, int] = LENGTHS,
    **settings: Any,
) -> Advice:
    """Returns which way of adapting a model fits a task, its data and a budget, from measurements.

    Strategies train on growing numbers of heads, and the worse half leaves. What `output_dir` holds
    already is not computed again.

    Args:
      model: path of a checkpoint without adapters; save a model of this process first.
      task: name of a data set.
      output_dir: receives the advice, tables and figures.
      template: without soft prompt, such as "MaskedPrompting"; None takes the mapping's.
      heads: to train on in the end; None means all there are.
      device: to adapt the model on: "cpu", "h100" or "v5e".
      minutes: most minutes of the training that is advised.
      memory_gb: most memory; None means the device's.
      tasks_served: tasks like this one that are served together.
      keep: tasks that must not be forgotten.
      strategies: of `mto_jax.experiments.strategies`; None takes all.
      replay: the task or mixture that the model was pre-trained with, for "full_replay".
      epochs: of what trains parts of the model.
      adapter_epochs: of what trains adapters on it.
      batch_size: examples of a step.
      dropout_rate: in training parts of the model.
      optimizer: name of an optimizer of optax; rates are the strategies' own.
      lengths: most tokens of inputs and targets.
      settings: other parameters of `mto_jax.experiments.advice.advise`, such as probe_shots=1000.

    Raises:
      UserError: an unknown name, no model at the path, or a budget that nothing fits.
    """
    chosen = Optimizer(optimizer)
    with config.temporary(values={"vocabulary.name": None}):
        summary = advising.advise(
            task=task,
            initial_checkpoint_path=os.fspath(model),
            output_dir=os.fspath(output_dir),
            task_feature_lengths=lengths,
            template=template,
            shots=heads,
            device=device,
            minutes=minutes,
            memory_gb=memory_gb,
            tasks_served=tasks_served,
            keep=keep,
            strategies=strategies,
            replay=DatasetConfig(replay, lengths) if replay else None,
            tuning=Tuning(epochs, batch_size, chosen, dropout_rate),
            prompt_tuning=MultiAdapterTuning(adapter_epochs, batch_size, chosen),
            **settings,
        )
    said = {name: summary[name] for name in ("recommended", "best", "runner_up", "command")}
    return Advice(remote.local(output_dir), **said, summary=summary)


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What the checkpoints of a run know, frozen and tuned, as `mto trajectory` says it.

    Attributes:
      folder: has trajectory.json, tables, figures and a page.
      classes: {task: "learned", "latent" or "neither"}.
      summary: all of it, the content of trajectory.json.
    """

    folder: pathlib.Path
    classes: Mapping[str, str]
    summary: Mapping[str, Any]

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: what others lose, by checkpoint and share of replay."""
        return frame(
            {"checkpoint": checkpoint, "replay": share, **change}
            for checkpoint, shares in self.summary["forgetting"]["by checkpoint"].items()
            for share, change in shares.items()
        )


def trajectory(
    run: str | os.PathLike | Mapping[str, str],
    tasks: Sequence[str],
    templates: Sequence[str],
    output_dir: str | os.PathLike,
    *,
    steps: str | Sequence[int] = "all",
    shots: Sequence[int | None] = (4, 30),
    seeds: Sequence[int] = (0, 1, 2),
    replay: str | None = None,
    replay_shares: Sequence[float] = (0.0,),
    epochs: int = 5,
    batch_size: int = 8,
    learning_rate: float = 5e-4,
    optimizer: str = "adafactor",
    dropout_rate: float = 0.1,
    lengths: Mapping[str, int] = LENGTHS,
    **settings: Any,
) -> Trajectory:
    """Returns what each checkpoint knows as it is and tuned, and what tuning makes it forget.

    Args:
      run: a run directory with kept steps (`train(keep_steps="log:12")`), or {name: path} of any
        checkpoints, in order.
      tasks: names of data sets, to tune on and to be asked about.
      templates: without soft prompt.
      output_dir: receives tables, figures and a page; what it holds is not computed again.
      steps: of the run: "all", a list, or "log:8", eight evenly by logarithm.
      shots: heads to tune on; None takes all.
      seeds: of the heads that are drawn, and of their order.
      replay: the task or mixture of the pre-training, for `replay_shares`.
      replay_shares: of the rows of tuning at the last checkpoint.
      epochs, batch_size, learning_rate, optimizer, dropout_rate: of the tuning.
      lengths: most tokens of inputs and targets.
      settings: other parameters of `mto_jax.experiments.trajectory.trajectory`, such as asked.

    Raises:
      UserError: fewer than two checkpoints, an unknown name, or, after the tables are written,
        trainings that failed.
    """
    where: dict[str, Any] = (
        {"checkpoints": run}
        if isinstance(run, Mapping)
        else {"run": os.fspath(run), "steps": steps}
    )
    with config.temporary(values={"vocabulary.name": None}):
        summary = trajectories.trajectory(
            tasks=tasks,
            templates=templates,
            output_dir=os.fspath(output_dir),
            task_feature_lengths=lengths,
            shots=shots,
            seeds=seeds,
            replay=DatasetConfig(replay, lengths) if replay else None,
            replay_shares=replay_shares,
            tuning=Tuning(epochs, batch_size, Optimizer(optimizer, learning_rate), dropout_rate),
            **where,
            **settings,
        )
    classes = {task: judged["class"] for task, judged in summary["tasks"].items()}
    return Trajectory(remote.local(output_dir), classes, summary)


def prepare(
    task: str,
    *,
    split: str = "train",
    lengths: Mapping[str, int] = LENGTHS,
    vocabulary: str = "t5",
    corpora: Mapping[str, str] | None = None,
    **settings: Any,
) -> Prepared:
    """Returns the tokenised examples of a SeqIO task or mixture on disk, as training reads them.

    Fresh ones that are there already are taken. A process of its own makes them, with TensorFlow:
    it knows the tasks of MTO-JAX and those of `module`, not those registered in this process.

    Args:
      task: such as "atomic_xIntent_mapping", or "mine_span_corruption" of a corpus "mine".
      split: of the task.
      lengths: most tokens of inputs and targets.
      vocabulary: "t5", "demo", "hf://org/model", or a path (`mto_jax.text2text.vocabulary`).
      corpora: texts with a document a line, {name: file or folder}.
      settings: other fields of `mto_jax.data.dataset.DatasetConfig`, such as limit=100, seed=1,
        module="my_tasks", prepared_dir="data".

    Raises:
      UserError: no such task or split, a file that cannot be read, a task without examples.
    """
    with config.temporary(values={"vocabulary.name": vocabulary} | _corpora(corpora)):
        return loader.ensure(DatasetConfig(task, lengths, split, **settings))


def train(
    model: ModelConfig | str | os.PathLike,
    task: str,
    output_dir: str | os.PathLike,
    *,
    steps: int,
    batch_size: int = 8,
    learning_rate: float = 5e-4,
    optimizer: str = "adafactor",
    schedule: str = "constant",
    warmup: float = 0,
    dropout_rate: float = 0.1,
    validation_examples: int | None = 500,
    lengths: Mapping[str, int] = LENGTHS,
    vocabulary: str | None = None,
    corpora: Mapping[str, str] | None = None,
    module: str | None = None,
    **settings: Any,
) -> Run:
    """Returns a run that trains a T5 on a SeqIO task or mixture; it resumes where it stopped.

    Args:
      model: sizes, to start from scratch, or the path of a checkpoint to start from.
      task: see `prepare`, which is done where it was not.
      output_dir: the run directory: log, checkpoints, configuration.
      steps: train up to this step.
      batch_size: rows of a step.
      learning_rate: the highest.
      optimizer: name of an optimizer of optax.
      schedule: "constant", "linear", "cosine" or "rsqrt".
      warmup: steps, or below 1 a fraction of the run.
      dropout_rate: in training.
      validation_examples: evaluate on so many of the validation split; None: on all, 0: on none.
      lengths: most tokens of inputs and targets.
      vocabulary: see `prepare`; None means that of the checkpoint, or "t5".
      corpora: see `prepare`.
      module: module(s) that register your own tasks, comma-separated.
      settings: other parameters of `mto_jax.runs.train.train`, such as adapters=LoRA(8), seed=1.

    Raises:
      UserError: what cannot be read or does not fit together, or a run directory of another model.
    """
    start, sizes = (None, model) if isinstance(model, ModelConfig) else (os.fspath(model), None)
    values = {
        "VOCABULARY": vocabulary,
        "MODEL_DIR": os.fspath(output_dir),
        "MIXTURE_OR_TASK_NAME": task,
        "MIXTURE_OR_TASK_MODULE": module,
        "INITIAL_CHECKPOINT_PATH": start,
        "TASK_FEATURE_LENGTHS": dict(lengths),
        "TRAIN_STEPS": steps,
        "BATCH_SIZE": batch_size,
        **(bindings(sizes) if sizes else {}),
        "T5Config.dropout_rate": dropout_rate,
        "T5GemmaConfig.dropout_rate": dropout_rate,
        "Optimizer.name": optimizer,
        "Optimizer.learning_rate": learning_rate,
        "Optimizer.schedule": schedule,
        "Optimizer.warmup": warmup,
        "eval/DatasetConfig.limit": validation_examples or None,
        **_corpora(corpora),
    }
    if validation_examples == 0:
        values["train.eval_datasets"] = []
    with config.temporary(["runs/finetune.gin"], values):
        return Run(remote.local(output_dir), gin.get_configurable(train_run)(**settings))


def adapt(
    model: str | os.PathLike,
    corpus: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    objective: str = "mixed",
    method: str = "splitter",
    search: str = "generate",
    groups: str = "classifier",
    epochs: int = 3,
    batch_size: int = 16,
    learning_rate: float = 1e-4,
    dropout_rate: float = 0.1,
    replay: str | None = None,
    replay_share: float = 0.25,
    lengths: Mapping[str, int] = LENGTHS,
    module: str | None = None,
    **settings: Any,
) -> Run:
    """Returns a run that makes task-like pairs of unlabelled sentences and trains a model on them.

    Args:
      model: path of the checkpoint to adapt.
      corpus: text file or folder, "demo", or a name of `text_corpora`.
      output_dir: the run directory; the pairs are in its folder adaptation.
      objective: "lm", "denoising", "mixed", "in_place_denoising" or "in_place_mixed".
      method, search, groups: how sentences become pairs, see `PairConfig`.
      epochs: times that every pair is seen.
      batch_size: pairs of a step.
      learning_rate: the highest.
      dropout_rate: in training.
      replay: a pre-training task to mix in against forgetting.
      replay_share: its part of the examples.
      lengths: most tokens of inputs and targets.
      module: module(s) that register your own tasks, comma-separated.
      settings: other fields of `mto_jax.adaptation.make.PairConfig`, such as max_pairs=1000,
        held_out=["kitchen"], facts={"kitchen": "Mapping"}.

    Raises:
      UserError: an unknown name, a corpus that gives no pairs, or another adaptation in the folder.
    """
    values = {
        "INITIAL_CHECKPOINT_PATH": os.fspath(model),
        "CORPUS": os.fspath(corpus),
        "MODEL_DIR": os.fspath(output_dir),
        "OBJECTIVE": objective,
        "METHOD": method,
        "SEARCH": search,
        "GROUPS": groups,
        "EPOCHS": epochs,
        "BATCH_SIZE": batch_size,
        "Optimizer.learning_rate": learning_rate,
        "DROPOUT_RATE": dropout_rate,
        "REPLAY": replay,
        "REPLAY_SHARE": replay_share,
        "TASK_FEATURE_LENGTHS": dict(lengths),
        "MIXTURE_OR_TASK_MODULE": module,
        **{f"PairConfig.{field}": value for field, value in settings.items()},
    }
    with config.temporary(["runs/adapt.gin"], values):
        metrics = gin.get_configurable(adapt_run)()  # with what is bound now
    return Run(remote.local(model if objective == "none" else output_dir), metrics)


def _corpora(corpora: Mapping[str, str] | None) -> dict[str, Any]:
    """The gin value of corpora; none where there are none, so that prepared data stay the same."""
    return {"text_corpora.lines": dict(corpora)} if corpora else {}


def _template(name: str, known: RecordSet) -> Template:
    """The template of this name, if records of this kind have it."""
    fitting = {t.name: t for t in templates.templates_for(known.kind, known.wording)}
    if name not in fitting:
        raise errors.unknown(f"template of {known.task} called", name, fitting)
    return fitting[name]
