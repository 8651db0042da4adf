# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A training run, from data and configuration to checkpoints."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import inspect
import pathlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import gin
import jax
import numpy as np

from mto_jax import checkpoints, checks, remote
from mto_jax.checkpoints import compatibility, runs
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.evaluation.during_training import Evaluator, means
from mto_jax.files import only_writer, write_atomically, write_json
from mto_jax.models import flops
from mto_jax.models.adapters import NONE, Adapters, Method
from mto_jax.models.config import ModelConfig
from mto_jax.text2text import mixtures
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.training import loop, memory, performance, processes, sharding
from mto_jax.training import state as states
from mto_jax.training.logging import MetricsWriter, NoWriter, check_wandb
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.program import Program, Settings, check_trainable


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `train` with its arguments checked, and with MODEL_DIR made and locked meanwhile."""

    @functools.wraps(function)
    def train(**arguments):
        given = inspect.signature(function).bind(**arguments)
        given.apply_defaults()
        checks.check(function, given.arguments)
        arguments["model_dir"] = remote.local(arguments["model_dir"])
        if jax.process_index():
            return function(**arguments)
        with only_writer(arguments["model_dir"], make_folder=True):
            return function(**arguments)

    return train


@gin.configurable
@_alone
def train(
    *,
    model_dir: checks.Place,
    model: ModelConfig | None = None,
    train_dataset: DatasetConfig,
    batch_size: checks.Count,
    train_steps: checks.Count,
    eval_datasets: Sequence[DatasetConfig] = (),
    replay: checks.Name | None = None,
    replay_share: checks.Share = 0.25,
    optimizer: Optimizer | None = None,
    initial_checkpoint_path: checks.Place | None = None,
    adapters: Adapters | Method | Sequence[Method] | None = None,
    trainable: Annotated[str | Sequence[str], checks.NonEmpty] | None = None,
    seed: checks.Seed = 0,
    pack: bool = True,
    microbatches: checks.Count = 1,
    z_loss: checks.NonNegative = 0.0,
    label_smoothing: checks.Share = 0.0,
    reduce_dtype: Literal["float32", "bfloat16"] = "float32",
    eval_period: checks.Count | None = None,
    eval_batch_size: checks.Count | None = None,
    checkpoint_period: checks.Count | None = 1000,
    keep: checks.Count = 2,
    keep_best: checks.Natural = 1,
    best_metric: str | None = None,
    keep_steps: str | Sequence[checks.Count] = (),
    log_period: checks.Count = 50,
    num_workers: checks.Natural = 0,
    wandb_project: str | None = None,
) -> dict[str, float]:
    """Train a T5 on `train_dataset` up to step `train_steps`; returns the last metrics.

    Args:
      model_dir: the run directory.
      model: None means that of `model_dir` or `initial_checkpoint_path`, whose vocabulary is taken,
        too, and of a start from scratch `model_config()`. What gin binds of its class beside a
        checkpoint must be as there, except dropout_rate, dtype, remat, attention, scan_unroll.
      batch_size: rows of a global batch (a packed row holds several examples).
      eval_datasets: dev sets: their loss, and their tasks' metrics on decoded answers.
      replay: a task or mixture of pre-training, such as "c4_pretrain", to mix in against
        forgetting; its loss is told apart from that of the task.
      replay_share: its part of the examples.
      optimizer: None means `Optimizer()`, as gin binds it.
      initial_checkpoint_path: where to take the parameters from while `model_dir` has no checkpoint
        yet: a run directory, a step folder, a folder of Hugging Face or T5X, or "hf://org/name".
      adapters: a soft prompt, LoRA, ... to train in place of the model. What is frozen and came
        from INITIAL_CHECKPOINT_PATH is not stored in the checkpoints of the run: they name it as
        their base.
      trainable: "all", "adapters", or patterns of parameter names, e.g. ["decoder.*",
        "*norm.scale"]; None means the adapters, or all of a model that has none.
      seed: of initialisation, dropout and the order of the data.
      pack: put several examples into a row.
      microbatches: cut a batch into so many, one after another, to save memory.
      z_loss: weight of log(Z)^2 (1e-4 in T5X's pre-training).
      reduce_dtype: in which devices add up their gradients of weight matrices. "bfloat16" halves
        that traffic and rounds each device's part, and each partial sum, to 8 bits (0.4 %): the
        error of a sum grows with the number of devices. Microbatches and what follows stay float32.
      eval_period: steps between evaluations; None evaluates only at the end. What starts from
        parameters is evaluated before its first step as well.
      eval_batch_size: rows; None takes `batch_size`.
      checkpoint_period: steps between checkpoints; None saves only at the end (and where
        evaluated).
      keep: newest checkpoints that stay.
      keep_best: best checkpoints that stay besides, by `best_metric`.
      best_metric: e.g. "dev/demo_AtLocation_mapping/loss" or "dev/demo_AtLocation_mapping/rougeL";
        None: the first dev set's loss.
      keep_steps: whose checkpoints stay besides, to look back on: a list, or "log:12", twelve steps
        evenly by logarithm.
      log_period: steps between lines of the log.
      num_workers: processes that read data; 0 reads in a thread.
      wandb_project: also log to Weights & Biases.
    """
    optimizer = optimizer or Optimizer()
    eval_batch_size = eval_batch_size or batch_size
    folder, keep_steps = pathlib.Path(model_dir), runs.kept_steps(keep_steps, train_steps)
    tell = functools.partial(print, flush=True) if jax.process_index() == 0 else lambda text: None

    # ------------------------------------------------------------------------ mesh and checks
    performance.use_compilation_cache()
    mesh = sharding.mesh()
    processes.check_shared(folder)
    sharding.check_batch(batch_size, mesh, microbatches)
    sharding.check_batch(eval_batch_size, mesh)
    check_wandb(wandb_project)
    initial = None
    if initial_checkpoint_path is not None and not runs.steps(model_dir):
        initial = compatibility.open_initial(initial_checkpoint_path)
    model = compatibility.model_of(model, folder, initial)
    vocabulary = compatibility.vocabulary_of(folder, initial)
    trainable = trainable or ("adapters" if adapters else "all")
    adapters = Adapters.of(adapters)
    compatibility.check_vocabulary(model, adapters, vocabulary)
    check_trainable(model, adapters, trainable)
    optimizer.build(train_steps)
    compatibility.check_best_metric(best_metric, eval_datasets)
    identity = {
        "model": dataclasses.asdict(model),
        "vocabulary": {
            "name": vocabularies.bound_name(),
            "digest": vocabulary.digest,
        },
        "training": {"optimizer": optimizer.name, "trainable": trainable},
    }
    if adapters != NONE:
        identity["adapters"] = adapters.as_dict()
    compatibility.check_identity(folder, identity)
    if initial is not None:
        compatibility.check_initial(initial, model, vocabulary)

    # ------------------------------------------------------------------------ data
    if replay is not None:
        mixture = mixtures.with_replay(train_dataset.mixture_or_task_name, replay, replay_share)
        train_dataset = dataclasses.replace(train_dataset, mixture_or_task_name=mixture)
    dev_sets = loader.ensure_all(eval_datasets, later=[train_dataset])
    compatibility.check_best_metric_of(best_metric, dev_sets)
    prepared = loader.ensure(train_dataset)
    for prepared_set in (prepared, *dev_sets):
        compatibility.check_soft_tokens(prepared_set, model, adapters)
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
    tasks = [task for dev_set in dev_sets for task in dev_set.tasks]
    processes.compare(
        {
            "the prepared data of training, in content and order,": batches.get_state()["order"],
            "the prepared data of evaluation": [t.manifest["lengths_digest"] for t in tasks],
            "the model, vocabulary, optimizer and trainable filter": identity,
            "BATCH_SIZE": batch_size,
            "TRAIN_STEPS": train_steps,
            "train.seed": seed,
        },
        "Give all processes the same command; let 'mto prepare' write the data once, to a folder "
        "that all see (DatasetConfig.prepared_dir or MTO_CACHE_DIR), or copy them to every host.",
    )

    # ------------------------------------------------------------------------ model and step
    task_names = [task.name for task in prepared.tasks]
    lengths = loader.row_lengths(prepared, pack)
    settings = Settings(
        model,
        batch_size,
        lengths,
        optimizer,
        train_steps,
        trainable=trainable,
        adapters=adapters,
        pack=pack,
        microbatches=microbatches,
        z_loss=z_loss,
        label_smoothing=label_smoothing,
        reduce_dtype=reduce_dtype,
        num_tasks=len(task_names),
    )
    program = Program.of(settings, mesh)
    spec, target = program.spec, program.target
    runs.check_space(model_dir, target)
    limit = performance.memory_limit(mesh.devices.flat[0])
    compiler = concurrent.futures.ThreadPoolExecutor(1)  # compiles while parameters are made
    compiling = compiler.submit(timed, memory.compile_within, program, limit)

    # ------------------------------------------------------------------------ state
    newest = runs.newest_good(model_dir, set_aside=True)
    window = None
    if newest is not None:
        tell(f"resuming from {remote.name_of(newest)}")
        run = checkpoints.Run(newest, base_path=initial_checkpoint_path)
        base = run.record.get("base")
        shardings = {name: value.sharding for name, value in target.frozen.items()}
        frozen = run.parameters(shardings) if base else None
        state, place = runs.restore(newest, target, frozen)
        window = run.record.get("window")
        batches.set_state(place)
    else:
        parameters, base = {}, None
        if initial is None:
            tell(f"starting from scratch (seed {seed})")
        else:
            tell(f"starting from the parameters of {initial_checkpoint_path}")
            shardings = {n: v.sharding for n, v in (target.frozen | target.trainable).items()}
            parameters = initial.parameters(shardings, model, adapters)
            if target.frozen and target.frozen.keys() <= parameters.keys():
                frozen = {name: parameters[name] for name in target.frozen}
                base = {
                    "path": remote.name_of(initial.path),
                    "fingerprints": states.fingerprints(frozen),
                }
        fresh = spec.shapes.keys() - parameters.keys()  # all, an adapter, or what rules leave out
        with memory.explained(settings, mesh):
            parameters |= spec.initialise(jax.random.key(seed), mesh, fresh)
            state = states.start(target, parameters, program.transformation, seed)
    start_step = int(state.step)
    if start_step >= train_steps:
        tell(
            f"{remote.name_of(model_dir)} is trained to step {start_step} already; TRAIN_STEPS = "
            f"{train_steps}"
        )
        return runs.description(newest)["metrics"] if newest else {}

    feed = loop.Feed(batches, functools.partial(sharding.place, mesh=mesh))
    cleanup = contextlib.ExitStack()
    cleanup.callback(batches.close)
    cleanup.callback(feed.close)

    # ------------------------------------------------------------------------ outputs
    best_metric = best_metric or (f"dev/{dev_sets[0].name}/loss" if dev_sets else None)
    checkpointer = runs.Checkpointer(
        model_dir,
        identity,
        keep=keep,
        keep_best=keep_best,
        best_metric=best_metric,
        keep_steps=keep_steps,
        base=base,
    )
    cleanup.callback(checkpointer.close)
    writer: Any = NoWriter()
    if jax.process_index() == 0:
        write_json(folder / "model.json", identity)
        vocabulary.save(folder)
        write_atomically(folder / "config.gin", gin.config_str())
        write_atomically(folder / "operative_config.gin", gin.operative_config_str())
        table = states.parameter_table(spec, program.names, mesh)
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
    with memory.explained(settings, mesh):
        compiled, seconds = compiling.result()
    compiler.shutdown()
    step_flops = flops.train_flops(model, batch_size, **lengths)
    cost = performance.program_cost(compiled, step_flops / mesh.size)
    writer.say(f"rows of {lengths['inputs']} + {lengths['targets']} tokens")
    writer.say(f"compiled in {seconds:.1f} s: {cost} per device")
    evaluator = Evaluator(spec, program.loss, mesh, dev_sets, eval_batch_size, vocabulary)

    # ------------------------------------------------------------------------ loop
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

    def save(state, place, metrics, window):
        checkpointer.save(state, place, metrics, window.as_dict())

    everywhere = sharding.replicated(mesh)
    totals, interval_seconds, input_wait = loop.resumed(window, program.zeros)
    totals = jax.device_put(totals, everywhere)
    with cleanup, memory.explained(settings, mesh):
        if initial is not None and dev_sets:  # what training gains, and what it forgets
            evaluate(0, state)
        state, stopped = loop.run(
            compiled,
            state,
            feed,
            window=loop.LogWindow(start_step, totals, interval_seconds, input_wait),
            new_totals=lambda: jax.device_put(program.zeros, everywhere),
            train_steps=train_steps,
            log_period=log_period,
            evaluate_period=eval_period or train_steps if dev_sets else None,
            save_period=checkpoint_period,
            save_steps=keep_steps,
            report=report,
            evaluate=evaluate,
            save=save,
        )
        checkpointer.wait()

    # ------------------------------------------------------------------------ end
    if stopped is not None:
        name = signal.Signals(stopped).name
        tell(
            f"stopped by {name} at step {int(state.step)}; saved, the same command resumes from "
            "here"
        )
        raise SystemExit(128 + stopped)
    tell(f"trained to step {train_steps}; checkpoints in {remote.name_of(checkpointer.directory)}")
    return metrics


def summary(
    interval: loop.LogWindow, totals: Mapping[str, np.ndarray], tasks: Sequence[str]
) -> dict[str, float]:
    """Returns what is logged of an interval's steps; of a mixture, also the loss of each task."""
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


def timed(function, *arguments) -> tuple[Any, float]:
    """The function's result and the seconds that it took."""
    start = time.monotonic()
    result = function(*arguments)
    return result, time.monotonic() - start
