# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Free generation: the form of each data set, the real files."""

import json

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.tasks import generation
from mto_jax.text2text import registration, templates
from mto_jax.text2text.records import Generation


@pytest.fixture(autouse=True)
def _registered(tmp_path, monkeypatch):
    gin.parse_config("vocabulary.name = 'demo'")
    generation.register()


def source(name):
    return registration.DATA_SETS[name]


def first(task: str, lengths: dict[str, int]) -> dict:
    dataset = seqio.TaskRegistry.get(task).get_dataset(lengths, split="validation", shuffle=False)
    return next(dataset.take(1).as_numpy_iterator())


@pytest.mark.parametrize("name", ["commongen", "dialogsum"])
def test_every_template(name):
    known = set(seqio.TaskRegistry.names())
    applicable = templates.templates_for("generation")
    assert {f"{name}_{template.snake_name}" for template in applicable} <= known


def test_small_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    for folder in ("commongen", "dialogsum"):
        (tmp_path / folder).mkdir()
    for part, concepts in {
        "train": "dog ball\ndog ball\ncat milk\n",
        "dev": "dog run\ndog run\n",
    }.items():
        (tmp_path / f"commongen/commongen.{part}.src_alpha.txt").write_text(concepts)
        sentences = [f"A {c} {i}.\n" for i, c in enumerate(concepts.split("\n")[:-1])]
        (tmp_path / f"commongen/commongen.{part}.tgt.txt").write_text("".join(sentences))
    assert [r.targets for r in source("commongen").records_of("test")] == [
        ("A dog run 0.", "A dog run 1.")
    ]
    assert len(source("commongen").records_of("train")) == 3
    (tmp_path / "commongen/commongen.train.tgt.txt").unlink()
    with pytest.raises(
        UserError, match=r"train\.src_alpha\.txt, line 1: .*'target'.*no file .*train\.tgt\.txt"
    ):
        list(source("commongen").readers["train"]())

    row = {"fname": "1", "dialogue": "#Person1#: Hi.\n#Person2#: Hello.", "topic": "greeting"}
    path = tmp_path / "dialogsum/dialogsum.dev.jsonl"
    path.write_text(json.dumps(row | {"summary": "They greet."}) + "\n")
    test = row | {
        f"summary{i}": text for i, text in enumerate(("They greet.", "Greetings.", "Greetings."), 1)
    }
    (tmp_path / "dialogsum/dialogsum.test.jsonl").write_text(json.dumps(test) + "\n")
    (record,) = source("dialogsum").records_of("validation")
    assert record == Generation("dialogsum", row["dialogue"], ("They greet.",))
    assert source("dialogsum").records_of("test")[0].targets == ("They greet.", "Greetings.")
    example = first("dialogsum_masked_prompting", {"inputs": 56, "targets": 16})
    assert (
        example["inputs_pretokenized"].decode().endswith("#Person2#: Hello. summary: <extra_id_0>")
    )
    assert len(example["inputs"]) == 56  # the dialogue gave way, not the words around it
    assert example["inputs_truncated"] == 1
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"dev\.jsonl, line 1: there is no column 'summary'"):
        list(source("dialogsum").readers["validation"]())


# ---- Real data --------------------------------------------------------------------------------


def test_real_sets(data_dir):
    row = first("commongen_masked_prompting", {"inputs": 64, "targets": 48})
    assert row["inputs_pretokenized"] == b"commongen: concepts: field stand look <extra_id_0>"
    assert len(row["references"]) > 1
    assert source("commongen").report["validation"]["read"] == 4018
    assert len(source("commongen").records_of("validation")) == 993  # concept sets
    for split, summaries in (("validation", 1), ("test", 3)):
        records = source("dialogsum").records_of(split)
        assert len(records) == 500
        assert max(len(record.targets) for record in records) == summaries
