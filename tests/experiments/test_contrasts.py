# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrasts against plain sums of the cells' scores."""

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.experiments import formats
from mto_jax.experiments.contrasts import Contrast, ContrastFigure
from mto_jax.experiments.results import Results
from mto_jax.experiments.tables import Table, fill
from mto_jax.metrics import statistics
from tests.experiments import fake

GRID = fake.grid(model=["a-0", "a-1", "b-0", "b-1"], shots=[0, 3], baseline={})
CELLS = GRID.cells()
RESULTS = {cell: fake.result(cell) for cell in CELLS}
A, B = ["a-0", "a-1"], ["b-0", "b-1"]
GAIN = Contrast(
    plus=[
        [{"template": "MaskedPrompting", "model": A}],
        [{"template": "Prompting", "model": B}],
    ],
    minus=[
        [{"template": "Prompting", "model": A}],
        [{"template": "MaskedPrompting", "model": B}],
    ],
)
TABLE = Table("contrasts", {"gain in a - gain in b": GAIN}, "shots", average=False)
KNOWN = fake.FakeRunner().known()


def mean(shots, template, models, tasks=tuple(fake.TASKS)):
    """By task, then over tasks."""
    return np.mean(
        [
            np.mean(
                [
                    RESULTS[c]["values"]["rougeL"]
                    for c in CELLS
                    if (c.shots, c.template, c.task) == (shots, template, task)
                    and c.model in models
                ]
            )
            for task in tasks
        ]
    )


def test_a_contrast_is_the_sum_of_its_sides_in_every_column():
    TABLE.check(GRID, KNOWN)
    filled = fill(TABLE, GRID, Results(CELLS, RESULTS))
    for shots in (0, 3):
        entry = filled.entries[("gain in a - gain in b",), (shots,)]
        expected = mean(shots, "MaskedPrompting", A) - mean(shots, "Prompting", A)
        expected -= mean(shots, "MaskedPrompting", B) - mean(shots, "Prompting", B)
        assert entry.value == pytest.approx(expected)
        assert entry.low < entry.value < entry.high
        assert entry.complete
        assert entry.asked == 2 * 4 * 3 * 2 * 3  # templates, models, tasks, objectives, seeds
    text = formats.markdown(filled)
    assert f"{entry.value:+.3f}" in text
    assert "intervals also cover tasks" in text


def test_the_interval_draws_tasks_models_seeds_and_heads_within_tasks():
    side = Contrast([[{"template": "MaskedPrompting"}]], [[{"template": "Prompting"}]])
    cells = [c for c in CELLS if c.shots == 3 and c.objective == "none"]
    found = side.compute(Results(CELLS, RESULTS), cells, "rougeL")
    differences = np.full((3, 4, 3, max(fake.TASKS.values())), np.nan)
    for i, task in enumerate(fake.TASKS):
        for j, model in enumerate([*A, *B]):
            for seed in range(3):
                masked, plain = (
                    next(
                        RESULTS[c]["scores"]["rougeL"]
                        for c in cells
                        if (c.task, c.model, c.seed, c.template) == (task, model, seed, template)
                    )
                    for template in ("MaskedPrompting", "Prompting")
                )
                differences[i, j, seed, : len(masked)] = np.subtract(masked, plain)
    expected = statistics.hierarchical_interval(
        differences, ("task", "model", "seed", "head"), nested={"head": "task"}
    )
    assert (found.difference, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_sides_of_different_tasks_are_paired_in_the_order_of_the_grid():
    where = {"template": "Prompting", "objective": "none", "shots": 3, "model": "a-0"}
    contrast = Contrast([[{"task": "AtLocation", **where}]], [[{"task": "AtLocation", **where}]])
    assert contrast.compute(Results(CELLS, RESULTS), CELLS, "rougeL").difference == 0
    unequal = Contrast([[{"task": "AtLocation", **where}]], [[{"task": "xNeed", **where}]])
    with pytest.raises(UserError, match="examples"):
        unequal.compute(Results(CELLS, RESULTS), CELLS, "rougeL")


def test_a_side_that_is_not_done_leaves_the_entry_empty():
    half = {cell: r for cell, r in RESULTS.items() if cell.template != "Prompting"}
    filled = fill(TABLE, GRID, Results(CELLS, half))
    entry = filled.entries[("gain in a - gain in b",), (3,)]
    assert (entry.value, entry.present, entry.asked) == (None, 72, 144)
    assert "(72 of 144 cells)" in formats.markdown(filled)


@pytest.mark.parametrize(
    ("contrast", "says"),
    [
        (Contrast([[{"model": "c"}]], [[{"model": "a-0"}]]), r"plus\[0\].*'c'"),
        (Contrast([[{"shot": 3}]], [[{"model": "a-0"}]]), "no axis .*'shot'"),
        (Contrast([], [[{"model": "a-0"}]]), "at least one side in plus"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_computed(contrast, says):
    with pytest.raises(UserError, match=says):
        Table("t", {"row": contrast}, "shots").check(GRID, KNOWN)


def test_a_figure_has_a_panel_a_value_and_a_line_a_series():
    figure = ContrastFigure(
        "f",
        Contrast([[{"template": "MaskedPrompting"}]], [[{"template": "Prompting"}]]),
        x={"short": {"task": "AtLocation"}, "long": {"task": "xNeed"}},
        series={"a": {"model": A}, "b": {"model": B}},
    )
    figure.check(GRID, KNOWN)
    drawn = figure.draw(GRID, Results(CELLS, RESULTS))
    assert [axes.get_title() for axes in drawn.axes] == ["shots: 0", "shots: 3"]
    lines = [line for line in drawn.axes[1].get_lines() if len(line.get_ydata()) == 2]
    shown = sorted(line.get_ydata()[1] for line in lines if line.get_marker() == "o")
    expected = [
        mean(3, "MaskedPrompting", m, ["xNeed"]) - mean(3, "Prompting", m, ["xNeed"])
        for m in (A, B)
    ]
    assert shown == pytest.approx(sorted(expected))
