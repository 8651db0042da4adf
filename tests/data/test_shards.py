# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records and the files that hold them."""

import pickle

import numpy as np
import pytest

from mto_jax.data import shards
from mto_jax.errors import UserError


def example(i):
    ids = np.arange(i, dtype=np.int64)
    return {"inputs": ids, "targets": ids[::-1] + 32_000, "references": [f"é {i}"], "number": i}


@pytest.mark.parametrize("extras", [True, False])
def test_a_record_gives_back_its_example(extras):
    decoded = shards.decode(shards.encode(example(5)), extras)
    assert decoded["inputs"].tolist() == [0, 1, 2, 3, 4]
    assert decoded["targets"].tolist() == [32_004, 32_003, 32_002, 32_001, 32_000]
    assert decoded["inputs"].dtype == np.int32
    assert ("references" in decoded) == extras
    if extras:
        assert decoded["references"] == ["é 5"]
        assert decoded["number"] == 5


def test_files_are_filled_in_turn_and_read_in_any_order(tmp_path):
    records = [shards.encode(example(i)) for i in range(50)]
    counts = shards.write(tmp_path, records, shard_bytes=2000)
    assert len(counts) > 2
    assert sum(counts.values()) == 50
    reader = shards.Reader(tmp_path, counts)
    assert len(reader) == 50
    order = [49, 0, 7, 7, 23, 48, 1]
    for copy in (reader, pickle.loads(pickle.dumps(reader))):
        assert copy.read(order) == [records[i] for i in order]


def test_the_same_records_give_the_same_bytes(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        shards.write(tmp_path / name, (shards.encode(example(i)) for i in range(300)))
    (first,), (second,) = ([*(tmp_path / name).iterdir()] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_damaged_files_are_named_with_what_to_do(tmp_path, damage):
    counts = shards.write(tmp_path, [shards.encode(example(i)) for i in range(50)])
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        for place in range(len(content) // 2, len(content) // 2 + 40):
            content[place] ^= 0x55
    path.write_bytes(content[: len(content) // 2] if damage == "short" else content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(UserError, match=r"are damaged \(.*\)\. Delete the folder") as refusal:
        shards.Reader(tmp_path, counts).examples(range(50))
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
