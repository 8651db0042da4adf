# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `train`: what a run directory holds, resuming bit for bit, and errors."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import gin
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from mto_jax import checkpoints
from mto_jax.checkpoints import compatibility, runs
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError
from mto_jax.evaluation import during_training
from mto_jax.files import only_writer
from mto_jax.runs import train as train_lib
from mto_jax.training.optimizers import Optimizer
from tests import xla
from tests.tiny_run import LENGTHS, MODEL, run

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of six steps with two evaluations, and what `train` returned."""
    folder = tmp_path_factory.mktemp("run")
    metrics = run(
        data,
        model_dir=str(folder),
        eval_datasets=[DatasetConfig("dev", LENGTHS)],
        eval_period=4,
        log_period=3,
    )
    gin.clear_config()
    return folder, metrics


def test_a_run_directory_holds_everything(finished):
    folder, metrics = finished
    assert {path.name for path in folder.iterdir()} > {
        *("config.gin", "operative_config.gin", "model.json", "model-info.txt"),
        *("metrics.jsonl", "checkpoints"),
    }
    assert "vocabulary.name = 'demo'" in (folder / "config.gin").read_text()
    identity = json.loads((folder / "model.json").read_text())
    assert identity["model"] == dataclasses.asdict(MODEL)
    assert identity["vocabulary"]["name"] == "demo"
    assert "embedding" in (folder / "model-info.txt").read_text()
    # The newest two, and the best if it is neither.
    assert [path.name for path in runs.steps(folder)][-2:] == ["5", "6"]
    assert metrics["train/loss"] > 0
    assert metrics["speed/tokens_per_second"] > 0


def tensorboard(folder) -> event_accumulator.EventAccumulator:
    """Returns TensorBoard's own reader of a run."""
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return events


def test_metrics_go_to_jsonl_and_tensorboard(finished):
    folder, _ = finished
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert list(trained) == [1, 3, 6]
    evaluated = {line["step"]: line for line in lines if "dev/dev/loss" in line}
    assert list(evaluated) == [4, 6]
    assert {"dev/dev/accuracy", "dev/dev/exact_match"} < set(evaluated[6])

    events = tensorboard(folder)
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert shown == pytest.approx(trained)


def test_sample_predictions_go_to_tensorboard(finished):
    """The same first examples at both evaluations."""
    folder, _ = finished
    events = tensorboard(folder)
    [tag] = [tag for tag in events.Tags()["tensors"] if tag.startswith("dev/dev/predictions")]
    shown = {
        event.step: [line.split(" | ") for line in text.decode().splitlines()]
        for event in events.Tensors(tag)
        for text in event.tensor_proto.string_val
    }
    assert list(shown) == [4, 6]
    assert [len(row) for row in shown[4]] == [3] * (2 + during_training.SAMPLES)
    assert [row[:2] for row in shown[4]] == [row[:2] for row in shown[6]]
    assert shown[4][0][2] == "prediction |"


def test_the_best_checkpoint_is_that_of_a_generation_metric(data, tmp_path, monkeypatch, capsys):
    """Step 4 answers best by the metric, step 2 has the lowest loss: step 4 stays besides the
    newest.

    At step 2 the metric is missing, which is told.
    """
    inner, steps = during_training.Evaluator.__call__, iter((2, 4, 6))

    def measured(self, parameters):
        metrics, samples = inner(self, parameters)
        step = next(steps)
        metrics["dev/dev/loss"] = float(step)
        del metrics["dev/dev/exact_match"]
        return metrics | ({"dev/dev/exact_match": 1 / step} if step > 2 else {}), samples

    monkeypatch.setattr(during_training.Evaluator, "__call__", measured)
    run(
        data,
        model_dir=str(tmp_path / "run"),
        eval_datasets=[DatasetConfig("dev", LENGTHS)],
        eval_period=2,
        checkpoint_period=None,
        keep=1,
        best_metric="dev/dev/exact_match",
    )
    assert [path.name for path in runs.steps(tmp_path / "run")] == ["4", "6"]
    assert runs.resolve(tmp_path / "run", "best").name == "4"
    warning = "train.best_metric dev/dev/exact_match is not among these"
    assert capsys.readouterr().out.count(warning) == 1


@pytest.mark.parametrize(
    "name, message",
    [
        ("dev/loss", "Did you mean 'dev/dev/loss'"),
        ("dev/dve/exact_match", "Did you mean 'dev/dev/"),
        ("rougeL", "There is no dev metric"),
    ],
)
def test_a_best_metric_that_no_dev_set_has_is_told_before_any_work(data, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        run(
            data,
            model_dir=str(tmp_path / "run"),
            eval_datasets=[DatasetConfig("dev", LENGTHS)],
            best_metric=name,
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dev_sets", [[], [DatasetConfig("never_prepared", LENGTHS)]])
def test_what_is_no_name_of_a_dev_metric_is_told_before_data_are_prepared(dev_sets):
    with pytest.raises(UserError, match="There is no dev metric .train.best_metric. 'rougeL'"):
        compatibility.check_best_metric("rougeL", dev_sets)
    compatibility.check_best_metric(None, dev_sets)


def test_the_dev_loss_is_that_of_the_plain_logits(finished, data):
    from mto_jax.data import loader, manifest

    folder, metrics = finished
    checkpoint = checkpoints.open(folder)
    model = checkpoint.model(checkpoint.adopt_vocabulary())
    [(batch, _)] = loader.eval_batches(manifest.read(data / "dev"), batch_size=10)
    logits_BxTxV = np.asarray(model(batch), np.float64)
    log_z_BxT = np.log(np.exp(logits_BxTxV).sum(axis=-1))
    targets_BxT = batch["decoder_target_tokens"]
    chosen_BxT = np.take_along_axis(logits_BxTxV, targets_BxT[..., None], -1)[..., 0]
    weights_BxT = batch["decoder_loss_weights"]
    loss = ((log_z_BxT - chosen_BxT) * weights_BxT).sum() / weights_BxT.sum()
    assert metrics["dev/dev/loss"] == pytest.approx(loss, rel=1e-5)


def test_a_finished_run_says_so_and_a_longer_one_goes_on(finished, data, capsys):
    folder, metrics = finished
    options = {"model_dir": str(folder), "eval_datasets": [DatasetConfig("dev", LENGTHS)]}
    again = run(data, **options)
    assert "trained to step 6 already" in capsys.readouterr().out
    assert again["dev/dev/loss"] == metrics["dev/dev/loss"]


def test_steps_to_keep_are_saved_and_stay(data, tmp_path):
    folder = str(tmp_path / "run")
    run(data, model_dir=folder, keep_steps="log:3", keep=1, checkpoint_period=None)
    assert [path.name for path in runs.steps(folder)] == ["1", "2", "6"]


def test_another_model_in_the_directory_is_told_before_any_work(finished, data):
    folder, _ = finished
    other = dataclasses.replace(MODEL, d_model=32, dropout_rate=0.5)
    with pytest.raises(UserError) as error:
        run(data, model_dir=str(folder), model=other, optimizer=Optimizer("lion"))
    assert "model.d_model is 16 there and 32 now" in str(error.value)
    assert "training.optimizer is 'adamw' there and 'lion' now" in str(error.value)
    assert "dropout" not in str(error.value)


def test_parameters_of_another_run_start_a_new_one(finished, data, tmp_path, capsys):
    folder, metrics = finished
    started = run(
        data,
        model_dir=str(tmp_path / "new"),
        model=None,  # that of the checkpoint
        initial_checkpoint_path=str(folder),
        train_steps=1,
        trainable=["decoder.*"],
        optimizer=Optimizer("adafactor", learning_rate=0.0),
        eval_datasets=[DatasetConfig("dev", LENGTHS)],
    )
    assert f"starting from the parameters of {folder}" in capsys.readouterr().out
    assert started["dev/dev/loss"] == metrics["dev/dev/loss"]
    # What is forgotten shows only beside what was known before the first step.
    lines = (tmp_path / "new" / "metrics.jsonl").read_text().splitlines()
    before = {line["step"]: line for line in map(json.loads, lines) if "dev/dev/loss" in line}
    assert before[0]["dev/dev/loss"] == metrics["dev/dev/loss"]
    with pytest.raises(UserError, match="is of another model: d_ff is 32 there and 64 here"):
        run(
            data,
            model_dir=str(tmp_path / "other"),
            model=dataclasses.replace(MODEL, d_ff=64),
            initial_checkpoint_path=str(folder),
        )


def test_what_cannot_be_trained_is_told(data, tmp_path):
    with pytest.raises(UserError, match="BATCH_SIZE = 6 does not divide over the mesh"):
        run(data, model_dir=str(tmp_path), batch_size=6)
    with pytest.raises(UserError, match=r"has 2018 ids|has \d+ ids, but T5Config.vocab_size is 64"):
        run(data, model_dir=str(tmp_path), model=dataclasses.replace(MODEL, vocab_size=64))
    with pytest.raises(UserError, match="matches no parameter"):
        run(data, model_dir=str(tmp_path), trainable=["prompt"])
    (tmp_path / "model.json").write_text(json.dumps({"model": {"pad_ie": 0}}))
    with pytest.raises(UserError, match=r"model\.json: There is no field .*'pad_ie'.*'pad_id'"):
        run(data, model_dir=str(tmp_path))


def test_what_trains_is_checked_before_the_data_are_prepared(tmp_path, monkeypatch):
    gin.bind_parameter("vocabulary.name", "demo")
    monkeypatch.setattr(train_lib.loader, "ensure_all", lambda *_, **__: pytest.fail("prepared"))
    with pytest.raises(UserError, match="'prompt' .*matches no parameter"):
        train_lib.train(
            model_dir=str(tmp_path),
            model=MODEL,
            train_dataset=DatasetConfig("reverse", LENGTHS),
            batch_size=8,
            train_steps=6,
            trainable=["prompt"],
        )


def start(data, model_dir, train_steps=30):
    """A run in a process of its own, on one device, that saves every second step."""
    options = {"model_dir": str(model_dir), "train_steps": train_steps, "checkpoint_period": 2}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": xla.FAST,
        "JAX_COMPILATION_CACHE_DIR": str(data / "xla"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tiny_run", str(data), json.dumps(options)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(process, model_dir, step):
    while max((int(path.name) for path in runs.steps(model_dir)), default=0) < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def files(model_dir, items=("trainable", "optimizer")):
    """All arrays of the newest checkpoint and its key, place in the data and step."""
    step_dir = runs.newest_good(model_dir)
    run = runs.description(step_dir)
    import orbax.checkpoint as ocp

    arrays = {}
    for item in items:
        with ocp.StandardCheckpointer() as reader:
            for name, value in reader.restore(step_dir / item).items():
                arrays[item, name] = np.asarray(value)
    return {key: run[key] for key in ("step", "key", "data")}, arrays


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_killed_and_stopped_and_resumed_is_bit_for_bit_left_alone(data, tmp_path):
    alone = start(data, tmp_path / "alone")
    said, _ = alone.communicate()
    assert alone.returncode == 0, said

    killed = start(data, tmp_path / "other")
    wait_for_step(killed, tmp_path / "other", 6)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL

    stopped = start(data, tmp_path / "other")
    wait_for_step(stopped, tmp_path / "other", 14)
    stopped.terminate()
    said, _ = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM, said
    assert "resuming from" in said
    assert "stopped by SIGTERM at step" in said

    last = start(data, tmp_path / "other")
    said, _ = last.communicate()
    assert last.returncode == 0, said
    progress, arrays = files(tmp_path / "alone")
    progress_other, arrays_other = files(tmp_path / "other")
    assert progress == progress_other
    assert progress["step"] == 30
    assert arrays.keys() == arrays_other.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, arrays_other[name], err_msg=str(name))
    # metrics.jsonl is the same to the digit, but for what was measured by the clock.
    logged, logged_other = (
        [
            {key: value for key, value in json.loads(line).items() if not key.startswith("speed/")}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("alone", "other")
    )
    assert logged_other == logged


def test_a_second_run_in_the_same_folder_is_refused(data, tmp_path):
    with only_writer(tmp_path), pytest.raises(UserError, match="is being written by process"):
        run(data, model_dir=str(tmp_path))


def test_a_missing_initial_checkpoint_is_told_before_any_work():
    with pytest.raises(UserError, match="INITIAL_CHECKPOINT_PATH runs/nowhere is not there"):
        compatibility.open_initial("runs/nowhere")
