# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gin files, flags and what a user reads when one of them is wrong."""

import re

import gin
import pytest

from mto_jax import config, errors
from mto_jax.experiments.made_models import gin_texts
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


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.gin": "include 'b.gin'", "b.gin": "include 'a.gin'"}, r"circle: .*b\.gin -> .*a\.gin"),
        ({"a.gin": "A = %B\nB = [%C]\nC = %A"}, "macros stand for each other in a circle"),
        (
            {"a.gin": "include 'b.gin'", "b.gin": "train.seed = {"},
            r"gin file b\.gin does not parse",
        ),
        ({"a.gin": "train.seed ="}, r"gin file a\.gin does not parse.*line 1"),
        ({"a.gin": "train.seed = " + "[" * 5000}, r"gin file a\.gin does not parse"),
        ({"a.gin": b"train.seed = '\xff'"}, r"gin file a\.gin does not parse.*utf-8"),
        ({"a.gin": "import bad_one", "bad_one.py": "x = 1 / 0"}, r"a\.gin, line 1\) .*division by"),
        ({"a.gin": "import bad_two", "bad_two.py": "def f(:"}, r"SyntaxError.*bad_two\.py, line 1"),
        ({"a.gin": "import bad_three", "bad_three.py": "import no_such"}, "'bad_three'.*'no_such'"),
        ({"a.gin": "import no_such_module"}, "No module named 'no_such_module'"),
    ],
)
def test_what_is_wrong_with_files_is_said_with_their_names(tmp_path, monkeypatch, files, message):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(errors.UserError, match=f"(?s){message}"):
        config.load(["a.gin"])


def test_a_flag_with_a_macro_that_nothing_refers_to_is_refused():
    with pytest.raises(errors.UserError, match="'TRAIN_STEP'. Did you mean 'TRAIN_STEPS'"):
        config.load(["runs/demo_pretrain.gin"], ["TRAIN_STEP = 5", "MODEL_DIR = 'run'"])


def test_the_seed_of_an_arm_reaches_every_pre_training_that_comes_along():
    for name in ("runs/demo_pretrain.gin", "runs/lab_pretrain.gin"):
        gin.clear_config()
        config.load([name], ["SEED = 7", "MODEL_DIR = 'run'", "MIXTURE_OR_TASK_NAME = 'task'"])
        assert "train.seed = %SEED" in gin.config_str()


def test_a_flag_that_does_not_parse_is_named():
    with pytest.raises(errors.UserError, match=r"The flag --gin\.train\.seed = \[ does not parse"):
        config.load([], ["train.batch_size = 4", "train.seed = ["])


@pytest.mark.parametrize(
    "text",
    [
        "from __gin__ import dynamic_registration\nimport os\nos.getenv.key = 'HOME'",
        "import strangers_module",
        "DatasetConfig.module = 'strangers_module'",
        "MIXTURE_OR_TASK_MODULE = 'strangers_module'",
        "include 'more.gin'",
    ],
)
def test_files_from_elsewhere_run_code_only_if_allowed(tmp_path, monkeypatch, text):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    elsewhere = tmp_path / "download"
    elsewhere.mkdir()
    (tmp_path / "here" / "strangers_module.py").write_text("")
    (elsewhere / "a.gin").write_text(text)
    (elsewhere / "more.gin").write_text("import strangers_module")
    options = {"search_paths": str(elsewhere)}
    with pytest.raises(errors.UserError, match=r"line 1: this file imports code.*--allow_code"):
        config.load([str(elsewhere / "a.gin")], **options)
    gin.clear_config()
    config.load([str(elsewhere / "a.gin")], allow_code=True, **options)


def test_a_temporary_configuration_leaves_the_one_before(tmp_path):
    config.load([], ["train.seed = 3"])
    with config.temporary(["runs/infer.gin"], {"MODEL_DIR": "a", "train.seed": 4}):
        assert gin.query_parameter("train.seed") == 4
        assert gin.query_parameter("%MODEL_DIR") == "a"
    assert gin.query_parameter("train.seed") == 3
    assert "MODEL_DIR" not in gin.config_str()
    with pytest.raises(RuntimeError):  # locked, as it was
        gin.bind_parameter("train.seed", 5)


def test_every_gin_file_that_comes_along_parses():
    for name in config.bundled():
        gin.clear_config()
        text = "\n".join(gin_texts(name))
        required = re.findall(r"^(\w+) = %gin\.REQUIRED$", text, re.MULTILINE)
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


def test_what_a_gin_file_imports_registers_tasks_in_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imports_tasks.py").write_text("from mto_jax.text2text import objectives\n")
    (tmp_path / "imports_face.py").write_text("import mto_jax as mto\n")
    (tmp_path / "imports_seqio.py").write_text("def register():\n    import seqio\n")
    (tmp_path / "imports_adapters.py").write_text("from mto_jax.models.adapters import base\n")
    names = ("imports_tasks", "imports_face", "imports_seqio", "imports_adapters")
    for name in names:
        (tmp_path / f"{name}.gin").write_text(f"import {name}\n")
    (tmp_path / "libraries.gin").write_text("import mto_jax.models.t5\nimport seqio\n")
    files = ["runs/infer.gin", "libraries.gin", *(f"{name}.gin" for name in names)]
    config.load(files, ["MODEL_DIR = 'x'", "MIXTURE_OR_TASK_MODULE = 'listed, imports_tasks'"])
    module = config.value("infer.module")
    assert module == "listed, imports_tasks, imports_face, imports_seqio"
    gin.clear_config()
    config.load(["runs/infer.gin", "imports_adapters.gin"], ["MODEL_DIR = 'x'"])
    assert config.value("infer.module") is None
    gin.clear_config()
    config.load(["imports_tasks.gin"])  # of a verb without tasks
    assert "MIXTURE_OR_TASK_MODULE" not in dict(config.values())


def test_private_names_of_gin_are_where_they_were(tmp_path):
    load(tmp_path, "train.batch_size = 4")
    for name in ("_CONFIG", "_REGISTRY", "_FILE_READERS", "_IMPORTS"):
        assert hasattr(gin.config, name), f"gin has moved {name}: adapt mto_jax/config.py"
    assert ("", "mto_jax.runs.train.train") in config.bound(), "gin._CONFIG has another form"
    known = dict(gin.config._REGISTRY.items())
    assert "mto_jax.runs.train.train" in known, "gin._REGISTRY has another form"
    [(_, exists)] = gin.config._FILE_READERS
    assert exists(str(tmp_path / "run.gin")), "gin._FILE_READERS has another form"
