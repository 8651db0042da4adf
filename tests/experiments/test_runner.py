# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's cells: what each is trained and evaluated on, and that cohorts do not change
results."""

import dataclasses

import gin
import numpy as np
import pytest

from mto_jax import config
from mto_jax.adaptation import classifier
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.evaluation.in_context import InContext
from mto_jax.experiments import costs, data, scoring
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.runner import FewShot
from mto_jax.experiments.store import check_result
from mto_jax.metrics import labels
from mto_jax.models.adapters import Adapters, LoRA
from mto_jax.text2text import few_shot
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.text2text.task import tokenise
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.training.finetune import Tuning
from mto_jax.training.multi_adapter import MultiAdapterTuning
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

    monkeypatch.setattr(data, "read", read)
    gin.bind_parameter("vocabulary.name", "demo")
    classifier.save(model(), tmp_path / "model", VOCABULARY)
    return FewShot(
        models={"tiny": str(tmp_path / "model")},
        task_feature_lengths=LENGTHS,
        stages_dir=str(tmp_path / "stages"),
        tuning=Tuning(epochs=2, batch_size=4, optimizer=RATE),
        prompt_tuning=MultiAdapterTuning(epochs=2, batch_size=4, optimizer=RATE),
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


def test_a_tuned_model_is_asked_about_other_tasks_and_under_other_templates(runner, monkeypatch):
    trained = []
    tune = FewShot._tune
    monkeypatch.setattr(FewShot, "_tune", lambda *given: trained.append(given) or tune(*given))
    places = [(None, None), (None, "MaskedPrompting"), ("sentences", None)]
    own, other_template, other_task = cells = [
        dataclasses.replace(
            cell("Prompting"), extra=(("asked", task), ("asked_template", template))
        )
        for task, template in places
    ]
    runner.check(cells)
    found = results(runner, cells)
    assert len(trained) == 1
    template = TEMPLATES["Prompting"]
    shots = few_shot.few_shot(USES.train, {}, shots=2, tails_per_head=3, seed=0)
    examples = tokenise(template, shots, USES, VOCABULARY, LENGTHS)
    tuned = runner.tuning(model(), examples, seed=0)
    for place, task in ((own, USES), (other_template, USES), (other_task, SENTENCES)):
        asked = TEMPLATES[place.asked.template]
        answers = evaluate_records(tuned, task, asked, VOCABULARY, LENGTHS)
        assert found[place]["info"]["predictions"] == answers.predictions
        assert found[place]["info"]["trained on"] == len(examples)
        assert set(answers.scores) == set(found[place]["scores"])
        assert set(runner.metrics(place)) == set(found[place]["values"])
    assert "matthews" in runner.metrics(other_task)
    assert len({place.with_settings(runner.settings(place)).key for place in cells}) == 3


def test_replay_is_an_axis_and_draws_from_the_data_that_is_named(runner, monkeypatch):
    place = dataclasses.replace(cell("Prompting"), extra=(("replay", 0.25),))
    with pytest.raises(UserError, match="bind FewShot.replay"):
        results(runner, [place])
    replayed = [([9, 8, 1], [7, 1]), ([6, 1], [5, 1])]
    monkeypatch.setattr(loader, "ensure", lambda config: config)
    monkeypatch.setattr(loader, "sample", lambda prepared, count, seed: replayed)
    runner = dataclasses.replace(runner, replay=DatasetConfig("corpus", LENGTHS))
    found = results(runner, [place])[place]
    shots = few_shot.few_shot(USES.train, {}, shots=2, tails_per_head=3, seed=0)
    examples = tokenise(TEMPLATES["Prompting"], shots, USES, VOCABULARY, LENGTHS)
    tuning = dataclasses.replace(runner.tuning, replay_share=0.25)
    tuned = tuning(model(), examples, replay=replayed, seed=0)
    answers = evaluate_records(tuned, USES, TEMPLATES["Prompting"], VOCABULARY, LENGTHS)
    assert found["info"]["predictions"] == answers.predictions
    assert "corpus" in runner.settings(place)["replay"]
    assert "replay" not in runner.settings(cell("Prompting"))


def test_what_trains_is_an_axis(runner):
    whole, part = (
        dataclasses.replace(cell("Prompting"), extra=(("trainable", name),))
        for name in (None, "decoder")
    )
    runner.check([whole, part])
    found = results(runner, [whole, part])
    tuning = dataclasses.replace(runner.tuning, trainable=["decoder.*"])
    shots = few_shot.few_shot(USES.train, {}, shots=2, tails_per_head=3, seed=0)
    examples = tokenise(TEMPLATES["Prompting"], shots, USES, VOCABULARY, LENGTHS)
    tuned = tuning(model(), examples, seed=0)
    answers = evaluate_records(tuned, USES, TEMPLATES["Prompting"], VOCABULARY, LENGTHS)
    assert found[part]["info"]["predictions"] == answers.predictions
    assert runner.settings(part) != runner.settings(whole)


def test_recall_is_whether_every_word_is_the_first_choice_among_words(runner):
    asked = cell("MaskedPrompting", "recall", shots=0)
    runner.check([asked])
    assert runner.metrics(asked) == ["recall"]
    # A model that knows one record by heart.
    record = USES.held_out[0].with_references(USES.held_out[0].references[:1])
    template = TEMPLATES["MaskedPrompting"]
    learnt = tokenise(template, [record], USES, VOCABULARY, LENGTHS, as_sentence=True)
    knows = Tuning(epochs=60, batch_size=1, optimizer=RATE, dropout_rate=0.0)(model(), learnt)
    untrained = scoring.recall(model(), runner.of(asked))
    trained = scoring.recall(knows, runner.of(asked))
    share = 1 / len(USES.held_out[0].references)
    assert untrained["values"]["recall"] == np.mean(untrained["scores"]["recall"])
    assert trained["scores"]["recall"][0] >= share > untrained["scores"]["recall"][0]


def test_a_rate_on_the_axis_is_that_of_the_optimizer_and_dev_heads_score_it(runner, monkeypatch):
    dev = tuple(USES.held_out[:2])
    runner = dataclasses.replace(runner, dev_heads=2)
    runner.tasks._read["uses"] = data.Data(USES, dev)
    at = [dataclasses.replace(cell("Prompting"), extra=(("learning_rate", r),)) for r in (0.01, 0)]
    assert runner.settings(at[0])["tuning"] == runner.settings(at[1])["tuning"]
    plain, (same, frozen) = cell("Prompting"), at
    found = results(runner, [plain, same, frozen])
    assert found[plain]["info"]["predictions"] == found[same]["info"]["predictions"]
    task = dataclasses.replace(USES, held_out=dev)
    expected = evaluate_records(model(), task, TEMPLATES["Prompting"], VOCABULARY, LENGTHS)
    name = f"validation_{USES.metrics.decides}"
    assert name in runner.metrics(plain)
    value = expected.metrics[USES.metrics.decides].value
    assert found[frozen]["values"][name] == pytest.approx(value)


def test_prompts_that_were_trained_together_are_the_same_when_only_one_is_left(runner):
    runner.check(CELLS)
    (cohort,) = runner.groups(PROMPTS)
    assert len(cohort) == 3
    whole = dict(runner.run(cohort, lambda *report: None))
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
    runner = dataclasses.replace(
        runner, tuning=Tuning(epochs=2), prompt_tuning=MultiAdapterTuning(epochs=2)
    )
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
        digests.add(dataclasses.replace(runner, adaptation=[str(outer)]).bases.adaptation_digest())
    assert len(digests) == 2


def test_plans_name_every_method_and_the_adaptation(runner):
    cells = [*CELLS, cell("Mapping", objective="lm")]
    runner = dataclasses.replace(runner, adaptation=["runs/adapt.gin"])
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
            dataclasses.replace(cell("Mapping"), extra=(("rank", 2),)),
            "no free axis .* 'rank'. Known: adapter, asked",
        ),
        (
            dataclasses.replace(cell("Prompting"), extra=(("asked", "questions"),)),
            "Prompting is not for questions",
        ),
        (
            dataclasses.replace(cell("Mapping"), extra=(("asked_template", "Maping"),)),
            "asked_template.*'Maping'. Did you mean 'Mapping'",
        ),
        (
            dataclasses.replace(cell("Mapping"), extra=(("trainable", "decodr"),)),
            "trainable.*'decodr'. Did you mean 'decoder'",
        ),
        (
            dataclasses.replace(cell("Mapping", "frozen", shots=0), extra=(("replay", 0.5),)),
            "'frozen' has no replay",
        ),
        (
            dataclasses.replace(
                cell("Mapping", "frozen", shots=0), extra=(("learning_rate", 0.1),)
            ),
            "'frozen' has no learning_rate, but that axis is 0.1",
        ),
        (cell("Prompting", "adapter_tune"), 'the axis "adapter" names'),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(runner, bad, message):
    with pytest.raises(UserError, match=message):
        runner.check([*CELLS, bad])


def test_a_failed_adaptation_says_why(runner):
    runner = dataclasses.replace(runner, adaptation=["runs/nowhere.gin"])
    lost = cell("Mapping", objective="lm")
    runner.check([lost])
    with pytest.raises(UserError, match=r"nowhere\.gin"):
        results(runner, [lost])


def test_a_frozen_model_is_shown_as_many_heads_as_the_axis_shots_says(runner, monkeypatch):
    shown = []
    plain = data.asking

    def asking(template, examples, *args, **options):
        shown.append(([record.head for record in examples], options["late"]))
        return plain(template, examples, *args, **options)

    monkeypatch.setattr(data, "asking", asking)
    cells = [cell("Prompting", method, shots=2) for method in ("in_context", "in_context_late")]
    found = results(runner, cells)
    drawn = few_shot.few_shot(USES.train, {}, shots=2, tails_per_head=1, seed=0)
    heads = [record.head for record in drawn]
    assert shown == [(heads, False), (heads, True)]
    assert len(heads) == len({*heads}) == 2
    for one in cells:
        assert found[one]["info"]["trained on"] == 0
        other = dataclasses.replace(runner, in_context=InContext(end=";"))
        assert other.settings(one) != runner.settings(one)
    for shots in (0, None):
        with pytest.raises(UserError, match="a number of 1 or more"):
            runner.check([cell("Prompting", "in_context", shots=shots)])


def test_matched_is_the_objective_of_the_mapping(runner):
    matched = cell("Mapping", objective="matched")
    with pytest.raises(UserError, match="there is no mapping"):
        runner.check([matched])
    runner = dataclasses.replace(runner, adaptation=["runs/adapt.gin"])
    settings = []
    for objective in ("lm", "denoising", "none"):
        gin.bind_parameter("mapping.tasks", {"uses": (objective, "Mapping")})
        runner.check([matched])
        settings.append(runner.settings(matched))
        adapted = [stage.name for stage in runner.stages([matched]) if "adapt" in stage.name]
        assert adapted == [f"adapt tiny, {objective} (time not known)"] * (objective != "none")
    assert len({*map(str, settings)}) == 3
    ((_, result),) = runner.run([matched], lambda *report: None)
    assert result["values"] == results(runner, [cell("Mapping")])[cell("Mapping")]["values"]


def test_metrics_are_those_of_the_task(runner):
    judged = cell("Prompting", "frozen", task="sentences", shots=0)
    runner.check([judged])
    assert runner.metrics(judged) == ["accuracy", "matthews", *costs.METRICS]
    (result,) = results(runner, [judged]).values()
    check_result(result)
    references = [[record.label] for record in SENTENCES.held_out]
    expected = labels.matthews(references, result["info"]["predictions"])["matthews"]
    assert result["values"]["matthews"] == expected
    before = runner.settings(judged)
    gin.bind_parameter("task_metrics.add", ["mto_jax.metrics.text:exact_match"])
    assert runner.settings(judged) != before


def test_the_best_constant_answer_is_one_of_the_references(runner):
    constant = cell("Prompting", "constant", shots=0)
    runner.check([constant])
    (result,) = results(runner, [constant]).values()
    (answer,) = set(result["info"]["predictions"])
    references = [record.tails for record in USES.held_out]
    texts = {text for tails in references for text in tails}
    share = {text: sum(text in tails for tails in references) / len(references) for text in texts}
    assert answer in texts
    assert result["values"]["exact_match"] == pytest.approx(share[answer])
    assert result["values"]["rougeL"] >= max(share.values())


def test_metrics_and_settings_need_no_check_before(runner):
    assert {"rougeL", "exact_match"} <= set(runner.metrics(CELLS[0]))
    assert runner.settings(CELLS[0]) == dataclasses.replace(runner).settings(CELLS[0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        runner.tails = 1


def test_adapters_and_learning_rates_are_axes(runner):
    runner = dataclasses.replace(runner, adapters={"lora2": Adapters.of(LoRA(2))})
    cells = [
        dataclasses.replace(
            cell("Prompting", "adapter_tune"), extra=(("adapter", "lora2"), ("learning_rate", rate))
        )
        for rate in (0.0, 0.1)
    ]
    runner.check(cells)
    assert runner.groups(cells) == [cells]  # they train in one step
    assert runner.settings(cells[0]) == runner.settings(cells[1])
    still, tuned = results(runner, cells).values()
    frozen = evaluate_records(model(), USES, TEMPLATES["Prompting"], VOCABULARY, LENGTHS)
    assert still["info"]["predictions"] == frozen.predictions
    assert tuned["info"]["step"] == 2


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


def test_recall_and_the_loss_of_an_objective_are_asked_of_any_model(runner, monkeypatch):
    sampled = [([9, 8, 1], [7, 1]), ([6, 1], [5, 4, 1])]
    monkeypatch.setattr(loader, "ensure", lambda config: config)
    monkeypatch.setattr(loader, "sample", lambda prepared, count, seed: sampled)
    asked = ("recall:uses", "loss:corpus", None)
    cells = [
        dataclasses.replace(cell("Prompting", "frozen", shots=0), extra=(("asked", what),))
        for what in asked
    ]
    runner.check(cells)
    found = results(runner, cells)
    recall, loss, plain = (found[one] for one in cells)
    expected = scoring.recall(model(), runner.of(cell("Prompting", "recall")))
    assert recall["values"] == expected["values"]
    rows = [loss_of(sample) for sample in sampled]
    np.testing.assert_allclose(loss["scores"]["loss"], rows, rtol=1e-4)
    assert "rougeL" in plain["values"]
    for one in cells:
        assert set(runner.metrics(one)) == set(found[one]["values"])
    assert len({one.with_settings(runner.settings(one)).key for one in cells}) == 3
    wrong = dataclasses.replace(cells[0], extra=(("asked", "recal:uses"),))
    with pytest.raises(UserError, match="recall:TASK"):
        runner.check([wrong])


def loss_of(example) -> float:
    """The mean cross-entropy of one example, from the plain logits of the random model."""
    row = {name: np.array(ids, np.int32) for name, ids in zip(LENGTHS, example, strict=True)}
    batch = loader.assemble([row], np.arange(1), 1, [len(ids) for ids in example])
    logits_TxV = np.asarray(model()(batch), np.float64)[0]
    log_z_T = np.log(np.exp(logits_TxV).sum(axis=-1))
    return float(np.mean(log_z_T - logits_TxV[np.arange(len(example[1])), example[1]]))


def test_a_strategy_is_the_tuning_that_it_names(runner):
    norms = cell("Prompting", "biases_and_norms")
    lora, same = cell("Prompting", "lora"), cell("Prompting", "adapter_tune")
    same = dataclasses.replace(same, extra=(("adapter", "lora8"),))
    runner = dataclasses.replace(runner, adapters={"lora8": LoRA(8)})
    runner.check([norms, lora, same])
    found = results(runner, [norms, lora, same])
    assert found[lora]["scores"] == found[same]["scores"]
    tuning = dataclasses.replace(runner.tuning, trainable=("*norm.scale", "*relative_bias"))
    shots = few_shot.few_shot(USES.train, {}, shots=2, tails_per_head=3, seed=0)
    examples = tokenise(TEMPLATES["Prompting"], shots, USES, VOCABULARY, LENGTHS)
    tuned = tuning(model(), examples, seed=0)
    answers = evaluate_records(tuned, USES, TEMPLATES["Prompting"], VOCABULARY, LENGTHS)
    assert found[norms]["info"]["predictions"] == answers.predictions
    assert found[norms]["values"]["trained_parameters"] < 1000
    assert set(runner.metrics(norms)) == set(found[norms]["values"])
    replayed = runner.settings(cell("Prompting", "full_replay"))
    assert replayed["replay share"] == 0.25
    assert "replay" not in runner.settings(cell("Prompting", "full"))


def test_a_strategy_fits_its_template(runner):
    runner.check([cell("MaskedPrePT", "prompt")])
    for method, template in (("prompt", "Prompting"), ("lora", "MaskedPrePT")):
        with pytest.raises(UserError, match="soft tokens"):
            runner.check([cell(template, method)])
