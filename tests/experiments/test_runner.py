# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's cells: what each is trained on and asked, and that teams do not change results."""

import dataclasses

import gin
import numpy as np
import pytest

from mto_jax import config
from mto_jax.adaptation import classifier
from mto_jax.errors import UserError
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.experiments import runner as cells_lib
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.runner import FewShot
from mto_jax.experiments.store import check_result
from mto_jax.metrics import labels
from mto_jax.text2text import few_shot
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.text2text.task import tokenise
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.training.finetune import Tuning
from mto_jax.training.multi_adapter import ManyTuning
from mto_jax.training.optimizers import Optimizer
from tests.matching.common import LENGTHS, QUESTIONS, SENTENCES, USES, VOCABULARY, model

RATE = Optimizer("adamw", 1e-2)


def cell(template, method="fine_tune", task="uses", shots=2, seed=0, objective="none"):
    return Cell("tiny", objective, template, task, shots, seed, method)


PROMPTS = [cell("MaskedPrePT", "prompt_tune", seed=seed) for seed in (0, 1)]
PROMPTS.append(cell("PostPT", "prompt_tune", shots=1))
CELLS = [cell("Prompting"), cell("MaskedPrompting"), cell("Prompting", "frozen", shots=0), *PROMPTS]


@pytest.fixture
def runner(tmp_path, monkeypatch):
    known = {task.name: task for task in (USES, QUESTIONS, SENTENCES)}

    def read(wanted, module):
        assert module is None
        return [
            RecordSet(
                one.task,
                known[one.task].kind,
                known[one.task].wording,
                known[one.task].train if one.split == "train" else known[one.task].held_out,
                known[one.task].metrics,
            )
            for one in wanted
        ]

    monkeypatch.setattr(cells_lib, "read", read)
    gin.bind_parameter("vocabulary.name", "demo")
    classifier.save(model(), tmp_path / "model", VOCABULARY)
    return FewShot(
        models={"tiny": str(tmp_path / "model")},
        task_feature_lengths=LENGTHS,
        stages_dir=str(tmp_path / "stages"),
        tuning=Tuning(epochs=2, batch_size=4, optimizer=RATE),
        prompt_tuning=ManyTuning(epochs=2, batch_size=4, optimizer=RATE),
        prompt_length=2,
    )


def results(runner, cells):
    return {
        cell: result
        for group in runner.groups(cells)
        for cell, result in runner.run(group, lambda *report: None)
    }


def test_each_cell_is_a_plain_tuning_and_the_answers_of_it(runner):
    runner.check(CELLS)
    found = results(runner, CELLS)
    assert set(found) == set(CELLS)
    template = TEMPLATES["MaskedPrompting"]
    shots = few_shot.few_shot(USES.train, {}, shots=2, tails_per_head=3, seed=0)
    examples = tokenise(template, shots, USES, VOCABULARY, LENGTHS)
    tuned = runner.tuning(model(), examples, seed=0)
    answers = evaluate_records(tuned, USES, template, VOCABULARY, LENGTHS)
    result = found[cell("MaskedPrompting")]
    assert result["info"]["predictions"] == answers.predictions
    assert result["info"]["trained on"] == len(examples)
    np.testing.assert_array_equal(result["scores"]["rougeL"], answers.scores["rougeL"])
    frozen = evaluate_records(model(), USES, TEMPLATES["Prompting"], VOCABULARY, LENGTHS)
    untrained = found[cell("Prompting", "frozen", shots=0)]
    assert untrained["info"]["predictions"] == frozen.predictions


def test_metrics_are_those_of_the_task(runner):
    judged = cell("Prompting", "frozen", task="sentences", shots=0)
    runner.check([judged])
    assert runner.metrics(judged) == ["accuracy", "matthews"]
    (result,) = results(runner, [judged]).values()
    check_result(result)
    references = [[record.label] for record in SENTENCES.held_out]
    expected = labels.matthews(references, result["info"]["predictions"])["matthews"]
    assert result["values"]["matthews"] == expected
    before = runner.settings(judged)
    gin.bind_parameter("task_metrics.add", ["mto_jax.metrics.text:exact_match"])
    assert runner.settings(judged) != before


def test_prompts_of_a_team_are_the_same_when_only_one_is_left(runner):
    runner.check(CELLS)
    (team,) = runner.groups(PROMPTS)
    assert len(team) == 3
    whole = dict(runner.run(team, lambda *report: None))
    (group,) = runner.groups(PROMPTS[1:2])
    ((left, again),) = runner.run(group, lambda *report: pytest.fail("trained again"))
    assert again == whole[left]


def test_settings_are_what_decides_the_result(runner):
    runner.check(CELLS)
    plain, prompt = runner.settings(CELLS[0]), runner.settings(PROMPTS[0])
    changed = dataclasses.replace(runner, prompt_length=3)
    changed.check(CELLS)
    assert changed.settings(CELLS[0]) == plain
    assert changed.settings(PROMPTS[0]) != prompt


def test_the_optimizer_that_gin_binds_belongs_to_the_settings(runner):
    runner.tuning, runner.prompt_tuning = Tuning(epochs=2), ManyTuning(epochs=2)
    runner.check(CELLS)
    before = [runner.settings(one) for one in (CELLS[0], PROMPTS[0])]
    gin.bind_parameter("Optimizer.learning_rate", 0.125)
    for old, one in zip(before, (CELLS[0], PROMPTS[0]), strict=True):
        assert runner.settings(one) != old
        assert "0.125" in runner.settings(one)["tuning"]


def test_gin_files_that_others_include_decide_about_adaptations(runner, tmp_path):
    inner, outer = tmp_path / "inner.gin", tmp_path / "outer.gin"
    outer.write_text(f"include '{inner}'\n")
    inner.write_text("A = 1\n")
    digests = set()
    for text in ("A = 1\n", "A = 2\n", "A = 2\n"):
        inner.write_text(text)
        digests.add(dataclasses.replace(runner, adaptation=[str(outer)])._adaptation_digest)
    assert len(digests) == 2


def test_plans_name_every_method_and_the_adaptation(runner):
    cells = [*CELLS, cell("Mapping", objective="lm")]
    runner.adaptation = ["runs/adapt.gin"]
    runner.check(cells)
    stages = runner.stages(cells)
    assert [stage.name.split(" (")[0] for stage in stages] == [
        "adapt tiny, lm",
        "3 cells, fine_tune",
        "1 cells, frozen",
        "3 cells, prompt_tune",
    ]
    assert all(stage.seconds > 0 for stage in stages[1:])
    assert stages[0].disk > 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (cell("MaskedPrePT"), "MaskedPrePT has a soft prompt, which the method 'fine_tune'"),
        (cell("Mapping", "prompt_tune"), "Mapping has no soft prompt, .* cannot do without"),
        (cell("Mapping", shots=0), "is 0"),
        (cell("Mapping", objective="lm"), "needs a model adapted under it"),
        (cell("Prompting", task="questions"), "Prompting is not for questions"),
        (
            dataclasses.replace(cell("Mapping"), extra=(("learning_rate", 0.1),)),
            "knows no axis 'learning_rate'",
        ),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(runner, bad, message):
    with pytest.raises(UserError, match=message):
        runner.check([*CELLS, bad])


def test_a_failed_adaptation_says_why(runner):
    runner.adaptation = ["runs/nowhere.gin"]
    lost = cell("Mapping", objective="lm")
    runner.check([lost])
    with pytest.raises(UserError, match=r"nowhere\.gin"):
        results(runner, [lost])


def test_a_team_that_fails_is_not_trained_again_for_each_of_its_cells(runner, monkeypatch):
    runner.check(CELLS)
    calls = []

    def fail(*arguments, **options):
        calls.append(1)
        raise UserError("no memory")

    monkeypatch.setattr(cells_lib, "tune_many", fail)
    for one in PROMPTS:
        with pytest.raises(UserError, match="no memory"):
            list(runner.run([one], lambda *report: None))
    assert len(calls) == 1


@pytest.mark.parametrize("name", sorted({*config.bundled("tables")} - {"tables/grid.gin"}))
def test_the_grids_that_come_along_fit_together(name):
    text = (config.gin_directory() / name).read_text()
    required = [macro for macro in ("MODEL", "OUTPUT_DIR") if f"--gin.{macro}=" in text]
    config.load([name], [f"{macro} = 'somewhere'" for macro in required])
    grid, known = gin.get_configurable("Grid")(), gin.get_configurable("FewShot")().known()
    grid.check(known)
    bound = gin.get_bindings("tables")
    for one in (*bound.get("tables", ()), *bound.get("figures", ())):
        one.check(grid, known)
    # The header says how many cells there are.
    assert f"{len(grid.cells())} cells" in text
