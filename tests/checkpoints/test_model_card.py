# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model card tells what the exported step's run directory holds, and of that step."""

import json

import huggingface_hub

from mto_jax.checkpoints import model_card
from mto_jax.models.adapters import Adapters, LoRA, PromptTuning
from mto_jax.models.config import T5Config

GIN = """
MIXTURE_OR_TASK_NAME = 'my_task'
train.initial_checkpoint_path = 'hf://google/t5-v1_1-base@main'
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

    (folder / "predictions-my_task-test.jsonl").write_text('{"input": "uses: a \\"cup\\""}\n')

    text = model_card.text(
        T5Config(mlp="relu", tie_embeddings=True),
        "org/my-t5",
        "runs/a",
        step_dir,
        {"license": "mit", "language": "en"},
    )
    data = huggingface_hub.ModelCard(text).data
    assert (data.license, data.language, data.base_model) == ("mit", "en", "google/t5-v1_1-base")
    assert {(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results} == {
        ("my_task", "rougeL", 0.4),
        ("my_task", "perplexity", 0.4),
    }
    for line in (
        "family T5 1.0 with 8 + 8 layers",
        "mto convert --from=runs/a --to=hf --output=my-t5",
        "--gin.MODEL_DIR=hf://org/my-t5",
        'tokenizer("uses: a \\"cup\\"", return_tensors="pt")',
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
    assert huggingface_hub.ModelCard(text).data.base_model == "a/b"


DESCRIPTION = {
    "task": "uses",
    "template": "FirstPT",
    "base": {"path": "hf://google/flan-t5-small"},
    "info": {
        "held_out": {"rougeL": 0.25},
        "example": {"source": "<prompt> uses: a cup is used for", "prediction": "tea"},
        "gin": "tune.tasks = ['uses']",
    },
}


def test_card_of_an_adapter():
    adapters = Adapters.of(PromptTuning(3))
    text = model_card.of_adapter("my-prompt", adapters, DESCRIPTION, True)
    data = huggingface_hub.ModelCard(text).data
    assert (data.library_name, data.base_model) == ("peft", "google/flan-t5-small")
    assert data.eval_results[0].metric_value == 0.25
    for line in (
        'tokenizer("uses: a cup is used for", return_tensors="pt")',
        'AutoPeftModelForSeq2SeqLM.from_pretrained("my-prompt")',
        "tune.tasks = ['uses']",
    ):
        assert line in text
    assert "differ" not in text
    behind = {**DESCRIPTION, "template": "PrePT", "base": {"path": "runs/base"}, "info": {}}
    text = model_card.of_adapter("my-prompt", adapters, behind, True)
    assert "the template PrePT does not have it" in text
    assert "--from=runs/base --to=hf" in text
    assert "AutoPeft" not in text.replace("for AutoPeftModelForSeq2SeqLM", "")
    assert "differ" not in model_card.of_adapter("l", Adapters.of(LoRA(2)), DESCRIPTION, True)


def test_licence_and_language_are_those_of_the_base(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [de, en]\n---\n# T5")
    text = model_card.text(T5Config(), "mine", str(tmp_path), None, {"language": "fr"})
    data = huggingface_hub.ModelCard(text).data
    assert (data.license, data.language) == ("apache-2.0", "fr")
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert "license" not in model_card.text(T5Config(), "mine", str(tmp_path), None)
