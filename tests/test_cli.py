# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The console script: help, unknown verbs and flags, errors without a trace."""

import subprocess
import sys

import pytest

from mto_jax import cli


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_names_every_verb(argv, capsys):
    cli.main(argv)
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)


def test_help_and_the_package_import_no_library_that_computes():
    program = "import sys, mto_jax; from mto_jax import cli; cli.main([]); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    modules = set(output.splitlines()[-1].split())
    assert "mto_jax.config" in modules
    assert not modules & {"numpy", "scipy", "jax", "tensorflow", "torch", "transformers", "rich"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_lists_flags_and_parameters(verb, capsys):
    with pytest.raises(SystemExit) as exit_status:
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert exit_status.value.code == 0
    assert "--quiet" in text
    if verb not in ("list", "show", "completion"):
        assert "--gin_file" in text
        assert f"{cli._MODULES.get(verb, verb)}." in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "'train'"),
        (["train", "--gin_fil=a.gin"], "--gin_file"),
        (["train", "--gin_file=runs/pretrian.gin"], "'runs/pretrain.gin'"),
        (["train", "--gin_file=runs/pretrain.gin"], "--gin.MODEL_DIR=..."),
        (["train", "--process_count=2"], "--coordinator_address"),
        (["infer"], "The configuration needs MODEL_DIR: pass --gin.MODEL_DIR=..."),
        (["infer", "--gin.MODEL_DIR=runs/a"], "runs/a is not there"),
        (["infer", "--gin.infer.model_dir=runs/a"], "runs/a is not there"),
        (["match", "--gin.TASKS=['a']"], "a value for tasks"),
        (["match", "--gin.TASKS=['a']"], "--gin_file=runs/"),
        (["train", "--coordinator_address=nonsense"], "expected HOST:PORT"),
        (["train", "--coordinator_address=a:b"], "expected HOST:PORT"),
        (["tables"], "tables/demo.gin"),
        (["prepare", "--gin.DatasetConfig.prepared_dir=az://bucket/data"], "prepared_dir is az://"),
        (
            ["quickstart", "--output_dir=ftp://host/a"],
            "--output_dir is ftp://host/a: paths of the kind",
        ),
        (["match", "--gin.match.initial_checkpoint_path=http://host/b"], "path is http://host/b"),
        (
            ["tables", "--gin_file=tables/grid.gin", "--gin.OUTPUT_DIR=a", "--gin.MODELS={}"],
            "Grid.metric has no value",
        ),
    ],
)
def test_a_mistake_ends_with_one_paragraph_and_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_status:
        cli.main(argv)
    error = capsys.readouterr().err
    assert exit_status.value.code == 2
    assert message in error
    assert "Traceback" not in error


TRAIN = ["train", "--gin_file=models/demo_tiny.gin", "--gin_file=runs/pretrain.gin"]
TRAIN += ["--gin.MODEL_DIR=run", "--gin.MIXTURE_OR_TASK_NAME=demo_span_corruption"]
INFER = ["infer", "--gin_file=runs/infer.gin", "--gin.MODEL_DIR=run"]
EVALUATE = ["evaluate", "--gin_file=runs/demo_evaluate.gin", "--gin.MODEL_DIR=run"]
EVALUATE += ["--gin.MIXTURE_OR_TASK_NAME=demo_AtLocation_mapping"]
ADAPT = ["adapt", "--gin_file=runs/demo_adapt.gin", "--gin.INITIAL_CHECKPOINT_PATH=base"]
ADAPT += ["--gin.MODEL_DIR=run", "--gin.OBJECTIVE=lm"]
TUNE = ["tune", "--gin_file=runs/lora.gin", "--gin.TASKS=['a']", "--gin.OUTPUT_DIR=out"]
TUNE += ["--gin.INITIAL_CHECKPOINT_PATH=base"]
MATCH = ["match", "--gin_file=runs/match.gin", "--gin.TASKS=['a']", "--gin.OUTPUT_DIR=out"]
MATCH += ["--gin.INITIAL_CHECKPOINT_PATH=base"]


@pytest.mark.parametrize(
    ("verb", "binding", "message"),
    [
        (TRAIN, "BATCH_SIZE=eight", "train.batch_size is 'eight'; it must be a whole number of 1"),
        (TRAIN, "BATCH_SIZE=True", "train.batch_size is True; it must be a whole number"),
        (TRAIN, "BATCH_SIZE=0", "train.batch_size is 0"),
        (TRAIN, "TRAIN_STEPS=1e3", "train.train_steps is 1000.0; it must be a whole number"),
        (TRAIN, "MODEL_DIR=3", "train.model_dir is 3"),
        (TRAIN, "MODEL_DIR=''", "train.model_dir is ''"),
        (TRAIN, "train.trainable=[]", "train.trainable is []"),
        (TRAIN, "train.seed=-1", "train.seed is -1; it must be a whole number from 0"),
        (TRAIN, "train.seed=9999999999", "train.seed is 9999999999"),
        (TRAIN, "train.log_period=0", "train.log_period is 0"),
        (TRAIN, "train.checkpoint_period=-5", "train.checkpoint_period is -5"),
        (TRAIN, "train.eval_period=0", "train.eval_period is 0"),
        (TRAIN, "train.label_smoothing=2", "train.label_smoothing is 2"),
        (TRAIN, "train.z_loss=-1", "train.z_loss is -1"),
        (TRAIN, "train.keep=none", "train.keep is 'none'"),
        (TRAIN, "train.pack=yes", "train.pack is 'yes'; it must be True or False"),
        (
            TRAIN,
            "train.model=small",
            "train.model is 'small'; it must be a T5Config or a T5GemmaConfig",
        ),
        (TRAIN, "train.eval_datasets=dev", "train.eval_datasets is 'dev'"),
        (TRAIN, "Optimizer.learning_rate=-1", "Optimizer.learning_rate is -1"),
        (TRAIN, "Optimizer.learning_rate=fast", "Optimizer.learning_rate is 'fast'"),
        (TRAIN, "Optimizer.clip_norm=0", "Optimizer.clip_norm is 0"),
        (TRAIN, "T5Config.num_encoder_layers=1000000000", "num_encoder_layers is 1000000000"),
        (TRAIN, "T5Config.d_model=1.5", "T5Config.d_model is 1.5"),
        (TRAIN, "DROPOUT_RATE=1", "T5Config.dropout_rate is 1"),
        (TRAIN, "TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': '4'}", "task_feature_lengths is"),
        (TRAIN, "train/DatasetConfig.seed=-1", "DatasetConfig.seed is -1"),
        (INFER, "infer.input_length=0", "infer.input_length is 0"),
        (INFER, "infer.batch_size=none", "infer.batch_size is 'none'"),
        (INFER, "Decoding.max_length=0", "Decoding.max_length is 0"),
        (INFER, "Decoding.temperature=hot", "Decoding.temperature is 'hot'"),
        (EVALUATE, "evaluate.batch_size=0", "evaluate.batch_size is 0"),
        (EVALUATE, "evaluate.checkpoints=-1", "evaluate.checkpoints is -1"),
        (ADAPT, "EPOCHS=0", "adapt.epochs is 0"),
        (ADAPT, "PairConfig.max_pairs=many", "PairConfig.max_pairs is 'many'"),
        (TUNE, "tune.seeds=[0, -1]", "tune.seeds is [0, -1]"),
        (TUNE, "tune.at_once=0", "tune.at_once is 0"),
        (TUNE, "LEARNING_RATES=[-1]", "tune.learning_rates is [-1]"),
        (MATCH, "match.heads=0", "match.heads is 0"),
        (MATCH, "match.tasks=a", "match.tasks is 'a'; it must be a list"),
    ],
)
def test_a_senseless_value_is_refused_before_anything_is_made(
    verb, binding, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_status:
        cli.main([*verb, f"--gin.{binding}"])
    error = capsys.readouterr().err
    assert exit_status.value.code == 2
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied", "run"), "Permission denied: 'run'"),
        (ValueError("I/O error: No space left on device (os error 28)"), "No space left on device"),
        (RecursionError("maximum depth exceeded while decoding JSON"), "nested too deeply"),
    ],
)
def test_what_goes_wrong_inside_a_configurable_ends_in_words(raised, message, monkeypatch, capsys):
    def fails(path):
        raise raised

    monkeypatch.setattr("mto_jax.checkpoints.open", fails)
    with pytest.raises(SystemExit) as exit_status:
        cli.main(["convert", "--inspect=run"])
    error = capsys.readouterr().err
    assert exit_status.value.code == 2
    assert message in error
    assert "In call to" not in error


def test_a_thread_that_cannot_write_is_said_in_a_line():
    program = """
import threading
from mto_jax import cli

def write():
    raise OSError(28, "No space left on device", "events")

def wrong():
    raise KeyError("a fault of ours")

try:
    cli.main(["convert"])
except SystemExit:
    pass
for target in (write, wrong):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "warning: [Errno 28] No space left on device: 'events'" in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "KeyError: 'a fault of ours'" in done.stderr


def test_a_write_that_ends_after_the_checkpoint_has_failed_says_nothing():
    program = """
import asyncio
import tensorstore
from mto_jax import cli

class Wrong:
    def __del__(self):
        raise KeyError("a fault of ours")

async def start():
    promise, future = tensorstore.Promise.new()
    asyncio.ensure_future(wait(future))
    await asyncio.sleep(0.1)
    return promise

async def wait(future):
    await future

try:
    cli.main(["convert"])
except SystemExit:
    pass
loop = asyncio.new_event_loop()
promise = loop.run_until_complete(start())
loop.close()
promise.set_result(1)
Wrong()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "loop is closed" not in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "KeyError: 'a fault of ours'" in done.stderr
