# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The quickstart's tables, figure and baseline (its stages are tested with the verbs they call)."""

import itertools

import numpy as np
import pytest

from mto_jax.commands import quickstart
from mto_jax.commands.quickstart import Outcome
from mto_jax.evaluation.evaluator import Result
from mto_jax.metrics.statistics import Interval
from mto_jax.text2text.templates import TEMPLATES

REFERENCES = [["toolbox", "workshop"], ["workshop"], ["kitchen drawer"], ["kitchen"]]
ALIGNED = {"AtLocation": "MaskedPrompting", "xIntent": "Prompting"}
STARTS = {
    "pre-trained": ("MaskedPrompting", "Prompting"),
    "adapted": ("MaskedPrompting", "Prompting"),
    "prompt-tuned, frozen": ("MaskedPrePT", "PrePT"),
    "frozen": ("MaskedPrompting", "Prompting"),
}


@pytest.fixture
def results():
    cells = [
        (relation, start, template)
        for relation, (start, templates) in itertools.product(ALIGNED, STARTS.items())
        for template in templates
    ]
    return {
        cell: Outcome(np.array([0.0, 0.05, 0.1, 0.25]) + i / 40, i / 20, REFERENCES)
        for i, cell in enumerate(cells)
    }


def test_the_best_constant_answer_is_right_where_it_is_a_reference():
    # "workshop" answers two of four heads; "kitchen" one, and half of "kitchen drawer" (F = 2/3).
    assert quickstart.constant_answer(REFERENCES) == pytest.approx(0.5)


def test_the_rival_differs_in_the_sentinel_alone():
    for plain, masked in (("Prompting", "MaskedPrompting"), ("Mapping", "MaskedMapping")):
        assert quickstart.rival(TEMPLATES[plain]).name == masked
        assert quickstart.rival(TEMPLATES[masked]).name == plain


def test_an_outcome_has_the_scores_of_the_rows():
    rows = [{"references": r, "scores": {"rougeL": i / 4}} for i, r in enumerate(REFERENCES)]
    found = quickstart.outcome(Result("t", "test", {"exact_match": Interval(0.25)}, rows))
    np.testing.assert_array_equal(found.rouge_N, [0, 0.25, 0.5, 0.75])
    assert (found.exact_match, found.references) == (0.25, REFERENCES)


def test_the_table_has_a_row_for_each_cell_baseline_and_effect(results, capsys):
    scores, effects = quickstart.report(results, ALIGNED).strip().split("\n\n")
    lines = scores.splitlines()
    assert len(lines) == 2 + len(results) + len(ALIGNED)
    assert lines[2].startswith(
        "| AtLocation | Mask-Filling | pre-trained | MaskedPrompting (aligned) | 0.100 ["
    )
    assert "| PrePT (misaligned) |" in scores
    assert "(best constant answer) | 0.500" in lines[10]
    # Each start's templates differ by 1/40 at every head, the aligned one being first only on AtLocation.
    lines = effects.splitlines()
    assert len(lines) == 2 + 2 * (len(STARTS) + 2)
    assert (
        "| AtLocation | aligned less misaligned, adapted | -0.025 [-0.025, -0.025] | p =" in effects
    )
    assert "| xIntent | aligned less misaligned, frozen | +0.025 [+0.025, +0.025] | p =" in effects
    assert "| xIntent | adapted less pre-trained, aligned | +0.050" in effects
    assert "AtLocation" in capsys.readouterr().out


def test_what_is_aligned_comes_first_of_each_start(results):
    backwards = dict(reversed(results.items()))
    cells = list(quickstart.ordered(backwards, ALIGNED))
    assert {cell: backwards[cell] for cell in cells} == results
    starts = [(relation, start) for relation in reversed(ALIGNED) for start in reversed(STARTS)]
    assert [cell[:2] for cell in cells[::2]] == [cell[:2] for cell in cells[1::2]] == starts
    masked = [cell[2].startswith("Masked") for cell in cells]
    assert masked == [False, True] * len(STARTS) + [True, False] * len(STARTS)


def test_the_figure_has_a_bar_for_each_cell(results):
    picture = quickstart.figure(results, ALIGNED)
    heights = [bar.get_height() for axes in picture.axes for bar in axes.patches]
    shown = sorted(height for height in heights if height)
    assert shown == pytest.approx(sorted(found.rouge_N.mean() for found in results.values()))
