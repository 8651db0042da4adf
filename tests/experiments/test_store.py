# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The results folder: what is written is what is read, damage and other grids are told."""

import json

import pytest

from mto_jax.errors import UserError
from mto_jax.experiments.store import CellStore
from tests.experiments import fake


@pytest.fixture
def grid():
    return fake.grid(template=["Mapping", "Prompting"], task=["xIntent"])


def keyed(grid, rate=0.1):
    runner = fake.FakeRunner(rate=rate)
    return [cell.with_settings(runner.settings(cell)) for cell in grid.cells()]


@pytest.fixture
def store(tmp_path, grid):
    store = CellStore(tmp_path / "out")
    store.check(grid, keyed(grid))
    store.create(grid)
    for cell in keyed(grid)[:-1]:
        store.write(cell, fake.result(cell), 1.5)
    store.write_error(keyed(grid)[-1], "ValueError: bad luck", "trace")
    return store


def test_results_come_back_as_they_were(store, grid):
    *done, failed = keyed(grid)
    store.check(grid, [*done, failed])
    assert all(store.read(cell) == fake.result(cell) for cell in done)
    assert store.seconds([*done, failed]) == [1.5] * len(done)
    assert store.settled() == ({cell.key for cell in done}, {failed.key})
    assert store.errors(done) == {}
    assert store.errors([failed]) == {failed: "ValueError: bad luck"}
    store.write(failed, fake.result(failed), 1.0)
    assert store.settled()[1] == set()


def damage_score(text):
    return text.replace("0.", "1.", 1)


@pytest.mark.parametrize(
    "damage",
    [
        damage_score,
        lambda text: text[:-20],
        lambda text: text.replace('"seed": 0', '"seed": 7'),
        lambda text: "",
        lambda text: "[1]",
        lambda text: json.dumps({"digest": "x"}),
    ],
)
def test_damage_is_told_with_the_command_that_mends_it(store, grid, damage):
    path = store.folder / "cells" / f"{keyed(grid)[0].key}.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=f"rm {path}"):
        store.check(grid, keyed(grid))


def test_a_renamed_file_and_a_damaged_error_are_told_together(store, grid):
    cells = keyed(grid)
    path = store.folder / "cells" / f"{cells[0].key}.json"
    renamed = path.rename(path.with_stem("0" * 16))
    error = store.folder / "errors" / f"{cells[-1].key}.json"
    error.write_text("{")
    with pytest.raises(UserError) as caught:
        store.check(grid, cells)
    assert f"rm {renamed} {error}" in str(caught.value)
    assert f"{renamed} belongs to the cell {cells[0].key}" in str(caught.value)


def test_another_grid_is_refused_with_the_fields_that_differ(store, grid):
    other = fake.grid(name="other", extra={"rank": [2]})
    with pytest.raises(UserError, match='grid is "fake" there, "other" here; axes is') as caught:
        store.check(other, keyed(other))
    assert '"rank"' in str(caught.value)
    with pytest.raises(UserError, match=r"optimizer.rate is 0.1 there, 0.5 here") as caught:
        store.check(grid, keyed(grid, rate=0.5))
    assert "optimizer.name" not in str(caught.value)


def test_a_grid_may_grow_and_shrink(store):
    grown = fake.grid(seed=[0, 1, 2, 3])
    store.check(grown, keyed(grown, rate=0.1))
    shrunk = fake.grid(template=["Mapping"], task=["xIntent"], seed=[1])
    store.check(shrunk, keyed(shrunk))
    assert store.done(keyed(shrunk)[0])


def test_a_folder_of_something_else_is_refused(tmp_path, grid):
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(UserError, match="no results folder"):
        CellStore(tmp_path).check(grid, keyed(grid))
    CellStore(tmp_path / "grid").create(grid)
    CellStore(tmp_path / "grid").check(grid, keyed(grid))
    path = tmp_path / "grid" / "grid.json"
    path.write_text(path.read_text().replace(grid.name, f"{grid.name}s"))
    with pytest.raises(UserError, match=r"grid.json has changed since it was written.* rm "):
        CellStore(tmp_path / "grid").check(grid, keyed(grid))
    (tmp_path / "grid.json").write_text("{")
    with pytest.raises(UserError, match=r"rm .*grid.json"):
        CellStore(tmp_path).check(grid, keyed(grid))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {"rougeL": float("nan")}}, "'rougeL' is nan"),
        ({"values": {"rougeL": 0.9}}, "mean of the scores"),
        ({"scores": {"rougeL": [0.5, float("nan")]}}, "mean of the scores"),
        ({"scores": {"rougeL": [0.5], "f1": [0.5, 0.5]}}, "unlike numbers"),
        ({"extra": 1}, "this one has"),
    ],
)
def test_a_result_that_tables_could_not_show_is_refused(store, grid, change, message):
    result = {"scores": {"rougeL": [0.5, 0.5]}, "values": {"rougeL": 0.5}, "info": {}}
    with pytest.raises(ValueError, match=message):
        store.write(keyed(grid)[0], result | change, 1.0)
