# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Question answering: the form of each data set, bad rows, the real files."""

import itertools
import json

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.tasks import qa
from mto_jax.text2text import few_shot, registration, templates
from mto_jax.text2text.records import MultipleChoice


def nested(stem="where?", key="B", **more):
    choices = [{"label": "A", "text": "bank"}, {"label": "B", "text": "mall "}]
    return {"question": {"stem": stem, "choices": choices}, "answerKey": key, **more}


ROWS = [
    (
        qa.LabelledChoices("commonsenseqa"),
        nested(),
        MultipleChoice("commonsenseqa", "where?", ("bank", "mall"), 1),
    ),
    (
        qa.LabelledChoices("openbookqa", with_fact=True),
        nested(fact1="malls sell"),
        MultipleChoice("openbookqa", "where?", ("bank", "mall"), 1, fact="malls sell"),
    ),
    (
        qa.YesNo("commonsenseqa2"),
        {"question": "birds fly", "answer": "no"},
        MultipleChoice("commonsenseqa2", "birds fly", ("yes", "no"), 1),
    ),
    (
        qa.YesNo("strategyqa"),
        {"qid": "1", "question": "Can a hen fly?", "answer": False, "facts": []},
        MultipleChoice("strategyqa", "Can a hen fly?", ("yes", "no"), 1),
    ),
    (
        qa.Arc("arc_easy"),
        nested() | {"id": "1"},
        MultipleChoice("arc_easy", "where?", ("bank", "mall"), 1),
    ),
    (
        qa.Arc("arc_easy"),
        {"question": "where?", "choices": {"text": ["bank", "mall"], "label": ["1", "2"]}}
        | {"answerKey": "2"},
        MultipleChoice("arc_easy", "where?", ("bank", "mall"), 1),
    ),
    (
        qa.Arc("arc_easy"),
        {"query": "Question: where?", "choices": ["bank", "mall"], "gold": 0},
        MultipleChoice("arc_easy", "where?", ("bank", "mall"), 0),
    ),
    (
        qa.hellaswag,
        {"ind": 4, "ctx_a": "Ann runs.", "ctx_b": "She", "ctx": "Ann runs. She", "label": 1}
        | {"endings": ["is a lake.", "falls.", "flies.", "is 3."]},
        MultipleChoice(
            "hellaswag", "Ann runs. She", ("is a lake.", "falls.", "flies.", "is 3."), 1
        ),
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
        qa.copa,
        {"premise": "It rained.", "choice1": "a", "choice2": "b", "question": "cause", "idx": 3},
        None,
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
        (
            qa.LabelledChoices("csqa"),
            nested(key="E"),
            "'answer' is 'E', which is not among the choices",
        ),
        (qa.LabelledChoices("csqa"), nested(stem=" "), r"'question' .* is empty"),
        (qa.LabelledChoices("obqa", with_fact=True), nested(), "no column 'fact1'"),
        (qa._PIQA, {"goal": "x", "sol1": "y", "label": 0}, "no column 'sol2'"),
        (qa.YesNo("csqa2"), {"question": "x"}, "no column 'answer'"),
        (qa.YesNo("csqa2"), {"question": "x", "answer": "maybe"}, "not among the choices"),
    ],
)
def test_bad_rows(build, row, message):
    with pytest.raises(UserError, match=message):
        build(row)


@pytest.mark.parametrize("name", qa.SETS)
def test_every_set_has_every_template(name):
    gin.parse_config("vocabulary.name = 'demo'")
    qa.register()
    known = set(seqio.TaskRegistry.names())
    applicable = templates.templates_for("multiple_choice")
    assert {f"{name}_{template.snake_name}" for template in applicable} <= known


# A row of each set as TFDS has it, in the types of its features, and the record that it gives.
TFDS_ROWS = {
    "openbookqa": (
        {"question": {"stem": "where?"} | {f"choice_{x}": f"place {x}" for x in "ABCD"}}
        | {"fact1": "", "humanScore": 1.0, "clarity": 1.0, "turkIdAnonymized": "", "answerKey": 2},
        MultipleChoice("openbookqa", "where?", tuple(f"place {x}" for x in "ABCD"), 2),
    ),
    "arc_challenge": (
        {"question": "where?", "choices": {"text": ["bank", "mall"], "label": [0, 1]}}
        | {"id": "1", "answerKey": 1},
        MultipleChoice("arc_challenge", "where?", ("bank", "mall"), 1),
    ),
    "hellaswag": (
        {"context": "She", "endings": ["runs.", "falls."], "label": 1, "activity_label": ""}
        | {"source_id": "", "split_type": ""},
        MultipleChoice("hellaswag", "She", ("runs.", "falls."), 1),
    ),
    "piqa": (
        {"id": "1", "goal": "open it", "sol1": "pull", "sol2": "push", "label": 1},
        MultipleChoice("piqa", "open it", ("pull", "push"), 1),
    ),
}


@pytest.mark.parametrize("name", TFDS_ROWS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_sets_of_tfds(name, split, monkeypatch, tmp_path):
    import tensorflow as tf

    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr("mto_jax.text2text.tfds._check_connection", lambda: None)
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))  # holds no file
    row, expected = TFDS_ROWS[name]

    def dataset(builder, *args, **settings):
        assert tf.nest.map_structure(lambda _: 0, row, expand_composites=True).keys() == set(
            builder.info.features
        )
        return tf.data.Dataset.from_tensors(tf.nest.map_structure(tf.constant, row))

    with tfds.testing.mock_data(num_examples=1, as_dataset_fn=dataset):
        assert list(qa.SETS[name][split]()) == [expected]


def test_arc_in_its_authors_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    (tmp_path / "arc").mkdir()
    for split in ("Train", "Dev", "Test"):
        text = json.dumps(nested(stem=f"{split}?")) + "\n"
        (tmp_path / "arc" / f"ARC-Challenge-{split}.jsonl").write_text(text)
    questions = [
        next(iter(qa.SETS["arc_challenge"][split]())).question
        for split in ("train", "validation", "test")
    ]
    assert questions == ["Train?", "Dev?", "Test?"]
    monkeypatch.setattr("mto_jax.text2text.tfds._check_connection", _offline)
    with pytest.raises(UserError, match="no file arc/ARC-Easy-Train.jsonl"):
        list(qa.SETS["arc_easy"]["train"]())


def _offline():
    raise ConnectionError("no route to host")


def test_strategyqa_is_one_list_divided_by_heads(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    (tmp_path / "strategyqa").mkdir()
    rows = [{"qid": str(i), "question": f"Is it {i}?", "answer": i % 2 == 0} for i in range(90)]
    path = tmp_path / "strategyqa" / "strategyqa_train.json"
    path.write_text(json.dumps(rows, indent=2))
    parts = [[r.question for r in reader()] for reader in qa.SETS["strategyqa"].values()]
    assert sorted(itertools.chain(*parts)) == sorted(row["question"] for row in rows)
    assert len(parts[0]) > 60
    assert all(parts)
    path.write_text(json.dumps([*rows[:2], {"question": "Is it?"}], indent=2))
    with pytest.raises(
        UserError, match=r"strategyqa_train.json, line 12: there is no column 'answer'"
    ):
        [list(reader()) for reader in qa.SETS["strategyqa"].values()]


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
    "arc_challenge": (1056, 1172, 1172),
    "strategyqa": (1317, 168, 171),
}
# Where there is no training file.
HELD_OUT_COUNTS = {"hellaswag": 2000, "arc_easy": 2376}


@pytest.fixture
def _registered(data_dir):
    gin.parse_config(f"vocabulary.name = '{data_dir}/vocab/t5_sentencepiece.model'")
    qa.register()


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("name", COUNTS)
def test_real_sets(name):
    source = registration.DATA_SETS[name]
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
@pytest.mark.parametrize("name", HELD_OUT_COUNTS)
def test_real_sets_without_training_questions(name):
    source = registration.DATA_SETS[name]
    records = source.records_of("test")
    assert len(records) == HELD_OUT_COUNTS[name]
    assert {record.answer for record in records} == {0, 1, 2, 3}
    assert all(
        len(record.choices) == 4 and not record.question.startswith("Q") for record in records[:9]
    )


def test_openbookqa_of_the_hub():
    choices = {"text": ["light", "dark"], "label": ["A", "B"]}
    row = {"id": "7", "question_stem": "The sun gives", "choices": choices, "answerKey": "A"}
    record = qa.LabelledChoices("openbookqa")(row)
    assert record == MultipleChoice("openbookqa", "The sun gives", ("light", "dark"), 0)
    with pytest.raises(UserError, match=r"entry 2 of the field 'choices' .* holds null"):
        qa.LabelledChoices("openbookqa")(row | {"choices": choices | {"text": ["light", None]}})
