# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trajectories: which cells there are, and what invented scores with known answers come out as."""

import json

import gin
import numpy as np
import pytest

from mto_jax.adaptation import classifier
from mto_jax.errors import UserError
from mto_jax.experiments import data, runner, trajectory
from mto_jax.experiments.contrasts import MeanChange
from mto_jax.experiments.course import Course
from mto_jax.experiments.course_figures import CourseFigure, ReplayFigure
from mto_jax.experiments.results import Results
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.training.finetune import Tuning
from mto_jax.training.optimizers import Optimizer
from tests.matching.common import LENGTHS, SENTENCES, USES, VOCABULARY, model

EXAMPLES = {"known": 40, "hidden": 30, "noise": 20, "asked": 25}
MODELS = ["early", "middle", "late"]


@pytest.fixture
def course():
    return Course(
        MODELS, ["known", "hidden", "noise"], [*EXAMPLES], ["Prompting"], [4, 30], [None, 0.25]
    )


def score(cell) -> float:
    """What the frozen and the tuned model reach, but for noise."""
    stage = MODELS.index(cell.model)
    if cell.method == "constant":
        return 0.2
    if cell.task == "known":
        return [0.1, 0.7, 0.7][stage]
    if cell.task == "hidden":
        return 0.1 if cell.method == "frozen" else [0.2, 0.5, 0.8][stage]
    return 0.15 if cell.task == "noise" else 0.5


def invented(course) -> Results:
    grid = course.grid([0, 1], "rougeL")
    results = {}
    for cell in grid.cells():
        tested, rng = cell.asked.task, np.random.default_rng(len(results))
        if cell.values["asked"]:
            frozen = type(cell)(
                cell.model, "none", "Prompting", tested, 0, 0, "frozen",
                (("asked", None), ("replay", None)),
            )  # fmt: skip
            # A fifth is forgotten, a tenth with replay.
            mean = score(frozen) * (0.9 if cell.values["replay"] else 0.8)
        else:
            mean = score(cell)
        noise = rng.normal(0, 0.02, EXAMPLES[tested])
        scores = mean + noise - noise.mean()
        results[cell] = {
            "scores": {"rougeL": scores.tolist()},
            "values": {"rougeL": mean},
            "info": {"examples": tested},
        }
    return Results(grid.cells(), results)


def test_the_cells_are_those_that_the_questions_need(course):
    cells = course.grid([0, 1], "rougeL").cells()
    frozen = [cell for cell in cells if cell.method == "frozen"]
    assert len(frozen) == len(MODELS) * len(EXAMPLES)
    assert len([cell for cell in cells if cell.method == "constant"]) == len(EXAMPLES)
    tuned = [cell for cell in cells if cell.method == "fine_tune"]
    own = [cell for cell in tuned if not cell.values["asked"] and not cell.values["replay"]]
    assert len(own) == len(MODELS) * 3 * 2 * 2
    others = [cell for cell in tuned if cell.values["asked"] and not cell.values["replay"]]
    assert len(others) == len(MODELS) * 3 * 3 * 2
    assert all(cell.shots == 30 and cell.values["asked"] != cell.task for cell in others)
    replayed = [cell for cell in tuned if cell.values["replay"]]
    assert len(replayed) == 3 * 4 * 2
    assert all(cell.model == "late" and cell.shots == 30 for cell in replayed)


def test_tasks_are_learned_latent_or_neither_and_curves_turn_where_they_stop_rising(course):
    summary = course.summary(invented(course), "rougeL")
    kinds = {task: judged["class"] for task, judged in summary["tasks"].items()}
    assert kinds == {"known": "learned", "hidden": "latent", "noise": "neither"}
    turns = {task: judged["turning point"] for task, judged in summary["tasks"].items()}
    assert turns["known"] == {"frozen": "middle", "tuned": "middle"}
    assert turns["hidden"] == {"frozen": "early", "tuned": "late"}
    gain = summary["tasks"]["hidden"]["comparisons"]["last tuned - last frozen"]
    assert gain["difference"] == pytest.approx(0.7)
    assert gain["low"] < 0.7 < gain["high"]


def test_forgetting_is_the_mean_relative_change_of_the_other_tasks(course):
    forgetting = course.summary(invented(course), "rougeL")["forgetting"]
    late = forgetting["by checkpoint"]["late"]
    assert late["replay 0%"]["difference"] == pytest.approx(-0.2)
    assert late["replay 25%"]["difference"] == pytest.approx(-0.1)
    assert set(forgetting["by checkpoint"]["early"]) == {"replay 0%"}
    assert "late, replay 0%" in " ".join(forgetting["text"])
    json.dumps(forgetting, allow_nan=False)


def test_the_mean_change_of_pairs_is_that_of_their_means(course):
    results = invented(course)
    change = course.change("late", course.own, None)
    value = change.compute(results, results.cells, "rougeL").difference
    assert value == pytest.approx(np.mean([0.0, 0.7, 0.0]))
    assert MeanChange([]).compute(results, results.cells, "rougeL") is None


def test_figures_and_tables_can_be_made_of_every_course(course):
    results = invented(course)
    grid = course.grid([0, 1], "rougeL")
    for table in course.tables():
        table.check(grid, {})
    figure = CourseFigure(course).draw(grid, results)
    assert [axis.get_title() for axis in figure.axes[:4]] == [*EXAMPLES]
    lines = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    np.testing.assert_allclose(lines["frozen, Prompting"].get_ydata(), [0.1, 0.7, 0.7])
    (axis,) = ReplayFigure(course).draw(grid, results).axes
    assert len(axis.containers) == 2


def test_measures_are_asked_of_every_model_as_it_is_and_tuned():
    course = Course(
        MODELS, ["known", "hidden"], ["known", "hidden", "asked"], ["Prompting"], [4, 30],
        [None, 0.25], ["recall:asked", "loss:corpus"],
    )  # fmt: skip
    grid = course.grid([0], "rougeL")
    measured = [cell for cell in grid.cells() if cell.measure]
    frozen = [c for c in measured if c.method == "frozen"]
    assert {(c.task, c.values["asked"]) for c in frozen} == {
        ("asked", "recall:asked"), ("known", "loss:corpus"),
    }  # fmt: skip
    tuned = [c for c in measured if c.method == "fine_tune"]
    assert all(c.shots == 30 for c in tuned)
    # Two tasks and two measures at three checkpoints; with replay at the last alone.
    assert len(tuned) == 2 * 2 * 3 + 2 * 2
    values = {"frozen": 2.0, "fine_tune": 2.5}
    results = {
        cell: {
            "scores": {cell.measure: [values[cell.method]] * 5},
            "values": {cell.measure: values[cell.method]},
            "info": {"examples": cell.values["asked"]},
        }
        for cell in measured
    }
    measures = course.summary(Results(grid.cells(), results), "rougeL")["measures"]
    assert len(measures) == 2 * 2 * 2
    assert {m["difference"] for m in measures.values()} == {0.5}
    for table in course.tables():
        table.check(grid, {})


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    known = {task.name: task for task in (USES, SENTENCES)}

    def read(wanted, module):
        sets = []
        for request in wanted:
            task = known[request.task]
            records = task.train if request.split == "train" else task.held_out
            sets.append(RecordSet(task.name, task.kind, task.wording, records, USES.metrics))
        return sets

    monkeypatch.setattr(data, "read", read)
    gin.bind_parameter("vocabulary.name", "demo")
    for seed in (0, 1):
        classifier.save(model(seed), tmp_path / f"model{seed}", VOCABULARY)
    return {f"seed {seed}": str(tmp_path / f"model{seed}") for seed in (0, 1)}


def test_the_whole_verb_writes_its_summary_and_computes_nothing_twice(
    checkpoints, tmp_path, monkeypatch
):
    tuned = []
    tune = runner.FewShot._tune
    monkeypatch.setattr(
        runner.FewShot, "_tune", lambda *given: tuned.append(given[2].cell) or tune(*given)
    )
    options = {
        "tasks": ["uses"],
        "asked": ["sentences"],
        "recall": True,
        "templates": ["Prompting"],
        "checkpoints": checkpoints,
        "output_dir": str(tmp_path / "out"),
        "task_feature_lengths": LENGTHS,
        "shots": [1, 2],
        "seeds": [0],
        "tuning": Tuning(epochs=1, batch_size=4, optimizer=Optimizer("adamw", 1e-2)),
    }
    summary = trajectory.trajectory(**options)
    assert len(tuned) == 2 * 2  # each tuned model is asked about both tasks, and their facts
    assert {m.partition(",")[0] for m in summary["measures"]} == {"recall:uses", "recall:sentences"}
    assert (tmp_path / "out" / "tables" / "recall.md").exists()
    assert summary == json.loads((tmp_path / "out" / "trajectory.json").read_text())
    assert set(summary["tasks"]) == {"uses"}
    assert (tmp_path / "out" / "figures" / "course.png").exists()
    assert "asked about sentences" in (tmp_path / "out" / "tables" / "forgetting.md").read_text()
    assert trajectory.trajectory(**options) == summary
    assert len(tuned) == 2 * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "runs/none", "checkpoints": {"a": "b"}}, "and not both"),
        ({}, "and not both"),
        ({"checkpoints": {"one": "here"}}, r"two checkpoints .*log:12"),
        ({"run": "runs/none"}, "gives 0.*log:12"),
        ({"run": "runs/none", "steps": [7]}, "no checkpoint of step 7"),
        ({"run": "runs/none", "steps": "lin:7"}, "expected a list of steps"),
    ],
)
def test_what_is_no_trajectory_is_refused_before_any_work(tmp_path, options, message):
    common = {"tasks": ["uses"], "templates": ["Prompting"], "task_feature_lengths": LENGTHS}
    with pytest.raises(UserError, match=message):
        trajectory.trajectory(output_dir=str(tmp_path / "out"), **common, **options)
    assert not (tmp_path / "out").exists()
