# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run knows of its training, by its config.gin."""

import gin
import pytest

from mto_jax import checkpoints, config
from mto_jax.checkpoints.trained import Trained, adopt, trained
from mto_jax.text2text.templates import TEMPLATES, templates_for
from mto_jax.text2text.tokenising import SoftPrompt
from tests import tiny


@pytest.fixture
def run_dir(tmp_path):
    tiny.write(tmp_path / "run")
    return tmp_path / "run"


def configure(run_dir, *bindings):
    files = ["runs/finetune.gin"]
    needed = ("MODEL_DIR = 'run'", "INITIAL_CHECKPOINT_PATH = 'base'")
    config.load(files, [*needed, *bindings])
    (run_dir / "config.gin").write_text(gin.config_str())
    gin.clear_config()
    return trained(checkpoints.open(run_dir))


def test_task_module_and_lengths_of_a_run(run_dir):
    assert trained(checkpoints.open(run_dir)) == Trained()
    known = configure(
        run_dir,
        "MIXTURE_OR_TASK_NAME = 'uses_masked_prompting'",
        "MIXTURE_OR_TASK_MODULE = 'my_tasks'",
        "TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 4}",
    )
    assert (known.task, known.module) == ("uses_masked_prompting", "my_tasks")
    assert known.lengths == {"inputs": 8, "targets": 4}
    assert known.template(templates_for("triple")) == TEMPLATES["MaskedPrompting"]


def test_the_template_of_a_bare_task_is_that_of_the_mapping(run_dir):
    known = configure(
        run_dir,
        "MIXTURE_OR_TASK_NAME = 'uses'",
        "mapping.tasks = {'uses': ('lm', 'Mapping')}",
    )
    assert known.task == "uses_mapping"


@pytest.mark.parametrize(
    "task, template", [("a_mapping", "Mapping"), ("a_masked_pre_pt", "MaskedPrePT"), ("a", None)]
)
def test_a_template_is_the_end_of_a_name(task, template):
    expected = TEMPLATES[template] if template else None
    assert Trained(task).template(templates_for("triple")) == expected


def test_what_sources_depend_on_is_adopted_unless_it_is_bound(run_dir):
    configure(
        run_dir,
        "MIXTURE_OR_TASK_NAME = 'uses_pre_pt'",
        "PROMPT = 3",
        "SoftPrompt.length = %PROMPT",
        "SoftPrompt.decoder_length = 2",
        "few_shot.shots = 7",
    )
    gin.bind_parameter("SoftPrompt.decoder_length", 1)
    gin.bind_parameter("DatasetConfig.module", None)
    gin.bind_parameter("DatasetConfig.task_feature_lengths", {"inputs": 9, "targets": 9})
    adopt(checkpoints.open(run_dir))
    assert SoftPrompt() == SoftPrompt(length=3, decoder_length=1)
    assert not gin.get_bindings("few_shot")
    assert gin.get_bindings("DatasetConfig") == {
        "mixture_or_task_name": "uses_pre_pt",
        "module": None,
        "task_feature_lengths": {"inputs": 9, "targets": 9},
    }
