# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""hf:// paths: the cache of the hub client, without a network."""

import fnmatch
import hashlib

import huggingface_hub
import numpy as np
import pytest

from mto_jax import interop
from mto_jax.errors import UserError
from tests.interop import models

COMMIT = "0123456789" * 4


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub client in offline mode."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill(cache, folder):
    """Put the files of `folder` into the cache as the repository org/name, as the hub client does."""
    root = cache / "models--org--name"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    for file in folder.iterdir():
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        (root / "blobs" / digest).write_bytes(content)
        (root / "snapshots" / COMMIT / file.name).symlink_to(root / "blobs" / digest)
    return root


def test_offline_from_the_cache(cache, tmp_path):
    folder = models.saved(models.torch_model("t5"), tmp_path / "model")
    fill(cache, folder)
    for path in ("hf://org/name", "hf://org/name@main", f"hf://org/name@{COMMIT}"):
        assert interop.is_foreign(path)
        config, parameters = interop.load(path)
        expected = interop.load(folder)
        assert config == expected[0]
        np.testing.assert_array_equal(parameters["embedding"], expected[1]["embedding"])


def test_offline_and_not_in_the_cache(cache):
    with pytest.raises(UserError, match=r"hf://org/absent .*give its path"):
        interop.load("hf://org/absent")


@pytest.mark.parametrize(
    "path", ["hf://name", "hf://org/name/file", "hf://../name", "hf://org/na me"]
)
def test_names_of_no_repository(path):
    with pytest.raises(UserError, match="hf://"):
        interop.load(path)


def test_new_downloads_are_verified(cache, tmp_path, monkeypatch):
    folder = models.saved(models.torch_model("t5"), tmp_path / "model")
    asked = []

    def download(repository, *, revision, allow_patterns):
        asked.append((repository, revision, allow_patterns))
        root = fill(cache, folder)
        weights = root / "snapshots" / COMMIT / "model.safetensors"
        weights.resolve().write_bytes(weights.read_bytes()[:-1] + b"\x01")
        return str(root / "snapshots" / COMMIT)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match="damaged"):
        interop.load("hf://org/name@v1")
    ((repository, revision, patterns),) = asked
    assert (repository, revision) == ("org/name", "v1")
    assert any(fnmatch.fnmatch("model-00001-of-00002.safetensors", p) for p in patterns)
    assert not any(fnmatch.fnmatch("pytorch_model.bin", p) for p in patterns)
    blobs = cache / "models--org--name" / "blobs"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name  # the bad one is gone


def test_pickles_are_downloaded_only_when_allowed(tmp_path, monkeypatch):
    asked = []

    def download(repository, *, revision, allow_patterns):
        asked.append(allow_patterns)
        (tmp_path / "config.json").write_text('{"model_type": "t5"}')
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match="no weights"):
        interop.load("hf://org/name")
    assert len(asked) == 1
    with pytest.raises(UserError, match="no weights"):
        interop.load("hf://org/name", allow_pickle=True)
    assert "pytorch_model.bin" in asked[-1]
