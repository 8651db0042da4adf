# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The small models and data of the campaign, and one command of each verb on them."""

import dataclasses
import pathlib
import random
import shutil

from tests.campaign import process

RELATIONS = {"uses": "is used for", "places": "is found at"}
WORDS = ["saw", "cup", "pen", "bed", "car", "dog", "key", "hat", "map", "bus", "box", "bag"]

TASKS = """
import mto_jax as mto

for name, phrase in {relations!r}.items():
    mto.register_file(
        name, f"{name}.tsv", kind="triple", fields={"head": "head", "tail": "tail"}, phrase=phrase
    )
"""

# Bound for every verb: a T5 of 40,000 parameters and short examples.
TINY = """
T5Config.vocab_size = 2048
T5Config.d_model = 16
T5Config.d_kv = 8
T5Config.num_heads = 2
T5Config.d_ff = 32
T5Config.num_encoder_layers = 1
T5Config.num_decoder_layers = 1
Decoding.max_length = 6
"""

TABLES = """
include 'tables/grid.gin'
VOCABULARY = "demo"
MODELS = {"tiny": "model"}
STAGES_DIR = "stages"
TASK_FEATURE_LENGTHS = {"inputs": 24, "targets": 12}
TEST_HEADS = 4
SEEDS = [0, 1]
Grid.name = "campaign"
Grid.metric = "rougeL"
Grid.model = ["tiny"]
Grid.objective = ["none"]
Grid.template = ["Mapping", "Prompting"]
Grid.task = ["uses", "places"]
Grid.method = ["frozen", "fine_tune"]
Grid.shots = [3]
fine/Tuning.epochs = 1
tables.tables = [@main/Table()]
main/Table.name = "main"
main/Table.rows = "template"
tables.figures = []
"""


@dataclasses.dataclass(frozen=True)
class Verb:
    """A command of a verb.

    Attributes:
      name: the verb.
      flags: its flags, for the folder of `make`.
      output: the file or folder that it writes.
      needs: verbs whose output it reads.
      finished: patterns of files that are finished work: once there, they are not made again.
    """

    name: str
    flags: tuple[str, ...]
    output: str
    needs: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()

    @property
    def argv(self) -> tuple[str, ...]:
        return (self.name, *self.flags)


_FILE, _TINY, _MODULE = "--gin_file=", "--gin_file=tiny.gin", "--gin.MIXTURE_OR_TASK_MODULE=tasks_"
_LENGTHS = "--gin.TASK_FEATURE_LENGTHS={'inputs': 24, 'targets': 12}"
_DEMO = "--gin.VOCABULARY=demo"
_DATA = (_DEMO, _MODULE, _LENGTHS, "--gin.MIXTURE_OR_TASK_NAME=uses_mapping")
_PREPARED = "--gin.DatasetConfig.prepared_dir=prepared"
_TRAIN = (
    *("--gin_file=runs/finetune.gin", _TINY, *_DATA, _PREPARED),
    *("--gin.INITIAL_CHECKPOINT_PATH=model", "--gin.MODEL_DIR=trained"),
)

VERBS = (
    Verb("prepare", _TRAIN, "prepared"),
    Verb(
        "train",
        (
            *_TRAIN,
            *("--gin.TRAIN_STEPS=12", "--gin.BATCH_SIZE=4", "--gin.train.log_period=2"),
            *("--gin.train.checkpoint_period=3", "--gin.train.eval_period=6"),
        ),
        "trained",
        ("prepare",),
        ("trained/checkpoints/*/digest.json",),
    ),
    Verb(
        "adapt",
        (
            *("--gin_file=runs/adapt.gin", _TINY, _DEMO, _LENGTHS, _PREPARED),
            *("--gin.INITIAL_CHECKPOINT_PATH=model", "--gin.MODEL_DIR=adapted"),
            *("--gin.CORPUS=sentences.txt", "--gin.METHOD=phrases", "--gin.GROUPS=length"),
            *("--gin.PairConfig.phrases=['is used for', 'is found at']", "--gin.OBJECTIVE=lm"),
            *("--gin.BATCH_SIZE=4", "--gin.TRAIN_STEPS=8", "--gin.train.log_period=2"),
            *("--gin.train.checkpoint_period=3", "--gin.train.eval_datasets=[]"),
        ),
        "adapted",
        (),
        ("adapted/checkpoints/*/digest.json", "adapted/pairs/pairs.jsonl"),
    ),
    Verb(
        "match",
        (
            *("--gin_file=runs/match.gin", _TINY, _DEMO, _MODULE, _LENGTHS),
            *("--gin.TASKS=['uses']", "--gin.INITIAL_CHECKPOINT_PATH=model"),
            *("--gin.OUTPUT_DIR=matched", "--gin.OBJECTIVES=['none']", "--gin.SHOTS=3"),
            *("--gin.match.seeds=2", "--gin.match.heads=4", "--gin.match.examples=(0, 2)"),
            "--gin.match.scores=['length_rule', 'ranks', 'probe']",
            *("--gin.probe/Tuning.epochs=1", "--gin.examples/Tuning.epochs=1"),
        ),
        "matched",
    ),
    Verb(
        "tune",
        (
            *("--gin_file=runs/lora.gin", _TINY, _DEMO, _MODULE, _LENGTHS),
            *("--gin.TASKS=['uses', 'places']", "--gin.INITIAL_CHECKPOINT_PATH=model"),
            *("--gin.OUTPUT_DIR=tuned", "--gin.SEEDS=[0, 1]", "--gin.TEMPLATES=['Prompting']"),
            *("--gin.LORA_RANK=2", "--gin.MultiAdapterTuning.epochs=2", "--gin.tune.shots=3"),
            *("--gin.tune.dev_heads=2", "--gin.tune.test_heads=4", "--gin.tune.at_once=2"),
        ),
        "tuned",
        (),
        # mto.json of an adapter gets the scores when it is evaluated.
        ("tuned/cells/*.json", "tuned/*/adapter_model.safetensors"),
    ),
    Verb(
        "tables",
        ("--gin_file=tables_.gin", _TINY, _MODULE, "--gin.OUTPUT_DIR=tabled"),
        "tabled",
        (),
        ("tabled/cells/*.json",),
    ),
    Verb(
        "advise",
        (
            *("--gin_file=runs/advise.gin", _TINY, _DEMO, _MODULE, _LENGTHS),
            *("--gin.TASK=uses", "--gin.TEMPLATE=Prompting", "--gin.OUTPUT_DIR=advised"),
            *("--gin.INITIAL_CHECKPOINT_PATH=model", "--gin.DEVICE=h100", "--gin.SEEDS=[0]"),
            *("--gin.STRATEGIES=['frozen', 'lora', 'full']", "--gin.PROBE_SHOTS=10"),
            *("--gin.Tuning.epochs=1", "--gin.MultiAdapterTuning.epochs=1"),
            *("--gin.advise.test_heads=4", "--gin.advise.dev_heads=2"),
        ),
        "advised",
        (),
        ("advised/cells/*.json",),
    ),
    Verb(
        "evaluate",
        (
            *("--gin_file=runs/evaluate.gin", _TINY, *_DATA, _PREPARED),
            *("--gin.SPLIT=validation", "--gin.MODEL_DIR=model", "--gin.HEADS=6"),
            "--gin.evaluate.output_dir=evaluated",
        ),
        "evaluated",
    ),
    Verb(
        "infer",
        (
            *("--gin_file=runs/infer.gin", _TINY, "--gin.MODEL_DIR=model", "--gin.BATCH_SIZE=1"),
            *("--input_file=inputs.txt", "--output_file=answers.jsonl"),
        ),
        "answers.jsonl",
    ),
    Verb("convert", ("--from=model", "--to=hf", "--output=converted"), "converted"),
)


def make(folder: pathlib.Path) -> None:
    """Write data, gin files and a random model to `folder`."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    for name in RELATIONS:
        rows = [f"a {x} {y}\tto {draw.choice(WORDS)}" for x in WORDS for y in WORDS[:4]]
        (folder / f"{name}.tsv").write_text("head\ttail\n" + "\n".join(rows) + "\n")
    sentences = [
        f"A {x} {phrase} the {draw.choice(WORDS)} {y}."
        for phrase in RELATIONS.values()
        for x in WORDS
        for y in WORDS[:4]
    ]
    (folder / "sentences.txt").write_text("\n".join(sentences) + "\n")
    inputs = [f"uses: a {x} {y} is used for <extra_id_0>" for x in WORDS for y in WORDS[:6]]
    (folder / "inputs.txt").write_text("\n".join(inputs) + "\n")
    (folder / "tasks_.py").write_text(TASKS.replace("{relations!r}", repr(RELATIONS)))
    (folder / "tiny.gin").write_text(TINY)
    (folder / "tables_.gin").write_text(TABLES)
    process.call(_write_model, folder / "model")


def _write_model(folder: pathlib.Path) -> None:
    from tests import tiny

    tiny.write(folder)


def copy(world: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of the world in which a trial may do as it likes."""
    shutil.copytree(world, folder, symlinks=True)
    return folder


def remove(path: pathlib.Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
