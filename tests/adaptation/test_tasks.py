# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of pairs as SeqIO tasks and mixtures: what a model sees under each objective."""

import sys

import gin
import pytest
import seqio

from mto_jax import tasks
from mto_jax.adaptation import pairs
from mto_jax.adaptation import tasks as adaptation
from mto_jax.data import prepare
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError
from mto_jax.text2text import registration
from mto_jax.text2text.vocabulary import vocabulary

LENGTHS = {"inputs": 24, "targets": 12}
ROWS = [
    pairs.Pair("a bee <extra_id_0> honey all day", "makes", "Filling", "x:1"),
    pairs.Pair("a dog barks <extra_id_0>", "when it sees a cat", "Mapping", "x:2"),
]
SEEN = {
    # A tail in the middle of a sentence is no continuation of what stands before it.
    "lm": [("a dog barks", "when it sees a cat")],
    "denoising": [
        ("a bee honey all day <extra_id_0>", "<extra_id_0> makes"),
        ("a dog barks <extra_id_0>", "<extra_id_0> when it sees a cat"),
    ],
    "in_place_denoising": [
        ("a bee <extra_id_0> honey all day", "<extra_id_0> makes"),
        ("a dog barks <extra_id_0>", "<extra_id_0> when it sees a cat"),
    ],
    "mixed": [
        ("a bee honey all day <extra_id_0>", "<extra_id_0> makes"),
        ("a dog barks", "when it sees a cat"),
    ],
}


@pytest.fixture(autouse=True)
def _demo_vocabulary():
    gin.parse_config("vocabulary.name = 'demo'")
    registries = (seqio.MixtureRegistry, seqio.TaskRegistry)
    known = [set(registry.names()) for registry in registries]
    yield
    for registry, before in zip(registries, known, strict=True):
        for name in set(registry.names()) - before:
            registry.remove(name)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(pairs.to_jsonl(ROWS))
    return str(path)


def seen(task):
    """(inputs, targets) of both splits together, in words."""
    vocab = vocabulary()
    return {
        tuple(vocab.decode(example[feature]) for feature in ("inputs", "targets"))
        for split in ("train", "validation")
        for example in seqio.get_mixture_or_task(task)
        .get_dataset(LENGTHS, split, shuffle=False, seed=0)
        .as_numpy_iterator()
    }


def test_every_objective(path):
    gin.bind_parameter("adaptation_pairs.files", {"bees": path})
    adaptation.register()
    adaptation.register()  # replaces them
    for objective, expected in SEEN.items():
        assert seen(f"bees_{objective}") == set(expected)
    assert seqio.TaskRegistry.get("bees_lm").source.input_files == [path]


def test_mixed_in_place(path):
    gin.bind_parameter("mixed.objectives", {"Filling": "in_place_denoising", "Mapping": "lm"})
    adaptation.register_pairs("bees", path)
    expected = {SEEN["in_place_denoising"][0], SEEN["lm"][0]}
    assert seen("bees_mixed") == expected


def test_one_in_a_hundred_is_held_out():
    rows = [
        pairs.Pair(f"number {i} is <extra_id_0>", "a number", "Filling", "") for i in range(300)
    ]
    parts = adaptation.split_pairs(rows)
    assert len(parts["validation"]) == 3
    assert sorted(parts["train"] + parts["validation"]) == sorted(rows)
    assert set(adaptation.split_pairs(rows[::-1])["validation"]) == set(parts["validation"])


def test_replay(path):
    gin.parse_config(
        f"adaptation_pairs.files = {{'bees': {path!r}}}\n"
        "adaptation_pairs.replay = 'demo_span_corruption'\nadaptation_pairs.replay_share = 0.2"
    )
    tasks.register_all()
    mixture = seqio.get_mixture_or_task("bees_mixed_replay")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == {"bees_mixed": 0.8, "demo_span_corruption": 0.2}


def test_a_task_of_the_users_module_is_replayed(path, tmp_path, monkeypatch):
    """The module comes after all tasks of ours, the mixtures after the module."""
    monkeypatch.setattr(registration, "DATA_SETS", dict(registration.DATA_SETS))
    (tmp_path / "facts.tsv").write_text("head\ttail\n" + "".join(f"a {i}\tb\n" for i in range(40)))
    (tmp_path / "my_facts.py").write_text(
        "from mto_jax.text2text.registration import register_file\n"
        f"register_file('mine', {str(tmp_path / 'facts.tsv')!r}, phrase='is like')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    gin.parse_config(
        f"adaptation_pairs.files = {{'bees': {path!r}}}\n"
        "adaptation_pairs.replay = 'mine_span_corruption'"
    )
    prepare.register(DatasetConfig("bees_lm_replay", LENGTHS, module="my_facts"))
    mixture = seqio.get_mixture_or_task("bees_lm_replay")
    assert {task.name for task in mixture.tasks} == {"bees_lm", "mine_span_corruption"}
    assert len(list(mixture.get_dataset(LENGTHS, "train").take(20))) == 20
    monkeypatch.delitem(sys.modules, "my_facts")
    for name in [name for name in seqio.TaskRegistry.names() if name.startswith("mine_")]:
        seqio.TaskRegistry.remove(name)
    with pytest.raises(UserError, match="no task of the mixture bees_\\w+ 'mine_span_corruption'"):
        prepare.register(DatasetConfig("bees_lm_replay", LENGTHS))


def test_bad_input(path):
    for statements, told in (
        ("adaptation_pairs.files = {'my pairs': 'x'}", "letters, digits"),
        ("adaptation_pairs.files = {'bees': 'nowhere.jsonl'}", "no file of pairs nowhere"),
        ("adaptation_pairs.replay_share = 1.0", "between 0 and 1"),
        (
            f"adaptation_pairs.files = {{'bees': '{path}'}}\n"
            "adaptation_pairs.replay = 'demo_span_coruption'",
            "Did you mean 'demo_span_corruption'",
        ),
    ):
        gin.clear_config()
        gin.parse_config(f"vocabulary.name = 'demo'\n{statements}")
        with pytest.raises(UserError, match=told):
            tasks.register_all()
