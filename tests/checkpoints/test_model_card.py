# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model card tells what the exported step's run directory holds, and of that step."""

import json

from mto_jax.checkpoints import model_card
from mto_jax.models.config import T5Config

GIN = """
MIXTURE_OR_TASK_NAME = 'my_task'
train/DatasetConfig.mixture_or_task_name = %MIXTURE_OR_TASK_NAME
train/DatasetConfig.split = 'train'
train/DatasetConfig.task_feature_lengths = \\
    {'inputs': 32, 'targets': 16}
eval/DatasetConfig.mixture_or_task_name = 'other_task'
"""
LINES = [
    {"step": 10, "train/loss": 3.5, "speed/step_seconds": 1.0},
    {"step": 10, "dev/my_task/loss": 2.5},
    {"step": 20, "train/loss": 1.25},
]
RESULT = {"low": 0.2, "high": 0.6, "value": 0.4}


def test_card(tmp_path):
    step_dir = tmp_path / "checkpoints" / "10"
    (step_dir / "run").mkdir(parents=True)
    known = {"step": 10, "metrics": {"dev/my_task/loss": 2.5}}
    (step_dir / "run" / "metadata").write_text(json.dumps(known))
    (tmp_path / "config.gin").write_text("nothing")
    (tmp_path / "operative_config.gin").write_text(GIN)
    cut_short = '\n{"step": 30, "tra'
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, LINES)) + cut_short)
    folder = tmp_path / "evaluation" / "10"
    folder.mkdir(parents=True)
    metrics = {"rougeL": RESULT, "perplexity": {**RESULT, "low": None, "high": None}}
    entry = {"task": "my_task", "split": "test", "metrics": metrics}
    (folder / "metrics.json").write_text(json.dumps({"results": [entry]}))

    text = model_card.text(T5Config(mlp="relu", tie_embeddings=True), "my-t5", "runs/a", step_dir)
    for line in (
        "family T5 1.0 with 8 + 8 layers",
        "mto convert --from=runs/a --to=hf --output=my-t5",
        "| train | `'my_task'` | `'train'` | `{'inputs': 32, 'targets': 16}` |",
        "| eval | `'other_task'` |  |  |",
        "## Metrics at step 10",
        "| train/loss | 3.5 |",
        "| dev/my_task/loss | 2.5 |",
        "| my_task | test | rougeL | 0.400 (0.200 to 0.600) |",
        "| my_task | test | perplexity | 0.400 |",
        "train/DatasetConfig.split = 'train'",
    ):
        assert line in text
    assert "speed" not in text
    assert "1.25" not in text


def test_card_of_a_foreign_checkpoint():
    text = model_card.text(
        T5Config(mlp="gated-silu", tie_embeddings=True), "my-ul2", "hf://a/b", None
    )
    assert "family UL2" in text
    assert "Metrics" not in text
