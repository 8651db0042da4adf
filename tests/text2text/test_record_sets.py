# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks of SeqIO alone as data sets: their own texts and tokens, drawn by rows, and what they
lack."""

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.metrics.by_kind import BY_KIND, place
from mto_jax.text2text import mapping, record_sets, records
from mto_jax.text2text.record_sets import Wanted
from mto_jax.text2text.task import Task, candidates, example, minimal_pair, tokenise
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.text2text.tokenising import SoftPrompt
from mto_jax.text2text.vocabulary import vocabulary
from tests.text2text import plain_task
from tests.text2text.plain_task import NAME, ROWS, source

LENGTHS = {"inputs": 32, "targets": 16}
DEMO = vocabulary("demo")


@pytest.fixture(autouse=True)
def _vocabulary():
    gin.bind_parameter("vocabulary.name", "demo")  # where SeqIO is loaded, its tasks are added


@pytest.fixture
def task():
    with plain_task.added():
        sets = record_sets.read([Wanted(NAME, "train", None), Wanted(NAME, "test", None)])
        yield Task.of(*sets)


def test_records_are_the_rows_and_none_of_another_split_trains(task):
    train = [row for row in ROWS["train"] if row not in ROWS["validation"]]
    assert [(r.source, r.target) for r in task.train] == [
        (source(place), f"<extra_id_0> {capital}") for place, capital in train
    ]
    assert [r.references for r in task.held_out] == [("Djamena",), ("Nairobi",), ("none",)]
    assert [r.head for r in task.shots(2, tails=1)] == [source("France"), source("Spain")]
    copy = [records.from_json(records.to_json(record)) for record in task.train]
    assert copy == list(task.train)


def test_tokens_are_those_of_the_seqio_task(task):
    dataset = seqio.TaskRegistry.get(NAME).get_dataset(LENGTHS, split="test", shuffle=False)
    expected = [
        (made["inputs"].tolist(), made["targets"].tolist()) for made in dataset.as_numpy_iterator()
    ]
    plain, soft = TEMPLATES["AsRegistered"], TEMPLATES["PreAsRegistered"]
    assert tokenise(plain, task.held_out, task, DEMO, LENGTHS) == expected
    assert tokenise(plain, task.held_out, task, DEMO, LENGTHS, as_sentence=True) == expected
    made = example(plain, task.held_out[0], task.wording, DEMO, LENGTHS)
    assert (made["inputs"], made["targets"]) == expected[0]
    assert made["inputs_pretokenized"] == source("Chad")
    assert (made["references"], made["choices"]) == (["Djamena"], [])
    prompts = tokenise(soft, task.held_out, task, DEMO, LENGTHS, soft=SoftPrompt(length=2))
    rows = [DEMO.soft_id(0), DEMO.soft_id(1)]
    assert prompts == [([*rows, *inputs], targets) for inputs, targets in expected]
    short = {"inputs": 5, "targets": 16}
    ((inputs, _), *_) = tokenise(plain, task.held_out, task, DEMO, short)
    assert inputs == [*expected[0][0][:4], DEMO.eos_id]


def test_the_only_template_is_as_registered_and_a_mapping_of_it_is_the_task(task):
    assert [template.name for template in candidates(task)] == ["AsRegistered"]
    assert {template.name for template in minimal_pair(task)} == {"AsRegistered"}
    gin.bind_parameter("mapping.tasks", {NAME: ("lm", "AsRegistered")})
    assert mapping.resolve_task(NAME) == NAME


def test_its_metrics_are_its_own_and_those_of_generation_where_it_has_none(task):
    (metric,) = task.metrics.functions
    assert metric([["Oslo"], ["Lima"]], ["Rome", "La Paz"]) == {"same_length": 0.5}
    assert place(metric) == "tests.text2text.plain_task:same_length"
    with plain_task.added("plain_without", metrics=()):
        (known,) = record_sets.read([Wanted("plain_without", "test", 1)])
    assert known.metrics == BY_KIND["generation"]


def test_held_out_heads_are_those_of_all_other_splits():
    with plain_task.added():
        heads = record_sets.held_out_heads([NAME])
    rows = [*ROWS["validation"], *ROWS["test"]]
    assert heads == [source(place) for place, _ in rows]


def test_what_a_task_lacks_is_said():
    def of_length(dataset, sequence_length):
        return dataset.take(sequence_length["inputs"])

    with (
        plain_task.added("plain_lengths", last=(of_length,)),
        pytest.raises(UserError, match="plain_lengths cannot be made without feature lengths"),
    ):
        record_sets.read([Wanted("plain_lengths", "test", 1)])
    with plain_task.added("plain_no_eos", last=()):
        with pytest.raises(UserError, match="inputs of the task plain_no_eos are not the tokens"):
            record_sets.read([Wanted("plain_no_eos", "test", 1)])
        seqio.MixtureRegistry.add("plain_mixture", [("plain_no_eos", 1.0)])
        with pytest.raises(UserError, match="'plain_mixture' is a mixture of SeqIO"):
            record_sets.read([Wanted("plain_mixture", "test", 1)])
        seqio.MixtureRegistry.remove("plain_mixture")
    seqio.TaskRegistry.add("plain_nothing", source=None, output_features={}, preprocessors=[])
    with pytest.raises(UserError, match="has the features .*needs 'inputs' and 'targets'"):
        record_sets.read([Wanted("plain_nothing", "train", 1)])
    seqio.TaskRegistry.remove("plain_nothing")
    with pytest.raises(UserError, match="no split 'dev'"), plain_task.added():
        record_sets.read([Wanted(NAME, "dev", 1)])
