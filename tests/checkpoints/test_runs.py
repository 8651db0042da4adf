# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what is written is what is read, or it is said."""

import dataclasses
import errno
import json
import shutil

import jax
import numpy as np
import pytest

from mto_jax import checkpoints, files
from mto_jax.checkpoints import runs
from mto_jax.errors import UserError
from mto_jax.training import sharding, state
from tests.training.common import TINY, setup

IDENTITY = {"model": dataclasses.asdict(TINY), "vocabulary": {"name": "none", "digest": "0"}}


@pytest.fixture
def small():
    """A run of which little trains: frozen and trained parameters, and optimizer state."""
    return setup(trainable=("decoder.layers.mlp.*",))


def write(folder, small, steps, **options):
    """Checkpoints of several steps, with the step number as the dev loss where it is even."""
    small.reset()
    with_step = {}
    writer = runs.Checkpointer(folder, IDENTITY, **options)
    for step in steps:
        small.train(1)
        current = dataclasses.replace(small.state, step=np.int32(step))
        metrics = {"dev/loss": float(step)} if step % 2 == 0 else {}
        writer.save(current, {"row": step}, metrics)
        with_step[step] = jax.device_get(current)
    writer.close()
    return with_step


def assert_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_round_trip_is_exact(tmp_path, small):
    written = write(tmp_path, small, [1, 2])
    newest = runs.newest_good(tmp_path)
    assert newest.name == "2"
    restored, place = runs.restore(newest, small.target)
    assert_equal(restored, written[2])
    assert place == {"row": 2}
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(
        lambda x: x.sharding, small.target
    )
    # The restored state trains on as the one that was saved would have.
    small.state = restored
    again = small.train(1)
    small.state, _ = runs.restore(newest, small.target)
    assert small.train(1) == again


def test_another_mesh_can_read_it(tmp_path, small):
    written = write(tmp_path, small, [1])
    mesh = sharding.mesh(2, 2, 2)
    many = state.abstract_state(small.spec, small.names, small.optimizer, mesh)
    restored, _ = runs.restore(runs.newest_good(tmp_path), many)
    assert_equal(restored, written[1])
    assert len(restored.frozen["embedding"].addressable_shards) == 8


def data_file(step_dir, item="frozen"):
    """The largest file of an item: the values of its arrays."""
    return max((step_dir / item).rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm, reason",
    [
        (lambda d: flip(data_file(d)), "has changed"),
        (lambda d: flip(data_file(d, "optimizer")), "has changed"),
        (lambda d: data_file(d).write_bytes(data_file(d).read_bytes()[:-9]), "has changed"),
        (lambda d: data_file(d).unlink(), "is missing"),
        (lambda d: shutil.rmtree(d / "optimizer"), "is missing"),
        (lambda d: flip(d / "run" / "metadata"), "has changed"),
        (lambda d: (d / files.DIGEST).unlink(), "no digest.json"),
        (lambda d: (d / files.DIGEST).write_text('{"sha'), "digest.json is damaged"),
    ],
)
def test_a_damaged_newest_step_is_told_and_the_one_before_is_used(
    tmp_path, small, capsys, harm, reason
):
    written = write(tmp_path, small, [1, 2])
    harm(tmp_path / "checkpoints" / "2")
    newest = runs.newest_good(tmp_path, set_aside=True)
    assert newest.name == "1"
    said = capsys.readouterr().err
    assert f"{tmp_path}/checkpoints/2 is damaged" in said
    assert reason in said
    assert_equal(runs.restore(newest, small.target)[0], written[1])
    # The run can write that step again, and the damaged one is kept for whoever wants to look.
    assert (tmp_path / "damaged" / "2" / "run").is_dir()
    small.reset()
    writer = runs.Checkpointer(tmp_path, IDENTITY)
    writer.save(dataclasses.replace(small.state, step=np.int32(2)), {})
    writer.close()
    assert runs.newest_good(tmp_path).name == "2"


def test_when_all_are_damaged_nothing_starts_anew(tmp_path, small):
    write(tmp_path, small, [1, 2])
    for name in ("1", "2"):
        flip(data_file(tmp_path / "checkpoints" / name))
    with pytest.raises(UserError, match=r"All checkpoints in .* are damaged \(1, 2"):
        runs.newest_good(tmp_path, set_aside=True)
    assert len(runs.steps(tmp_path)) == 2


def test_an_unfinished_step_is_not_there(tmp_path, small):
    write(tmp_path, small, [1])
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "1", unfinished)
    assert runs.newest_good(tmp_path).name == "1"
    write(tmp_path, small, [2])
    assert runs.newest_good(tmp_path).name == "2"
    assert not unfinished.exists()


def test_the_newest_and_the_best_stay(tmp_path, small):
    write(tmp_path, small, [2, 3, 4, 5, 6, 7], keep=2, keep_best=1, best_metric="dev/loss")
    assert [path.name for path in runs.steps(tmp_path)] == ["2", "6", "7"]
    assert runs.best(tmp_path).name == "2"
    # A later process knows the scores that an earlier one wrote.
    writer = runs.Checkpointer(tmp_path, IDENTITY, best_metric="dev/loss")
    for step, loss in ((8, 9.0), (9, 1.0), (10, 8.0), (11, 7.0)):
        current = dataclasses.replace(small.state, step=np.int32(step))
        writer.save(current, {}, {"dev/loss": loss})
    writer.close()
    assert [path.name for path in runs.steps(tmp_path)] == ["9", "10", "11"]
    flip(data_file(tmp_path / "checkpoints" / "9"))
    assert runs.best(tmp_path).name == "11"
    assert runs.best(tmp_path / "nowhere") is None


def test_steps_that_are_to_be_kept_stay(tmp_path, small):
    write(tmp_path, small, [1, 2, 3, 4, 5, 6], keep=1, keep_best=0, keep_steps=(2, 3))
    assert [path.name for path in runs.steps(tmp_path)] == ["2", "3", "6"]


@pytest.mark.parametrize(
    "given, steps",
    [
        ((), ()),
        ([8, 2], (2, 8)),
        ("log:4", (1, 10, 100, 1000)),
        ("log:2", (1, 1000)),
        ("log:9999", tuple(range(1, 1001))),
    ],
)
def test_kept_steps_are_a_list_or_evenly_spaced_by_logarithm(given, steps):
    assert runs.kept_steps(given, 1000) == steps


@pytest.mark.parametrize("given", ["log", "log:1", "lin:4", "log:x", "", [1001]])
def test_steps_that_cannot_be_kept_are_refused(given):
    with pytest.raises(UserError, match="train.keep_steps"):
        runs.kept_steps(given, 1000)


def test_a_metric_that_is_no_loss_is_better_when_higher(tmp_path, small):
    writer = runs.Checkpointer(tmp_path, IDENTITY, keep=1, best_metric="rouge")
    for step, value in ((1, 0.2), (2, 0.5), (3, 0.1), (4, float("nan"))):
        writer.save(dataclasses.replace(small.state, step=np.int32(step)), {}, {"rouge": value})
    writer.close()
    assert [path.name for path in runs.steps(tmp_path)] == ["2", "4"]
    assert runs.resolve(tmp_path, "best").name == "2"
    assert runs.resolve(tmp_path).name == "4"


def test_parameters_load_from_a_run_and_from_a_step(tmp_path, small):
    written = write(tmp_path, small, [1, 2])
    for path, step in ((tmp_path, 2), (tmp_path / "checkpoints" / "1", 1)):
        found = checkpoints.open(path).parameters()
        assert_equal(
            dict(sorted(found.items())),
            dict(sorted({**written[step].frozen, **written[step].trainable}.items())),
        )


def test_paths_that_hold_nothing_say_what_to_give(tmp_path, small):
    with pytest.raises(UserError, match="nowhere is not there. Give the directory of a run"):
        checkpoints.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no checkpoint: .*checkpoints/.*config.json"):
        checkpoints.open(tmp_path)
    write(tmp_path, small, [1])
    flip(data_file(tmp_path / "checkpoints" / "1"))
    with pytest.raises(UserError, match="is damaged: the content of .* Name another step"):
        checkpoints.open(tmp_path / "checkpoints" / "1")


def test_another_model_or_optimizer_is_told(tmp_path, small):
    write(tmp_path, small, [1])
    step_dir = runs.newest_good(tmp_path)
    names = ["decoder.layers.mlp.wo"]
    other = state.abstract_state(small.spec, names, small.optimizer, small.mesh)
    with pytest.raises(UserError, match=r"The trainable in .* do not fit.*wi_0.*absent.*here"):
        runs.restore(step_dir, other)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: write failed [OS error 28: No space left on device]"),
    ],
)
def test_a_full_disk_is_one_paragraph(tmp_path, small, monkeypatch, error):
    writer = runs.Checkpointer(tmp_path, IDENTITY)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(writer._manager, "save", fail)
    with pytest.raises(UserError, match=r"the disk is full .*GB free\). Free some space"):
        writer.save(small.state, {})
    monkeypatch.undo()
    writer.close()


def test_a_run_directory_that_cannot_be_is_one_paragraph(tmp_path, small):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a part of the path is a file"):
        runs.Checkpointer(tmp_path / "file" / "run", IDENTITY)
    runs.check_space(tmp_path / "new" / "run", small.target)
    huge = dataclasses.replace(
        small.target, frozen={"x": jax.ShapeDtypeStruct((10**9, 10**9), np.float32)}
    )
    with pytest.raises(UserError, match="One checkpoint of this run takes .* GB"):
        runs.check_space(tmp_path, huge)


def test_the_description_is_plain_json(tmp_path, small):
    write(tmp_path, small, [2], best_metric="dev/loss")
    run = json.loads((tmp_path / "checkpoints" / "2" / "run" / "metadata").read_text())
    assert run["model"] == json.loads(json.dumps(IDENTITY["model"]))
    assert run["metrics"] == {"dev/loss": 2.0}
    assert run["shapes"]["frozen"]["embedding"] == ["float32", 64, 16]
