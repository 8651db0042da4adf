# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Digests, leases of processes that live and die, and work that is computed once."""

import hashlib
import json
import math
import os
import socket
import subprocess
import sys
import time

import pytest

from mto_jax.errors import UserError
from mto_jax.files import (
    Leases,
    Store,
    check_local,
    digest,
    file_digest,
    lock,
    only_writer,
    read_record,
    write_record,
)

HOLD = """
import sys, time
from mto_jax.files import Leases
leases = Leases(sys.argv[1]).__enter__()
assert leases.take("a")
print("taken", flush=True)
time.sleep(60)
"""


def test_a_digest_is_that_of_canonical_json(tmp_path):
    text = '{"a":[1,"x"],"b":0.5}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert digest({"b": 0.5, "a": (1, "x")}) == digest(text) == digest(text.encode()) == expected
    (tmp_path / "file").write_text(text)
    assert file_digest(tmp_path / "file") == expected
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest([float("nan")])


@pytest.mark.parametrize("value", ["az://bucket/a", {"a": ["b", "http://host/a"]}])
def test_an_address_is_refused_as_a_path(value):
    check_local([None, 3, "a b://c d", "runs/a", "hf://org/name"], "MODELS")
    check_local("ray://host:10001", "--engine")
    with pytest.raises(UserError, match="OUTPUT_DIR is ray://host"):
        check_local("ray://host:10001", "OUTPUT_DIR")
    with pytest.raises(UserError, match="MODELS is (az://bucket|http://host)/a"):
        check_local(value, "MODELS")


def test_a_record_comes_back_and_damage_is_refused(tmp_path):
    path = tmp_path / "a.json"
    write_record(path, {"undefined": math.nan})
    assert math.isnan(read_record(path)["undefined"])
    write_record(path, {"scores": (0.25, 1.0), "name": "x"})
    assert read_record(path) == {"scores": [0.25, 1.0], "name": "x"}
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(UserError, match="has changed since it was written"):
        read_record(path)
    path.write_text('{"name": "x"}')
    with pytest.raises(UserError, match="has no digest"):
        read_record(path)
    assert read_record(path, unsigned=True) == {"name": "x"}


@pytest.fixture
def two(tmp_path):
    """Two holders; in one process they exclude each other as those of two processes do."""
    with Leases(tmp_path) as first, Leases(tmp_path) as second:
        yield first, second


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_lease_has_one_holder_at_a_time(two, tmp_path):
    first, second = two
    assert first.take("a")
    assert not second.take("a")
    assert not first.take("a")
    assert second.take("b")
    assert (first.others(), second.others()) == (1, 1)
    first.release("a")
    assert second.take("a")
    second.release("a")
    second.release("b")
    assert names(tmp_path) == []


def test_leases_end_with_the_context(tmp_path):
    with Leases(tmp_path) as leases:
        assert leases.take("a")
        assert names(tmp_path) == ["a"]
    assert names(tmp_path) == []


def test_the_lease_of_a_dead_process_on_this_host_is_free_at_once(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"taken\n"
        with Leases(tmp_path) as leases:
            assert not leases.take("a")
            child.kill()
            child.wait()
            assert leases.take("a")
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    assert names(tmp_path) == []


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_lease_without_content_is_of_a_process_that_was_killed(tmp_path, timeout):
    (tmp_path / "a").touch()
    with Leases(tmp_path) as leases:
        assert not leases.take("a")  # it may be about to write
        os.utime(tmp_path / "a", (time.time() - 60,) * 2)
        assert leases.take("a", timeout)


def test_a_lease_that_nobody_renews_ends_after_its_duration(tmp_path):
    with Leases(tmp_path, duration=0.3) as first:
        assert first.take("a")
        marker = (tmp_path / "a").read_text()
        first.release("a")
    host = next(line for line in marker.splitlines() if line.startswith("host="))
    (tmp_path / "a").write_text(marker.replace(host, "host=elsewhere"))
    with Leases(tmp_path, duration=0.3) as second:
        assert not second.take("a")
        assert second.take("a", timeout=20)


def test_a_lock_has_one_holder(tmp_path):
    with lock(tmp_path / ".lock"):
        code = "import sys, filelock; filelock.FileLock(sys.argv[1]).acquire(timeout=0)"
        child = subprocess.run(
            [sys.executable, "-c", code, tmp_path / ".lock"], capture_output=True
        )
        assert b"Timeout" in child.stderr


WAIT = """
import sys
import time
from mto_jax.files import Leases, Store, lock
kind, folder = sys.argv[1:]
if kind == "lock":
    with lock(f"{folder}/.lock"):
        pass
elif kind == "stage":
    Store(folder).fill("stage", lambda path: None)
else:
    Store(folder).get({"a": 1}, lambda: 1)
print("done", flush=True)
"""


@pytest.mark.parametrize("kind", ["lock", "stage", "value"])
def test_a_process_that_waits_says_for_whom(tmp_path, kind):
    store, children = Store(tmp_path), []

    def start(*_):
        command = [sys.executable, "-c", WAIT, kind, str(tmp_path)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(child := subprocess.Popen(command, **streams))
        holder = f"process {os.getpid()} on host {socket.gethostname()}"
        assert child.stderr.readline() == f"waiting for {holder}, which works in {tmp_path}\n"
        return 1

    if kind == "lock":
        with lock(tmp_path / ".lock"):
            start()
        assert names(tmp_path) == [".lock"]
    elif kind == "stage":
        store.fill("stage", start)
    else:
        store.get({"a": 1}, start)
    assert children[0].communicate(timeout=60) == ("done\n", "")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path, kind):
    path, link = tmp_path / "run", tmp_path / "link"
    if kind == "folder":
        path.mkdir()
    link.symlink_to(path)
    code = """
import sys
import time
from mto_jax.errors import UserError
from mto_jax.files import only_writer
try:
    with only_writer(sys.argv[1]):
        print("written")
except UserError as error:
    print(error)
"""

    def second(place):
        command = [sys.executable, "-c", code, str(place)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with only_writer(path):
        for place in (path, link):
            refusal = f"{place} is being written by process {os.getpid()} on host"
            assert second(place).startswith(f"{refusal} {socket.gethostname()}. ")
    assert second(path) == "written\n"


def test_a_folder_into_which_nothing_was_written_goes_again(tmp_path):
    for written in ("", "result"):
        with only_writer(tmp_path / "a" / "b", make_folder=True):
            assert (tmp_path / "a" / "b").is_dir()
            if written:
                (tmp_path / "a" / "b" / written).touch()
        assert (tmp_path / "a" / "b").exists() == bool(written)


def test_the_lock_of_a_killed_writer_is_free(tmp_path):
    code = """
import os, sys
from mto_jax.files import only_writer
with only_writer(sys.argv[1]):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / ".lock.holder").exists()
    with only_writer(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock.holder").read_text()
    assert names(tmp_path) == [".lock"]


def test_a_value_is_computed_once_for_each_identity(tmp_path):
    store, calls = Store(tmp_path / "scores"), []

    def compute():
        calls.append(1)
        return {"value": (1, 2.5)}

    for identity in (["a", 1], ["a", 1], ["a", 2]):
        assert store.get(identity, compute, "task") == {"value": [1, 2.5]}
    assert len(calls) == 2
    stems = {path.name.split("-")[0] for path in (tmp_path / "scores").glob("*.json")}
    assert stems == {"task"}


def test_a_damaged_value_is_computed_again_and_this_is_said(tmp_path, capsys):
    store = Store(tmp_path)
    store.get("x", lambda: 1)
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"value": 7}))
    assert store.get("x", lambda: 2) == 2
    assert "has changed since it was written" in capsys.readouterr().err
    assert store.get("x", lambda: 3) == 2


def test_a_folder_is_filled_once_and_again_after_an_interrupt(tmp_path):
    calls, store = [], Store(tmp_path)

    def make(path):
        calls.append(names(path))
        (path / "weights").write_text("1")
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fill("adapted", make)
    assert store.fill("adapted", make) == tmp_path / "adapted"
    assert store.fill("adapted", make) == tmp_path / "adapted"
    assert calls == [[], ["weights"]]
    assert names(tmp_path / "leases") == []
