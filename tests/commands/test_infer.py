# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `mto infer`: order, resuming after a kill, bad lines, no TensorFlow."""

import io
import json
import os
import subprocess
import sys
import types

import gin
import pytest

from mto_jax import checkpoints, files
from mto_jax.commands import infer as verb
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.errors import UserError
from mto_jax.text2text import registration, vocabulary
from tests.decoding import tiny

HOW = Decoding(max_length=5)
VOCABULARY = tiny.Numbers()
LINES = [f"{2 + i % 30} {3 + i % 17} {5 + i % 7}" for i in range(70)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny.checkpoint(folder, {1: None})
    return folder


@pytest.fixture(autouse=True)
def _numbers(monkeypatch):
    monkeypatch.setattr(vocabulary, "vocabulary", lambda name=None: tiny.Numbers())
    monkeypatch.setattr(verb, "use_compilation_cache", lambda: None)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{line}\n" for line in LINES))
    return path


def run(run_dir, source, target, **options):
    verb.infer(
        model_dir=str(run_dir),
        input_file=str(source),
        output_file=str(target),
        decoding=options.pop("decoding", HOW),
        batch_size=2,
        **options,
    )


def test_a_line_for_every_input_in_order(run_dir, source, tmp_path):
    run(run_dir, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [row["input"] for row in rows] == LINES
    assert all(
        row.keys() == {"input", "prediction", "raw_prediction", "log_likelihood"} for row in rows
    )
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["in.txt", "out.jsonl"]


def test_killed_and_started_again(run_dir, source, tmp_path, monkeypatch, capsys):
    """A kill in the third chunk, inside a row: the rest is done, and the file is as if never
    killed.

    Sampling shows that draws do not depend on where the job stopped.
    """
    how = Decoding(method="sample", max_length=5)
    run(run_dir, source, tmp_path / "whole.jsonl", decoding=how)
    inner, calls = verb.decode, []

    def killed(*args, **kwargs):
        calls.append(len(args[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(*args, **kwargs)

    monkeypatch.setattr(verb, "decode", killed)
    target = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(run_dir, source, target, decoding=how)
    assert not target.exists()
    part = tmp_path / "out.jsonl.part"
    with part.open("a") as file:
        file.write('{"input": "half a r')
    run(run_dir, source, target, decoding=how)
    assert calls == [32, 32, 6, 6]
    assert "has 64 rows of this job" in capsys.readouterr().err
    assert target.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not part.exists()


@pytest.mark.parametrize("file", ["out.jsonl.part", "out.jsonl.part.json"])
def test_rows_that_were_damaged_after_a_kill_are_computed_again(
    run_dir, source, tmp_path, monkeypatch, capsys, file
):
    run(run_dir, source, tmp_path / "whole.jsonl")
    inner, calls = verb.decode, []

    def killed(*args, **kwargs):
        calls.append(len(args[1]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(*args, **kwargs)

    monkeypatch.setattr(verb, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        run(run_dir, source, tmp_path / "out.jsonl")
    content = (tmp_path / file).read_text()
    (tmp_path / file).write_text(content.replace("2", "3", 1))
    run(run_dir, source, tmp_path / "out.jsonl")
    assert calls == [32, 32, 32, 32, 6]
    said = capsys.readouterr().err
    assert f"{file} " in said
    assert "rows are computed again" in said
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_another_job_starts_anew(run_dir, source, tmp_path, monkeypatch):
    inner, calls = verb.decode, []

    def killed(*args, **kwargs):
        calls.append(len(args[1]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(*args, **kwargs)

    monkeypatch.setattr(verb, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        run(run_dir, source, tmp_path / "out.jsonl")
    source.write_text("".join(f"{line}\n" for line in reversed(LINES)))
    run(run_dir, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [row["input"] for row in rows] == LINES[::-1]


def test_jsonl_keeps_fields_and_several_outputs(run_dir, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 7, "input": "5 6"}\n{"id": 8, "input": "9"}\n')
    how = Decoding(method="sample", max_length=5, num_outputs=3)
    run(run_dir, source, tmp_path / "out.jsonl", decoding=how)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [row["id"] for row in rows] == [7, 8]
    assert all(len(row["predictions"]) == 3 for row in rows)
    assert all(row["prediction"] == row["predictions"][0] for row in rows)


def test_a_byte_order_mark_is_no_text(run_dir, tmp_path):
    for name, content in (("a.txt", "5 6\n7\n"), ("a.jsonl", '{"input": "5 6"}\n')):
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        run(run_dir, tmp_path / name, tmp_path / f"{name}.out")
        assert json.loads((tmp_path / f"{name}.out").open().readline())["input"] == "5 6"


def test_standard_input_and_output(run_dir, monkeypatch):
    given, taken = io.BufferedReader(io.BytesIO(b"5 6\n\n7\n")), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=given))
    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(buffer=taken))
    run(run_dir, "-", "-")
    rows = [json.loads(line) for line in taken.getvalue().splitlines()]
    assert [row["input"] for row in rows] == ["5 6", "", "7"]


def test_characters_that_the_vocabulary_lacks_are_told(run_dir, tmp_path, capsys):
    source = tmp_path / "in.txt"
    source.write_text("5 6\n5 39\n39\n")
    run(run_dir, source, tmp_path / "out.jsonl")
    warning = "2 inputs have characters that the vocabulary lacks (e.g. 'é')"
    assert warning in capsys.readouterr().err


def test_long_inputs_are_cut_and_counted(run_dir, tmp_path, capsys):
    source = tmp_path / "in.txt"
    source.write_text("5 6 7 8\n5 6 7 9 9 9\n5\n")
    run(run_dir, source, tmp_path / "out.jsonl", input_length=4)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert rows[0]["prediction"] == rows[1]["prediction"]
    assert "2 inputs were longer than infer.input_length=4" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("in.txt", b"", "is empty"),
        ("in.txt", b"5 6\n7 \xff\n", r"in.txt, line 2: byte 3 of the line \(0xff\) is not valid"),
        ("in.txt", "5 6\n".encode("utf-16-le"), "in.txt, line 1: a zero byte.*UTF-16"),
        ("in.jsonl", b'{"input": "5"}\n{"input": \n', "in.jsonl, line 2: not JSON"),
        ("in.jsonl", b'{"input": "5"}\n{"text": "6"}\n', 'line 2: expected .* "input"'),
        ("in.jsonl", b'{"input": 5}\n', "line 1: expected"),
        ("in.jsonl", b'{"input": "\\ud800"}\n', "line 1: half of a surrogate pair"),
        ("in.jsonl", b'{"input": "5", "a": ' + b"[" * 100_000 + b"}\n", "line 1: not JSON"),
        ("in.jsonl", b'{"input": "5", "prediction": ""}\n', "'prediction' is one of the output"),
        ("in.csv", b"5\n6\n", 'in.csv, line 2: expected a text in the column "input"'),
    ],
)
def test_bad_files_are_found_before_work_begins(tmp_path, name, content, message, run_dir):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(run_dir, tmp_path / name, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("in.txt", "is the input file"),
        ("link_to_input", "is the input file"),
        ("folder", "is a folder"),
        ("pipe", "is a device or a pipe"),
        ("/dev/full", "is a device or a pipe"),
        ("nowhere/out.jsonl", "There is no folder"),
        ("out.csv", "call the output file out.jsonl"),
    ],
)
def test_the_output_destroys_nothing(run_dir, source, tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link_to_input").symlink_to(source)
    before = source.read_bytes(), sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        run(run_dir, source, tmp_path / name)
    assert (source.read_bytes(), sorted(tmp_path.iterdir())) == before


def test_a_link_stays_and_its_target_is_written(run_dir, source, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "out.jsonl").symlink_to(tmp_path / "results" / "out.jsonl")
    run(run_dir, source, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").is_symlink()
    assert len((tmp_path / "results" / "out.jsonl").read_text().splitlines()) == len(LINES)


def test_one_process_writes_an_output(run_dir, source, tmp_path):
    target = tmp_path / "out.jsonl"
    with files.only_writer(target), pytest.raises(UserError, match=f"process {os.getpid()} on "):
        run(run_dir, source, target)
    run(run_dir, source, target)
    assert target.exists()


def test_rows_are_counted_at_the_end(run_dir, source, tmp_path, monkeypatch):
    def decode_and_add(*arguments, **options):
        with (tmp_path / "out.jsonl.part").open("a") as file:
            file.write("a row of somebody else\n")
        return decode(*arguments, **options)

    monkeypatch.setattr(verb, "decode", decode_and_add)
    with pytest.raises(UserError, match=r"out.jsonl.part has \d+ rows for 70 inputs"):
        run(run_dir, source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_missing_file_and_model(run_dir, source, tmp_path):
    with pytest.raises(UserError, match="There is no input file"):
        run(run_dir, tmp_path / "none.txt", tmp_path / "out.jsonl")
    with pytest.raises(UserError, match="is not there"):
        run(tmp_path / "none", source, tmp_path / "out.jsonl")
    with pytest.raises(UserError, match="must be one"):
        run(run_dir, source, tmp_path / "out.jsonl", checkpoint="all")


def test_several_outputs_of_a_table_keep_its_columns(run_dir, tmp_path):
    (tmp_path / "in.tsv").write_text("id\tinput\na\t5 6\nb\t9\n")
    run(run_dir, tmp_path / "in.tsv", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [(row["id"], row["input"]) for row in rows] == [("a", "5 6"), ("b", "9")]


# SeqIO keeps a task, and the place of its file, for a whole session.
@pytest.fixture(scope="session")
def words_run(tmp_path_factory):
    """A run of the demo's vocabulary, trained on the task `suits` of a module beside it."""
    folder = tmp_path_factory.mktemp("uses")
    demo = vocabulary.load(vocabulary._find("demo"))
    tiny.checkpoint(folder / "run", {1: None}, vocabulary=demo, vocab_size=demo.padded_size)
    (folder / "facts.tsv").write_text("thing\tuse\ncup\ttea\nbed\tsleep\npen\tnotes\n")
    (folder / "uses_of_things.py").write_text(
        "from mto_jax.text2text.registration import register_file\n"
        f"register_file('suits', {str(folder / 'facts.tsv')!r}, phrase='is used for',"
        " fields={'head': 'thing', 'tail': 'use'})\n"
    )
    (folder / "run" / "config.gin").write_text(
        "DatasetConfig.mixture_or_task_name = 'suits_masked_prompting'\n"
        "DatasetConfig.module = 'uses_of_things'\n"
    )
    return folder


@pytest.fixture
def _words(words_run, monkeypatch):
    """The world of `words_run`: its vocabulary, and its folder to import from."""
    monkeypatch.undo()  # the vocabulary of numbers
    gin.bind_parameter("vocabulary.name", "demo")
    monkeypatch.setattr(verb, "use_compilation_cache", lambda: None)
    monkeypatch.syspath_prepend(words_run)
    monkeypatch.setattr(registration, "DATA_SETS", {})
    monkeypatch.delitem(sys.modules, "uses_of_things", raising=False)


@pytest.mark.usefixtures("_words")
def test_heads_are_put_into_the_template_of_training(words_run, tmp_path, capsys):
    (tmp_path / "in.csv").write_text('id,thing\n1,"old, cup"\n2,pen\n')
    run(words_run / "run", tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert "each row is read as suits under MaskedPrompting" in capsys.readouterr().err
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [row["thing"] for row in written] == ["old, cup", "pen"]
    assert written[0]["model_input"] == "suits: old, cup is used for <extra_id_0>"
    # As when the whole sources are given.
    sources = tmp_path / "sources.jsonl"
    texts = [json.dumps({"input": row["model_input"]}) for row in written]
    sources.write_text("".join(f"{text}\n" for text in texts))
    run(words_run / "run", sources, tmp_path / "again.jsonl")
    again = [json.loads(line) for line in (tmp_path / "again.jsonl").open()]
    assert "model_input" not in again[0]
    assert [row["raw_prediction"] for row in again] == [row["raw_prediction"] for row in written]


@pytest.mark.usefixtures("_words")
def test_a_template_needs_a_task_and_its_soft_prompt(words_run, tmp_path):
    (tmp_path / "in.txt").write_text("cup\n")
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="those of a task"):
        run(words_run / "run", source, target, task="none", template="Mapping")
    with pytest.raises(UserError, match="wants 10 rows of a soft prompt, but the model has 0"):
        run(words_run / "run", source, target, task="suits", template="PrePT")


def test_whole_command_without_tensorflow(tmp_path):
    """`mto infer` and everything that `mto evaluate` imports, in a process of its own."""
    demo = vocabulary.load(vocabulary._find("demo"))
    config = {"vocab_size": demo.padded_size}
    tiny.checkpoint(tmp_path / "run", {1: None}, vocabulary=demo, **config)
    program = f"""
import sys
from mto_jax import cli
import mto_jax.commands.evaluate
cli.run("infer", ["--gin_file=runs/infer.gin", "--gin.VOCABULARY=demo",
    "--gin.MODEL_DIR={tmp_path / "run"}", "--gin.Decoding.max_length=4"])
assert "tensorflow" not in sys.modules and "seqio" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input="a cup is used for\n", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["input"] == "a cup is used for"


def test_a_soft_prompt_stands_where_the_input_says(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints.Checkpoint, "model", lambda *_: tiny.prompted(rows=3))
    gin.bind_parameter("SoftPrompt.length", 2)
    gin.bind_parameter("SoftPrompt.decoder_length", 1)
    source = tmp_path / "in.txt"
    source.write_text("5 <prompt> 6 7\n8 9\n")
    run(run_dir, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    first, second, third = (VOCABULARY.soft_id(row) for row in range(3))
    inputs = [[5, first, second, 6, 7, 1], [8, 9, 1]]
    expected = decode(tiny.prompted(rows=3), inputs, HOW, VOCABULARY, soft_prefix=[third])
    said = [VOCABULARY.decode(outputs[0].tokens) for outputs in expected]
    assert [row["raw_prediction"] for row in rows] == said
    assert "was not used" not in capsys.readouterr().err

    source.write_text("8 9\n")
    run(run_dir, source, tmp_path / "out.jsonl")
    assert "no input has <prompt>" in capsys.readouterr().err
    source.write_text("5 <shared_prompt>\n")
    with pytest.raises(
        UserError, match=r"wants row 4 of the model's soft prompt, which has 3 rows"
    ):
        run(run_dir, source, tmp_path / "other.jsonl")
