# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Axes, constraints and keys against a brute-force product; what a grid refuses."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys

import gin
import pytest

from mto_jax import config
from mto_jax.errors import UserError
from mto_jax.experiments.grid import Cell, Grid, matches
from tests.experiments import fake

KNOWN = fake.FakeRunner().known()
CONSTRAINTS = [
    {"when": {"template": "Mapping"}, "only": {"objective": ["none", "lm"]}},
    {"when": {"task": ["xIntent", "xNeed"], "seed": 2}, "only": {"template": "Prompting"}},
]


def test_cells_are_the_product_that_the_constraints_allow():
    grid = fake.grid(objective=fake.OBJECTIVES, constraints=CONSTRAINTS, extra={"rank": [2, 4]})
    grid.check(KNOWN)
    expected = set()
    for template, objective, task, seed, rank in itertools.product(
        fake.TEMPLATES, fake.OBJECTIVES, fake.TASKS, (0, 1, 2), (2, 4)
    ):
        if template == "Mapping" and objective not in ("none", "lm"):
            continue
        if task != "AtLocation" and seed == 2 and template != "Prompting":
            continue
        extra = (("rank", rank),)
        expected.add(Cell("tiny", objective, template, task, 30, seed, "fine_tune", extra))
    cells = grid.cells()
    assert set(cells) == expected
    assert len(cells) == len(expected)


def test_a_key_depends_on_values_and_settings_alone():
    cell = fake.grid().cells()[0]
    settings = {"rate": 0.1, "lengths": {"inputs": 32, "targets": 16}}
    reordered = {"lengths": {"targets": 16, "inputs": 32}, "rate": 0.1}
    key = cell.with_settings(settings).key
    assert key == cell.with_settings(reordered).key
    assert key != cell.with_settings(settings | {"rate": 0.2}).key
    assert key != dataclasses.replace(cell.with_settings(settings), seed=1).key
    assert len(key) == 16
    # The same in another process, whatever its hash seed.
    code = f"""
from mto_jax.experiments.grid import Cell
cell = Cell(**{dataclasses.asdict(cell)!r})
print(cell.with_settings({settings!r}).key)"""
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == key


def test_nan_in_settings_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        fake.grid().cells()[0].with_settings({"rate": float("nan")})


def test_a_repeated_value_is_one_cell():
    assert len(fake.grid(seed=[0, 1, 0]).cells()) == len(fake.grid(seed=[0, 1]).cells())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": ["Maping"]}, "Did you mean 'Mapping'"),
        ({"objective": ["denoisng"]}, "Did you mean 'denoising'"),
        ({"metric": "rougel"}, "Did you mean 'rougeL'"),
        ({"task": "xIntent"}, "expected a list"),
        ({"task": []}, "at least one value"),
        ({"seed": ["0"]}, "expected a whole number"),
        ({"shots": [True]}, "expected a number of heads"),
        ({"extra": {"task": ["a"]}}, "name of another axis"),
        ({"baseline": {"templat": "Mapping"}}, "Did you mean 'template'"),
        ({"baseline": {"template": "Maping"}}, "Did you mean 'Mapping'"),
        ({"constraints": [{"template": "Mapping"}]}, '"when"'),
        ({"constraints": [{"when": {"templates": "Mapping"}, "only": {}}]}, "'template'"),
        ({"constraints": [{"when": {"task": "xIntnt"}, "only": {}}]}, "Did you mean 'xIntent'"),
        (
            {"constraints": [{"when": {}, "only": {"objective": "lm"}}]},
            "leave no cell of the grid",
        ),
        (
            {"constraints": [{"when": {"template": "Mapping"}, "only": {"objective": "lm"}}]},
            "no cell with template 'Mapping'",
        ),
    ],
)
def test_what_a_grid_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        fake.grid(**changes).check(KNOWN)


def test_a_grid_may_be_cut_down_without_its_constraints():
    # "Mapping" exists, though not on this axis, so the constraint on it is no mistake.
    grid = fake.grid(template=["Prompting"], constraints=CONSTRAINTS[:1], baseline={})
    grid.check(KNOWN)
    assert {cell.template for cell in grid.cells()} == {"Prompting"}


def test_gin_binds_a_grid():
    gin.parse_config("""
        Grid.name = "g"
        Grid.model = ["a"]
        Grid.template = ["Mapping", "Prompting"]
        Grid.task = ["t"]
        Grid.metric = "rougeL"
        Grid.shots = [3, None]
        Grid.extra = {"prompt_length": [10, 20]}
    """)
    cells = Grid().cells()
    assert len(cells) == 8
    assert json.loads(cells[0].settings) == {}
    assert cells[-1].values["prompt_length"] == 20
    assert matches(cells[-1].values, {"shots": None, "template": ["Prompting"]})


def test_the_grid_of_t5gemma_asks_every_model_all_it_names():
    with config.temporary(["tables/t5gemma.gin"], {"OUTPUT_DIR": "unused"}):
        cells = gin.get_configurable(Grid)().cells()
    text = (config.gin_directory() / "tables" / "t5gemma.gin").read_text()
    stated = re.search(r"Cells and cost: (\d+) cells", text)
    assert stated is not None
    assert len(cells) == int(stated[1])
    for model in ("s-ul2", "s-prefixlm", "b-ul2", "b-prefixlm"):
        asked = {(cell.task, cell.template, cell.shots) for cell in cells if cell.model == model}
        assert len(asked) == 8 * 4 * 4
