# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The quickstart's table, figure and baseline (its stages are tested with the verbs they call)."""

import itertools

import pytest

from mto_jax import quickstart
from mto_jax.evaluation.evaluate import Result
from mto_jax.evaluation.statistics import Interval

ROWS = [
    {"references": ["toolbox", "workshop"]},
    {"references": ["workshop"]},
    {"references": ["kitchen drawer"]},
    {"references": ["kitchen"]},
]


@pytest.fixture
def results():
    cells = itertools.product(quickstart.RELATIONS, quickstart.TEMPLATES, quickstart.STARTS)
    return {
        cell: Result(
            "task",
            "test",
            {"rougeL": Interval(0.1 * i, 0.0, 1.0), "exact_match": Interval(0.05 * i, 0.0, 1.0)},
            ROWS,
        )
        for i, cell in enumerate(cells)
    }


def test_the_best_constant_answer_is_right_where_it_is_a_reference(results):
    # "workshop" answers two of four heads; "kitchen" one, and half of "kitchen drawer" (F = 2/3).
    assert quickstart.constant_answer(next(iter(results.values()))) == pytest.approx(0.5)


def test_the_table_has_a_row_for_each_cell_and_baseline(results, capsys):
    constants = dict.fromkeys(quickstart.RELATIONS, 0.5)
    lines = quickstart.report(results, constants).splitlines()
    assert len(lines) == 2 + len(results) + len(constants)
    assert len({line.count("|") for line in lines}) == 1
    assert "| AtLocation | mapping | pre-trained | 0.000 [0.000, 1.000] |" in lines[2]
    assert "AtLocation" in capsys.readouterr().out


def test_the_figure_has_a_bar_for_each_cell(results):
    constants = dict.fromkeys(quickstart.RELATIONS, 0.5)
    (axes,) = quickstart.figure(results, constants).axes
    assert sorted(bar.get_height() for bar in axes.patches) == pytest.approx(
        [0.1 * i for i in range(len(results))]
    )
