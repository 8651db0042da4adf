# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""ConceptNet-100K: small files of both forms, bad rows, the real files."""

import gzip

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.tasks import conceptnet
from mto_jax.text2text import few_shot, phrases, registration, templates


@pytest.fixture(autouse=True)
def _registered():
    gin.parse_config("vocabulary.name = 'demo'")
    conceptnet.register()


def source(relation: str):
    return registration.DATA_SETS[f"conceptnet_{relation}"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    path = tmp_path / "conceptnet_li2016"
    path.mkdir()
    return path


def test_every_relation_has_every_template_in_its_words(folder):
    (folder / "test.txt").write_text("UsedFor\tknife\tcut bread\n")
    known = set(seqio.TaskRegistry.names())
    assert len(phrases.CONCEPTNET) == 34
    for relation, phrase in phrases.CONCEPTNET.items():
        templates.check_phrase(phrase)
        assert {
            f"conceptnet_{relation}_{template.snake_name}"
            for template in templates.templates_for("triple")
        } <= known
    task = seqio.TaskRegistry.get("conceptnet_UsedFor_masked_prompting")
    (row,) = task.get_dataset({"inputs": 64, "targets": 32}, split="test").as_numpy_iterator()
    assert row["inputs_pretokenized"] == b"UsedFor: knife is used for <extra_id_0>"
    assert row["targets_pretokenized"] == b"<extra_id_0> cut bread"


def test_the_authors_files(folder):
    train = "IsA\tdog\tanimal\t3.4\nIsA\tcat\tpet\t2.0\nHasA\tcat\ttail\t1.5\n"
    (folder / "train100k.txt.gz").write_bytes(gzip.compress(train.encode()))
    (folder / "dev1.txt").write_text("IsA\tcow\tanimal\t1\nIsA\tcow\tmachine\t0\n")
    (folder / "test.txt").write_text("IsA\tcat\tanimal\t1\nIsA\tstone\tbird\t0\n")
    kept = {s: source("IsA").records_of(s) for s in ("train", "validation", "test")}
    assert [(r.head, r.tails) for r in kept["train"]] == [("dog", ("animal",))]
    assert [(r.head, r.tails) for r in kept["validation"]] == [("cow", ("animal",))]
    assert [(r.head, r.tails) for r in kept["test"]] == [("cat", ("animal",))]
    assert source("IsA").report["train"]["dropped: the head is in validation or test"] == 1
    assert [r.head for r in source("HasA").records_of("train")] == ["cat"]
    assert source("PartOf").records_of("test") == []


@pytest.mark.parametrize(
    "row, message",
    [
        ("Isa\ta\tb", "line 2: the field 'relation' is 'Isa', which has no phrase"),
        ("IsA\t \tb", r"line 2: the field 'head' \(column 'head'\) is empty"),
        ("IsA\ta\t\u200b", r"line 2: the field 'tail' \(column 'tail'\) is empty"),
        ("IsA\ta", "line 2: 2 fields, expected 3 or 4"),
        ("IsA\ta\tb\tyes", "line 2: the field 'confidence' is 'yes', which is no number"),
    ],
)
def test_bad_rows(folder, row, message):
    (folder / "test.txt").write_text(f"IsA\tdog\tanimal\n{row}\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"conceptnet_li2016/test\.txt, {message}"):
        source("IsA").records_of("test")


# ---- Real data --------------------------------------------------------------------------------


def test_real_relations(data_dir):
    read = dict.fromkeys(("train", "validation", "test"), 0)
    for relation in phrases.CONCEPTNET:
        for split in read:
            source(relation).records_of(split)
            read[split] += source(relation).report[split]["read"]
    assert read == {"train": 99562, "validation": 1193, "test": 1196}
    records = source("UsedFor")
    train, test = records.records_of("train"), records.records_of("test")
    assert (len(train), len(test)) == (10807, 139)
    assert not {few_shot.normal(r.head) for r in train} & {few_shot.normal(r.head) for r in test}
