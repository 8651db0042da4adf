# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gin files and flags that do not parse, name what is not there, or go in a circle."""

import re
from collections.abc import Iterator

from tests.campaign.malformed import COMMANDS, Row

# Text of a gin file that train reads last -> what must be said.
FILES: dict[str | bytes, tuple[str, ...]] = {
    "train.seed =": ("last.gin", "line 1"),
    "\ntrain.seed = (": ("last.gin", "does not parse"),
    "train.seed = {": ("last.gin", "does not parse"),
    "train.seed = ]": ("last.gin", "does not parse"),
    "train.seed 3": ("last.gin", "does not parse"),
    "= 3": ("last.gin", "does not parse"),
    "train.seed = 'a": ("last.gin", "does not parse"),
    "train.seed = 08": ("last.gin", "does not parse"),
    "train..seed = 3": ("last.gin", "does not parse"),
    "train.seed = 3 4": ("last.gin", "does not parse"),
    "train.seed = 1 + 1": ("last.gin", "does not parse"),
    "train.seed = " + "[" * 5000: ("last.gin", "does not parse"),
    "\x00": ("last.gin", "does not parse"),
    b"train.seed = '\xff'": ("last.gin", "utf-8"),
    "train.seed = 3".encode("utf-16"): ("last.gin", "utf-8"),
    "trian.seed = 3": ("'trian'", "'train'", "last.gin, line 1"),
    "\n\ntrain.sede = 3": ("'sede'", "'seed'", "last.gin, line 3"),
    "train.seed = %SED": ("SED",),
    "train.model = @T5Confg()": ("'T5Confg'", "'T5Config'"),
    "train.model = @T5Config": ("train.model is", "must be"),
    "Optimizer.name = 'adamm'": ("'adamm'", "Did you mean"),
    "Optimizer.schedule = 'liner'": ("'liner'", "'linear'"),
    "T5Config.mlp = 'gelu '": ("gelu", "T5Config"),
    "T5Config.dtype = 'float23'": ("float23",),
    "train.trainable = 'prompt'": ("prompt",),
    "train.trainable = []": ("train.trainable is []",),
    "train.best_metric = 'rougeL'": ("rougeL",),
    "include 'no_such.gin'": ("no_such.gin",),
    "include 'last.gin'": ("circle", "last.gin"),
    "A = %B\nB = [%A]\ntrain.seed = %A": ("circle",),
    "import no_such_module": ("no_such_module",),
    "import broken_": ("broken_", "division by zero", "line 1"),
    "import unparsed_": ("unparsed_", "SyntaxError", "line 1"),
    "import lacking_": ("lacking_", "no_such_thing"),
    "train/DatasetConfig.split = 'tran'": ("'tran'", "train"),
    "T5Config.d_ff = 64": ("d_ff is 32 there and 64 here",),
    "T5Config.vocab_size = 64": ("vocab_size is 64",),
}
_MODULES = {
    "broken_.py": "x = 1 / 0",
    "unparsed_.py": "def f(:",
    "lacking_.py": "import no_such_thing",
}

# Command line -> what must be said.
LINES = {
    ("trian",): ("'trian'", "'train'"),
    ("train",): ("model_dir", "--gin_file"),
    ("train", "--gin_file=runs/finetun.gin"): ("runs/finetune.gin",),
    ("train", "--gin_file=runs/finetune.gin"): ("MODEL_DIR",),
    ("train", "--ginfile=runs/finetune.gin"): ("--ginfile", "--gin_file"),
    (*COMMANDS["train"], "--gin.train.sed=3"): ("'sed'", "'seed'"),
    (*COMMANDS["train"], "--gin.tran.seed=3"): ("'tran'", "'train'"),
    (*COMMANDS["train"], "--gin.train.seed=["): ("--gin.train.seed",),
    (*COMMANDS["train"], "--gin.MIXTURE_OR_TASK_MODULE=no_module_"): ("no_module_",),
    (*COMMANDS["train"], "--gin.MIXTURE_OR_TASK_MODULE=3"): ("module is 3",),
    (*COMMANDS["train"], "--gin.MIXTURE_OR_TASK_NAME=use_mapping"): (
        "'use_mapping'",
        "'uses_mapping'",
    ),
    (*COMMANDS["train"], "--gin.MIXTURE_OR_TASK_NAME=uses_maping"): (
        "'uses_maping'",
        "'uses_mapping'",
    ),
    (*COMMANDS["train"], "--gin.MIXTURE_OR_TASK_NAME=uses"): ("'uses'", "without a template"),
    (*COMMANDS["train"], "--gin.MIXTURE_OR_TASK_NAME=3"): ("mixture_or_task_name is 3",),
    (*COMMANDS["train"], "--gin.VOCABULARY=demmo"): ("demmo",),
    (*COMMANDS["train"], "--gin.VOCABULARY=t5x"): ("t5x",),
    (*COMMANDS["train"], "--gin.INITIAL_CHECKPOINT_PATH=modell"): ("modell",),
    (*COMMANDS["train"], "--gin.INITIAL_CHECKPOINT_PATH=uses.tsv"): ("uses.tsv",),
    (*COMMANDS["train"], "--gin.BATCH_SIZE=%gin.REQUIRED"): ("BATCH_SIZE",),
    (*COMMANDS["train"], "--coordinator_address=nonsense"): ("HOST:PORT",),
    (*COMMANDS["train"], "--process_count=2"): ("--coordinator_address",),
    (*COMMANDS["infer"], "--gin.infer.checkpoint=7"): ("7",),
    (*COMMANDS["infer"], "--gin.infer.checkpoint=bset"): ("bset",),
    (*COMMANDS["infer"], "--gin.Decoding.method=bream"): ("bream", "beam"),
    (*COMMANDS["infer"], "--input_file=nothing.txt"): ("nothing.txt",),
    (*COMMANDS["infer"], "--output_file=inputs.txt"): ("inputs.txt",),
    (*COMMANDS["infer"], "--output_file=model"): ("model", "folder"),
    (*COMMANDS["infer"], "--output_file=no/where.jsonl"): ("no",),
    (*COMMANDS["evaluate"], "--gin.SPLIT=tset"): ("tset",),
    (*COMMANDS["evaluate"], "--gin.evaluate.checkpoints=9"): ("9",),
    (*COMMANDS["evaluate"], "--gin.evaluate.datasets=[]"): ("evaluate.datasets",),
    (*COMMANDS["convert"], "--output=new", "--to=hff"): ("hff",),
    (*COMMANDS["convert"], "--output=new", "--from=nowhere"): ("nowhere",),
    (*COMMANDS["convert"], "--output=model"): ("not empty",),
    (*COMMANDS["convert"], "--output=new", "--dtype=float23"): ("float23",),
    ("convert",): ("Say what to convert",),
    ("convert", "--inspect=uses.tsv"): ("uses.tsv",),
    ("convert", "--inspect=model/checkpoints"): ("model/checkpoints",),
    (*COMMANDS["adapt"], "--gin.OBJECTIVE=ml"): ("'ml'", "'lm'"),
    (*COMMANDS["adapt"], "--gin.OBJECTIVE=None"): ("OBJECTIVE",),
    (*COMMANDS["adapt"], "--gin.METHOD=phrase"): ("'phrase'", "'phrases'"),
    (*COMMANDS["adapt"], "--gin.GROUPS=lenght"): ("'lenght'", "'length'"),
    (*COMMANDS["adapt"], "--gin.CORPUS=sentence.txt"): ("sentence.txt",),
    (*COMMANDS["adapt"], "--gin.PairConfig.phrases=['zzz']"): ("gave 0 pairs",),
    (*COMMANDS["adapt"], "--gin.PairConfig.min_words=90"): ("min_words", "max_words"),
    (*COMMANDS["adapt"], "--gin.REPLAY=demo_span_corruptoin"): ("demo_span_corruptoin",),
    (*COMMANDS["tune"], "--gin.TASKS=[]"): ("tune.tasks",),
    (*COMMANDS["tune"], "--gin.TASKS=['use']"): ("'use'", "'uses'"),
    (*COMMANDS["tune"], "--gin.TASKS=['uses', 'uses']"): ("twice",),
    (*COMMANDS["tune"], "--gin.TEMPLATES=['Promptin']"): ("'Promptin'", "'Prompting'"),
    (*COMMANDS["tune"], "--gin.TEMPLATES=['PrePT']"): ("PrePT",),
    (*COMMANDS["tune"], "--gin.tune.test_split=tset"): ("tset",),
    (*COMMANDS["match"], "--gin.TASKS=['place']"): ("'place'", "'places'"),
    (*COMMANDS["match"], "--gin.match.scores=['prob']"): ("'prob'", "'probe'"),
    (*COMMANDS["match"], "--gin.OBJECTIVES=['nne']"): ("'nne'",),
    (*COMMANDS["match"], "--gin.match.metric=rogueL"): ("rogueL",),
    (*COMMANDS["advise"], "--gin.STRATEGIES=['fall']"): ("'fall'", "'full'"),
    (*COMMANDS["advise"], "--gin.DEVICE=v5"): ("'v5'", "'v5e'"),
    (*COMMANDS["advise"], "--gin.MEMORY_GB=1e-6"): ("No strategy fits", "frozen"),
    (*COMMANDS["advise"], "--gin.TEMPLATE=PrePT"): ("PrePT", "soft prompt"),
    (*COMMANDS["tables"], "--gin.Grid.template=['Maping']"): ("'Maping'", "'Mapping'"),
    (*COMMANDS["tables"], "--gin.Grid.task=['use']"): ("'use'", "'uses'"),
    (*COMMANDS["tables"], "--gin.Grid.metric=rogueL"): ("rogueL",),
    (*COMMANDS["tables"], "--gin.Grid.method=['frozn']"): ("'frozn'", "'frozen'"),
    (*COMMANDS["tables"], "--gin.Grid.model=['tinny']"): ("'tinny'", "'tiny'"),
    (*COMMANDS["tables"], "--gin.Grid.seed=[]"): ("seed",),
    (*COMMANDS["tables"], "--gin.main/Table.rows=tmplate"): ("'tmplate'", "'template'"),
    ("plan", "--topology=v5e:2x3"): ("'v5e:2x3'", "'v5e:2x2'"),
    ("plan", "--topology=h100:8"): ("runs/pretrain.gin",),
    (*COMMANDS["train"], "--gin.environment.variables={'PATH': 'x'}"): ("'PATH'", "XLA_"),
}


def rows() -> Iterator[Row]:
    """Every gin file and command line."""
    for text, said in FILES.items():
        content = text if isinstance(text, bytes) else text.encode()
        named = set(re.findall(r"\w+_\b", content.decode(errors="replace")))
        modules = {f"{name}.py": _MODULES.get(f"{name}.py") for name in named}
        files = {"last.gin": text} | {k: v for k, v in modules.items() if v}
        yield Row((*COMMANDS["train"], "--gin_file=last.gin"), said, files)
    for argv, said in LINES.items():
        yield Row(argv, said)
