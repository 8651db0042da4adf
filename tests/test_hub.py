# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""hf:// paths: the cache of the hub client, without a network."""

import hashlib
import http.server
import inspect
import json
import pathlib
import threading
from typing import ClassVar

import huggingface_hub
import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.text2text.vocabulary import vocabulary
from tests import gemma_tokenizer
from tests.checkpoints import models

COMMIT = "0123456789" * 4


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub client in offline mode."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill(cache, folder):
    """Put the files of `folder` into the cache as the repository org/name, as the hub client
    does."""
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
        config, parameters = models.load(path)
        expected = models.load(folder)
        assert config == expected[0]
        np.testing.assert_array_equal(parameters["embedding"], expected[1]["embedding"])


def test_offline_and_not_in_the_cache(cache):
    with pytest.raises(UserError, match=r"hf://org/absent .*give its path"):
        models.load("hf://org/absent")


@pytest.mark.parametrize(
    "path", ["hf://name", "hf://org/name/file", "hf://../name", "hf://org/na me"]
)
def test_names_of_no_repository(path):
    with pytest.raises(UserError, match="hf://"):
        models.load(path)


class Hub(http.server.BaseHTTPRequestHandler):
    """A small hub with the files of `folder`; keeps the ranges of `model.safetensors` that are
    asked for."""

    folder: pathlib.Path
    cut = damaged = gated = False
    asked: list[str | None]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        files = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        if self.path.startswith("/api/models/org/name"):
            entries = [self.entry(name, content) for name, content in files.items()]
            info = {"id": "org/name", "sha": COMMIT, "siblings": entries}
            self.reply(json.dumps(entries if "/tree/" in self.path else info).encode(), {})
            return
        name = self.path.rpartition("/")[2]
        if self.gated and "/resolve/" in self.path and not self.headers["Authorization"]:
            self.reply(b"", {"X-Error-Code": "GatedRepo"}, 401)
            return
        if "/resolve/" not in self.path or name not in files:
            self.reply(b"", {"X-Error-Code": "EntryNotFound"}, 404)
            return
        content, start = files[name], 0
        if name == "model.safetensors" and self.command == "GET":
            self.asked.append(self.headers["Range"])
            if self.headers["Range"]:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if self.damaged:
                content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": digests[name],
            "X-Linked-Size": str(len(content)),
            "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}",
        }
        cut = (len(content) - start) // 2 if self.cut and name == "model.safetensors" else None
        self.reply(content[start:], headers, 206 if start else 200, cut)

    def entry(self, name, content):
        """What the hub says of a file, in its two ways of listing them."""
        digest, size = hashlib.sha256(content).hexdigest(), len(content)
        entry = {"type": "file", "path": name, "rfilename": name, "size": size, "oid": digest}
        large = name in ("model.safetensors", "pytorch_model.bin")
        lfs = {"lfs": {"sha256": digest, "oid": digest, "size": size, "pointerSize": 100}}
        return entry | (lfs if large else {})

    def reply(self, content, headers, status=200, cut=None):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:cut])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, with a model that has nothing in the cache."""

    class OneHub(Hub):
        folder = models.saved(models.torch_model("t5"), tmp_path / "model")
        asked: ClassVar = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": False,
        "DOWNLOAD_CHUNK_SIZE": 1000,
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    yield OneHub
    server.shutdown()


def test_the_names_that_are_not_public_are_where_they_were(hub, tmp_path):
    client = huggingface_hub.file_download
    assert hasattr(client, "http_get"), "mto_jax/hub.py calls huggingface_hub's http_get: it moved"
    parameters = inspect.signature(client.http_get).parameters
    wanted = {"resume_size", "headers", "expected_size", "displayed_filename"}
    assert wanted <= set(parameters), (
        "mto_jax/hub.py: http_get of huggingface_hub has other parameters"
    )
    assert hasattr(huggingface_hub.constants, "MAX_HTTP_DOWNLOAD_SIZE"), (
        "mto_jax/hub.py: huggingface_hub has another limit for files that it downloads by HTTP"
    )
    digest = hashlib.sha256((hub.folder / "model.safetensors").read_bytes()).hexdigest()
    folder = pathlib.Path(huggingface_hub.snapshot_download("org/name"))
    blob = (folder / "model.safetensors").resolve()
    assert blob == (tmp_path / "hub" / "models--org--name" / "blobs" / digest).resolve(), (
        f"mto_jax/hub.py: huggingface_hub keeps files elsewhere in its cache ({blob})"
    )
    locks = {path.name for path in (tmp_path / "hub" / ".locks" / "models--org--name").iterdir()}
    assert f"{digest}.lock" in locks, "mto_jax/hub.py: huggingface_hub has its locks elsewhere"


def test_a_broken_download_goes_on_and_stays_in_the_cache(hub, tmp_path, monkeypatch):
    hub.cut = True
    size = (hub.folder / "model.safetensors").stat().st_size

    def once(*arguments, get=huggingface_hub.file_download.http_get, **options):
        return get(*arguments, **options, _nb_retries=0)

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", once)
    with pytest.raises(UserError, match=r"Cannot get hf://org/name .*resumes from there"):
        models.load("hf://org/name")
    (partial,) = (tmp_path / "hub").rglob("*.incomplete")
    there = partial.stat().st_size
    assert 0 < there < size

    hub.cut = False
    expected = models.load(hub.folder)
    loaded = models.load("hf://org/name")
    assert hub.asked[-1] == f"bytes={there}-"
    assert loaded[0] == expected[0]
    np.testing.assert_array_equal(loaded[1]["embedding"], expected[1]["embedding"])

    count = len(hub.asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    models.load("hf://org/name@main")
    assert len(hub.asked) == count


def test_damaged_downloads_are_removed(hub, tmp_path):
    hub.damaged = True
    with pytest.raises(UserError, match=r"model\.safetensors of org/name is damaged"):
        models.load("hf://org/name")
    hub.damaged = False
    models.load("hf://org/name")
    assert hub.asked == [None, None]


def test_a_gated_model_says_how_to_get_access(hub, monkeypatch):
    hub.gated = True
    monkeypatch.setattr(huggingface_hub.utils._headers, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"org/name is gated: .*accept them; .*HF_TOKEN"):
        models.load("hf://org/name")
    monkeypatch.setattr(huggingface_hub.utils._headers, "get_token", lambda: "hf_one")
    assert models.load("hf://org/name")[0] == models.load(hub.folder)[0]


def test_a_vocabulary_without_spiece_model_is_its_tokenizer(hub, monkeypatch):
    gemma_tokenizer.write(hub.folder)
    hub.gated = True
    monkeypatch.setattr(huggingface_hub.utils._headers, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"org/name is gated: .*accept them; .*HF_TOKEN"):
        vocabulary("hf://org/name")
    hub.gated = False
    found = vocabulary("hf://org/name")
    assert (found.bos, found.extra_ids) == ((2,), 10)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    assert vocabulary("hf://org/name") is found  # from the cache


def test_only_what_is_needed_is_downloaded(hub, tmp_path):
    for name in ("pytorch_model.bin", "tf_model.h5", "notes.md"):
        (hub.folder / name).write_bytes(b"not wanted")
    models.load("hf://org/name", allow_pickle=True)
    names = {path.name for path in (tmp_path / "hub").rglob("snapshots/*/*")}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}


def test_pickles_are_downloaded_only_when_allowed(tmp_path, monkeypatch):
    asked = []

    def download(repository, *, revision, allow_patterns):
        asked.append(allow_patterns)
        (tmp_path / "config.json").write_text('{"model_type": "t5"}')
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match="no weights"):
        models.load("hf://org/name")
    assert len(asked) == 1
    with pytest.raises(UserError, match="no weights"):
        models.load("hf://org/name", allow_pickle=True)
    assert "pytorch_model.bin" in asked[-1]
