# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which prepared data count as fresh, and what is said when none do."""

import dataclasses
import os
import pathlib

import gin
import pytest

from mto_jax import errors
from mto_jax.data import loader, manifest
from mto_jax.text2text import few_shot  # noqa: F401  (gin learns the names)


@pytest.mark.parametrize(
    "change",
    [
        {"split": "validation"},
        {"task_feature_lengths": {"inputs": 48, "targets": 25}},
        {"seed": 1},
        {"passes": 2},
        {"limit": 10},
    ],
)
def test_another_configuration_is_another_data_set(config, prepared, tmp_path, change):
    folder = {"prepared_dir": str(tmp_path)}
    data = prepared("toy_two", **folder)
    assert manifest.find(config("toy_two", **folder)) == data
    wanted = config("toy_two", **folder, **change)
    assert manifest.find(wanted) is None
    if "split" not in change:
        (key,) = change
        key = {"task_feature_lengths": "lengths"}.get(key, key)
        assert f"{key} changed from " in manifest.why_not(wanted)


def test_the_vocabulary_counts_by_content_not_by_name(config, prepared, tmp_path):
    from mto_jax.text2text import vocabulary

    data = prepared("toy_two")
    content = pathlib.Path(vocabulary.vocabulary().path).read_bytes()
    (tmp_path / "copy.model").write_bytes(content)
    gin.bind_parameter("vocabulary.name", str(tmp_path / "copy.model"))
    assert manifest.find(config("toy_two")) == data
    proto = vocabulary.sentencepiece_model_pb2.ModelProto.FromString(content)
    proto.pieces[-1].piece = "another"
    (tmp_path / "other.model").write_bytes(proto.SerializeToString())
    gin.bind_parameter("vocabulary.name", str(tmp_path / "other.model"))
    assert manifest.find(config("toy_two")) is None
    assert "the vocabulary changed" in manifest.why_not(config("toy_two"))


def test_the_source_of_the_users_module_counts(config, tmp_path, monkeypatch):
    from mto_jax.data import prepare

    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "more_toys.py"
    (tmp_path / "more_words.py").write_text("COUNT = 3\n")
    text = "import more_words\nimport toy_tasks\n\n"
    text += "toy_tasks.add('toy_more', toy_tasks.source(more_words.COUNT, 1))\n"
    source.write_text(text)
    wanted = config("toy_more", module="more_toys", prepared_dir=str(tmp_path / "data"))
    data = prepare.prepare(wanted)
    assert [*data.manifest["code"]] == ["more_toys:", "more_words:COUNT"]
    source.write_text(f"# A comment.\n{text}")
    assert manifest.find(wanted) == data
    source.write_text(text.replace("COUNT", "COUNT + 1"))
    assert manifest.find(wanted) is None
    assert "more_toys changed" in manifest.why_not(wanted)
    with pytest.raises(errors.UserError, match="no Python module 'users_package.other'"):
        manifest.find(dataclasses.replace(wanted, module="users_package.other"))


def test_only_gin_parameters_of_the_modules_behind_a_task_count(config, prepared):
    data = prepared("toy_two")
    gin.parse_config("SHOTS = 4\nfew_shot.shots = %SHOTS")  # of records, which the toys are not
    assert manifest.bindings(config("toy_two")) == [
        "mto_jax.text2text.few_shot.few_shot.shots = 4",
        "mto_jax.text2text.vocabulary.vocabulary.name = 'demo'",
    ]
    assert manifest.find(config("toy_two")) == data
    wanted = config("demo_AtLocation_mapping", limit=5)
    from mto_jax.data import prepare

    data = prepare.prepare(wanted)
    assert data.manifest["gin"] == ["mto_jax.text2text.few_shot.few_shot.shots = 4"]
    gin.bind_parameter("DatasetConfig.seed", 5)
    assert manifest.find(wanted) == data
    gin.bind_parameter("few_shot.shots", 5)
    assert manifest.find(wanted) is None
    assert "few_shot.shots = 5" in manifest.why_not(wanted)


def test_changed_input_files_make_data_stale_and_the_old_folder_stays(config, prepared, toy_folder):
    path = toy_folder / "lines.txt"
    old = prepared("toy_lines")
    (entry,) = old.manifest["input_files"]
    assert entry["path"] == str(path)
    assert old.num_examples == 2
    # A new time stamp alone changes nothing: the content is compared.
    os.utime(path, (1, 1))
    assert manifest.find(config("toy_lines")) == old
    path.write_text("the cat sat\non a mat\nwhile rain fell\n")
    assert manifest.find(config("toy_lines")) is None
    assert f"the input {path} changed" in manifest.why_not(config("toy_lines"))
    new = prepared("toy_lines")
    assert new.num_examples == 3
    assert new.path != old.path
    assert manifest.read(old.path) == old
    # Prepared elsewhere and copied here: the raw files need not be here.
    path.rename(toy_folder / "away.txt")
    assert manifest.find(config("toy_lines")) is not None
    (toy_folder / "away.txt").rename(path)


def test_a_damaged_manifest_is_told(config, prepared, tmp_path):
    data = prepared("toy_two", prepared_dir=str(tmp_path))
    (data.path / manifest.MANIFEST).write_text("{")
    with pytest.raises(
        errors.UserError, match=r"manifest\.json cannot be read .*Delete the folder"
    ):
        manifest.find(config("toy_two", prepared_dir=str(tmp_path)))


def test_a_changed_manifest_or_length_is_found(prepared, tmp_path):
    data = prepared("toy_two", prepared_dir=str(tmp_path))
    data.check_lengths()
    path = data.path / manifest.LENGTHS
    content = path.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    zeros = content[:29] + bytes(40) + content[69:]  # in the header, which is read as Python
    for damaged in (changed, content[:-3], content[:9], zeros, b""):
        path.write_bytes(damaged)
        with pytest.raises(errors.UserError, match=r"lengths\.npy is not as it was.*Delete the f"):
            loader.train_iterator(data, batch_size=2, seed=0)
    path.unlink()
    with pytest.raises(errors.UserError, match=r"lengths\.npy is not as it was"):
        data.check_lengths()

    path = data.path / manifest.MANIFEST
    path.write_text(path.read_text().replace('"num_examples": 50', '"num_examples": 51'))
    with pytest.raises(errors.UserError, match=r"has changed since.*Delete the folder"):
        manifest.read(data.path)
