# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo's facts and corpus, generated from `assets/demo`, which was written for this project.

`facts.tsv` holds tables of facts, one per category. Columns are ATOMIC-2020 relation names; a row
is a head with its tails, separated by commas. What a table's row `*` says holds for every head of
the table, so some knowledge follows from the category of a head, and the rest has to be memorised,
head by head. `wordings.json` says how a fact becomes a sentence.

A head belongs to one split in all its relations: "train" (40 %, the pool of few-shot pairs),
"validation" (20 %) or "test" (40 %), and every table is in every split. The corpus tells the facts
of *all* heads, test heads included: scores measure whether a model recalls, for a head it was never
fine-tuned on, what it has read in pre-training. They are not to be compared with scores on ATOMIC.
Answers that are true but not listed ("a spoon is used for stirring") count as wrong. Where a table
has shared tails (xAttr, xIntent, xNeed), the commonest tail of the category already scores well.

The corpus has three kinds of document: one sentence that tells one fact; a card with everything
about a thing; a story that joins an event's intent, need, wish and effect. Every fact is told in
three sentences, each worded differently, one of them with the relation's standard phrase
(`mto_jax.text2text.phrases`). They stand alone, as the tail could be guessed from neighbours, and
start with a small letter, as heads do in templates: to a tiny model "A saw" is another thing. The
same seed gives the same text, byte for byte.

    python -m mto_jax.text2text.demo

trains the demo's vocabulary, `assets/demo_vocab.model`, on the corpus: run it after a change of the
facts or wordings. The same corpus and the same version of SentencePiece give the same file. With
the 100 sentinels the vocabulary has 2048 ids, so its embedding needs no padding rows.
"""

import functools
import io
import json
import pathlib
import random
import re
import string
from collections.abc import Sequence
from typing import NamedTuple

import sentencepiece

from mto_jax.errors import UserError, unknown
from mto_jax.files import digest
from mto_jax.text2text.records import Triple

ASSETS = pathlib.Path(__file__).parents[1] / "assets"
FACTS, TEXTS = ASSETS / "demo" / "facts.tsv", ASSETS / "demo" / "wordings.json"
VOCABULARY = ASSETS / "demo_vocab.model"

SPLITS = ("train", "validation", "test")
SPLIT_CYCLE = ("train", "test", "validation", "train", "test")  # of five heads in turn
MAX_TAILS = 3
SEED = 2024
SENTENCES_PER_FACT = 3
NUM_PIECES = 1180

_texts = json.loads(TEXTS.read_text())
# Slots: h head, t tail, at "in/on/at the" place, b the event as an infinitive, f the gap filled in.
# The first wording of a relation holds its standard phrase; those with b or f instead of h are one
# at most. The tails of AtLocation and HasProperty are bare ("toolbox", "heavy"), and the wordings
# add what English wants ("is located at the toolbox").
WORDINGS: dict[str, list[str]] = _texts["wordings"]
RELATIONS = tuple(WORDINGS)
# Half of the sentences that begin with a thing get one of these, so that its name also stands
# inside.
LEAD_INS: list[str] = _texts["lead_ins"]
CARD_FIELDS: dict[str, str] = _texts["card_fields"]
STORIES: list[str] = _texts["stories"]
PREPOSITIONS: dict[str, str] = _texts["prepositions"]  # of places that do not take "in"


class Fact(NamedTuple):
    """One tail of one head; `category` names the table that it comes from."""

    category: str
    head: str
    relation: str
    tail: str


def read_table(text: str) -> list[Fact]:
    """Return the facts of a table: a header (category, relations), a row `*` or none, heads.

    A head's own tails come first, then those that the category shares.

    >>> read_table("tools\\tAtLocation\\n*\\tworkshop\\na saw\\tshed")[0]
    Fact(category='tools', head='a saw', relation='AtLocation', tail='shed')

    Raises:
      UserError: a row with another number of columns than the header, a head or a tail that stands
        twice, too many tails, an unknown relation.
    """
    (category, *relations), *rows = [line.split("\t") for line in text.splitlines()]
    for relation in relations:
        if relation not in RELATIONS:
            raise unknown("demo relation", relation, RELATIONS)
    shared = [""] * len(relations)
    facts = []
    for head, *cells in rows:
        if len(cells) != len(relations):
            raise UserError(
                f"The row {head!r} of the demo table {category!r} has {len(cells) + 1} columns; "
                f"the header has {len(relations) + 1}."
            )
        if head == "*":
            shared = cells
            continue
        for relation, own, common in zip(relations, cells, shared, strict=True):
            tails = [t.strip() for cell in (own, common) if cell for t in cell.split(",")]
            if len(set(tails)) != len(tails) or len(tails) > MAX_TAILS or "" in tails:
                raise UserError(
                    f"The head {head!r} of the demo table {category!r} has the {relation} tails "
                    f"{tails}: they must be distinct, not empty and at most {MAX_TAILS}."
                )
            facts += [Fact(category, head, relation, tail) for tail in tails]
    return facts


@functools.cache
def facts() -> tuple[Fact, ...]:
    """Every fact, in the order of the tables."""
    tables = FACTS.read_text().rstrip("\n").split("\n\n")
    return tuple(fact for table in tables for fact in read_table(table))


@functools.cache
def head_splits() -> dict[str, str]:
    """The split of every head: five at a time within a category, in the order of their digests.

    Independent of the relation, of the platform and of the order of the rows.
    """
    category = {fact.head: fact.category for fact in facts()}
    ordered = sorted(category, key=lambda h: (category[h], digest(h)))
    return {head: SPLIT_CYCLE[i % len(SPLIT_CYCLE)] for i, head in enumerate(ordered)}


def triples(relation: str, split: str) -> list[Triple]:
    """Records of one relation and split, one per head with all its tails.

    >>> triples("AtLocation", "train")[0].relation
    'AtLocation'

    Raises:
      UserError: an unknown relation or split.
    """
    if relation not in RELATIONS:
        raise unknown("demo relation", relation, RELATIONS)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    tails: dict[str, list[str]] = {}
    for fact in facts():
        if fact.relation == relation and head_splits()[fact.head] == split:
            tails.setdefault(fact.head, []).append(fact.tail)
    return [Triple(relation, relation, head, tuple(t)) for head, t in tails.items()]


# ------------------------------------------------------------------------------ corpus


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


def enumeration(words: Sequence[str], conjunction: str = "and") -> str:
    """The words with commas and a conjunction.

    >>> enumeration(["a cup", "a mug", "a plate"])
    'a cup, a mug and a plate'
    """
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def verbalise(fact: Fact, wording: str) -> str:
    """The fact in these words (one of `WORDINGS`), as a sentence."""
    return wording.format(
        h=fact.head,
        t=fact.tail,
        at=f"{PREPOSITIONS.get(fact.tail, 'in')} the",
        b=infinitive(fact.head),
        f=fact.head.replace("___", fact.tail),
    )


def _single_sentences(facts: Sequence[Fact], rng: random.Random) -> list[str]:
    """Documents of one sentence: the head, alone, has to tell the tail."""
    documents = []
    for fact in facts:
        standard, *others = WORDINGS[fact.relation]
        for wording in (standard, *rng.sample(others, SENTENCES_PER_FACT - 1)):
            if wording.startswith("{h}") and fact.relation in CARD_FIELDS and rng.random() < 0.5:
                wording = f"{rng.choice(LEAD_INS)} {wording}"
            documents.append(verbalise(fact, wording))
    return documents


def _card(facts: Sequence[Fact]) -> str:
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


def _story(facts: Sequence[Fact], rng: random.Random) -> str:
    tails = {relation: rng.choice(tails) for relation, tails in _by_relation(facts).items()}
    stories = [story for story in STORIES if set(re.findall(r"{(x\w+)}", story)) <= set(tails)]
    return rng.choice(stories).format(h=facts[0].head, **tails)


def _by_relation(facts: Sequence[Fact]) -> dict[str, list[str]]:
    tails: dict[str, list[str]] = {}
    for fact in facts:
        tails.setdefault(fact.relation, []).append(fact.tail)
    return tails


@functools.cache
def documents() -> tuple[str, ...]:
    """The documents of the corpus, one text of a few sentences each, in random order."""
    rng = random.Random(SEED)
    by_head: dict[str, list[Fact]] = {}
    for fact in facts():
        by_head.setdefault(fact.head, []).append(fact)
    texts = []
    for about in by_head.values():
        texts += _single_sentences(about, rng)
        if any(fact.relation in CARD_FIELDS for fact in about):
            texts.append(_card(about))
        elif any(fact.relation == "xEffect" for fact in about):
            texts.append(_story(about, rng))
    return tuple(rng.sample(texts, len(texts)))


# ------------------------------------------------------------------------------ vocabulary


def train_vocabulary() -> bytes:
    """The SentencePiece unigram model: pad 0, EOS 1, unknown 2, no BOS.

    Every printable ASCII character is a piece, so any English text can be encoded. Text is not
    normalised but for repeated spaces; Unicode tables would make the file ten times as large.
    """
    # SentencePiece takes as candidates only strings that go on in more than one way. In so regular
    # a text "located" is always followed by " at", so words are shown once more before two
    # punctuation marks.
    words = sorted(set(re.findall(r"[A-Za-z]+", " ".join(documents()))))
    endings = [word + mark for word in words for mark in ",."]
    # Templates open a source with the name of the task; repetitions make the names short.
    names = [f"{relation}{mark}" for relation in RELATIONS for mark in ":,"] * 50
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*documents(), *endings, *names]),
        model_writer=model,
        model_type="unigram",
        vocab_size=NUM_PIECES,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        required_chars=string.digits + string.ascii_letters + string.punctuation,
        character_coverage=1.0,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


if __name__ == "__main__":
    VOCABULARY.write_bytes(train_vocabulary())
    print(f"{VOCABULARY}: {NUM_PIECES} pieces, {VOCABULARY.stat().st_size:,} bytes")
