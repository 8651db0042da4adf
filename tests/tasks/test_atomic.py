# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""ATOMIC-2020 and ATOMIC: small files of the official form, and the real ones."""

import gzip
import time

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.tasks import atomic
from mto_jax.text2text import few_shot, phrases, registration


@pytest.fixture(autouse=True)
def _registered():
    gin.parse_config("vocabulary.name = 'demo'")
    atomic.register()


NAMES = [f"atomic_{relation}" for relation in phrases.RELATIONS]
NAMES += [f"atomic2019_{relation}" for relation in atomic.RELATIONS_2019]


def source(name: str):
    return registration.DATA_SETS[name]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    (tmp_path / "atomic2020").mkdir()
    (tmp_path / "atomic_v4").mkdir()
    return tmp_path


def write(folder, train, dev="x\txWant\ty\n", test="z\txWant\ty\n"):
    for split, text in {"train": train, "dev": dev, "test": test}.items():
        (folder / "atomic2020" / f"{split}.tsv").write_text(text)


def test_registering_all_relations_and_templates_is_fast():
    started = time.perf_counter()
    atomic.register()
    assert time.perf_counter() - started < 1.0
    names = set(seqio.TaskRegistry.names())
    assert {
        f"{name}_{t}" for name in NAMES for t in ("mapping", "masked_prompting", "pre_pt")
    } <= names
    assert len(phrases.RELATIONS) == 23


def test_reading_cleaning_and_phrases(folder):
    write(
        folder,
        'PersonX says "no"\txIntent\tto refuse\n'
        'PersonX says "no"\txIntent\t\n'
        'PersonX says "no"\txIntent\tnone\n'
        "PersonX runs\txIntent\tto win\n"
        "PersonX runs\txWant\tto rest\n",
        test="personx  runs\txIntent\tto be fit\npersonx  runs\txIntent\tto win\n",
    )
    intent = source("atomic_xIntent")
    (record,) = intent.records_of("train")
    assert (record.task, record.head, record.tails) == (
        "xIntent",
        'PersonX says "no"',
        ("to refuse",),
    )
    assert intent.report["train"]["dropped: the tail is 'none' or empty"] == 2
    assert intent.report["train"]["dropped: the head is in validation or test"] == 1
    assert intent.records_of("test")[0].tails == ("to be fit", "to win")
    assert [path.rsplit("/", 1)[1] for path in intent.input_files] == [
        "dev.tsv",
        "test.tsv",
        "train.tsv",
    ]
    assert [record.tails for record in source("atomic_xWant").records_of("train")] == [("to rest",)]

    def prompt(style):
        gin.parse_config(f"relation_phrase.style = '{style}'")
        task = seqio.TaskRegistry.get("atomic_xIntent_masked_prompting")
        dataset = task.get_dataset({"inputs": 64, "targets": 32}, split="train", shuffle=False)
        return next(dataset.as_numpy_iterator())["inputs_pretokenized"].decode()

    assert prompt("postfix") == 'xIntent: PersonX says "no" because they intended <extra_id_0>'
    assert prompt("wrap") == 'xIntent: PersonX says "no" they intend <extra_id_0>'


@pytest.mark.parametrize(
    "row, message",
    [
        (
            "a\txIntend\tb",
            r"train\.tsv, line 2: the field 'relation' is 'xIntend', which has no phrase",
        ),
        ("\txIntent\tb", r"train\.tsv, line 2: the field 'head' is empty"),
        ("a\txIntent", r"train\.tsv, line 2: 2 fields, expected 3"),
    ],
)
def test_bad_rows(folder, row, message):
    write(folder, f"a\txIntent\tb\n{row}\n")
    with pytest.raises(UserError, match=message):
        source("atomic_xIntent").records_of("train")


def test_the_file_is_read_again_when_it_changes(folder):
    write(folder, "a\txIntent\tb\n")
    assert len(atomic.relation_2020("xIntent", "train")()) == 1
    time.sleep(0.01)
    write(folder, "a\txIntent\tb\nc\txIntent\td\n")
    assert len(atomic.relation_2020("xIntent", "train")()) == 2


def test_a_missing_file_or_folder(folder, monkeypatch):
    with pytest.raises(UserError, match=r"no file .*atomic2020/dev\.tsv"):
        source("atomic_xIntent").records_of("validation")
    monkeypatch.delenv("MTO_DATA_DIR")
    with pytest.raises(UserError, match="MTO_DATA_DIR is not set"):
        source("atomic_xIntent").records_of("validation")


def test_original_atomic(folder):
    header = "event," + ",".join(atomic.RELATIONS_2019) + ",prefix,split\n"
    cells = ['"[""none""]"'] * 5 + ['"[""to win"", ""to win""]"'] + ['"[]"'] * 3
    row = f'PersonX runs,{",".join(cells)},"[]",dev\n'
    (folder / "atomic_v4" / "v4_atomic_dev.csv.gz").write_bytes(
        gzip.compress((header + row).encode())
    )
    (record,) = source("atomic2019_xIntent").records_of("validation")
    assert (record.task, record.head, record.tails) == ("xIntent", "PersonX runs", ("to win",))
    assert source("atomic2019_oEffect").records_of("validation") == []
    (folder / "atomic_v4" / "v4_atomic_dev.csv.gz").write_bytes(
        gzip.compress((header + row.replace('"[]"', "oops", 1)).encode())
    )
    with pytest.raises(UserError, match=r"line 2: the field 'xNeed' is no JSON list"):
        atomic.relation_2019("xIntent", "validation")()


# ---- Real data --------------------------------------------------------------------------------


def test_real_relations(data_dir):
    for name in NAMES[:23]:
        records = source(name)
        train, test = records.records_of("train"), records.records_of("test")
        report = records.report["train"]
        assert len(train) == report["examples"] > 200
        dropped = sum(count for reason, count in report.items() if reason.startswith("dropped"))
        assert report["read"] == len(train) + dropped
        assert not {few_shot.normal(r.head) for r in train} & {
            few_shot.normal(r.head) for r in test
        }
        assert all(len(record.tails) == 1 for record in train)
        assert len({record.head for record in test}) == len(test)


def test_real_few_shot(data_dir):
    gin.parse_config(
        "few_shot.shots = 30\nevaluation_sample.heads = 100\nevaluation_sample.references = 3"
    )
    records = source("atomic_AtLocation")
    drawn = records.records_of("train")
    assert len({record.head for record in drawn}) == 30
    assert 30 <= len(drawn) <= 90
    test = records.records_of("test")
    assert len(test) == 100
    assert max(len(record.tails) for record in test) == 3
    gin.parse_config("few_shot.seed = 1")
    assert {r.head for r in records.records_of("train")} != {r.head for r in drawn}


def test_real_original_atomic(data_dir):
    records = source("atomic2019_xIntent").records_of("validation")
    assert len(records) == 1951
    assert all("none" not in record.tails for record in records)
