# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Solved examples before a question, early and late, under every form of template."""

import pytest

from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.evaluation.in_context import InContext, asking, solved
from mto_jax.text2text.records import one_per_reference
from mto_jax.text2text.task import tokenise
from mto_jax.text2text.templates import TEMPLATES
from tests.matching.common import LENGTHS, QUESTIONS, USES, VOCABULARY, model

FORM = InContext()
SHOWN = USES.train[2:]  # a cup, a pen


def asked(template, form=FORM, *, late, task=USES, shown=SHOWN):
    ((question, _), *_) = tokenise(TEMPLATES[template], task.held_out, task, VOCABULARY, LENGTHS)
    ask = asking(TEMPLATES[template], shown, task.wording, VOCABULARY, form, late=late)
    pieces, ids = [], []
    for token in ask(question):
        ids.append(token)
        if token == VOCABULARY.eos_id:
            pieces.append(VOCABULARY.decode(ids))
            ids = []
    assert ids == []
    return pieces


@pytest.mark.parametrize("template, gap", [("Prompting", ""), ("MaskedPrompting", " <extra_id_0>")])
def test_answers_stand_where_the_question_asks_for_them(template, gap):
    cup, pen = "is used for drinking tea.", "is used for writing."
    (whole,) = asked(template, late=False)
    assert whole == (
        f"ObjectUse: a cup {cup} ObjectUse: a pen {pen} ObjectUse: a knife is used for{gap}"
    )
    question = f"ObjectUse: a knife is used for{gap}"
    assert asked(template, late=True) == [
        f"ObjectUse: a cup {cup} {question}",
        f"ObjectUse: a pen {pen} {question}",
    ]


def test_mode_tokens_open_every_source():
    form = InContext(end=" ;", masked_mode="[NLU]", plain_mode="[S2S]")
    assert asked("Mapping", form, late=False)[0].startswith("[S2S] ObjectUse: a cup drinking tea ;")
    first, second = asked("MaskedMapping", form, late=True)
    assert first.startswith("[NLU] ObjectUse: a cup drinking tea ;")
    assert second.startswith("[NLU] ObjectUse: a pen writing ;")


def test_templates_with_several_gaps_have_all_of_them_filled():
    gaps, answers = "<extra_id_0>, or choice <extra_id_1>", "<extra_id_0> a <extra_id_1> choice1"
    assert solved(gaps, answers) == "a, or choice choice1"
    options = {"task": QUESTIONS, "shown": QUESTIONS.train, "late": False}
    (text,) = asked("MaskedChoicePrompting", **options)
    assert "fridge, the correct choice is choice1." in text
    assert text.count("<extra_id_") == 2  # of the question alone


def test_the_evaluator_asks_so():
    shown = list(one_per_reference(SHOWN))
    template = TEMPLATES["Prompting"]
    found = {
        late: evaluate_records(
            model(),
            USES,
            template,
            VOCABULARY,
            LENGTHS,
            asking=asking(template, shown, USES.wording, VOCABULARY, InContext(), late=late),
        )
        for late in (False, True)
    }
    plain = evaluate_records(model(), USES, template, VOCABULARY, LENGTHS)
    texts = [[row["raw_prediction"] for row in r.rows] for r in (plain, *found.values())]
    assert texts[0] != texts[1] != texts[2] != texts[0]
    # One solved example is one source either way.
    alone = [
        evaluate_records(
            model(),
            USES,
            template,
            VOCABULARY,
            LENGTHS,
            asking=asking(template, shown[:1], USES.wording, VOCABULARY, InContext(), late=late),
        ).rows
        for late in (False, True)
    ]
    assert alone[0] == alone[1]
