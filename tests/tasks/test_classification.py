# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Labelled texts: local files, TFDS (mocked), bad rows, the real files."""

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.tasks import classification, qa
from mto_jax.text2text import registration
from mto_jax.text2text.records import LabelledText
from mto_jax.text2text.tfds import TfdsRecords


@pytest.fixture
def connected(monkeypatch):
    monkeypatch.setattr("mto_jax.text2text.tfds._check_connection", lambda: None)


def reader(name: str, split: str = "train"):
    return classification._splits(name, classification.SETS[name])[split]


def build(name: str, row: dict) -> LabelledText | None:
    return reader(name).local.build(row)


@pytest.mark.parametrize(
    "name, row, expected",
    [
        ("sst2", {"sentence": "warm ", "label": "1"}, ("warm", "positive", "")),
        (
            "cola",
            {"source": "x", "label": "0", "mark": "*", "sentence": "It."},
            ("It.", "unacceptable", ""),
        ),
        ("mrpc", {"Quality": "1", "#1 String": "a", "#2 String": "b"}, ("a", "equivalent", "b")),
        (
            "mnli",
            {"sentence1": "a", "sentence2": "b", "gold_label": "neutral"},
            ("a", "neutral", "b"),
        ),
        (
            "mnli",
            {"premise": "a", "hypothesis": "b", "label": "entailment"},
            ("a", "entailment", "b"),
        ),
        (
            "rte",
            {"premise": "a", "hypothesis": "b", "label": "not_entailment"},
            ("a", "contradiction", "b"),
        ),
        ("boolq", {"passage": "p", "question": "q", "label": True}, ("p", "yes", "q")),
        ("cb", {"premise": "a", "hypothesis": "b", "label": "neutral"}, ("a", "neutral", "b")),
        (
            "wic",
            {"word": "w", "sentence1": "a", "sentence2": "b", "label": False},
            ("w: a", "no", "b"),
        ),
        (
            "multirc",
            {"paragraph": "p", "question": "q?", "answer": "a", "label": "True"},
            ("p", "yes", "q? a"),
        ),
        ("stsb", {"sentence1": "a", "sentence2": "b", "score": "3.273"}, ("a", "3.2", "b")),
        ("stsb", {"sentence1": "a", "sentence2": "b", "label": 5.0}, ("a", "5.0", "b")),
        (
            "wsc",
            {
                "text": "Ann met Eve; she ran.",
                "span1_text": "Ann",
                "span2_text": "she",
                "label": "False",
            },
            ("Ann met Eve; she ran.", "no", "she refers to Ann"),
        ),
        (
            "wsc",  # the authors' form
            {
                "text": "Ann met Eve; she ran.",
                "target": {"span1_text": "Ann", "span2_text": "she"},
                "label": False,
            },
            ("Ann met Eve; she ran.", "no", "she refers to Ann"),
        ),
    ],
)
def test_forms(name, row, expected):
    text, label, text2 = expected
    assert build(name, row) == LabelledText(name, text, label, text2)


def test_rows_without_a_label_are_left_out():
    assert build("mnli", {"sentence1": "a", "sentence2": "b", "gold_label": "-"}) is None


@pytest.mark.parametrize(
    "row, message",
    [
        ({"sentence": "x", "label": "2"}, "'label' .* is '2', which is not in the label set"),
        ({"sentence": "", "label": "1"}, "'text' .* is empty"),
        ({"sentence": "x"}, "no column 'label'"),
    ],
)
def test_bad_rows(row, message):
    with pytest.raises(UserError, match=message):
        build("sst2", row)


def test_every_label_has_a_related_word_and_is_distinct():
    for texts in classification.SETS.values():
        words = set(texts.labels.values())
        assert len(words) >= 2
        assert not texts.related or words <= set(texts.related)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("name", classification.SETS)
def test_tfds_has_the_fields_that_are_read(name, monkeypatch):
    """TFDS knows the fields and classes of its sets without their data: random texts in real
    fields."""
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.delenv("MTO_DATA_DIR", raising=False)
    with tfds.testing.mock_data(num_examples=4):
        records = [record for split in ("train", "test") for record in reader(name, split)()]
    labels = set(classification.SETS[name].labels.values())
    assert len(records) == 8
    assert all(isinstance(record, LabelledText) and record.label in labels for record in records)


@pytest.mark.usefixtures("connected")
def test_record_and_imdb_of_tfds(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.delenv("MTO_DATA_DIR", raising=False)
    with tfds.testing.mock_data(num_examples=2):
        assert {record.label for record in classification.ImdbFolder("test")()} <= {
            "negative",
            "positive",
        }
        # No answer of random text is an entity, so every row is left out.
        assert list(qa.SETS["record"]["train"]()) == []


def test_what_is_nowhere_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    import requests

    def offline(*args, **settings):
        raise ConnectionError("no route to host\nat all")

    monkeypatch.setattr(requests, "head", offline)
    with pytest.raises(
        UserError, match=r"no file sst2/train.tsv nor .*glue/sst2.*\(no route to host\)"
    ):
        list(reader("sst2")())
    with pytest.raises(UserError, match=r"imdb_reviews.*tfds build"):
        list(classification.ImdbFolder("train")())


@pytest.mark.usefixtures("connected")
def test_bad_rows_of_tfds_are_named(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def refuse(row):
        raise UserError("the field 'label' is wrong")

    with (
        tfds.testing.mock_data(num_examples=1),
        pytest.raises(UserError, match="glue/sst2, train, row 0: the field"),
    ):
        list(TfdsRecords("glue/sst2", "train", refuse)())


def test_imdb_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    for name, text in {"neg": "Bad.<br />Very bad.", "pos": "Good."}.items():
        folder = tmp_path / "aclImdb" / "train" / name
        folder.mkdir(parents=True)
        (folder / "0_1.txt").write_text(text)
    assert list(classification.ImdbFolder("train")()) == [
        LabelledText("imdb", "Bad. Very bad.", "negative"),
        LabelledText("imdb", "Good.", "positive"),
    ]
    assert len(classification.ImdbFolder("train").paths()) == 2


# ---- Real data --------------------------------------------------------------------------------

# Rows of the shared data: train as read, validation, test.
COUNTS = {
    "sst2": (30000, 672, 672),
    "mrpc": (4076, 1725, 1725),
    "rte": (2490, 277, 277),
    "cola": (8551, 527, 516),
    "boolq": (32, 2000, 2000),
    "cb": (220, 56, 56),
    "wic": (32, 638, 638),
}


@pytest.fixture
def _registered(data_dir):
    gin.parse_config(f"vocabulary.name = '{data_dir}/vocab/t5_sentencepiece.model'")
    classification.register()


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("name", COUNTS)
def test_real_sets(name):
    source = registration.DATA_SETS[name]
    train, validation, test = (
        source.records_of(split) for split in ("train", "validation", "test")
    )
    assert (source.report["train"]["read"], len(validation), len(test)) == COUNTS[name]
    labels = set(classification.SETS[name].labels.values())
    assert {record.label for record in train} == {record.label for record in validation} == labels


@pytest.mark.usefixtures("_registered")
def test_real_examples():
    lengths = {"inputs": 64, "targets": 8}
    task = seqio.TaskRegistry.get("boolq_masked_prompting")
    rows = list(
        task.get_dataset(lengths, split="validation", shuffle=False).take(200).as_numpy_iterator()
    )
    vocab = task.output_features["inputs"].vocabulary
    for row in rows:
        assert len(row["inputs"]) <= 64
        # However long the passage, the question's name and the gap are there.
        assert "question:" in vocab.decode(row["inputs"].tolist())
        assert row["inputs"][-2] == 32099
        assert [choice.decode() for choice in row["choices"]] == [
            "<extra_id_0> yes",
            "<extra_id_0> no",
        ]
    assert sum(row["inputs_truncated"] for row in rows) > 100
