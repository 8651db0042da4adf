# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gin files, flags and what a user reads when one of them is wrong."""

import re

import gin
import pytest

from mto_jax import config, errors
from mto_jax.text2text import objectives


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("runs/a", "'runs/a'"),
        ("greedy", "'greedy'"),
        ("it's", '"it\'s"'),
        ("16", "16"),
        ("1e-3", "1e-3"),
        ("None", "None"),
        ("'quoted'", "'quoted'"),
        ("{'inputs': 8}", "{'inputs': 8}"),
        ("@T5Config()", "@T5Config()"),
        ("%BATCH_SIZE", "%BATCH_SIZE"),
    ],
)
def test_a_flag_value_is_a_literal_or_else_a_string(value, expected):
    assert config.binding("NAME", value) == f"NAME = {expected}"


def load(tmp_path, text, bindings=()):
    path = tmp_path / "run.gin"
    path.write_text(text)
    config.load([str(path)], bindings)


def test_flags_override_files_and_macros_resolve(tmp_path):
    load(tmp_path, "BATCH_SIZE = 4\ntrain.batch_size = %BATCH_SIZE\n", ["BATCH_SIZE = 8"])
    assert gin.query_parameter("%BATCH_SIZE") == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian.batch_size = 4", r"no gin configurable 'trian'.*'train'.*run\.gin, line 1"),
        ("\ntrain.batch_sizes = 4", r"'batch_sizes'.*'batch_size'.*run\.gin, line 2"),
        (
            "MODEL_DIR = %gin.REQUIRED\ntrain.model_dir = %MODEL_DIR",
            "needs MODEL_DIR.*--gin.MODEL_DIR=",
        ),
        ("BATCH_SIZE = 4\ntrain.batch_size = %BATCH_SZE", "no macro 'BATCH_SZE'.*'BATCH_SIZE'"),
        ("include 'models/t5_1_1_bse.gin'", "gin file.*'models/t5_1_1_base.gin'"),
        ("train.model = @T5Confg()", "'T5Confg'.*'T5Config'"),
        ("train.batch_size = (", "does not parse"),
    ],
)
def test_wrong_names_are_told_with_the_nearest_one(tmp_path, text, message):
    with pytest.raises(errors.UserError, match=f"(?s){message}"):
        load(tmp_path, text)


def test_every_gin_file_that_comes_along_parses():
    texts = {name: (config.gin_directory() / name).read_text() for name in config.bundled()}
    required = re.findall(r"^(\w+) = %gin\.REQUIRED$", "\n".join(texts.values()), re.MULTILINE)
    for name in texts:
        gin.clear_config()
        config.load([name], [f"{macro} = 'given'" for macro in required])


def test_a_folder_of_the_users_does_not_hide_the_files_that_come_along(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()  # a namespace package, for Python
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config.load(["runs/infer.gin"], ["MODEL_DIR = 'given'"])


def test_a_gin_file_imports_a_module_of_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_objective.py").write_text(
        "from mto_jax.text2text.objectives import register_objective\n\n\n"
        "@register_objective()\ndef echo(tokens, rng, vocab, lengths, *, times=1):\n"
        "    return tokens, tokens\n"
    )
    load(tmp_path, "import users_objective\necho.times = 2\n")
    assert objectives.parameters("echo") == {"times": 2}
    del objectives.OBJECTIVES["echo"]


def test_private_names_of_gin_are_where_they_were(tmp_path):
    load(tmp_path, "train.batch_size = 4")
    for name in ("_CONFIG", "_REGISTRY", "_FILE_READERS"):
        assert hasattr(gin.config, name), f"gin has moved {name}: adapt mto_jax/config.py"
    assert ("", "mto_jax.commands.train.train") in config.bound(), "gin._CONFIG has another form"
    known = dict(gin.config._REGISTRY.items())
    assert "mto_jax.commands.train.train" in known, "gin._REGISTRY has another form"
    [(_, exists)] = gin.config._FILE_READERS
    assert exists(str(tmp_path / "run.gin")), "gin._FILE_READERS has another form"
