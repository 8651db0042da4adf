# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Claims of processes that live, die and sleep. A second `Claims` in this process stands for another process:
the kernel's locks tell them apart as they would tell processes apart."""

import os
import subprocess
import sys
import time

import pytest

from mto_jax.experiments.leases import Claims

HOLD = """
import pathlib, sys, time
from mto_jax.experiments.claims import Claims
claims = Claims(pathlib.Path(sys.argv[1])).__enter__()
assert claims.take("a")
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def two(tmp_path):
    with Claims(tmp_path, expiry=100.0) as first, Claims(tmp_path, expiry=100.0) as second:
        yield first, second


def test_a_host_may_be_called_by_its_address(two, tmp_path):
    first, second = two
    (tmp_path / "clock-192.168.1.5-77").touch()
    assert first.take("a")
    assert second.others() == 1


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_holder_at_a_time(two, tmp_path):
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
    assert files(tmp_path) == []


def test_the_claim_of_a_dead_process_on_this_host_is_free_at_once(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"taken\n"
        with Claims(tmp_path) as claims:
            assert not claims.take("a")
            child.kill()
            child.wait()
            assert claims.others() == 0
            assert claims.take("a")
            assert files(tmp_path) == ["a.0", "a.1"]
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    assert files(tmp_path) == []


def foreign(path, age):
    """A claim of another host that was touched `age` seconds ago."""
    path.write_text("elsewhere 7\n")
    os.utime(path, (time.time() - age,) * 2)


def test_the_claim_of_another_host_counts_until_it_expires(two, tmp_path):
    first, second = two
    foreign(tmp_path / "a.0", age=50)
    assert not first.take("a")
    foreign(tmp_path / "a.0", age=200)
    assert first.take("a")
    # The other one, which saw the same abandoned claim, comes too late.
    assert not second.take("a")


def test_of_two_that_take_over_at_once_one_wins(two, tmp_path, monkeypatch):
    first, second = two
    foreign(tmp_path / "a.0", age=200)
    stale = second._files("a")
    assert first.take("a")
    # `second` still believes what it saw before `first` took over.
    monkeypatch.setattr(second, "_files", lambda name: stale)
    assert not second.take("a")
    assert first.others() == 0


def test_a_sleeper_that_wakes_does_not_disturb_its_successor(two, tmp_path):
    sleeper, successor = two
    assert sleeper.take("a")
    sleeper.expiry = successor.expiry = -1.0  # everything has expired
    assert successor.take("a")
    sleeper.release("a")
    assert files(tmp_path) == ["a.1"]
    successor.release("a")
    assert files(tmp_path) == []


def test_a_claim_is_kept_alive(tmp_path):
    with Claims(tmp_path, expiry=0.5) as claims:
        assert claims.take("a")
        long_ago = time.time() - 1000
        os.utime(tmp_path / "a.0", (long_ago, long_ago))
        deadline = time.monotonic() + 10
        while (tmp_path / "a.0").stat().st_mtime < long_ago + 500:
            assert time.monotonic() < deadline, "nobody touched the claim"
            time.sleep(0.02)


def test_a_claim_that_is_just_being_written_counts(two, tmp_path):
    (tmp_path / "a.0").touch()
    assert not two[0].take("a")
