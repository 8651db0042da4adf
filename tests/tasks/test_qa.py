# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Question answering: the form of each data set, bad rows, the real files."""

import gin
import pytest
import seqio

from mto_jax import few_shot
from mto_jax.errors import UserError
from mto_jax.records import MultipleChoice
from mto_jax.tasks import generation, qa


def nested(stem="where?", key="B", **more):
    choices = [{"label": "A", "text": "bank"}, {"label": "B", "text": "mall "}]
    return {"question": {"stem": stem, "choices": choices}, "answerKey": key, **more}


ROWS = [
    (
        qa.NestedRow("commonsenseqa"),
        nested(),
        MultipleChoice("commonsenseqa", "where?", ("bank", "mall"), 1),
    ),
    (
        qa.NestedRow("openbookqa", with_fact=True),
        nested(fact1="malls sell"),
        MultipleChoice("openbookqa", "where?", ("bank", "mall"), 1, fact="malls sell"),
    ),
    (
        qa.commonsenseqa2,
        {"question": "birds fly", "answer": "no"},
        MultipleChoice("commonsenseqa2", "birds fly", ("yes", "no"), 1),
    ),
    (
        qa._PIQA,
        {"goal": "open it", "sol1": "pull", "sol2": "push", "label": 1},
        MultipleChoice("piqa", "open it", ("pull", "push"), 1),
    ),
    (
        qa._SOCIAL,
        {"context": "Ann ran.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c"}
        | {"label": "3"},
        MultipleChoice("socialiqa", "Why?", ("a", "b", "c"), 2, context="Ann ran."),
    ),
    (
        qa._WINOGRANDE,
        {"sentence": "Ann met Eve, _ ran.", "option1": "Ann", "option2": "Eve", "answer": "2"},
        MultipleChoice("winogrande", "Ann met Eve, _ ran.", ("Ann", "Eve"), 1),
    ),
    (
        qa.copa,
        {"premise": "It rained.", "choice1": "a", "choice2": "b", "question": "effect", "label": 1},
        MultipleChoice("copa", "What happened as a result?", ("a", "b"), 1, context="It rained."),
    ),
    (
        qa.copa,
        {"premise": "It rained.", "choice1": "a", "choice2": "b", "question": "cause"}
        | {"label": "choice1"},
        MultipleChoice("copa", "What was the cause?", ("a", "b"), 0, context="It rained."),
    ),
    (
        qa.record,
        {"passage": "Ann ran.\n@highlight\nEve.", "query": "@placeholder ran"}
        | {"entities": ["Eve", "Ann", "Eve"], "answers": ["Ann"]},
        MultipleChoice("record", "@placeholder ran", ("Eve", "Ann"), 1, context="Ann ran. Eve."),
    ),
]


@pytest.mark.parametrize("build, row, expected", ROWS)
def test_forms(build, row, expected):
    assert build(row) == expected


@pytest.mark.parametrize(
    "build, row, message",
    [
        (qa.NestedRow("csqa"), nested(key="E"), "'answer' is 'E', which is not among the choices"),
        (qa.NestedRow("csqa"), nested(stem=" "), r"'question' .* is empty"),
        (qa.NestedRow("obqa", with_fact=True), nested(), "no column 'fact1'"),
        (qa._PIQA, {"goal": "x", "sol1": "y", "label": 0}, "no column 'sol2'"),
        (qa.commonsenseqa2, {"question": "x"}, "no column 'answer'"),
        (qa.commonsenseqa2, {"question": "x", "answer": "maybe"}, "not among the choices"),
    ],
)
def test_bad_rows(build, row, message):
    with pytest.raises(UserError, match=message):
        build(row)


def test_labels_in_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    (tmp_path / "piqa").mkdir()
    row = '{"goal": "open it", "sol1": "pull", "sol2": "push"}\n'
    (tmp_path / "piqa" / "valid.jsonl").write_text(row * 2)
    (tmp_path / "piqa" / "valid-labels.lst").write_text("1\n0\n")
    records = list(qa.SETS["piqa"]["validation"]())
    assert [record.answer for record in records] == [1, 0]


def test_the_test_set_is_the_validation_set_where_labels_are_hidden():
    for name in ("commonsenseqa", "piqa", "socialiqa", "winogrande"):
        assert qa.SETS[name]["test"] == qa.SETS[name]["validation"]
    for name in ("openbookqa", "copa"):
        assert qa.SETS[name]["test"] != qa.SETS[name]["validation"]


# ---- Real data --------------------------------------------------------------------------------

# Records in the files of the shared data: train as read, validation, test.
COUNTS = {
    "commonsenseqa": (9741, 921, 921),
    "openbookqa": (4957, 500, 500),
    "piqa": (5995, 1838, 1838),
    "socialiqa": (7000, 1954, 1954),
    "copa": (400, 100, 300),
    "winogrande": (2558, 1267, 1267),
    "winogrande_xs": (160, 1267, 1267),
}


@pytest.fixture
def _registered(data_dir):
    gin.parse_config(f"vocabulary.name = '{data_dir}/vocab/t5_sentencepiece.model'")
    qa.register()
    generation.register()


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("name", COUNTS)
def test_real_sets(name):
    source = seqio.TaskRegistry.get(f"{name}_answer_prompting").source
    train, validation, test = (
        source.records_of(split) for split in ("train", "validation", "test")
    )
    report = source.report["train"]
    assert (report["read"], len(validation), len(test)) == COUNTS[name]
    held_out = {few_shot.normal(record.head) for record in validation + test}
    assert not held_out & {few_shot.normal(record.head) for record in train}
    answers = {record.answer for record in train}
    assert answers == set(range(len(train[0].choices)))  # every place is right at times


@pytest.mark.usefixtures("_registered")
def test_real_examples():
    task = seqio.TaskRegistry.get("commonsenseqa_masked_choice_prompting")
    gin.parse_config("few_shot.shots = 30")
    rows = list(task.get_dataset({"inputs": 200, "targets": 32}, split="train").as_numpy_iterator())
    assert len(rows) == 30
    for row in rows:
        source, target = (row[f"{key}_pretokenized"].decode() for key in ("inputs", "targets"))
        assert source.startswith("commonsenseqa: ")
        assert source.endswith(" <extra_id_0>, the correct choice is <extra_id_1>")
        assert len(row["choices"]) == 5
        answer, number = target.removeprefix("<extra_id_0> ").split(" <extra_id_1> ")
        assert f"{number}: {answer}" in source


@pytest.mark.usefixtures("_registered")
def test_commongen():
    task = seqio.TaskRegistry.get("commongen_masked_prompting")
    row = next(
        task.get_dataset({"inputs": 64, "targets": 48}, split="validation", shuffle=False)
        .take(1)
        .as_numpy_iterator()
    )
    assert row["inputs_pretokenized"] == b"commongen: concepts: field stand look <extra_id_0>"
    assert len(row["references"]) > 1
    assert task.source.report["validation"]["read"] == 4018
    assert len(task.source.records_of("validation")) == 993  # concept sets
