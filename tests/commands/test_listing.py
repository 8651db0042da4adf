# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verbs `mto list`, `mto show` and `mto completion`."""

import subprocess
import sys

import gin
import pytest

from mto_jax import cli, config
from mto_jax.commands import completion, listing
from mto_jax.metrics import text
from mto_jax.text2text import objectives, registration, templates


def rows(capsys, *argv):
    cli.main(["list", *argv])
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("templates", templates.TEMPLATES),
        ("objectives", objectives.OBJECTIVES),
        ("gin", config.bundled()),
        ("models", config.bundled("models")),
    ],
)
def test_everything_that_there_is_has_a_line(capsys, kind, names):
    assert rows(capsys, kind).keys() == set(names)


def test_tasks_are_data_sets_and_corpora_and_those_of_a_module(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "DATA_SETS", {})
    gin.bind_parameter("vocabulary.name", "demo")  # where SeqIO is loaded, its tasks are added
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "facts.tsv").write_text("head\ttail\na\tb\n")
    (tmp_path / "tools_module.py").write_text(
        "from mto_jax.text2text.registration import register_file\n"
        f"register_file('tools', {str(tmp_path / 'facts.tsv')!r}, phrase='is for')\n"
    )
    listed = rows(capsys, "tasks", "--module=tools_module")
    assert listed.keys() >= {"tools", "atomic_xIntent", "commonsenseqa", "c4"}
    assert listed["tools"].startswith("triple; tools_TEMPLATE under ")


def test_a_word_is_looked_for_in_names_and_descriptions(capsys):
    assert rows(capsys, "metrics", "SQUAD") == {
        "text:token_f1": text.token_f1.__doc__.splitlines()[0]
    }
    assert set(rows(capsys, "templates", "presup")) == {"PreSup", "MaskedPreSup"}


def test_runs_are_folders_with_checkpoints(capsys, tmp_path):
    for name, steps in (("a", ("5", "10")), ("deep/b", ())):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "model.json").write_text("{}")
        for step in steps:
            (tmp_path / name / "checkpoints" / step).mkdir()
    (tmp_path / "a" / "config.gin").write_text(
        "NAME = 'uses_mapping'\ntrain/DatasetConfig.mixture_or_task_name = %NAME\n"
    )
    (tmp_path / "no_run").mkdir()
    assert rows(capsys, "runs", f"--folder={tmp_path}") == {
        "a": "step 10  uses_mapping",
        "deep/b": "no checkpoint yet",
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list", "tassk"], "There is no list of 'tassk'. Did you mean 'tasks'?"),
        (["list", "templates", "Prompthing"], "Did you mean 'Prompting'"),
        (["list", "tasks", "--modul=a"], "--module"),
        (["list", "tasks", "--module=no_such_module"], "no_such_module"),
        (["list", "runs", "--folder=no_such_folder"], "There is no folder no_such_folder"),
        (["show", "runs/finetun.gin"], "Did you mean 'runs/finetune.gin'"),
        (["completion", "fsh"], "Did you mean 'zsh'"),
    ],
)
def test_mistakes_end_with_one_paragraph(capsys, argv, message):
    with pytest.raises(SystemExit) as status:
        cli.main(argv)
    assert status.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_is_shown_as_it_is(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["show", "runs/finetune.gin"])
    text = (config.gin_directory() / "runs" / "finetune.gin").read_text()
    assert capsys.readouterr().out == text
    (tmp_path / "mine.gin").write_text("A = 1\n")
    cli.main(["show", "mine.gin"])
    assert capsys.readouterr().out == "A = 1\n"


def test_lists_import_neither_jax_nor_tensorflow():
    program = "import sys; from mto_jax import cli\n"
    program += f"for kind in {[*listing.KINDS]}: cli.main(['list', kind])\n"
    program += "print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert not {"jax", "tensorflow", "torch"} & set(output.splitlines()[-1].split())


def test_a_shell_completes_verbs_flags_files_and_macros(capsys, tmp_path):
    completion.completion("bash")
    script = tmp_path / "mto.sh"
    script.write_text(capsys.readouterr().out)
    asked = (
        f"source {script}; COMP_WORDS=(mto %s); COMP_CWORD=%d; _shtab_mto; echo ${{COMPREPLY[@]}}"
    )
    for words, expected in (
        ("ev", {"evaluate"}),
        ("train --gin_file runs/fine", {"runs/finetune.gin"}),
        ("infer --in", {"--input_file"}),
        ("train --gin.TRAIN_ST", {"--gin.TRAIN_STEPS"}),
    ):
        command = asked % (words, len(words.split()))
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert set(done.stdout.split()) == expected, done.stderr
