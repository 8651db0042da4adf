# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows of files as inputs: as they are, or under the template of a task."""

import json
import sys
import types

import gin
import pytest

from mto_jax import checkpoints
from mto_jax.decoding import inputs
from mto_jax.decoding.inputs import Rendering
from mto_jax.errors import UserError
from mto_jax.text2text import registration, vocabulary
from tests.decoding import tiny


# SeqIO keeps a task, and the place of its file, for a whole session.
@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A run trained on the task `serves` of a module, one without a task, and the module."""
    folder = tmp_path_factory.mktemp("serves")
    for name in ("run", "untold"):
        tiny.checkpoint(folder / name, {1: None})
    (folder / "facts.tsv").write_text("thing\tuse\ncup\ttea\nbed\tsleep\npen\tnotes\n")
    (folder / "uses_of_things.py").write_text(
        "from mto_jax.text2text.registration import register_file\n"
        f"register_file('serves', {str(folder / 'facts.tsv')!r}, phrase='is used for',"
        " fields={'head': 'thing', 'tail': 'use'})\n"
    )
    (folder / "run" / "config.gin").write_text(
        "DatasetConfig.mixture_or_task_name = 'serves_masked_prompting'\n"
        "DatasetConfig.module = 'uses_of_things'\n"
    )
    return folder


@pytest.fixture(autouse=True)
def _module(folder, monkeypatch):
    gin.bind_parameter("vocabulary.name", "demo")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(registration, "DATA_SETS", {})
    monkeypatch.delitem(sys.modules, "uses_of_things", raising=False)


@pytest.fixture
def trained(folder):
    return checkpoints.open(folder / "run")


@pytest.fixture
def untold(folder):
    return checkpoints.open(folder / "untold")


def serves(checkpoint, template=None, fields=None):
    return Rendering.of("serves", template, fields, "uses_of_things", checkpoint)


@pytest.fixture
def lines(tmp_path):
    def make(name, content):
        (tmp_path / name).write_text(content)
        return list(inputs.read(str(tmp_path / name)))

    return make


@pytest.mark.parametrize(
    "name, content, heads, rows",
    [
        ("in.txt", "old cup\n", ["old cup"], [{"input": "old cup"}]),
        ("in.csv", 'id,thing\n1,"old, cup"\n', ["old, cup"], [{"id": "1", "thing": "old, cup"}]),
        (
            *("in.tsv", "use\tthing\n\tcup\nx\tpen\n", ["cup", "pen"]),
            [{"use": "", "thing": "cup"}, {"use": "x", "thing": "pen"}],
        ),
        ("in.jsonl", '{"thing": "cup", "n": [1]}\n', ["cup"], [{"thing": "cup", "n": [1]}]),
    ],
)
def test_rows_under_the_template_of_training(trained, lines, name, content, heads, rows):
    entries = list(inputs.inputs(lines(name, content), serves(trained)))
    assert [e.source for e in entries] == [f"serves: {h} is used for <extra_id_0>" for h in heads]
    assert [e.row for e in entries] == rows
    assert all(e.slots == 1 for e in entries)


def test_another_template_and_other_columns(trained, lines):
    read = lines("in.csv", "tool\ncup\n")
    with pytest.raises(UserError, match=r"in.csv, line 2: .*no column 'thing'.*infer.fields"):
        list(inputs.inputs(read, serves(trained)))
    (entry,) = inputs.inputs(read, serves(trained, "Mapping", {"head": "tool"}))
    assert entry.source == "serves: cup"
    with pytest.raises(UserError, match=r"template of serves called 'Maping'.*'Mapping'"):
        serves(trained, "Maping")
    with pytest.raises(UserError, match=r"There is no task .*'servs'.*'serves'"):
        Rendering.of("servs", None, None, "uses_of_things", trained)


def test_the_template_is_named_or_of_training_or_of_the_mapping(trained, untold):
    assert serves(trained).template.name == "MaskedPrompting"
    with pytest.raises(
        UserError, match=r"does not say which template .*--template, one of Mapping"
    ):
        serves(untold)
    gin.bind_parameter("mapping.tasks", {"serves": ("lm", "Prompting")})
    assert serves(untold).template.name == "Prompting"
    assert serves(trained).template.name == "MaskedPrompting"
    assert serves(trained, "Mapping").template.name == "Mapping"


@pytest.mark.parametrize(
    "name, content, rendered",
    [
        ("in.txt", "cup\n", True),
        ("in.csv", "thing\ncup\n", True),
        ("in.csv", "thing,input\ncup,5\n", True),
        ("in.txt", "serves: cup is used for\n", False),
        ("in.txt", "other: cup <extra_id_0>\n", False),
        ("in.txt", "<prompt> cup\n", False),
        ("in.csv", "input\ncup\n", False),
        ("in.csv", "thing\n''\n", True),
    ],
)
def test_the_task_of_training_is_taken_unless_rows_are_sources(
    trained, lines, capsys, name, content, rendered
):
    rendering = Rendering.of_training(trained, lines(name, content)[0])
    assert (rendering is not None) == rendered
    said = capsys.readouterr().err
    assert ("each row is read as serves under MaskedPrompting" in said) == rendered


def test_a_row_that_is_wrong_is_rendered_so_that_it_is_told_with_its_place(trained, lines):
    read = lines("in.jsonl", '{"thing": [5]}\n')
    rendering = Rendering.of_training(trained, read[0])
    with pytest.raises(UserError, match="in.jsonl, line 1: "):
        list(inputs.inputs(read, rendering))


def test_nothing_is_rendered_where_no_task_or_no_row_is_known(trained, untold, lines, capsys):
    assert Rendering.of_training(untold, lines("in.txt", "cup\n")[0]) is None
    assert Rendering.of_training(trained, None) is None
    assert not capsys.readouterr().err


def test_a_run_whose_task_is_not_to_be_had_says_so(trained, lines, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uses_of_things", types.ModuleType("uses_of_things"))
    assert Rendering.of_training(trained, lines("in.txt", "cup\n")[0]) is None
    assert "warning: inputs are taken as they are, not as serves_mask" in capsys.readouterr().err


def test_rows_of_a_soft_prompt(trained):
    serves(trained).check_rows(0)
    prompted = serves(trained, "PrePT")
    prompted.check_rows(10)
    with pytest.raises(UserError, match="wants 10 rows of a soft prompt, but the model has 9"):
        prompted.check_rows(9)


def test_ids_of_an_input(trained, lines):
    """EOS included; a head is cut to fit, and what has no free words is told."""
    rendering, vocab = serves(trained), vocabulary.vocabulary()
    (entry,) = inputs.inputs(lines("in.txt", "an old cup of tea\n"), rendering)
    whole = [*vocab.encode(entry.source), vocab.eos_id]
    assert rendering.tokenise(entry, vocab, len(whole)) == (whole, False)
    short, cut = rendering.tokenise(entry, vocab, len(whole) - 1)
    assert cut
    assert len(short) <= len(whole) - 1
    assert short[-2:] == whole[-2:]
    with pytest.raises(UserError, match=r"does not fit.*infer.input_length = \d+"):
        rendering.tokenise(entry, vocab, 3)


def test_what_inputs_depend_on(trained):
    first = serves(trained).as_dict()
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(serves(trained).as_dict()))
    assert first["record"] == ("serves", "Triple")
    assert first["columns"] == {"head": "thing"}
    assert first != serves(trained, "Mapping").as_dict()
    assert first != serves(trained, fields={"head": "tool"}).as_dict()


def test_rows_as_they_are(lines):
    entries = list(inputs.inputs(lines("in.jsonl", '{"input": "5 6", "n": 1}\n'), None))
    assert [(e.source, e.row, e.slots) for e in entries] == [("5 6", {"input": "5 6", "n": 1}, 1)]
    (line,) = lines("in.txt", "5 6\n")
    assert (line.row, line.table) == ({"input": "5 6"}, False)
    (line,) = lines("in.csv", "input\n5\n")
    assert (line.place.rpartition("/")[2], line.table) == ("in.csv, line 2", True)


@pytest.mark.parametrize(
    "row, message",
    [
        ('{"input": "a \\ud800"}', "line 1: half of a surrogate pair"),
        ('{"input": 5}', 'line 1: expected a text in the column "input"'),
        ('{"input": "a", "prediction": "b"}', "line 1: the column 'prediction' is one of the out"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_with_its_place(lines, row, message):
    with pytest.raises(UserError, match=message):
        list(inputs.inputs(lines("in.jsonl", f"{row}\n"), None))


def test_several_slots(trained):
    entry = serves(trained).input(inputs.Line("", {"input": "cup"}, False))
    assert entry.slots == 1
    two = types.SimpleNamespace(target_text="<extra_id_0> a <extra_id_1> b")
    assert inputs.Input({}, "", two).slots == 2
