# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A task of SeqIO alone in grids, `tune` and `match`: its own tokens, scores worked out here."""

from collections.abc import Sequence

import gin
import pytest

from mto_jax import api, checkpoints
from mto_jax.adaptation import classifier
from mto_jax.adaptation.make import PairConfig
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.errors import UserError
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.runner import FewShot
from mto_jax.experiments.tune import tune
from mto_jax.models.adapters import PromptTuning
from mto_jax.text2text.answers import answer
from mto_jax.training.finetune import Tuning
from mto_jax.training.multi_adapter import MultiAdapterTuning
from mto_jax.training.optimizers import Optimizer
from tests.matching.common import LENGTHS, VOCABULARY, model
from tests.text2text import plain_task
from tests.text2text.plain_task import NAME, ROWS, source

TUNING = Tuning(epochs=2, batch_size=4, optimizer=Optimizer("adamw", 1e-2))
GREEDY = Decoding(max_length=LENGTHS["targets"])


def ids(text: str) -> list[int]:
    return [*VOCABULARY.encode(text), VOCABULARY.eos_id]


def predictions(network, before: Sequence[int] = ()) -> list[str]:
    """Answers to the rows of the test split, with tokens before each."""
    questions = [[*before, *ids(source(place))] for place, _ in ROWS["test"]]
    outputs = decode(network, questions, GREEDY, VOCABULARY, batch_size=4)
    return [answer(VOCABULARY.decode(output.tokens)) for (output,) in outputs]


def same_length(answers: list[str]) -> float:
    gold = [capital for _, capital in ROWS["test"]]
    return plain_task.same_length(gold, answers)["same_length"]


@pytest.fixture
def path(tmp_path):
    gin.bind_parameter("vocabulary.name", "demo")
    classifier.save(model(), tmp_path / "model", VOCABULARY)
    with plain_task.added():
        yield str(tmp_path / "model")


def test_cells_are_its_own_examples_and_metric(path, tmp_path):
    runner = FewShot(
        models={"tiny": path},
        task_feature_lengths=LENGTHS,
        stages_dir=str(tmp_path / "stages"),
        tuning=TUNING,
        dev_heads=1,
    )

    def cell(method, template="AsRegistered", shots=None):
        return Cell("tiny", "none", template, NAME, shots, 0, method)

    frozen, tuned, shown = cell("frozen"), cell("fine_tune"), cell("in_context", shots=1)
    constant = cell("constant")
    cells = [frozen, tuned, shown, constant]
    runner.check(cells)
    groups = runner.groups(cells)
    results = {c: result for group in groups for c, result in runner.run(group, lambda *_: None)}
    asked = predictions(model())
    assert results[frozen]["info"]["predictions"] == asked
    assert results[frozen]["values"]["same_length"] == same_length(asked)
    train = [row for row in ROWS["train"] if row not in ROWS["validation"]]
    examples = [(ids(source(place)), ids(f"<extra_id_0> {capital}")) for place, capital in train]
    assert results[tuned]["info"]["trained on"] == len(examples) == 4
    answers = predictions(TUNING(model(), examples, seed=0))
    assert results[tuned]["info"]["predictions"] == answers
    assert results[tuned]["values"]["same_length"] == same_length(answers)
    assert "validation_same_length" in runner.metrics(tuned)
    # Two of the three capitals have seven letters.
    assert results[constant]["values"]["same_length"] == pytest.approx(2 / 3)
    with pytest.raises(UserError, match=r"Prompting is not for plain.*\(AsRegistered, PreAsReg"):
        runner.check([cell("frozen", template="Prompting")])


def test_a_prompt_is_tuned_on_it(path, tmp_path):
    tuned = tune(
        tasks=[NAME],
        templates=["PreAsRegistered"],
        adapters=PromptTuning(2),
        initial_checkpoint_path=path,
        output_dir=str(tmp_path / "out"),
        task_feature_lengths=LENGTHS,
        shots=2,
        dev_heads=1,
        tuning=MultiAdapterTuning(epochs=1, batch_size=2, optimizer=Optimizer("adamw", 1e-2)),
    )
    results = {cell.method: result for cell, result in tuned.results.items()}
    assert results["frozen"]["info"]["predictions"] == predictions(model())
    folder = tmp_path / "out" / f"{NAME}-PreAsRegistered-prompt2-lr0.01-seed0"
    network = checkpoints.open(folder).model(VOCABULARY)
    rows = [VOCABULARY.soft_id(0), VOCABULARY.soft_id(1)]
    answers = predictions(network, rows)
    assert results["adapter_tune"]["info"]["predictions"] == answers
    assert results["adapter_tune"]["values"]["same_length"] == same_length(answers)


def test_match_compares_objectives_on_it_alone(path, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a cup is used for drinking tea\na saw is used for cutting wood\n")
    phrases = ["is used for"]
    settings = {
        "scores": ("expert", "ranks", "probe"),
        "lengths": LENGTHS,
        "output_dir": str(tmp_path / "out"),
        "shots": 1,
        "seeds": 1,
        "probe_tuning": TUNING,
        "adaptation_tuning": TUNING,
        "pairs": PairConfig(
            str(text), method="phrases", groups="length", phrases=phrases, min_words=2
        ),
    }
    gin.bind_parameter("task_metrics.add", ["mto_jax.metrics.text:exact_match"])
    with pytest.raises(UserError, match="only objectives can be compared on it"):
        api.match(path, [NAME], objectives=["none"], **settings)
    matching = api.match(path, [NAME], objectives=["none", "lm"], metric="exact_match", **settings)
    assert [verdict.score for verdict in matching.verdicts] == ["adaptation"]
    (choice,) = [decision.choice for decision in matching.decisions.values()]
    assert choice == ("none", "AsRegistered")
    assert matching.decisions[NAME].decided_by == "template: the only one; objective: no clear gain"
    written = (tmp_path / "out" / "mapping.gin").read_text()
    assert f'"{NAME}": ("none", "AsRegistered")' in written
