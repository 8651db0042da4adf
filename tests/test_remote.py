# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mirrors of folders in an object store, and machines that write to and read from one."""

import pathlib
import shutil
import threading

import pytest

from mto_jax import files, remote
from mto_jax.errors import UserError
from tests import object_store
from tests.object_store import move_to


@pytest.fixture(scope="module")
def environment():
    with object_store.serving() as environment:
        yield environment


@pytest.fixture
def store(environment, tmp_path, monkeypatch):
    """An empty bucket, asked without any mirror; this process is on the machine tmp_path/a."""
    monkeypatch.setenv("MTO_CACHE_DIR", str(tmp_path / "a"))
    monkeypatch.setattr(remote, "SECONDS", 600.0)  # nothing happens in the background
    store = object_store.bucket("bucket")
    object_store.leave()
    yield store
    object_store.leave()


def written(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def content(folder: pathlib.Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_what_is_written_changed_and_removed_is_so_in_the_store_and_elsewhere(store, tmp_path):
    run = remote.local("s3://bucket/runs/a/")
    written(run / "config.gin", "A = 1")
    written(run / "deep/er/b.txt", "b")
    written(run / ".lock", "")
    written(run / "10.orbax-checkpoint-tmp-3/d", "half")
    remote.publish()
    assert store.find("bucket") == ["bucket/runs/a/config.gin", "bucket/runs/a/deep/er/b.txt"]
    assert remote.name_of(run / "config.gin") == "s3://bucket/runs/a/config.gin"

    move_to(tmp_path / "b")
    other = remote.local("s3://bucket/runs/a")
    assert other != run
    assert content(other) == {"config.gin": "A = 1", "deep/er/b.txt": "b"}
    assert remote.local("s3://bucket/runs/a/deep") == other / "deep"
    (other / "deep/er/b.txt").unlink()
    written(other / "config.gin", "A = 2")
    remote.publish()

    move_to(tmp_path / "a")
    assert content(remote.local("s3://bucket/runs/a")) | {".lock": ""} == {
        ".lock": "",
        "10.orbax-checkpoint-tmp-3/d": "half",
        "config.gin": "A = 2",
    }
    assert store.find("bucket") == ["bucket/runs/a/config.gin"]


def test_a_file_is_an_address_too(store, tmp_path):
    written(remote.local("s3://bucket/answers.jsonl"), "{}")
    store.pipe_file("bucket/answers.jsonl.old", b"no part of it")
    remote.publish()
    move_to(tmp_path / "b")
    assert remote.local("s3://bucket/answers.jsonl").read_text() == "{}"
    assert remote.local("runs/a") == pathlib.Path("runs/a")


def test_the_store_is_the_truth_for_the_first_process_of_a_machine_only(store):
    run = remote.local("s3://bucket/run")
    written(run / "uploaded", "1")
    remote.publish()
    written(run / "not uploaded", "2")
    # Another process of the same machine uses the mirror: its work is left alone.
    lock = remote._bucket_lock(remote._root() / ".s3-bucket.lock")
    remote._MOUNTS.clear()
    remote._bucket_lock.cache_clear()
    store.pipe_file("bucket/run/uploaded elsewhere", b"3")
    assert remote.local("s3://bucket/run") == run
    assert sorted(content(run)) == ["not uploaded", "uploaded", "uploaded elsewhere"]
    assert lock != remote._bucket_lock(remote._root() / ".s3-bucket.lock")
    object_store.leave()  # both are killed
    remote.local("s3://bucket/run")
    assert sorted(content(run)) == ["uploaded", "uploaded elsewhere"]


def checkpoint(step_dir: pathlib.Path, bytes_: int = 3 << 20) -> None:
    written(step_dir / "run/metadata", "{}")
    written(step_dir / "trainable/d", "x" * bytes_)
    files.write_digest(step_dir)


def test_checkpoints_are_whole_or_not_there_and_fetched_when_asked_for(store, tmp_path):
    run = remote.local("s3://bucket/run")
    checkpoint(run / "checkpoints/10")
    remote.publish()
    store.pipe_file("bucket/run/checkpoints/20/trainable/d", b"of a process that was killed")
    move_to(tmp_path / "b")
    run = remote.local("s3://bucket/run")
    assert sorted(content(run)) == ["checkpoints/10/digest.json", "checkpoints/10/run/metadata"]
    remote.fetch(run / "checkpoints/10")
    assert files.damage(run / "checkpoints/10") is None

    # What gives way goes from the store too, whether or not it had been fetched here.
    move_to(tmp_path / "c")
    run = remote.local("s3://bucket/run")
    shutil.rmtree(run / "checkpoints/10")
    remote.publish()
    assert not [path for path in store.find("bucket/run") if "/10/" in path]


def test_digests_go_last_and_nothing_is_replaced_while_files_vanish(store, monkeypatch):
    run = remote.local("s3://bucket/run")
    checkpoint(run / "checkpoints/10", 10)
    remote.publish()
    order = []
    put, mount = remote._MOUNTS[0].store.put_file, remote._MOUNTS[0]

    def vanishing(path, name):
        order.append(name.rpartition("/")[2])
        if name.endswith("20/trainable/d"):
            pathlib.Path(path).unlink()
        put(path, name)

    monkeypatch.setattr(mount.store, "put_file", vanishing)
    shutil.rmtree(run / "checkpoints/10")
    checkpoint(run / "checkpoints/20", 10)
    remote.publish()
    assert "digest.json" not in order
    assert "bucket/run/checkpoints/10/digest.json" in store.find("bucket/run")
    shutil.rmtree(run / "checkpoints/20")
    checkpoint(run / "checkpoints/30", 10)
    order.clear()
    remote.publish()
    assert order[-1] == "digest.json"
    assert {path.split("/")[3] for path in store.find("bucket/run")} == {"30"}


def test_a_mirror_that_is_removed_removes_nothing(store):
    run = remote.local("s3://bucket/run")
    written(run / "a", "a")
    remote.publish()
    shutil.rmtree(run)
    with pytest.raises(UserError, match="was removed while it was in use"):
        remote.publish()
    assert store.find("bucket") == ["bucket/run/a"]


def test_the_cache_is_bounded(store, tmp_path, monkeypatch):
    for number in range(3):
        checkpoint(remote.local("s3://bucket/run") / f"checkpoints/{number}", 2_000_000)
    remote.publish()
    move_to(tmp_path / "b")
    monkeypatch.setenv("MTO_REMOTE_CACHE_GB", "0.005")
    steps = remote.local("s3://bucket/run/checkpoints")
    for number in range(3):
        remote._FETCHED.clear()  # nobody reads the earlier ones any more
        remote.fetch(steps / str(number))
    assert [(steps / str(n) / "trainable/d").exists() for n in range(3)] == [False, True, True]
    remote.publish()  # what gave room stays in the store
    assert len(store.find("bucket/run")) == 9
    remote.fetch(steps / "1")
    with pytest.raises(UserError, match=r"0.00 GB on this machine.*MTO_REMOTE_CACHE_GB"):
        remote.fetch(steps / "0")


def test_a_writer_is_named_and_a_silent_one_replaced(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(remote, "SECONDS", 0.2)
    run = remote.local("s3://bucket/run")
    written(run / "a", "a")
    remote.publish()
    alive = threading.Event()

    def elsewhere(mount):
        while not alive.wait(0.05):
            mount.push()

    with pytest.raises(UserError, match="was taken over by process"), files.only_writer(run):  # noqa: PT012
        (mount,) = remote._MOUNTS
        renewing = threading.Thread(target=elsewhere, args=(mount,))
        renewing.start()
        move_to(tmp_path / "b")
        other = remote.local("s3://bucket/run")
        with (
            pytest.raises(UserError, match=r"s3://bucket/run is being written by process \d+ on"),
            files.only_writer(other),
        ):
            pytest.fail("two machines write at once")
        alive.set()  # the first one is suspended: no sign of it
        renewing.join()
        with files.only_writer(other):
            assert content(other)["a"] == "a"
            written(other / "a", "b")
            written(run / "a", "c")
    assert "was written by process" in capsys.readouterr().err
    assert store.cat_file("bucket/run/a") == b"b"
    assert store.find("bucket") == ["bucket/run/.writer", "bucket/run/a"]


def test_what_cannot_be_used_is_named_in_a_paragraph(store, monkeypatch, environment):
    with pytest.raises(UserError, match="s3://none-such/run cannot be read: it is not there"):
        remote.local("s3://none-such/run")
    with pytest.raises(UserError, match="is no address: expected s3://BUCKET"):
        remote.local("s3://")
    monkeypatch.setattr(remote, "_store", lambda scheme: __import__("absent_package"))
    with pytest.raises(UserError, match=r"need gcsfs: pip install 'mto-jax\[cloud\]'"):
        remote.local("gs://bucket/run")


def test_credentials_that_are_not_there_are_asked_for(store, monkeypatch):
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    new = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    monkeypatch.setattr(remote, "_store", lambda scheme: new)
    with pytest.raises(UserError, match="credentials of this machine do not allow it"):
        remote.local("s3://bucket/run")
