# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Token ids of rendered examples against the vocabulary's own of the whole text."""

import dataclasses

import gin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mto_jax.errors import UserError
from mto_jax.text2text import templates, tokenising
from mto_jax.text2text.records import Generation, LabelledText, MultipleChoice, Triple
from mto_jax.text2text.templates import TEMPLATES, Wording, render
from mto_jax.text2text.tokenising import SoftPrompt, tokenise
from mto_jax.text2text.vocabulary import vocabulary
from tests.text2text.test_templates import BECAUSE, CASES, FACT, QUESTION, SENTIMENT


@pytest.fixture(scope="module")
def vocab():
    return vocabulary("demo")


@pytest.mark.parametrize("record, wording, name, source, target", CASES)
def test_ids_spell_the_text(vocab, record, wording, name, source, target):
    tokens = tokenise(render(TEMPLATES[name], record, wording), vocab)
    visible = [i for i in tokens.inputs if i < vocab.padded_size]
    without_prompt = source.replace("<shared_prompt> ", "").replace("<prompt> ", "")
    assert vocab.decode(visible) == without_prompt.replace(" <prompt>", "")
    assert vocab.decode(tokens.targets) == target
    # Ranking encodes the text of a candidate: it must give the ids that training saw.
    assert tokens.targets == [*vocab.encode(target), vocab.eos_id]
    assert not tokens.inputs_cut
    assert not tokens.targets_cut


def test_ids_equal_those_of_the_whole_text(vocab):
    fact = Triple("r", "r", "PersonX's friend, who works", ("to earn",))
    rendered = render(TEMPLATES["MaskedPrompting"], fact, Wording("As a result of H, PersonX will"))
    whole = vocab.encode("r: As a result of PersonX's friend, who works, PersonX will <extra_id_0>")
    assert tokenise(rendered, vocab).inputs == [*whole, vocab.eos_id]


def test_soft_tokens_are_rows_of_the_prompt_table(vocab):
    rendered = render(TEMPLATES["SharedPrePT"], FACT, BECAUSE)

    def rows(**settings):
        ids = tokenise(rendered, vocab, soft=SoftPrompt(**settings)).inputs
        return [i - vocab.soft_id(0) for i in ids if i >= vocab.soft_id(0)]

    assert rows() == [*range(10, 20), *range(10)]
    assert rows(length=2, first_row=6) == [8, 9, 6, 7]
    assert rows(length=2, first_row=6, shared_row=0) == [0, 1, 6, 7]
    # The decoder's rows follow the task's own, and the shared ones these.
    assert rows(length=2, decoder_length=3) == [5, 6, 0, 1]
    three = SoftPrompt(length=2, decoder_length=3)
    names = ("Prompting", "PrePT", "SharedPrePT")
    assert [three.needs(TEMPLATES[name]) for name in names] == [0, 5, 7]
    gin.parse_config("PROMPT_LENGTH = 3\nSoftPrompt.length = %PROMPT_LENGTH")
    assert SoftPrompt().length == 3


def test_a_prompt_in_front_of_all_leaves_the_rest_as_it_is(vocab):
    """What PEFT does: rows, then the ids of the source without a prompt."""
    for record, wording, names in (
        (FACT, BECAUSE, ("MaskedFirstPT", "MaskedPrompting")),
        (QUESTION, Wording(), ("FirstAnswerPrompting", "AnswerPrompting")),
    ):
        first, plain = (tokenise(render(TEMPLATES[n], record, wording), vocab) for n in names)
        assert first.inputs == [*(vocab.soft_id(i) for i in range(10)), *plain.inputs]
        assert first.targets == plain.targets


def test_soft_tokens_of_the_decoder_stand_before_the_target(vocab):
    soft = SoftPrompt(length=2, decoder_length=3)
    rows = [vocab.soft_id(i) for i in (2, 3, 4)]
    for name in ("MaskedPrePT", "PostPT"):
        rendered = render(TEMPLATES[name], FACT, BECAUSE)
        plain, found = tokenise(rendered, vocab), tokenise(rendered, vocab, soft=soft)
        assert found.targets == [*rows, *plain.targets]
        assert vocab.soft_prefix(found.targets) == rows
        # They are never cut, and count towards the length.
        least = tokenise(rendered, vocab, {"targets": len(found.targets) - 1}, soft=soft)
        assert least.targets == [*rows, *plain.targets[:-2], vocab.eos_id]
    rendered = render(TEMPLATES["MaskedPrompting"], FACT, BECAUSE)
    assert tokenise(rendered, vocab, soft=soft) == tokenise(rendered, vocab)


TEXT = st.lists(
    st.sampled_from(["the", "dog", "eats", "a red apple", "in", "its house", "PersonX"]),
    min_size=1,
    max_size=40,
).map(" ".join)
ALL = [
    (kind, template)
    for kind in ("triple", "multiple_choice", "labelled_text", "generation")
    for template in templates.templates_for(kind, SENTIMENT)
]


def make_record(kind, text, other):
    return {
        "triple": Triple("task", "r", text, (other,)),
        "multiple_choice": MultipleChoice(
            "task", "which is it?", ("a cat", "a dog"), 1, text, other
        ),
        "labelled_text": LabelledText("task", text, "positive", other),
        "generation": Generation("task", text, (other,)),
    }[kind]


@settings(max_examples=200)
@given(st.sampled_from(ALL), TEXT, TEXT, st.integers(1, 90), st.integers(1, 30))
def test_truncation_cuts_only_free_fields(case, text, other, inputs, targets):
    vocab = vocabulary("demo")
    kind, template = case
    wording = dataclasses.replace(
        SENTIMENT, phrase="as a result of H, it has", names=("one", "two")
    )
    rendered = render(template, make_record(kind, text, other), wording)
    whole = tokenise(rendered, vocab)
    lengths = {"inputs": inputs, "targets": targets}

    def least(parts):
        """Tokens of the example with a single token left of every free field."""
        shortest = tuple(
            part._replace(text="the") if isinstance(part, templates.Words) and part.free else part
            for part in parts
        )
        return len(tokenise(templates.Rendered(shortest, shortest), vocab).inputs)

    if least(rendered.source) > inputs or least(rendered.target) > targets:
        with pytest.raises(UserError, match=r"'(<prompt> )?task: .* never cut, need"):
            tokenise(rendered, vocab, lengths)
        return
    cut = tokenise(rendered, vocab, lengths)
    for ids, full, limit, parts, was_cut in (
        (cut.inputs, whole.inputs, inputs, rendered.source, cut.inputs_cut),
        (cut.targets, whole.targets, targets, rendered.target, cut.targets_cut),
    ):
        assert len(ids) == min(len(full), limit)  # no more is cut than has to be
        assert was_cut == (len(full) > limit)
        assert ids[-1] == vocab.eos_id
        # What is fixed survives, in order.
        rest = iter(ids)
        for part in parts:
            match part:
                case templates.Words(words, False, glued):
                    expected = tokenising._fixed_ids(vocab, words, glued)
                case templates.Sentinel(number):
                    expected = [vocab.sentinel_id(number)]
                case templates.Soft(shared):
                    expected = [vocab.soft_id(row) for row in SoftPrompt().rows(shared)]
                case _:
                    expected = []
            for token in expected:
                assert token in rest


def test_the_longest_free_field_gives_way(vocab):
    question = MultipleChoice("t", "which?", ("a", "b"), 0, context="dog " * 30, fact="house " * 5)
    rendered = render(TEMPLATES["AnswerPrompting"], question)
    full = tokenise(rendered, vocab)
    cut = tokenise(rendered, vocab, {"inputs": len(full.inputs) - 20})
    assert vocab.decode(cut.inputs).count("house") == 5
    assert vocab.decode(cut.inputs).endswith("which? choice1: a, choice2: b")


def test_an_example_without_free_fields_is_named(vocab):
    rendered = render(TEMPLATES["AnswerPrompting"], MultipleChoice("csqa", "why?", ("a", "b"), 0))
    with pytest.raises(UserError, match=r"'csqa: why\? choice1.*TASK_FEATURE_LENGTHS\['inputs'\]"):
        tokenise(rendered, vocab, {"inputs": 4})


def test_a_written_source_has_the_ids_of_the_rendered_one(vocab):
    for name in ("MaskedPrePT", "PostPT", "MaskedSharedPrePT", "MaskedPrompting"):
        rendered = render(TEMPLATES[name], FACT, BECAUSE)
        expected = tokenise(rendered, vocab, soft=SoftPrompt(length=3)).inputs
        found = tokenising.encode(rendered.source_text, vocab, SoftPrompt(length=3))
        assert [*found, vocab.eos_id] == expected
