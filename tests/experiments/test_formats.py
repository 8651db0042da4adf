# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables as data and as Markdown, LaTeX, CSV and HTML: each is read back and compared with the
cells."""

import csv
import html.parser
import io
import re

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.experiments import formats
from mto_jax.experiments.results import Results
from mto_jax.experiments.tables import AVERAGE, Table, fill
from tests.experiments import fake

GRID = fake.grid(labels={"none": "a_b & c|d <e>"})
CELLS = GRID.cells()
RESULTS = {cell: fake.result(cell) for cell in CELLS}
KNOWN = fake.FakeRunner().known()


def filled(results=RESULTS, **changes):
    spec = Table(**({"name": "t", "rows": ("objective", "template")} | changes))
    spec.check(GRID, KNOWN)
    return fill(spec, GRID, Results(CELLS, results))


def mean(**where):
    found = [
        RESULTS[c]["values"]["rougeL"]
        for c in CELLS
        if all(c.values[axis] == value for axis, value in where.items())
    ]
    return np.mean(found)


def test_rows_columns_average_and_best():
    table = filled()
    assert table.rows == [(o, t) for o in ("none", "denoising") for t in fake.TEMPLATES]
    assert table.columns == [*((task,) for task in fake.TASKS), (AVERAGE,)]
    for (objective, template), column in table.entries:
        where = {"objective": objective, "template": template}
        expected = (
            np.mean([mean(task=task, **where) for task in fake.TASKS])
            if column == (AVERAGE,)
            else mean(task=column[0], **where)
        )
        entry = table.entries[(objective, template), column]
        assert entry.value == pytest.approx(expected)
    for column in table.columns:
        best = max(table.rows, key=lambda row: table.entries[row, column].value)
        assert {row for row, c in table.best if c == column} == {best}


def test_the_best_is_sought_in_each_block_and_may_be_the_lowest():
    table = filled(block="objective", lowest=True)
    assert len(table.blocks()) == 2
    for block in table.blocks():
        worst = min(block, key=lambda row: table.entries[row, ("xNeed",)].value)
        assert (worst, ("xNeed",)) in table.best
    better = formats.parts(table, ("none", "MaskedPrompting"), ("xNeed",))
    assert better.mark == formats.WORSE


def test_axes_left_out_are_averaged_and_where_filters():
    table = filled(rows="template", columns="objective", where={"task": ["xNeed", "xIntent"]})
    value = table.entries[("Prompting",), ("none",)].value
    expected = [mean(template="Prompting", objective="none", task=t) for t in ("xNeed", "xIntent")]
    assert value == pytest.approx(np.mean(expected))


def test_labelled_rows_take_cells_from_several_places():
    rows = {
        "plain": [{"template": "Mapping", "objective": "none"}],
        "matched": [
            {"task": "AtLocation", "template": "MaskedPrompting", "objective": "denoising"},
            {"task": ["xIntent", "xNeed"], "template": "Prompting", "objective": "none"},
        ],
    }
    table = filled(
        rows=rows, baseline={"template": "Mapping", "objective": "none"}, differences=True
    )
    assert table.rows == [("plain",), ("matched",)]
    entry = table.entries[("matched",), ("xIntent",)]
    expected = mean(task="xIntent", template="Prompting", objective="none")
    assert entry.value == pytest.approx(expected)
    difference = expected - mean(task="xIntent", template="Mapping", objective="none")
    shown = formats.parts(table, ("matched",), ("xIntent",))
    assert shown.value == f"{difference:+.3f}"
    assert re.fullmatch(r"\[\+0\.\d{3}, \+0\.\d{3}\]", shown.interval)
    assert formats.parts(table, ("plain",), ("xIntent",)).value == "baseline"
    assert formats.markdown(table).splitlines()[2].startswith("| setting | AtLocation |")


def test_labelled_rows_are_compared_with_one_of_them():
    rows = {
        "matched": [
            {"task": "AtLocation", "template": "MaskedPrompting", "objective": "denoising"},
            {"task": ["xIntent", "xNeed"], "template": "Prompting", "objective": "none"},
        ],
        "mismatched": [
            {"task": "AtLocation", "template": "Prompting", "objective": "none"},
            {
                "task": ["xIntent", "xNeed"],
                "template": "MaskedPrompting",
                "objective": "denoising",
            },
        ],
    }
    table = filled(rows=rows, baseline="mismatched", differences=True)
    one = mean(task="AtLocation", template="MaskedPrompting", objective="denoising")
    other = mean(task="AtLocation", template="Prompting", objective="none")
    shown = formats.parts(table, ("matched",), ("AtLocation",))
    assert shown.value == f"{one - other:+.3f}"
    gains = [table.entries[("matched",), (task,)].versus.difference for task in fake.TASKS]
    average = table.entries[("matched",), (AVERAGE,)].versus
    assert average.difference == pytest.approx(np.mean(gains))
    assert formats.parts(table, ("mismatched",), (AVERAGE,)).value == "baseline"
    assert "Differences to the value in the row mismatched." in formats.markdown(table)


def test_each_labelled_row_may_have_a_counterpart_of_its_own():
    rows = {template: [{"template": template}] for template in fake.TEMPLATES}
    counterparts = {"MaskedMapping": "Mapping", "MaskedPrompting": "Prompting"}
    table = filled(rows=rows, counterparts=counterparts, differences=True)
    for row, counterpart in counterparts.items():
        gain = mean(template=row, task="xNeed") - mean(template=counterpart, task="xNeed")
        assert formats.parts(table, (row,), ("xNeed",)).value == f"{gain:+.3f}"
        assert formats.parts(table, (counterpart,), ("xNeed",)).value == "baseline"
    assert "MaskedMapping with Mapping; MaskedPrompting with Prompting" in formats.markdown(table)


def test_an_entry_without_a_counterpart_is_no_baseline():
    there = {c: r for c, r in RESULTS.items() if c.template != "Mapping" or c.task != "xNeed"}
    table = filled(there, baseline={"template": "Mapping"}, differences=True)
    shown = formats.parts(table, ("none", "Prompting"), ("xNeed",))
    assert (shown.value, shown.mark) == ("-", "")
    assert formats.parts(table, ("none", "Mapping"), ("xIntent",)).value == "baseline"


def test_an_incomplete_entry_is_marked_and_never_bold():
    there = {c: r for c, r in RESULTS.items() if c.seed != 1 or c.template != "MaskedPrompting"}
    table = filled({c: r for c, r in there.items() if c.task != "xNeed"})
    row = ("denoising", "MaskedPrompting")
    assert formats.parts(table, row, ("xIntent",)).missing == "2 of 3 cells"
    assert formats.parts(table, row, (AVERAGE,)).missing == "4 of 9 cells"
    assert (row, ("xIntent",)) not in table.best
    assert formats.parts(table, row, ("xNeed",)).value == "-"
    assert not any(column in (("xNeed",), (AVERAGE,)) for _, column in table.best)
    assert "(2 of 3 cells)" in formats.markdown(table)


def test_an_average_over_unlike_columns_is_not_shown():
    grid = fake.grid(
        constraints=[{"when": {"template": "Mapping"}, "only": {"task": ["xIntent", "xNeed"]}}]
    )
    spec = Table("t", "template")
    table = fill(spec, grid, Results(grid.cells(), {c: fake.result(c) for c in grid.cells()}))
    assert (("Mapping",), (AVERAGE,)) not in table.entries
    assert (("Prompting",), (AVERAGE,)) in table.entries


PUBLISHED = (
    ("objective", "template", "task", "value"),
    ("none", "Prompting", "xIntent", 0.43),
    ("none", "Prompting", AVERAGE, 0.38),
    ("none", "Prompting", "a task that we do not have", 0.5),
)


def test_published_numbers_stand_beside_ours():
    table = filled(published=PUBLISHED)
    ours = mean(objective="none", template="Prompting", task="xIntent")
    shown = formats.parts(table, ("none", "Prompting"), ("xIntent",))
    assert shown.published == f"0.430, {ours - 0.43:+.3f}"
    assert formats.parts(table, ("none", "Prompting"), (AVERAGE,)).published.startswith("0.380, ")
    assert f"{{{shown.published}}}" in formats.markdown(table)
    assert rf"\{{{shown.published}\}}" in formats.latex(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ("objectives",)}, "Did you mean 'objective'"),
        ({"rows": "task"}, "'task' twice"),
        ({"rows": ()}, "at least one axis"),
        ({"where": {"task": "xIntend"}}, "Did you mean 'xIntent'"),
        ({"metric": "rougel"}, "Did you mean 'rougeL'"),
        ({"block": "task"}, "row axis"),
        ({"baseline": {"template": "Maping"}}, "Did you mean 'Mapping'"),
        ({"baseline": {"task": "xIntent"}}, "names a task"),
        ({"rows": {"matched": [{"template": "Promptin"}]}}, "Did you mean 'Prompting'"),
        ({"rows": {"a row": [{"seed": 0}]}, "baseline": "a raw"}, "Did you mean 'a row'"),
        (
            {"rows": {"a row": [{"seed": 0}]}, "counterparts": {"a row": "a raw"}},
            "Did you mean 'a row'",
        ),
        ({"baseline": "Mapping"}, "row .*baseline.* called 'Mapping'"),
        (
            {"rows": {"matched": [{"task": "xNeed"}]}, "where": {"task": "xIntent"}},
            "No cell of the grid is in",
        ),
        ({"published": [("task", "value"), ("xIntent", 0.4)]}, "objective, task, template among"),
        ({"published": [PUBLISHED[0], ("none", "Prompting", "xIntent")]}, "does not fit"),
        ({"published": [PUBLISHED[0], PUBLISHED[3]]}, "None of the published"),
    ],
)
def test_what_a_table_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        filled(**changes)


def test_differences_need_a_baseline():
    with pytest.raises(UserError, match="to what"):
        Table("t", "template", differences=True).check(fake.grid(baseline={}), KNOWN)


def test_markdown_reads_back():
    table = filled()
    lines = formats.markdown(table).splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:12]]
    assert {len(row) for row in rows} == {2 + 4}
    assert rows[2][0].strip() == r"a_b & c\|d <e>"
    entry = table.entries[("none", "MaskedPrompting"), ("xIntent",)]
    (cell,) = (row[3].strip() for row in rows[2:] if row[:2] == [rows[2][0], " MaskedPrompting "])
    assert cell == (
        f"{entry.value:.3f} ± {entry.deviation:.3f} [{entry.low:.3f}, {entry.high:.3f}] ↑"
    )
    assert "**" in lines[11]
    assert "paired bootstrap" in lines[-1]


def test_latex_has_as_many_cells_as_the_table_and_escapes():
    table = filled(block="objective", intervals=False)
    text = formats.latex(table)
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.split(r"(?<!\\)&", row)) for row in rows] == [6] * 9
    assert body.count(r"\midrule") == 2
    assert r"a\_b \& c|d $<$e$>$" in rows[1]
    assert text.count("{") == text.count("}")
    assert body.count(r"\textbf") == len(table.best)
    assert "[" not in body
    assert all(ord(char) < 128 for char in text)


def test_csv_holds_every_number():
    table = filled(published=PUBLISHED)
    rows = list(csv.DictReader(io.StringIO(formats.comma_separated(table))))
    assert len(rows) == len(table.entries)
    (row,) = (
        r
        for r in rows
        if r["task"] == "xNeed"
        and r["published"] == ""
        and r["template"] == "Prompting"
        and r["objective"] == "denoising"
    )
    entry = table.entries[("denoising", "Prompting"), ("xNeed",)]
    for name, value in {
        "value": entry.value,
        "deviation": entry.deviation,
        "low": entry.low,
        "high": entry.high,
        "difference": entry.versus.difference,
        "p": entry.versus.p,
    }.items():
        assert float(row[name]) == pytest.approx(value, rel=1e-5)
    assert {r["published"] for r in rows} == {"", "0.43", "0.38"}
    wide = filled(rows="template", columns=("objective", "task"))
    rows = list(csv.DictReader(io.StringIO(formats.comma_separated(wide))))
    assert rows[-1]["objective"] == "average"
    assert rows[-1]["metric"] == "rougeL"


def test_the_csv_of_all_cells():
    rows = list(csv.DictReader(io.StringIO(formats.all_cells(Results(CELLS, RESULTS)))))
    assert len(rows) == len(CELLS)
    for row, cell in zip(rows, CELLS, strict=True):
        assert {axis: row[axis] for axis in cell.values} == {
            a: str(v) for a, v in cell.values.items()
        }
        assert float(row["rougeL"]) == pytest.approx(RESULTS[cell]["values"]["rougeL"], rel=1e-5)


class Cells(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_html_is_well_formed_and_holds_the_table():
    table = filled()
    reader = Cells()
    reader.feed(formats.html_table(table))
    assert reader.open == []
    assert {len(row) for row in reader.rows} == {6}
    assert reader.rows[1][0] == "a_b & c|d <e>"
    assert reader.rows[2][0] == ""  # the same as above
    assert reader.rows[0][2:] == [*fake.TASKS, "average"]
    entry = table.entries[("none", "Mapping"), ("AtLocation",)]
    assert reader.rows[1][2].startswith(f"{entry.value:.3f}")
    assert f"[{entry.low:.3f}, {entry.high:.3f}]" in reader.rows[1][2]


def test_the_terminal_shows_every_row():
    assert len(formats.terminal(filled(block="objective")).rows) == 8
