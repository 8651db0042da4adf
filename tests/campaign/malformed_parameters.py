# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values of the wrong type, or that make no sense, for the parameters of every verb."""

from collections.abc import Iterator

from tests.campaign.malformed import COMMANDS, Row

# Kind of parameter -> values that are none of its own.
BAD = {
    "count": ("eight", "True", "0", "-1", "1.5", "[]"),
    "size": ("eight", "0", "-4", "2.5", "1000000000"),
    "natural": ("-1", "0.5", "many"),
    "seed": ("-1", "9999999999", "x", "0.5"),
    "period": ("0", "-5", "often", "2.5"),
    "positive": ("0", "-1", "fast", "[]"),
    "weight": ("-1", "heavy", "True"),
    "share": ("1", "-0.5", "2", "half"),
    "truth": ("yes", "1", "[]"),
    "dtype": ("float16", "16", "[]"),
    "place": ("3", "''", "[]", "' '"),
    "list": ("3", "text", "{}"),
    "lengths": ("{'inputs': 8, 'targets': '4'}", "{'inputs': 0, 'targets': 4}", "[8, 4]", "5"),
    "object": ("small", "3"),
}

# Verb -> parameter as it is bound -> its kind, and its name in the message.
PARAMETERS = {
    "train": {
        "BATCH_SIZE": ("count", "train.batch_size"),
        "TRAIN_STEPS": ("count", "train.train_steps"),
        "MODEL_DIR": ("place", "train.model_dir"),
        "INITIAL_CHECKPOINT_PATH": ("place", "train.initial_checkpoint_path"),
        "TASK_FEATURE_LENGTHS": ("lengths", "task_feature_lengths"),
        "DROPOUT_RATE": ("share", "T5Config.dropout_rate"),
        "train.seed": ("seed", "train.seed"),
        "train.microbatches": ("count", "train.microbatches"),
        "train.log_period": ("period", "train.log_period"),
        "train.checkpoint_period": ("period", "train.checkpoint_period"),
        "train.eval_period": ("period", "train.eval_period"),
        "train.keep": ("count", "train.keep"),
        "train.keep_best": ("natural", "train.keep_best"),
        "train.z_loss": ("weight", "train.z_loss"),
        "train.label_smoothing": ("share", "train.label_smoothing"),
        "train.reduce_dtype": ("dtype", "train.reduce_dtype"),
        "train.pack": ("truth", "train.pack"),
        "train.num_workers": ("natural", "train.num_workers"),
        "train.model": ("object", "train.model"),
        "train.optimizer": ("object", "train.optimizer"),
        "train.eval_datasets": ("list", "train.eval_datasets"),
        "Optimizer.learning_rate": ("weight", "Optimizer.learning_rate"),
        "Optimizer.clip_norm": ("positive", "Optimizer.clip_norm"),
        "T5Config.d_model": ("size", "T5Config.d_model"),
        "T5Config.d_ff": ("size", "T5Config.d_ff"),
        "T5Config.num_heads": ("size", "T5Config.num_heads"),
        "T5Config.num_encoder_layers": ("size", "T5Config.num_encoder_layers"),
        "train/DatasetConfig.seed": ("seed", "DatasetConfig.seed"),
        "train/DatasetConfig.passes": ("count", "DatasetConfig.passes"),
    },
    "infer": {
        "BATCH_SIZE": ("count", "infer.batch_size"),
        "infer.input_length": ("count", "infer.input_length"),
        "MODEL_DIR": ("place", "infer.model_dir"),
        "Decoding.max_length": ("count", "Decoding.max_length"),
        "Decoding.temperature": ("weight", "Decoding.temperature"),
    },
    "evaluate": {
        "BATCH_SIZE": ("count", "evaluate.batch_size"),
        "MODEL_DIR": ("place", "evaluate.model_dir"),
        "evaluate.datasets": ("list", "evaluate.datasets"),
    },
    "adapt": {
        "adapt.epochs": ("count", "adapt.epochs"),
        "BATCH_SIZE": ("count", "adapt.batch_size"),
        "MODEL_DIR": ("place", "adapt.model_dir"),
        "PairConfig.max_pairs": ("count", "PairConfig.max_pairs"),
        "PairConfig.seed": ("seed", "PairConfig.seed"),
    },
    "tune": {
        "tune.shots": ("count", "tune.shots"),
        "tune.at_once": ("count", "tune.at_once"),
        "tune.dev_heads": ("natural", "tune.dev_heads"),
        "OUTPUT_DIR": ("place", "tune.output_dir"),
        "SEEDS": ("list", "tune.seeds"),
        "LORA_RANK": ("count", "LoRA.rank"),
        "MultiAdapterTuning.epochs": ("count", "MultiAdapterTuning.epochs"),
    },
    "match": {
        "match.heads": ("count", "match.heads"),
        "match.seeds": ("count", "match.seeds"),
        "TASKS": ("list", "match.tasks"),
        "SHOTS": ("natural", "match.shots"),
    },
    "tables": {
        "FewShot.test_heads": ("count", "FewShot.test_heads"),
        "FewShot.at_once": ("count", "FewShot.at_once"),
        "fine/Tuning.epochs": ("count", "Tuning.epochs"),
        "OUTPUT_DIR": ("place", "tables.output_dir"),
    },
}


def rows() -> Iterator[Row]:
    """Every parameter with every value that is none of its kind."""
    for verb, parameters in PARAMETERS.items():
        for parameter, (kind, shown) in parameters.items():
            for value in BAD[kind]:
                said = (f"{shown} is ", "must be")
                yield Row((*COMMANDS[verb], f"--gin.{parameter}={value}"), said)
