# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records: round trips, and errors that name the field."""

import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import records
from mto_jax.text2text.records import Generation, LabelledText, MultipleChoice, Triple

EVERY_KIND = [
    Triple("xIntent", "xIntent", "PersonX sings", ("be happy", 'to be "heard"\n')),
    MultipleChoice("csqa", "where?", ("a", "b"), 1, fact="ü"),
    LabelledText("rte", "It rains.", "entailment", "It is wet."),
    Generation("commongen", "dog catch", ("A dog catches.",)),
]


@pytest.mark.parametrize("record", EVERY_KIND)
def test_json_round_trip(record):
    line = records.to_json(record)
    assert "\n" not in line
    assert records.from_json(line) == record
    assert records.from_json(line.encode()) == record


def test_heads_and_references():
    assert [record.head for record in EVERY_KIND] == [
        "PersonX sings",
        "where?",
        "It rains. It is wet.",
        "dog catch",
    ]
    assert [record.references[-1] for record in EVERY_KIND] == [
        'to be "heard"\n',
        "b",
        "entailment",
        "A dog catches.",
    ]


def test_one_per_reference_and_one_per_head_are_inverse():
    merged = records.one_per_head(records.one_per_reference(EVERY_KIND))
    assert merged == EVERY_KIND
    # Questions and texts are never merged, not even equal ones: a test set keeps its size.
    assert len(records.one_per_head([EVERY_KIND[1]] * 2)) == 2


@pytest.mark.parametrize(
    "make, field, what",
    [
        (lambda: Triple("t", "r", " ", ("x",)), "head", "an empty text"),
        (lambda: Triple("t", "r", "h", ("x", "")), "tails", "an empty text"),
        (lambda: Triple("t", "r", "h", ()), "tails", "an empty list"),
        (lambda: Triple("t", "r", float("nan"), ("x",)), "head", "NaN"),
        (lambda: MultipleChoice("t", "", ("a",), 0), "question", "an empty text"),
        (lambda: MultipleChoice("t", "q", ("a", None), 0), "choices", "null"),
        (lambda: MultipleChoice("t", "q", ("a",), 0, context=None), "context", "null"),
        (lambda: LabelledText("t", "text", ""), "label", "an empty text"),
        (lambda: LabelledText("t", {"a": 1}, "x"), "text", "the object"),
        (lambda: Generation("t", "source", ("",)), "targets", "an empty text"),
    ],
)
def test_a_field_that_is_no_text_is_named(make, field, what):
    with pytest.raises(UserError, match=f"'{field}'.*holds {what}"):
        make()


def test_an_answer_outside_the_choices():
    with pytest.raises(UserError, match=r"answer 2 .* 0 to 1"):
        MultipleChoice("t", "where?", ("a", "b"), 2)
