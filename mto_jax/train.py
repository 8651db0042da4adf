# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pre-train, adapt or fine-tune a T5 on a SeqIO task or mixture; resumes where it stopped.

MODEL_DIR receives config.gin, model.json, model-info.txt (the parameter table), metrics.jsonl, the
TensorBoard events and checkpoints/. The same command, run again, goes on from the newest good
checkpoint: after the end of the run, a signal, a crash or a power cut.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import jax
import numpy as np

from mto_jax import cli, interop, pretrained
from mto_jax import vocabulary as vocabularies
from mto_jax.data import loader
from mto_jax.data.config import DatasetConfig
from mto_jax.data.manifest import Prepared
from mto_jax.errors import UserError, unknown
from mto_jax.evaluation.decoding import Decoding
from mto_jax.evaluation.evaluate import Result, evaluate_dataset
from mto_jax.models import flops
from mto_jax.models.adapters import NONE, Adapters, is_adapter
from mto_jax.models.config import RUNTIME_FIELDS, T5Config
from mto_jax.models.t5 import T5
from mto_jax.training import checkpoints, loop, performance, sharding
from mto_jax.training import state as states
from mto_jax.training import step as steps
from mto_jax.training.digests import write_atomically
from mto_jax.training.metrics_writer import MetricsWriter, NoWriter
from mto_jax.training.optimizers import Optimizer

SAMPLES = 8  # predictions of each dev set that TensorBoard shows
Table = list[list[str]]  # the first row is the head


@gin.configurable
def train(
    *,
    model_dir: str,
    model: T5Config,
    train_dataset: DatasetConfig,
    batch_size: int,
    train_steps: int,
    eval_datasets: Sequence[DatasetConfig] = (),
    optimizer: Optimizer | None = None,
    initial_checkpoint_path: str | None = None,
    adapters: Adapters | None = None,
    trainable: str | Sequence[str] | None = None,
    seed: int = 0,
    pack: bool = True,
    microbatches: int = 1,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    eval_period: int | None = None,
    eval_batch_size: int | None = None,
    checkpoint_period: int | None = 1000,
    keep: int = 2,
    keep_best: int = 1,
    best_metric: str | None = None,
    log_period: int = 50,
    num_workers: int = 0,
    wandb_project: str | None = None,
) -> dict[str, float]:
    """Train `model` on `train_dataset` up to step `train_steps`; returns the last metrics.

    Args:
      model_dir: the run directory.
      batch_size: rows of a global batch (a packed row holds several examples).
      eval_datasets: dev sets: their loss, and their tasks' metrics on decoded answers.
      optimizer: None means `Optimizer()`, as gin binds it.
      initial_checkpoint_path: where to take the parameters from while `model_dir` has no checkpoint
        yet: a run directory, a step folder, a folder of Hugging Face or T5X, or "hf://org/name".
      adapters: a soft prompt, LoRA, ... to train in place of the model. What is frozen and came from
        INITIAL_CHECKPOINT_PATH is not stored in the checkpoints of the run: they name it as their base.
      trainable: "all", "adapters", or patterns of parameter names, e.g. ["decoder.*", "*norm.scale"]; None
        means the adapters, or all of a model that has none.
      seed: of initialisation, dropout and the order of the data.
      pack: put several examples into a row.
      microbatches: cut a batch into so many, one after another, to save memory.
      z_loss: weight of log(Z)^2 (1e-4 in T5X's pre-training).
      eval_period: steps between evaluations; None evaluates only at the end.
      eval_batch_size: rows; None takes `batch_size`.
      checkpoint_period: steps between checkpoints; None saves only at the end (and where evaluated).
      keep: newest checkpoints that stay.
      keep_best: best checkpoints that stay besides, by `best_metric`.
      best_metric: e.g. "dev/demo_AtLocation_mapping/loss" or "dev/demo_AtLocation_mapping/rougeL"; None:
        the first dev set's loss.
      log_period: steps between lines of the log.
      num_workers: processes that read data; 0 reads in a thread.
      wandb_project: also log to Weights & Biases.
    """
    optimizer = optimizer or Optimizer()
    eval_batch_size = eval_batch_size or batch_size
    folder = pathlib.Path(model_dir)
    tell = functools.partial(print, flush=True) if jax.process_index() == 0 else lambda text: None

    # ------------------------------------------------------------------------ mesh and checks
    performance.use_compilation_cache()
    mesh = sharding.mesh()
    sharding.check_batch(batch_size, mesh, microbatches)
    sharding.check_batch(eval_batch_size, mesh)
    vocabulary = vocabularies.vocabulary()
    trainable = trainable or ("adapters" if adapters else "all")
    adapters = adapters or NONE
    check_vocabulary(model, adapters, vocabulary)
    transformation = optimizer.build(train_steps)
    identity = {
        "model": dataclasses.asdict(model),
        "vocabulary": {
            "name": vocabularies.bound_name(),
            "digest": vocabulary.digest,
        },
        "training": {"optimizer": optimizer.name, "trainable": trainable},
    }
    if adapters != NONE:
        identity["adapters"] = dataclasses.asdict(adapters)
    check_identity(folder, identity)
    if initial_checkpoint_path is not None and not checkpoints.steps(model_dir):
        check_initial(initial_checkpoint_path, model, vocabulary)

    # ------------------------------------------------------------------------ data
    prepared = loader.ensure(train_dataset)
    dev_sets = [loader.ensure(dataset) for dataset in eval_datasets]
    check_best_metric(best_metric, dev_sets)
    for one in (prepared, *dev_sets):
        check_soft_tokens(one, model, adapters)
    mixed = len(prepared.tasks) > 1
    batches = loader.train_iterator(
        prepared,
        batch_size=batch_size,
        seed=seed,
        pack=pack,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        num_workers=num_workers,
        task_ids=mixed,
    )

    # ------------------------------------------------------------------------ model and step
    plan = states.blueprint(functools.partial(T5, model, adapters=adapters))
    names = states.trainable_names(list(plan.abstract), trainable)
    target = states.abstract_state(plan, names, transformation, mesh)
    checkpoints.check_space(model_dir, target)
    task_names = [task.name for task in prepared.tasks]
    loss = steps.t5_loss(
        plan, mesh, z_loss=z_loss, label_smoothing=label_smoothing, num_tasks=len(task_names)
    )
    batch = steps.abstract_batch(batch_size, prepared.task_feature_lengths, mesh, task_ids=mixed)
    zeros = steps.zero_totals(loss, target, batch)
    step_function = steps.train_step(
        loss, transformation, optimizer.rate(train_steps), microbatches=microbatches
    )
    compiler = concurrent.futures.ThreadPoolExecutor(1)  # compiles while parameters are made
    compiling = compiler.submit(
        timed, steps.compile_step, step_function, target, zeros, batch, mesh
    )

    # ------------------------------------------------------------------------ state
    newest = checkpoints.newest_good(model_dir, set_aside=True)
    if newest is not None:
        tell(f"resuming from {newest}")
        base = checkpoints.base_of(newest)
        frozen = pretrained.base_parameters(base, target.frozen, initial_checkpoint_path)
        state, place = checkpoints.restore(newest, target, frozen)
        batches.set_state(place)
    else:
        parameters, base = {}, None
        if initial_checkpoint_path is None:
            tell(f"starting from scratch (seed {seed})")
        else:
            tell(f"starting from the parameters of {initial_checkpoint_path}")
            parameters = initial_parameters(initial_checkpoint_path, model, target)
            if target.frozen and target.frozen.keys() <= parameters.keys():
                frozen = {name: parameters[name] for name in target.frozen}
                path = str(pretrained.locate(initial_checkpoint_path))
                base = {"path": path, "fingerprints": states.fingerprints(frozen)}
        fresh = plan.abstract.keys() - parameters.keys()  # all, an adapter, or what rules leave out
        parameters |= plan.initialise(jax.random.key(seed), mesh, fresh)
        state = states.start(target, parameters, transformation, seed)
    start_step = int(state.step)
    if start_step >= train_steps:
        tell(f"{model_dir} is trained to step {start_step} already; TRAIN_STEPS = {train_steps}")
        return checkpoints.description(newest)["metrics"]

    feed = loop.Feed(batches, functools.partial(sharding.place, mesh=mesh))
    cleanup = contextlib.ExitStack()
    cleanup.callback(batches.close)
    cleanup.callback(feed.close)

    # ------------------------------------------------------------------------ outputs
    best_metric = best_metric or (f"dev/{dev_sets[0].name}/loss" if dev_sets else None)
    checkpointer = checkpoints.Checkpointer(
        model_dir,
        identity,
        keep=keep,
        keep_best=keep_best,
        best_metric=best_metric,
        base=base,
    )
    cleanup.callback(checkpointer.close)
    writer: Any = NoWriter()
    if jax.process_index() == 0:
        write_atomically(folder / "model.json", json.dumps(identity, indent=2) + "\n")
        vocabulary.save(folder)
        write_atomically(folder / "config.gin", gin.config_str())
        write_atomically(folder / "operative_config.gin", gin.operative_config_str())
        table = states.parameter_table(plan, names, mesh)
        write_atomically(folder / "model-info.txt", table)
        writer = MetricsWriter(
            model_dir,
            start_step,
            train_steps,
            wandb_project=wandb_project,
            config=gin.config_str(),
        )
        cleanup.callback(writer.close)
        writer.say(table.rstrip().rpartition("\n\n")[2])
    program, seconds = compiling.result()
    compiler.shutdown()
    writer.say(f"compiled in {seconds:.1f} s: {performance.program_cost(program)} per device")
    evaluator = Evaluator(plan, loss, mesh, dev_sets, eval_batch_size, vocabulary)

    # ------------------------------------------------------------------------ loop
    step_flops = flops.train_flops(model, batch_size, **prepared.task_feature_lengths)
    peak = performance.peak_flops(mesh.devices.flat[0])
    metrics: dict[str, float] = {"compile_seconds": seconds}

    def report(interval, totals):
        measured = summary(interval, totals, task_names)
        if peak:
            seconds = measured["speed/step_seconds"]
            measured["speed/mfu"] = step_flops / seconds / peak / mesh.devices.size
        memory = performance.peak_memory(mesh.local_devices[0])
        if memory:
            measured["speed/peak_memory_gb"] = memory / 1e9
        writer.write(interval.step, measured)
        writer.advance(interval.step, line(measured))
        metrics.update(measured)
        checkpointer.check()

    def evaluate(step, state):
        measured, samples = evaluator({**state.frozen, **state.trainable})
        writer.write(step, measured)
        writer.write_tables(step, samples)
        for name, value in measured.items():
            writer.say(f"  {name} {value:.4f}")
        if best_metric not in measured:  # no reason to lose the run, but the user must know
            writer.say(f"  warning: train.best_metric {best_metric} is not among these")
        metrics.update(measured)
        return measured

    with cleanup:
        state, stopped = loop.run(
            program,
            state,
            feed,
            new_totals=lambda: jax.device_put(zeros, sharding.replicated(mesh)),
            train_steps=train_steps,
            log_period=log_period,
            evaluate_period=eval_period or train_steps if dev_sets else None,
            save_period=checkpoint_period,
            report=report,
            evaluate=evaluate,
            save=checkpointer.save,
        )
        checkpointer.wait()

    # ------------------------------------------------------------------------ end
    if stopped is not None:
        name = signal.Signals(stopped).name
        tell(
            f"stopped by {name} at step {int(state.step)}; saved, the same command goes on from here"
        )
        raise SystemExit(128 + stopped)
    tell(f"trained to step {train_steps}; checkpoints in {checkpointer.directory}")
    return metrics


class Evaluator:
    """Dev loss, and the tasks' own metrics on decoded answers, of a set of parameters."""

    def __init__(self, plan, loss, mesh, dev_sets: Sequence[Prepared], batch_size: int, vocabulary):
        self.plan, self.mesh, self.dev_sets = plan, mesh, dev_sets
        self.batch_size, self.vocabulary = batch_size, vocabulary
        self.step = jax.jit(steps.evaluation_step(loss), out_shardings=sharding.replicated(mesh))

    def __call__(self, parameters: states.Parameters) -> tuple[dict[str, float], dict[str, Table]]:
        """Metrics, {"dev/NAME/loss": ..., ...}, and a table of sample predictions for each task.

        A mixture has a loss of its own beside those of its tasks.
        """
        metrics, samples = {}, {}
        for prepared in self.dev_sets:
            total: dict[str, float] = {}
            for task in prepared.tasks:
                sums = self._sums(task, parameters)
                metrics |= means(f"dev/{task.name}", sums)
                result = self._answers(task, parameters)
                if result is not None:
                    values = result.values()
                    metrics |= {f"dev/{task.name}/{name}": value for name, value in values.items()}
                    samples[f"dev/{task.name}/predictions"] = sample_table(result)
                total = {name: total.get(name, 0.0) + value for name, value in sums.items()}
            metrics |= means(f"dev/{prepared.name}", total)
        return metrics, samples

    def _sums(self, task: Prepared, parameters: states.Parameters) -> dict[str, float]:
        total = None
        for rows, _ in loader.eval_batches(task, batch_size=self.batch_size):
            sums = self.step(parameters, sharding.place_whole(rows, self.mesh))
            total = sums if total is None else jax.tree.map(np.add, total, sums)
        return {name: float(value) for name, value in total.items()}

    def _answers(self, task: Prepared, parameters: states.Parameters) -> Result | None:
        # On several hosts a decoded batch lies on many of them: `mto evaluate` does it there.
        if not task.metrics or jax.process_count() > 1:
            return None
        return evaluate_dataset(
            self.plan.merge(parameters),
            task,
            self.vocabulary,
            Decoding(),
            batch_size=self.batch_size,
        )


def sample_table(result: Result) -> Table:
    """The first predictions of a dev set, always the same examples: how answers change with training."""
    rows = [
        [row["input"], " / ".join(row["references"]), row["raw_prediction"]]
        for row in result.rows[:SAMPLES]
    ]
    return [["input", "references", "prediction"], *rows]


def means(prefix: str, sums: Mapping[str, float]) -> dict[str, float]:
    """Loss and accuracy per target token from the sums of a loss."""
    weight = max(sums["weight"], 1.0)
    return {f"{prefix}/loss": sums["loss"] / weight, f"{prefix}/accuracy": sums["correct"] / weight}


def summary(
    interval: loop.Interval, totals: Mapping[str, np.ndarray], tasks: Sequence[str]
) -> dict[str, float]:
    """What is reported of the steps since the last report; of a mixture, also the loss of each task."""
    totals = dict(totals)
    per_task = {}
    if "task_loss" in totals:
        losses, weights = totals.pop("task_loss"), totals.pop("task_weight")
        means_K = losses / np.maximum(weights, 1.0)
        per_task = {f"train/loss/{name}": float(m) for name, m in zip(tasks, means_K, strict=True)}
    totals = {name: value.item() for name, value in totals.items()}
    count = totals["steps"]
    return {
        **means("train", totals),
        **per_task,
        "train/z_loss": totals["z_loss"] / max(totals["weight"], 1.0),
        "train/gradient_norm": totals["gradient_norm"] / count,
        "train/learning_rate": totals["learning_rate"],
        "speed/step_seconds": interval.seconds / count,
        "speed/examples_per_second": totals["examples"] / interval.seconds,
        "speed/tokens_per_second": totals["tokens"] / interval.seconds,
        "speed/non_padding": totals["tokens"] / totals["places"],
        "speed/input_wait": min(interval.input_wait / interval.seconds, 1.0),
    }


def line(measured: Mapping[str, float]) -> str:
    """The same, for a person."""
    text = (
        f"loss {measured['train/loss']:.4f}  accuracy {measured['train/accuracy']:.3f}  "
        f"rate {measured['train/learning_rate']:.2e}  {measured['speed/step_seconds']:.3g} s/step  "
        f"{measured['speed/examples_per_second']:.4g} examples/s  "
        f"{measured['speed/tokens_per_second']:,.0f} tokens/s  "
        f"input wait {measured['speed/input_wait']:.0%}"
    )
    if "speed/mfu" in measured:
        text += f"  MFU {measured['speed/mfu']:.1%}"
    if "speed/peak_memory_gb" in measured:
        text += f"  peak {measured['speed/peak_memory_gb']:.2f} GB"
    return text


def check_vocabulary(
    model: T5Config, adapters: Adapters, vocabulary: vocabularies.Vocabulary
) -> None:
    """Every id of the vocabulary has a row in the embedding, and soft tokens begin right after them."""
    if adapters.prompt_rows and model.vocab_size != vocabulary.padded_size:
        raise UserError(
            f"A soft prompt needs T5Config.vocab_size = {vocabulary.padded_size}, the padded size of the "
            f"vocabulary {vocabulary.path}, where soft tokens begin; it is {model.vocab_size}."
        )
    if model.vocab_size < vocabulary.size:
        raise UserError(
            f"The vocabulary {vocabulary.path} has {vocabulary.size} ids, but T5Config.vocab_size is "
            f"{model.vocab_size}. Set T5Config.vocab_size = {vocabulary.padded_size}, or VOCABULARY to the "
            "one that belongs to the model."
        )


def check_identity(folder: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """MODEL_DIR is new, or of this very model, vocabulary, optimizer and trainable filter.

    Raises:
      UserError: it is of another; names the fields that differ.
    """
    path = folder / "model.json"
    if not path.exists():
        return
    try:
        there = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it if the run is yours.") from error
    here = json.loads(json.dumps(identity))
    different = [
        f"{part}.{field} is {there.get(part, {}).get(field)!r} there and {value!r} now"
        for part, fields in here.items()
        for field, value in fields.items()
        if there.get(part, {}).get(field) != value
        and not (part == "model" and field in RUNTIME_FIELDS)
        and (part, field) != ("vocabulary", "name")  # a copy elsewhere is the same vocabulary
    ]
    if different:
        raise UserError(
            f"MODEL_DIR {folder} holds another model: {'; '.join(different)}. Choose a new MODEL_DIR "
            f"(with INITIAL_CHECKPOINT_PATH = '{folder}' to start from its parameters where the "
            "model is the same), or give the configuration of that run."
        )


def check_best_metric(name: str | None, dev_sets: Sequence[Prepared]) -> None:
    """`train.best_metric` is one that the dev sets can have: told before training, as far as it is known."""
    tasks = {task.name: task for prepared in dev_sets for task in prepared.tasks}
    places = {**tasks, **{prepared.name: prepared for prepared in dev_sets}}
    known = [f"dev/{place}/{value}" for place in places for value in ("loss", "accuracy")]
    measured = tuple(f"dev/{task.name}/" for task in tasks.values() if task.metrics)
    if name is not None and name not in known and not name.startswith(measured):
        raise unknown(
            "dev metric (train.best_metric)", name, [*known, *(f"{m}..." for m in measured)]
        )


def check_initial(path: str, model: T5Config, vocabulary: vocabularies.Vocabulary) -> None:
    """INITIAL_CHECKPOINT_PATH is there and fits: told now and not after the data are prepared.

    Who takes over a part by rules (load_checkpoint.assignment_map) may change the vocabulary.
    """
    if not path.startswith(interop.PREFIX) and not os.path.exists(path):
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path} is not there. Give the directory of a run, a step folder of "
            "one, a checkpoint of Hugging Face or T5X, hf://org/name, or None to start from scratch."
        )
    found = pretrained.locate(path)
    there = pretrained.config_of(found)
    rules = interop.Options().assignment_map
    if not rules:
        pretrained.check_vocabulary(found, there, vocabulary)
    if interop.is_foreign(found):
        interop.open_checkpoint(found, like=model).assign(model, rules)
        return
    different = [
        f"{field.name} is {getattr(there, field.name)!r} there and {getattr(model, field.name)!r} here"
        for field in dataclasses.fields(T5Config)
        if getattr(there, field.name) != getattr(model, field.name)
        and field.name not in RUNTIME_FIELDS
    ]
    if different:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path} is of another model: {'; '.join(different)}. Give T5Config "
            "those values (or include the gin file of that model)."
        )


def check_soft_tokens(prepared: Prepared, model: T5Config, adapters: Adapters) -> None:
    """The prompt has a row for each soft token of the tasks (as their first examples have them)."""
    for task in prepared.tasks:
        _, examples = next(loader.eval_batches(task, batch_size=1))
        row = (
            max(int(np.max(examples[0][side])) for side in ("inputs", "targets")) - model.vocab_size
        )
        if row >= adapters.prompt_rows:
            raise UserError(
                f"{task.name} ({task.split}) has the soft token {row}, but the model's prompt has "
                f"{adapters.prompt_rows} rows. Bind train.adapters = @Adapters() and Adapters.prompt_rows = "
                f"{row + 1} (as runs/prompt_tune.gin does), or take a template without a soft prompt."
            )


def initial_parameters(path: str, model: T5Config, target: states.TrainState) -> states.Parameters:
    """Parameters of a run directory or a step folder, of Hugging Face or T5X, placed for training.

    Parameters of adapters are among them only where the checkpoint has them.

    Raises:
      UserError: no good checkpoint there, or it does not fit (see `check_initial`).
    """
    wanted = {**target.frozen, **target.trainable}
    found = pretrained.locate(path)
    if interop.is_foreign(found):
        shardings = {name: value.sharding for name, value in wanted.items()}
        return interop.load(found, config=model, shardings=shardings)[1]
    names = pretrained.names_of(found)
    wanted = {n: v for n, v in wanted.items() if n in names or not is_adapter(n)}
    return pretrained.parameters_of(found, wanted)


def timed(function, *arguments) -> tuple[Any, float]:
    """The function's result and the seconds that it took."""
    start = time.monotonic()
    result = function(*arguments)
    return result, time.monotonic() - start


if __name__ == "__main__":
    cli.run("train")
