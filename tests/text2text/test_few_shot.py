# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sampling: exact counts, seeds that matter, heads that never overlap, reports that add up."""

import gin
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mto_jax.errors import UserError
from mto_jax.text2text import few_shot
from mto_jax.text2text.records import LabelledText, Triple


def facts(count: int, tails: int = 5) -> list[Triple]:
    return [
        Triple("use", "use", f"head {h}", (f"tail {h} {t}",))
        for h in range(count)
        for t in range(tails)
    ]


def heads(records) -> set[str]:
    return {record.head for record in records}


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(1, 7), st.integers(0, 5))
def test_exact_counts(shots, tails, seed):
    report = {}
    sample = few_shot.few_shot(facts(40), report, shots=shots, tails_per_head=tails, seed=seed)
    assert len(heads(sample)) == min(shots, 40)
    assert len(sample) == min(shots, 40) * min(tails, 5)
    assert len(set(sample)) == len(sample)
    assert report["heads"] == 40
    assert report["heads drawn"] == min(shots, 40)
    assert report["examples"] == len(sample)
    assert report.get("heads asked for") == (shots if shots > 40 else None)


def test_none_takes_everything_in_order():
    records = facts(7)
    assert few_shot.few_shot(records, {}) == records


def test_seeds_draw_other_heads_and_other_tails():
    records = facts(300)
    samples = [few_shot.few_shot(records, {}, shots=30, seed=seed) for seed in range(20)]
    assert len({frozenset(heads(sample)) for sample in samples}) == 20
    # 30 of 300: two seeds share 3 heads on average. All heads come up sooner or later.
    shared = [len(heads(samples[0]) & heads(sample)) for sample in samples[1:]]
    assert sum(shared) / len(shared) < 6
    assert len(set().union(*map(heads, samples))) > 220
    tails = {
        frozenset(few_shot.few_shot(facts(1), {}, shots=1, tails_per_head=2, seed=s))
        for s in range(30)
    }
    assert len(tails) > 5


def test_a_sample_does_not_depend_on_the_order_and_grows_with_the_shots():
    records = facts(50)
    sample = few_shot.few_shot(records, {}, shots=10, seed=3)
    assert few_shot.few_shot(records[::-1], {}, shots=10, seed=3) == sample
    assert few_shot.few_shot(records, {}, shots=20, seed=3)[: len(sample)] == sample


def test_tasks_draw_apart():
    one = few_shot.few_shot(facts(100), {}, shots=10)
    other = [Triple("need", "need", record.head, record.tails) for record in facts(100)]
    assert heads(one) != heads(few_shot.few_shot(other, {}, shots=10))


def test_so_many_of_each_label():
    counts = {"bad": 90, "good": 9, "odd": 2}
    texts = [LabelledText("t", f"{w} {i}", w) for w, n in counts.items() for i in range(n)]
    report = {}
    sample = few_shot.few_shot(texts, report, shots=4, per_label=True)
    assert [record.label for record in sample] == ["bad", "good", "odd"] * 2 + ["bad", "good"] * 2
    assert (report["heads drawn"], report["heads asked for"]) == (10, 12)
    assert few_shot.few_shot(texts, {}, shots=2, per_label=True) == sample[:6]
    assert len({r.label for r in few_shot.few_shot(texts, {}, shots=4)}) < 3, "by chance alone"


def test_gin_binds_the_sample():
    gin.parse_config("few_shot.shots = 4\nfew_shot.tails_per_head = 1")
    assert len(few_shot.few_shot(facts(9), {})) == 4


def test_training_records_drop_and_report():
    records = [
        Triple("t", "r", "a", ("x", "none", "x")),
        Triple("t", "r", "a", ("None",)),
        Triple("t", "r", "b", ("y",)),
        Triple("t", "r", " B ", ("y2",)),
        Triple("t", "r", "c", ("NONE ",)),
        Triple("t", "r", "d", ("none of it",)),
    ]
    report = {}
    kept = few_shot.training_records(records, [Triple("t", "r", "b", ("other",))], report)
    assert [(record.head, record.tails) for record in kept] == [
        ("a", ("x",)),
        ("d", ("none of it",)),
    ]
    assert report == {
        "read": 8,
        "dropped: the tail is 'none' or empty": 3,
        "dropped: repeated": 1,
        "dropped: the head is in validation or test": 2,
    }


WORDS = st.sampled_from(["a", "b", "c", "none", "A ", "d"])
RECORDS = st.lists(
    st.builds(
        lambda h, t: Triple("t", "r", h, (t,)), st.sampled_from(["h1", "h2", "H1", "h3"]), WORDS
    )
)


@settings(max_examples=100)
@given(RECORDS, RECORDS)
def test_train_and_test_never_share_a_head_and_the_report_adds_up(train, test):
    report = {}
    kept = few_shot.training_records(train, test, report)
    assert not {few_shot.normal(h) for h in heads(kept)} & {few_shot.normal(h) for h in heads(test)}
    assert all(few_shot.normal(record.tails[0]) != "none" for record in kept)
    assert len(kept) == report.pop("read") - sum(report.values())


def test_evaluation_has_one_record_per_head_with_all_references():
    report = {}
    records = few_shot.evaluation_records(
        [*facts(3, 2), Triple("use", "use", "head 0", ("none",))], report
    )
    assert [record.tails for record in records] == [
        (f"tail {h} 0", f"tail {h} 1") for h in range(3)
    ]
    assert report == {"read": 7, "dropped: the tail is 'none' or empty": 1, "heads": 3}


def test_a_label_called_none_is_kept():
    record = LabelledText("t", "text", "none")
    assert few_shot.training_records([record], [], {}) == [record]
    assert few_shot.evaluation_records([record, record], {}) == [record, record]


def test_evaluation_sample():
    records = few_shot.evaluation_records(facts(50), {})
    assert few_shot.evaluation_sample(records, {}) == records
    sample = few_shot.evaluation_sample(records, {}, heads=10, references=3)
    assert len(heads(sample)) == 10
    by_head = {record.head: record for record in records}
    for record in sample:
        assert len(set(record.tails)) == 3
        assert set(record.tails) < set(by_head[record.head].tails)
    other = few_shot.evaluation_sample(records, {}, heads=10, seed=1)
    assert heads(other) != heads(sample)


@pytest.mark.parametrize("limits", [{"shots": 0}, {"shots": -1}, {"shots": 3, "tails_per_head": 0}])
def test_impossible_shots(limits):
    with pytest.raises(UserError, match="at least 1"):
        few_shot.few_shot(facts(3), {}, **limits)


@pytest.mark.parametrize("limits", [{"heads": 0}, {"references": 0}])
def test_impossible_evaluation_samples(limits):
    with pytest.raises(UserError, match="at least 1"):
        few_shot.evaluation_sample(facts(3), {}, **limits)


def test_tenths_are_even_and_ignore_case():
    counts = [0] * 10
    for h in range(5000):
        counts[few_shot.tenth(f"head {h}")] += 1
    assert min(counts) > 400
    assert few_shot.tenth("A  Pen") == few_shot.tenth("a pen")


def test_forms_of_a_character_hide_no_head():
    """T5 reads NFKC: a head that differs in the form of its letters alone is the same to a
    model."""
    train = [
        Triple("use", "use", head, ("x",)) for head in ("Ｃafé au lait", "ﬁne cafe\u0301", "tea")
    ]
    held_out = [Triple("use", "use", head, ("x",)) for head in ("café  au lait", "fine café")]
    kept = few_shot.training_records(train, held_out, {})
    assert [record.head for record in kept] == ["tea"]
