# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Means, deviations, intervals and comparisons of cells, against plain numpy."""

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.experiments.results import Results
from mto_jax.metrics import statistics
from tests.experiments import fake

CELLS = fake.grid().cells()
RESULTS = {cell: fake.result(cell) for cell in CELLS}


def scores(cells):
    return np.array([RESULTS[cell]["scores"]["rougeL"] for cell in cells])


def test_one_task_is_the_mean_over_seeds_with_the_bootstrap_of_seeds_and_examples():
    results = Results(CELLS, RESULTS)
    cells = results.where({"task": "xIntent", "template": "Mapping", "objective": "none"})
    entry = results.entry(cells, "rougeL")
    means = scores(cells).mean(axis=1)
    expected = statistics.hierarchical_interval(scores(cells), ("seed", "example"))
    assert entry.value == pytest.approx(means.mean())
    assert entry.deviation == pytest.approx(means.std(ddof=1))
    assert (entry.low, entry.high) == pytest.approx((expected.low, expected.high))
    assert (entry.present, entry.asked, entry.complete) == (3, 3, True)


def test_tasks_count_the_same_whatever_their_size():
    results = Results(CELLS, RESULTS)
    cells = results.where({"template": "Mapping", "objective": "none"})
    entry = results.entry(cells, "rougeL")
    by_task = [scores([c for c in cells if c.task == task]) for task in fake.TASKS]
    assert entry.value == pytest.approx(np.mean([s.mean() for s in by_task]))
    by_seed = np.mean([s.mean(axis=1) for s in by_task], axis=0)
    assert entry.deviation == pytest.approx(by_seed.std(ddof=1))
    # The interval against the normal one of a stratified mean: crossed seeds and examples, each
    # drawn, add up, and what is left of a single score counts twice (Owen and Eckles 2012).
    errors = []
    for s in by_task:
        rest = s - s.mean(axis=1, keepdims=True) - s.mean(axis=0) + s.mean()
        errors.append(s.mean(axis=0).var() / s.shape[1] + rest.var() / s.size)
    variance = np.sum(errors) / len(by_task) ** 2 + by_seed.var() / len(by_seed)
    assert entry.high - entry.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.15)
    assert entry.low < entry.value < entry.high


def test_cells_are_compared_with_those_that_differ_in_the_baseline_alone():
    results = Results(CELLS, RESULTS)
    where = {"task": "xNeed", "objective": "denoising"}
    cells = results.where(where | {"template": "Prompting"})
    counterparts = results.where(where | {"template": "Mapping"})
    versus = results.entry(cells, "rougeL", {"template": "Mapping"}).versus
    differences = scores(cells) - scores(counterparts)
    expected = statistics.hierarchical_comparison(differences, ("seed", "example"))
    assert versus.difference == pytest.approx(expected.difference)
    assert (versus.low, versus.high) == pytest.approx((expected.low, expected.high))
    assert versus.p == expected.p
    assert results.entry(counterparts, "rougeL", {"template": "Mapping"}).versus is None


def test_cells_are_compared_with_others_task_by_task():
    there = {c: r for c, r in RESULTS.items() if c.task != "xNeed" or c.template != "Mapping"}
    results = Results(CELLS, there)
    cells = results.where({"template": "Prompting", "objective": "none"})
    others = results.where({"template": "Mapping", "objective": "denoising"})
    versus = results.entry(cells, "rougeL", others).versus
    differences = [
        scores([c for c in cells if c.task == task]).mean()
        - scores([c for c in others if c.task == task]).mean()
        for task in fake.TASKS
        if task != "xNeed"
    ]
    assert versus.difference == pytest.approx(np.mean(differences))
    assert results.entry(cells, "rougeL", cells).versus is None


def test_others_are_compared_example_by_example_whatever_their_order():
    results = Results(CELLS, RESULTS)
    cells = results.where({"template": "Prompting", "objective": "none"})
    others = results.where({"template": "Mapping", "objective": "none"})
    assert cells[0].task != cells[-1].task
    versus = results.compare(cells, others, "rougeL")
    assert results.compare(cells, others[::-1], "rougeL") == versus
    assert versus == results.compare(cells, {"template": "Mapping"}, "rougeL")


def test_a_cell_without_its_counterpart_is_left_out_of_the_comparison():
    (lost,) = Results(CELLS, {}).where(
        {"task": "xNeed", "objective": "none", "template": "Mapping", "seed": 1}
    )
    results = Results(CELLS, {cell: r for cell, r in RESULTS.items() if cell != lost})
    cells = results.where({"task": "xNeed", "objective": "none", "template": "Prompting"})
    versus = results.entry(cells, "rougeL", {"template": "Mapping"}).versus
    counterparts = results.where({"task": "xNeed", "objective": "none", "template": "Mapping"})
    pairs = [(a, b) for a, b in zip(cells, counterparts, strict=True) if b != lost]
    mine, theirs = zip(*pairs, strict=True)
    assert versus.difference == pytest.approx(scores(mine).mean() - scores(theirs).mean())


def test_missing_cells_are_counted_and_incomplete_seeds_make_no_deviation():
    there = {cell: r for cell, r in RESULTS.items() if cell.seed != 2 or cell.task == "xIntent"}
    results = Results(CELLS, there)
    cells = results.where({"template": "Mapping", "objective": "none"})
    entry = results.entry(cells, "rougeL")
    assert (entry.present, entry.asked, entry.complete) == (7, 9, False)
    complete = [c for c in cells if c.seed != 2]
    by_task = [scores([c for c in complete if c.task == t]).mean(axis=1) for t in fake.TASKS]
    assert entry.deviation == pytest.approx(np.mean(by_task, axis=0).std(ddof=1))
    nothing = Results(CELLS, {}).entry(cells, "rougeL", {"template": "Mapping"})
    assert (nothing.value, nothing.present, nothing.versus) == (None, 0, None)


def test_a_metric_without_scores_has_no_interval():
    results = Results(CELLS, RESULTS)
    cells = results.where({"template": "Prompting"})
    entry = results.entry(cells, "bleu", {"template": "Mapping"})
    assert (entry.low, entry.high, entry.versus) == (None, None, None)
    assert entry.deviation is not None
    with pytest.raises(UserError, match="Did you mean 'bleu'"):
        results.entry(cells, "blue")


def test_a_tiny_task_may_miss_a_resample():
    cells = [cell for cell in CELLS if cell.seed == 0 and cell.template == "Mapping"]
    sizes = {"AtLocation": 1, "xIntent": 60, "xNeed": 60}
    results = {
        cell: {"scores": {"m": [0.5] * sizes[cell.task]}, "values": {"m": 0.5}, "info": {}}
        for cell in cells
    }
    entry = Results(cells, results).entry(cells, "m")
    assert (entry.value, entry.low, entry.high) == pytest.approx((0.5, 0.5, 0.5))


def test_cells_of_unlike_test_sets_are_refused():
    cell = CELLS[0]
    other = fake.result(cell)
    shorter = {"scores": {"rougeL": [0.5]}, "values": {"rougeL": 0.5}, "info": other["info"]}
    for changed in (shorter, other | {"info": {"examples": "other"}}):
        with pytest.raises(UserError, match="same examples"):
            Results(CELLS, RESULTS | {cell: changed})


def test_a_setting_is_chosen_by_the_validation_metric_within_its_group():
    grid = fake.grid(extra={"rate": [0.1, 0.2]}, template=["Mapping", "Prompting"], seed=[0, 1])
    cells = grid.cells()
    best = {"Mapping": 0.1, "Prompting": 0.2}

    def done(cell):
        result = fake.result(cell)
        good = cell.values["rate"] == best[cell.template]
        return {**result, "values": {**result["values"], "validation": 1.0 if good else 0.0}}

    results = Results(cells, {cell: done(cell) for cell in cells})
    chosen = results.choose("rate", "validation", ["template"])
    kept = {(c.template, c.values["rate"]) for c in chosen.cells}
    assert kept == set(best.items())
    assert len(chosen.results) == len(cells) // 2
    with pytest.raises(UserError, match="validation_loss"):
        results.choose("rate", "validation_loss", ["template"])
