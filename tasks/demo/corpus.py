# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo's corpus: the knowledge base told in short English documents, to pre-train on.

Three kinds of document: one sentence that tells one fact; a card with everything about a thing; a little
story that joins an event's intent, need, wish and effect. Every fact is told in three sentences, each
worded differently, one of them with the relation's standard phrase (`mto_jax.text2text.phrases`). They stand
alone, since beside others the tail could be guessed from its neighbours and need not be remembered, and
start with a small letter where English wants a capital: a tiny model learns "a saw" and "A saw" as two
things, and templates have the former.
The same seed gives the same text, byte for byte.
`tasks/corpora.py` holds out one document in a hundred; each fact in them is told elsewhere as well.

The tails of AtLocation and HasProperty are bare ("toolbox", "heavy"); English wants "is located at the
toolbox" and "has the property of being heavy", and so the sentences say. The other standard phrases
stand directly before the tail.

The corpus repeats its wordings thousands of times, as a text of this size must when a tiny model is to
learn from it in minutes; it is no sample of natural English.
"""

import functools
import random
import re

from mto_jax.tasks.demo import knowledge
from mto_jax.tasks.demo.knowledge import Fact

SEED = 2024
SENTENCES_PER_FACT = 3

# Slots: h head, t tail, at "in/on/at the" place, b the event as an infinitive, f the gap filled in. The
# first wording of a relation holds its standard phrase; those with b or f instead of h are one at most.
WORDINGS = {
    "AtLocation": (
        "{h} is located at the {t}.",
        "You are likely to find {h} {at} {t}.",
        "If you look around {at} {t}, you may see {h}.",
        "The usual place for {h} is the {t}.",
        "Anyone looking for {h} should try the {t}.",
        "I saw {h} {at} {t} yesterday.",
        "{at} {t} there is often {h}.",
    ),
    "ObjectUse": (
        "{h} is used for {t}.",
        "{h} is useful for {t}.",
        "People use {h} for {t}.",
        "For {t}, {h} is just the right thing.",
        "When it comes to {t}, {h} helps a lot.",
        "The purpose of {h} is {t}.",
        "{t} is easier with {h}.",
    ),
    "CapableOf": (
        "{h} is capable of {t}.",
        "{h} is good at {t}.",
        "You may see {h} {t}.",
        "If you think of {t}, {h} may come to mind.",
        "It is interesting to watch {h} {t}.",
        "One thing that {h} can manage is {t}.",
    ),
    "HasProperty": (
        "{h} has the property of being {t}.",
        "{h} is {t}.",
        "Most people would say that {h} is {t}.",
        "Being {t} is typical of {h}.",
        "It is easy to see that {h} is {t}.",
        "An example of being {t} is {h}.",
    ),
    "MadeUpOf": (
        "{h} is made of {t}.",
        "{h} consists mostly of {t}.",
        "It takes {t} to make {h}.",
        "Thanks to {t}, we have {h}.",
        "The main thing in {h} is {t}.",
    ),
    "isFilledBy": (
        '"{h}" is filled by {t}.',
        'The gap in "{h}" could be {t}.',
        'Read "{h}" and think of {t}.',
        'Put {t} into the gap of "{h}".',
        "{f}.",
    ),
    "xAttr": (
        "{h} and is seen as {t}.",
        "People call PersonX {t} because {h}.",
        "{h}, so others find PersonX {t}.",
        "PersonX seems {t} when {h}.",
        "You can tell that PersonX is {t}, for {h}.",
        "Those who {b} look {t} to others.",
    ),
    "xIntent": (
        "{h} because they intended {t}.",
        "{h} in order {t}.",
        "PersonX hopes {t}, and that is why {h}.",
        "The plan is {t}, so {h}.",
        "{h} with one aim: {t}.",
        "PersonX decides to {b}, hoping {t}.",
    ),
    "xNeed": (
        "{h}; before that they need {t}.",
        "PersonX needs {t} before {h}.",
        "Before {h}, it is necessary {t}.",
        "First PersonX has {t}; then {h}.",
        "{h}, but not without having {t} first.",
        "In order to {b}, PersonX needs {t}.",
    ),
    "xWant": (
        "{h}; after that they want {t}.",
        "After {h}, PersonX wants {t}.",
        "Once {h}, the next wish is {t}.",
        "PersonX would like {t} after {h}.",
        "{h} and is then eager {t}.",
        "Those who {b} will later want {t}.",
    ),
    "xEffect": (
        "{h}; effects on PersonX are {t}.",
        "{h} and ends up with {t}.",
        "{h}, which leads to {t}.",
        "PersonX is left with {t} after {h}.",
        "When {h}, expect {t}.",
        "Those who {b} have to reckon with {t}.",
    ),
}

# Half of the sentences that begin with a thing get one of these, so that its name also stands inside.
LEAD_INS = (
    "As a rule,",
    "Of course,",
    "In general,",
    "As everyone knows,",
    "It is well known that",
    "Children learn that",
    "It is true that",
    "Remember that",
)

CARD_FIELDS = {
    "AtLocation": "Place",
    "ObjectUse": "Use",
    "CapableOf": "Ability",
    "HasProperty": "Property",
    "MadeUpOf": "Material",
}

STORIES = (
    "PersonX hopes {xIntent}. First it is necessary {xNeed}. Then {h}. "
    "Afterwards PersonX is left with {xEffect} and wants {xWant}.",
    "It all begins when PersonX decides {xIntent}. PersonX has {xNeed} before anything else. "
    "Now {h}. The result is {xEffect}. People say that PersonX is {xAttr}.",
    "{h}. Why? The aim is {xIntent}. What had to happen before? PersonX had {xNeed}. "
    "What comes next? PersonX wants {xWant}.",
)
PLACES_WITH_ON = """
    baseball field, beach, bicycle path, desk, dining table, farm, fishing boat, golf course,
    highway, hospital roof, ice rink, lake, office wall, pasture, road, savanna, ski slope, snowy
    hill, sofa, street, tennis court, tropical beach
"""
PLACES_WITH_AT = """
    airport, archery range, bus stop, fire station, kiosk, launch site, post office, railway
    station, skate park, zoo
"""
PREPOSITIONS = {
    " ".join(place.split()): preposition
    for preposition, places in (("on", PLACES_WITH_ON), ("at", PLACES_WITH_AT))
    for place in places.split(",")
}


def infinitive(event: str) -> str:
    """The verb phrase of an event, without "PersonX" and without the s of the third person.

    >>> infinitive("PersonX washes the dishes"), infinitive("PersonX has a picnic")
    ('wash the dishes', 'have a picnic')
    """
    verb, _, rest = event.removeprefix("PersonX ").partition(" ")
    if verb == "has":
        verb = "have"
    elif verb.endswith("ies") and len(verb) > 4:
        verb = verb[:-3] + "y"
    elif verb.endswith(("shes", "ches", "sses", "xes", "oes")):
        verb = verb[:-2]
    else:
        verb = verb[:-1]
    return f"{verb} {rest}".strip()


def enumeration(words: list[str], conjunction: str = "and") -> str:
    """The words with commas and a conjunction.

    >>> enumeration(["a cup", "a mug", "a plate"])
    'a cup, a mug and a plate'
    """
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def verbalise(fact: Fact, wording: str) -> str:
    """The fact in these words (one of `WORDINGS`), as a sentence."""
    text = wording.format(
        h=fact.head,
        t=fact.tail,
        at=f"{PREPOSITIONS.get(fact.tail, 'in')} the",
        b=infinitive(fact.head),
        f=fact.head.replace("___", fact.tail),
    )
    return text


def _shuffled(items, rng: random.Random) -> list:
    return rng.sample(items, len(items))


def _about(facts: list[Fact], rng: random.Random) -> list[str]:
    """Documents of one sentence: the head, alone, has to tell the tail."""
    documents = []
    for fact in facts:
        standard, *others = WORDINGS[fact.relation]
        for wording in (standard, *rng.sample(others, SENTENCES_PER_FACT - 1)):
            if wording.startswith("{h}") and fact.relation in CARD_FIELDS and rng.random() < 0.5:
                wording = f"{rng.choice(LEAD_INS)} {wording}"
            documents.append(verbalise(fact, wording))
    return documents


def _card(facts: list[Fact]) -> str:
    """Everything about a thing, by fields.

    >>> _card([Fact("tools", "a saw", "ObjectUse", "cutting wood")])
    'Facts about a saw. Use: cutting wood.'
    """
    tails = _by_relation(facts)
    fields = [
        f"{name}: {enumeration(tails[relation], 'or' if relation == 'AtLocation' else 'and')}."
        for relation, name in CARD_FIELDS.items()
        if relation in tails
    ]
    return " ".join([f"Facts about {facts[0].head}.", *fields])


def _story(facts: list[Fact], rng: random.Random) -> str:
    tails = {relation: rng.choice(tails) for relation, tails in _by_relation(facts).items()}
    stories = [story for story in STORIES if set(re.findall(r"{(x\w+)}", story)) <= set(tails)]
    return rng.choice(stories).format(h=facts[0].head, **tails)


def _by_relation(facts: list[Fact]) -> dict[str, list[str]]:
    tails: dict[str, list[str]] = {}
    for fact in facts:
        tails.setdefault(fact.relation, []).append(fact.tail)
    return tails


@functools.cache
def _documents() -> tuple[str, ...]:
    rng = random.Random(SEED)
    by_head: dict[str, list[Fact]] = {}
    for fact in knowledge.facts():
        by_head.setdefault(fact.head, []).append(fact)
    documents = []
    for facts in by_head.values():
        documents += _about(facts, rng)
        if any(fact.relation in CARD_FIELDS for fact in facts):
            documents.append(_card(facts))
        elif any(fact.relation == "xEffect" for fact in facts):
            documents.append(_story(facts, rng))
    return tuple(_shuffled(documents, rng))


def sentences() -> list[str]:
    """The documents of the corpus, one text of a few sentences each, in random order."""
    return list(_documents())
