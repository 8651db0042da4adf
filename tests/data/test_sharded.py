# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Preparation shard by shard against preparation in one go: the same examples in the same order."""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from mto_jax.data import loader, manifest
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError

LENGTHS = {"inputs": 16, "targets": 8}
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "ate", "it"]
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def c4(tmp_path_factory):
    """A folder like allenai/c4's: four files of 60 documents, one of them twice."""
    folder, rng = tmp_path_factory.mktemp("c4"), np.random.default_rng(0)
    for file in range(4):
        with gzip.open(folder / f"c4-train.{file:05d}-of-00004.json.gz", "wt") as written:
            for number in range(60):
                text = " ".join(rng.choice(WORDS, 1 + number % 12))
                written.write(json.dumps({"text": text, "url": "x"}) + "\n")
    return folder


@pytest.fixture
def config(c4, tmp_path):
    """Makes the configuration of a task over the files."""
    import gin

    gin.bind_parameter("vocabulary.name", "demo")
    gin.bind_parameter("text_corpora.lines", {"like_c4": str(c4)})

    def make(folder, objective="full_lm", lengths=LENGTHS, **changes):
        place = str(tmp_path / folder)
        return DatasetConfig(f"like_c4_{objective}", lengths, prepared_dir=place, **changes)

    return make


def here(function, texts):
    for text in texts:
        function(text)


def read(prepared):
    reader = loader.shards.Reader(prepared.path, prepared.manifest["shards"])
    examples = reader.examples(range(len(reader)))
    return [{k: np.asarray(v).tolist() for k, v in example.items()} for example in examples]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_shards_hold_what_one_process_writes(config, split):
    from mto_jax.data import prepare, sharded

    whole = prepare.prepare(config("whole", split=split))
    joined = prepare.prepare(config("shards", split=split), sharded.writer(here))
    assert read(joined) == read(whole)
    np.testing.assert_array_equal(joined.lengths(), whole.lengths())
    joined.check_lengths()
    same = ("num_examples", "features", "trimmed", "lengths_digest", "pass_examples", "too_long")
    assert {k: joined.manifest[k] for k in same} == {k: whole.manifest[k] for k in same}
    assert manifest.find(config("shards", split=split)) == joined
    assert not [*joined.path.parent.glob(".*.parts")]


def test_noise_is_that_of_the_pass_and_a_limit_counts_all(config):
    from mto_jax.data import prepare, sharded

    write = sharded.writer(here)
    task = ("span_corruption", {"inputs": 64, "targets": 32})  # rows of several spans
    twice = prepare.prepare(config("two", *task, passes=2), write)
    first, second = np.split(np.array([e["inputs"] for e in read(twice)], object), 2)
    assert twice.manifest["pass_examples"] == [len(first)] * 2
    assert first.tolist() != second.tolist()
    again = prepare.prepare(config("again", *task, passes=2), write)
    assert read(again) == read(twice)
    few = prepare.prepare(config("few", limit=70), write)
    assert read(few) == read(prepare.prepare(config("few_whole", limit=70)))


def test_what_is_there_is_not_made_again(config, tmp_path):
    from mto_jax.data import prepare, sharded

    made = []

    def two_and_no_more(function, texts):
        for text in texts:
            if len(made) == 6:  # the hashes of four shards, and two shards
                raise KeyboardInterrupt
            made.append(text)
            function(text)

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(config("cut"), sharded.writer(two_and_no_more))
    left = []
    joined = prepare.prepare(
        config("cut"), sharded.writer(lambda f, texts: left.extend(texts) or here(f, texts))
    )
    assert len(left) == 2
    assert read(joined) == read(prepare.prepare(config("whole")))


def test_lost_parts_and_bad_files_are_told(config, c4, tmp_path):
    from mto_jax.data import prepare, sharded

    with pytest.raises(UserError, match=r"4 of 4 shards are not where .*MTO_CACHE_DIR"):
        prepare.prepare(config("lost"), sharded.writer(lambda function, texts: None))
    bad = c4 / "d.jsonl"
    bad.write_text('{"text": 1}\n')
    try:
        with pytest.raises(UserError, match=r"d.jsonl, line 1: expected a JSON object"):
            prepare.prepare(config("bad"), sharded.writer(here))
    finally:
        bad.unlink()


def test_beam_goes_on_after_a_kill(config, c4, tmp_path):
    """Two workers; the command is killed when it has some shards, and started again."""
    pytest.importorskip("apache_beam", reason="make test-beam")
    from mto_jax.data import prepare

    place = tmp_path / "beam"
    command = [
        *(sys.executable, "-m", "mto_jax.cli", "prepare", "--runner=DirectRunner"),
        "--beam_options=--direct_num_workers=2 --direct_running_mode=multi_processing",
        "--gin.prepare.datasets=[@DatasetConfig()]",
        "--gin.vocabulary.name=demo",
        f"--gin.text_corpora.lines={{'like_c4': {str(c4)!r}}}",
        "--gin.DatasetConfig.mixture_or_task_name=like_c4_full_lm",
        f"--gin.DatasetConfig.task_feature_lengths={LENGTHS}",
        f"--gin.DatasetConfig.prepared_dir={place}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    while not (there := [*place.glob(".*.parts/hashes*/part.json")]):
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    os.killpg(process.pid, 9)
    process.wait()
    times = {path: path.stat().st_mtime_ns for path in there}
    assert not [*place.glob("like_c4*")]
    again = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    while again.poll() is None:
        for path, changed in times.items():
            assert not path.exists() or path.stat().st_mtime_ns == changed
        time.sleep(0.1)
    assert again.returncode == 0, (tmp_path / "log").read_text()
    joined = manifest.find(config("beam"))
    assert joined is not None
    assert read(joined) == read(prepare.prepare(config("whole")))
