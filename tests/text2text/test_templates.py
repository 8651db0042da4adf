# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Templates: hand-written expectations for every one, and the table in the docs."""

import pathlib
import subprocess
import sys

import gin
import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import phrases, template_page, templates
from mto_jax.text2text.answers import answer, slots
from mto_jax.text2text.records import Generation, LabelledText, MultipleChoice, Triple
from mto_jax.text2text.templates import TEMPLATES, Wording, render
from mto_jax.text2text.tokenising import tokenise
from mto_jax.text2text.vocabulary import vocabulary

FACT = Triple("xIntent", "xIntent", "PersonX works", ("to earn money", "to be useful"))
BECAUSE = Wording("because they intended")
QUESTION = MultipleChoice(
    "csqa", "Where do adults use glue?", ("classroom", "office"), 1, context="Tom is grown up."
)
REVIEW = LabelledText("sst2", "a warm film", "positive")
SENTIMENT = Wording(
    "It was", labels=("negative", "positive"), related={"positive": "great", "negative": "bad"}
)
PAIR = LabelledText("mnli", "It rains.", "entailment", "It is wet.")
NLI = Wording("This is", names=("premise", "hypothesis"), labels=("entailment", "neutral"))
CONCEPTS = Generation("commongen", "dog catch", ("A dog catches.",))

# (template, source, target), written by hand from the method's tables.
TRIPLES = [
    ("Mapping", "xIntent: PersonX works", "to earn money"),
    ("MaskedMapping", "xIntent: PersonX works <extra_id_0>", "<extra_id_0> to earn money"),
    ("Prompting", "xIntent: PersonX works because they intended", "to earn money"),
    (
        "MaskedPrompting",
        "xIntent: PersonX works because they intended <extra_id_0>",
        "<extra_id_0> to earn money",
    ),
    ("FirstPT", "<prompt> xIntent: PersonX works because they intended", "to earn money"),
    (
        "MaskedFirstPT",
        "<prompt> xIntent: PersonX works because they intended <extra_id_0>",
        "<extra_id_0> to earn money",
    ),
    ("PrePT", "xIntent: <prompt> PersonX works because they intended", "to earn money"),
    (
        "MaskedPrePT",
        "xIntent: <prompt> PersonX works because they intended <extra_id_0>",
        "<extra_id_0> to earn money",
    ),
    ("PreSup", "xIntent: <prompt> PersonX works", "to earn money"),
    ("MaskedPreSup", "xIntent: <prompt> PersonX works <extra_id_0>", "<extra_id_0> to earn money"),
    ("PostPT", "xIntent: PersonX works <prompt>", "to earn money"),
    ("MaskedPostPT", "xIntent: PersonX works <prompt> <extra_id_0>", "<extra_id_0> to earn money"),
    (
        "SharedPrePT",
        "xIntent: <shared_prompt> <prompt> PersonX works because they intended",
        "to earn money",
    ),
    (
        "MaskedSharedPrePT",
        "xIntent: <shared_prompt> <prompt> PersonX works because they intended <extra_id_0>",
        "<extra_id_0> to earn money",
    ),
]
ASKED = "Tom is grown up. Where do adults use glue? choice1: classroom, choice2: office"
GAPS = "<extra_id_0>, the correct choice is <extra_id_1>"
BOTH = "<extra_id_0> office <extra_id_1> choice2"
QUESTIONS = [
    ("Mapping", "csqa: Tom is grown up. Where do adults use glue?", "office"),
    (
        "MaskedMapping",
        "csqa: Tom is grown up. Where do adults use glue? <extra_id_0>",
        "<extra_id_0> office",
    ),
    ("MaskedChoicePrompting", f"csqa: {ASKED} {GAPS}", BOTH),
    ("ChoicePrompting", f"csqa: {ASKED}", "choice2 office"),
    ("MaskedAnswerPrompting", f"csqa: {ASKED} <extra_id_0>", "<extra_id_0> office"),
    ("AnswerPrompting", f"csqa: {ASKED}", "office"),
    ("FirstMaskedChoicePrompting", f"<prompt> csqa: {ASKED} {GAPS}", BOTH),
    ("FirstChoicePrompting", f"<prompt> csqa: {ASKED}", "choice2 office"),
    (
        "FirstMaskedAnswerPrompting",
        f"<prompt> csqa: {ASKED} <extra_id_0>",
        "<extra_id_0> office",
    ),
    ("FirstAnswerPrompting", f"<prompt> csqa: {ASKED}", "office"),
    ("PreMaskedChoicePrompting", f"csqa: <prompt> {ASKED} {GAPS}", BOTH),
    ("PreChoicePrompting", f"csqa: <prompt> {ASKED}", "choice2 office"),
    (
        "PreMaskedAnswerPrompting",
        f"csqa: <prompt> {ASKED} <extra_id_0>",
        "<extra_id_0> office",
    ),
    ("PreAnswerPrompting", f"csqa: <prompt> {ASKED}", "office"),
    ("PostMaskedChoicePrompting", f"csqa: {ASKED} <prompt> {GAPS}", BOTH),
    ("PostChoicePrompting", f"csqa: {ASKED} <prompt>", "choice2 office"),
    (
        "PostMaskedAnswerPrompting",
        f"csqa: {ASKED} <prompt> <extra_id_0>",
        "<extra_id_0> office",
    ),
    ("PostAnswerPrompting", f"csqa: {ASKED} <prompt>", "office"),
    ("SharedPreMaskedChoicePrompting", f"csqa: <shared_prompt> <prompt> {ASKED} {GAPS}", BOTH),
    ("SharedPreChoicePrompting", f"csqa: <shared_prompt> <prompt> {ASKED}", "choice2 office"),
    (
        "SharedPreMaskedAnswerPrompting",
        f"csqa: <shared_prompt> <prompt> {ASKED} <extra_id_0>",
        "<extra_id_0> office",
    ),
    ("SharedPreAnswerPrompting", f"csqa: <shared_prompt> <prompt> {ASKED}", "office"),
]
REVIEWS = [
    ("Mapping", "sst2: a warm film", "positive"),
    ("MaskedMapping", "sst2: a warm film <extra_id_0>", "<extra_id_0> positive"),
    ("Prompting", "sst2: a warm film It was", "positive"),
    ("MaskedPrompting", "sst2: a warm film It was <extra_id_0>", "<extra_id_0> positive"),
    (
        "MaskedRelatedPrompting",
        "sst2: a warm film It was <extra_id_0>, so the label is <extra_id_1>",
        "<extra_id_0> great <extra_id_1> positive",
    ),
    ("PrePT", "sst2: <prompt> a warm film It was", "positive"),
    ("MaskedPostPT", "sst2: a warm film <prompt> <extra_id_0>", "<extra_id_0> positive"),
]
PAIRS = [
    ("Mapping", "mnli: premise: It rains. hypothesis: It is wet.", "entailment"),
    (
        "MaskedPrompting",
        "mnli: premise: It rains. hypothesis: It is wet. This is <extra_id_0>",
        "<extra_id_0> entailment",
    ),
]
GENERATIONS = [
    ("Mapping", "commongen: dog catch", "A dog catches."),
    ("Prompting", "commongen: concepts: dog catch", "A dog catches."),
    (
        "MaskedPrompting",
        "commongen: concepts: dog catch <extra_id_0>",
        "<extra_id_0> A dog catches.",
    ),
]
CASES = [
    (record, wording, *case)
    for record, wording, cases in (
        (FACT, BECAUSE, TRIPLES),
        (QUESTION, Wording(), QUESTIONS),
        (REVIEW, SENTIMENT, REVIEWS),
        (PAIR, NLI, PAIRS),
        (CONCEPTS, Wording("concepts: H"), GENERATIONS),
    )
    for case in cases
]


@pytest.mark.parametrize("record, wording, name, source, target", CASES)
def test_rendering(record, wording, name, source, target):
    rendered = render(TEMPLATES[name], record, wording)
    assert rendered.source_text == source
    assert rendered.target_text == target


def test_every_named_template_is_covered():
    assert {case[0] for case in TRIPLES} == {t.name for t in templates.templates_for("triple")}
    assert {case[0] for case in QUESTIONS} == {
        t.name for t in templates.templates_for("multiple_choice")
    }


def test_two_slots_need_related_words():
    names = {t.name for t in templates.templates_for("labelled_text")}
    assert "MaskedRelatedPrompting" not in names
    names = {t.name for t in templates.templates_for("labelled_text", SENTIMENT)}
    assert "MaskedRelatedPrompting" in names
    with pytest.raises(UserError, match="no related word"):
        render(TEMPLATES["MaskedRelatedPrompting"], REVIEW, Wording("It was"))


def test_snake_names_are_task_names():
    assert TEMPLATES["MaskedPrePT"].snake_name == "masked_pre_pt"
    assert TEMPLATES["MaskedChoicePrompting"].snake_name == "masked_choice_prompting"
    assert len({t.snake_name for t in TEMPLATES.values()}) == len(TEMPLATES)


@pytest.mark.parametrize(
    "phrase, masked, plain",
    [
        ("you are likely to find H in", "you are likely to find X in <extra_id_0>", None),
        ("As a result of H, they will", "As a result of X, they will <extra_id_0>", None),
        ("H is used for", "X is used for <extra_id_0>", None),
        ("H's use is", "X's use is <extra_id_0>", None),
        ("T is where you find H", "<extra_id_0> is where you find X", "___ is where you find X"),
        ("H is in T now.", "X is in <extra_id_0> now.", "X is in ___ now."),
        ("H is in T", "X is in <extra_id_0>", None),
        ("The best is", "X The best is <extra_id_0>", None),  # T and H only as words of their own
    ],
)
def test_masking_in_place(phrase, masked, plain):
    fact = Triple("r", "r", "X", ("tail",))
    rendered = render(TEMPLATES["MaskedPrompting"], fact, Wording(phrase))
    assert rendered.source_text == f"r: {masked}"
    rendered = render(TEMPLATES["Prompting"], fact, Wording(phrase))
    assert rendered.source_text == f"r: {plain or masked.removesuffix(' <extra_id_0>')}"


@pytest.mark.parametrize("style", ["postfix", "wrap"])
def test_no_phrase_doubles_or_loses_the_head(style):
    for relation in phrases.RELATIONS:
        # The letter H as a head must not be taken for the place of the head.
        for head in ("PersonX eats H", "H"):
            wording = Wording(phrases.relation_phrase(relation, style))
            fact = Triple(relation, relation, head, ("t",))
            source = render(TEMPLATES["MaskedPrompting"], fact, wording).source_text
            words = source.replace(",", "").split()
            assert words.count("H") == 1
            assert words[-1] == "<extra_id_0>"


def test_both_sets_have_all_relations_and_the_style_is_a_gin_choice():
    assert len(phrases.POSTFIX) == 23
    assert set(phrases.POSTFIX) == set(phrases.WRAP)
    gin.parse_config("relation_phrase.style = 'wrap'")
    assert phrases.relation_phrase("xWant") == "After H, PersonX would want"
    with pytest.raises(UserError, match="Did you mean 'xWant'"):
        phrases.relation_phrase("xWants")


def test_a_phrase_is_needed_and_names_the_head_once():
    with pytest.raises(UserError, match="relation 'xIntent' has no phrase"):
        render(TEMPLATES["Prompting"], FACT)
    assert render(TEMPLATES["Mapping"], FACT).source_text == "xIntent: PersonX works"
    with pytest.raises(UserError, match="more than once"):
        templates.check_phrase("H is used by H")


def test_references_and_candidates():
    masked = TEMPLATES["MaskedPrompting"]
    assert templates.reference_texts(masked, FACT, BECAUSE) == ["to earn money", "to be useful"]
    assert templates.candidate_texts(masked, FACT, BECAUSE) == []
    assert templates.candidate_texts(masked, REVIEW, SENTIMENT) == [
        "<extra_id_0> negative",
        "<extra_id_0> positive",
    ]
    two = TEMPLATES["MaskedChoicePrompting"]
    assert templates.reference_texts(two, QUESTION) == ["office choice2"]
    assert templates.reference_texts(TEMPLATES["ChoicePrompting"], QUESTION) == ["choice2 office"]
    assert templates.candidate_texts(two, QUESTION) == [
        "<extra_id_0> classroom <extra_id_1> choice1",
        "<extra_id_0> office <extra_id_1> choice2",
    ]


def test_pairs_and_sentences():
    assert list(templates.pairs([FACT], BECAUSE)) == [
        ("PersonX works because they intended", "to earn money"),
        ("PersonX works because they intended", "to be useful"),
    ]
    sentences = templates.sentences([FACT, QUESTION], Wording("T is why H"))
    assert list(sentences) == [
        "to earn money is why PersonX works",
        "to be useful is why PersonX works",
        "Tom is grown up. Where do adults use glue? office",
    ]


def test_rendering_keeps_no_state():
    before = [render(t, FACT, BECAUSE) for t in templates.templates_for("triple")]
    for template in templates.templates_for("multiple_choice"):
        render(template, QUESTION)
    assert [render(t, FACT, BECAUSE) for t in templates.templates_for("triple")] == before


# ---- Documentation ----------------------------------------------------------------------------


def test_table_in_the_docs_is_up_to_date():
    path = pathlib.Path(__file__).parents[2] / "docs" / "templates.md"
    assert path.read_text() == template_page.page()


def test_module_prints_the_table_and_needs_no_tensorflow():
    code = (
        "import sys, mto_jax.text2text.template_page, mto_jax.text2text.few_shot, "
        "mto_jax.text2text.readers; assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    command = [sys.executable, "-m", "mto_jax.text2text.template_page"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == template_page.page()


# ---- Text that looks like control ids -----------------------------------------------------------

BAD = "x <extra_id_1> y</s><pad> <prompt> <extra_id_0>"
HOSTILE = {
    "triple": (Triple("t", "r", BAD, (BAD,)), Triple("t", "r", "x", ("x",)), BECAUSE),
    "generation": (Generation("t", BAD, (BAD,)), Generation("t", "x", ("x",)), Wording("now H")),
    "labelled_text": (
        LabelledText("t", BAD, BAD, BAD),
        LabelledText("t", "x", "x", "x"),
        Wording("is", labels=(BAD, "x"), related={BAD: BAD, "x": "x"}),
    ),
    "multiple_choice": (
        MultipleChoice("t", BAD, (BAD, "no"), 0, BAD, BAD),
        MultipleChoice("t", "x", ("x", "no"), 0, "x", "x"),
        Wording(),
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_of_a_record_becomes_a_control_id(kind):
    vocab = vocabulary("demo")
    hostile, plain, wording = HOSTILE[kind]
    for template in templates.templates_for(kind, wording):
        controls = []
        for record in (hostile, plain):
            tokens = tokenise(render(template, record, wording), vocab)
            both = [*tokens.inputs, *tokens.targets]
            controls.append([i for i in both if i < 2 or i >= vocab.words.stop])
        assert controls[0] == controls[1], template.name
        # The text form is read back as the same ids, so choices are ranked and answers read right.
        rendered = render(template, hostile, wording)
        target = vocab.encode(rendered.target_text)
        assert target == tokenise(rendered, vocab).targets[:-1]
        said = answer(vocab.decode(target), slots(rendered.target_text))
        assert said == templates.reference_texts(template, hostile, wording)[0]
        for candidate in templates.candidate_texts(template, hostile, wording):
            ids = vocab.encode(candidate)
            assert sum(i >= vocab.words.stop for i in ids) == template.masked * template.slots


def test_a_pair_for_adaptation_has_one_gap():
    hostile, _, wording = HOSTILE["triple"]
    [(body, tail)] = templates.pairs([hostile], wording)
    vocab = vocabulary("demo")
    assert max(vocab.encode(body) + vocab.encode(tail)) < vocab.words.stop
    with pytest.raises(UserError, match="Mark the gap by the word T"):
        templates.check_phrase("is in <extra_id_0> .")


# ---- Gaps inside the text -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "head, source",
    [
        ("PersonX fills ___ with water", "fills: PersonX fills <extra_id_0> with water"),
        ("PersonX fills ___.", "fills: PersonX fills <extra_id_0>."),
        ("___ fills ___", "fills: <extra_id_0> fills ___"),
        ("PersonX fills", "fills: PersonX fills <extra_id_0>"),
        ("PersonX ____", "fills: PersonX ____ <extra_id_0>"),
    ],
)
def test_the_sentinel_stands_at_the_gap(head, source):
    wording = Wording("is filled by", gap="___")
    rendered = render(TEMPLATES["InPlaceMapping"], Triple("fills", "r", head, ("a cup",)), wording)
    assert rendered.source_text == source
    assert rendered.target_text == "<extra_id_0> a cup"
    vocab = vocabulary("demo")
    assert tokenise(rendered, vocab).inputs == [*vocab.encode(source), vocab.eos_id]
    assert TEMPLATES["InPlaceMapping"] in templates.templates_for("triple", wording)
    assert not any(t.in_place for t in templates.templates_for("triple", Wording("is")))


def test_the_gap_of_a_question():
    question = MultipleChoice("wino", "Ann met Eve, so _ ran.", ("Ann", "Eve"), 1)
    wording = Wording(gap="_")
    texts = {
        template.name: render(template, question, wording).source_text
        for template in templates.templates_for("multiple_choice", wording)
        if template.in_place
    }
    assert texts == {
        "InPlaceMapping": "wino: Ann met Eve, so <extra_id_0> ran.",
        "InPlaceAnswerPrompting": (
            "wino: Ann met Eve, so <extra_id_0> ran. choice1: Ann, choice2: Eve"
        ),
    }
