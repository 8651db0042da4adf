# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto tables` from a gin file to tables, figures and page, on cells that need no model."""

import gin
import pytest

from mto_jax import cli
from mto_jax.errors import UserError
from mto_jax.experiments.figures import Figure
from mto_jax.experiments.tables import Table
from tests.experiments import fake

GIN = """
Grid.name = "fake"
Grid.model = ["tiny"]
Grid.template = ["Mapping", "Prompting"]
Grid.task = ["xIntent", "xNeed"]
Grid.seed = [0, 1]
Grid.metric = "rougeL"
Grid.baseline = {"template": "Mapping"}
Grid.constraints = [{"when": {"template": "Mapping"}, "only": {"objective": "none"}}]
OUTPUT_DIR = %gin.REQUIRED
tables.grid = @Grid()
tables.runner = @FakeRunner()
tables.output_dir = %OUTPUT_DIR
tables.tables = [@main/Table(), @seeds/Table()]
main/Table.name = "main"
main/Table.rows = "template"
seeds/Table.name = "seeds"
seeds/Table.rows = ["template", "task"]
seeds/Table.columns = "seed"
"""


@pytest.fixture(scope="module", autouse=True)
def _register_runner():
    gin.external_configurable(fake.FakeRunner, module="tests")


def mto(tmp_path, *flags):
    (tmp_path / "grid.gin").write_text(GIN)
    out = tmp_path / "out"
    cli.main(["tables", f"--gin_file={tmp_path}/grid.gin", f"--gin.OUTPUT_DIR={out}", *flags])
    return out


def test_from_gin_to_tables_figures_and_page(tmp_path, capsys):
    out = mto(tmp_path)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("cells/")} == {
        "grid.json",
        "cells.csv",
        "index.html",
        "tables/notes.md",
        *(
            f"tables/{name}.{suffix}"
            for name in ("main", "seeds")
            for suffix in ("md", "tex", "csv")
        ),
        *(
            f"figures/{name}.{suffix}"
            for name in ("bars", "tasks")
            for suffix in ("png", "svg", "pdf")
        ),
    }
    assert len(names) == 8 + 4 + 6 + 6
    shown = capsys.readouterr()
    assert "rougeL by template and task" in shown.out
    assert "8/8" in shown.err
    assert "Prompting xIntent 1: 0.0 s, loss 3.000" in shown.err


def test_a_dry_run_prints_cells_time_and_disk_and_makes_nothing(tmp_path, capsys):
    out = mto(tmp_path, "--dry_run")
    assert not out.exists()
    shown = capsys.readouterr().out
    assert shown.splitlines()[:2] == ["fake: 8 cells", "  model        1: tiny"]
    assert "  template     2: Mapping, Prompting\n" in shown
    assert "8 trainings" in shown
    assert "none done" in shown
    assert "16.0 s" in shown
    assert "24 kB needed" in shown
    gin.clear_config()
    mto(tmp_path, "--gin.Grid.seed=[0]")
    gin.clear_config()
    capsys.readouterr()
    mto(tmp_path, "--dry_run")
    shown = capsys.readouterr().out
    assert "\n4 done\n" in shown
    assert "at that rate" in shown


def test_a_dry_run_needs_no_models(tmp_path, capsys):
    out = mto(tmp_path, "--dry_run", "--gin.FakeRunner.missing_models=['tiny (hf://a/b)']")
    shown = capsys.readouterr().out
    assert not out.exists()
    assert "8 trainings\nnot on this machine: tiny (hf://a/b). " in shown
    assert "to do" not in shown


def test_failures_are_told_after_the_tables_and_can_be_tried_again(tmp_path, capsys):
    with pytest.raises(SystemExit) as status:
        mto(tmp_path, "--gin.FakeRunner.bad=['xNeed']")
    out, shown = tmp_path / "out", capsys.readouterr()
    assert status.value.code == 2
    assert "4 of 8 cells failed" in shown.err
    assert "bad luck with xNeed" in shown.err
    assert "0 of 2 cells" in (out / "tables" / "main.md").read_text()
    assert "bad luck with xNeed" in (out / "index.html").read_text()
    gin.clear_config()
    with pytest.raises(SystemExit):  # not tried again unless asked to
        mto(tmp_path)
    gin.clear_config()
    mto(tmp_path, "--retry_failed")
    assert "of 2 cells" not in (out / "tables" / "main.md").read_text()
    assert "failed" not in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": fake.grid(template=["Maping"], baseline={})}, "Did you mean 'Mapping'"),
        ({"grid": fake.grid(task=["xIntend"])}, "Did you mean 'xIntent'"),
        ({"tables": [Table("a", "template"), Table("a", "seed")]}, "Two tables are called 'a'"),
        ({"tables": [Table("a/b", "template")]}, "letters, digits"),
        ({"figures": [Figure("a", "curve", "model", "template")]}, "no numbers"),
        ({"runner": fake.Poor()}, "metric of the task 'AtLocation' called 'rougeL'"),
        ({"runner": fake.FakeRunner(rate=0.5)}, "optimizer.rate is 0.1 there, 0.5 here"),
        ({"grid": fake.grid(name="other")}, '"fake" there, "other" here'),
    ],
)
def test_mistakes_are_told_before_the_first_cell(tmp_path, changes, message):
    fake.run(tmp_path / "out", grid=fake.grid(task=["xIntent"], seed=[0]), figures=[])
    cells = set((tmp_path / "out" / "cells").iterdir())
    with pytest.raises(UserError, match=message):
        fake.run(tmp_path / "out", **changes)
    assert set((tmp_path / "out" / "cells").iterdir()) == cells


def test_a_damaged_cell_is_told_before_the_first_cell(tmp_path, capsys):
    out = mto(tmp_path, "--gin.Grid.seed=[0]")
    damaged = min((out / "cells").iterdir())
    damaged.write_text(damaged.read_text().replace("0.4", "0.9", 1))
    gin.clear_config()
    with pytest.raises(SystemExit):
        mto(tmp_path)
    assert f"rm {damaged}" in capsys.readouterr().err
    assert len(list((out / "cells").iterdir())) == 4


def test_without_requests_the_axes_decide_what_is_shown(tmp_path):
    templates = ["Mapping", "Prompting"]
    grid = fake.grid(model=["a", "b"], template=templates, shots=[3, 30], seed=[0])
    fake.run(tmp_path / "out", grid=grid)
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {"bars", "shots", "tasks"}
    head = (tmp_path / "out" / "tables" / "main.md").read_text().splitlines()[2]
    assert (
        head == "| model | objective | template | shots | AtLocation | xIntent | xNeed | average |"
    )
