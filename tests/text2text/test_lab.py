# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The laboratory's knowledge: lengths, splits, wordings and the vocabulary of whole words."""

import collections

import pytest

from mto_jax.errors import UserError
from mto_jax.text2text import lab
from mto_jax.text2text.vocabulary import vocabulary


def test_every_relation_has_its_length_for_every_head_of_its_sort():
    for relation in lab.RELATIONS:
        answers = lab.answers(relation)
        assert len(answers) == len(lab.heads(relation.split("_")[0])) == lab.HEADS_PER_SORT
        assert {len(answer.split()) for answer in answers} == {lab.words_of(relation)}
    names = [head for sort in ("thing", "event") for head in lab.heads(sort)]
    assert len(set(names)) == 2 * lab.HEADS_PER_SORT


def test_a_head_is_in_the_same_split_for_all_relations_of_its_sort():
    for sort in ("thing", "event"):
        splits = {}
        for words in (1, 2, 4, 8):
            for split in lab.SPLITS:
                for record in lab.triples(f"{sort}_{words}", split):
                    splits.setdefault(record.head, set()).add(split)
        assert all(len(own) == 1 for own in splits.values())
        sizes = collections.Counter(next(iter(own)) for own in splits.values())
        assert sizes == {"train": 32, "validation": 16, "test": 32}


def test_the_corpus_holds_every_fact_in_the_seen_wordings_alone():
    text = " ".join(lab.documents())
    record = lab.triples("event_8", "test")[0]
    said = [
        lab.verbalise("event_8", record.head, record.tails[0], wording) in text
        for wording in lab.WORDINGS
    ]
    assert said == [True] * 9 + [False] * 3
    facts = len(lab.RELATIONS) * lab.HEADS_PER_SORT
    assert text.count(".") == facts * 9


def test_families_share_answers_and_no_word_of_an_answer_tells_another():
    for relation in lab.RELATIONS:
        answers = lab.answers(relation)
        assert all(len(set(answers[i : i + 4])) == 1 for i in range(0, len(answers), 4))
    pairs = collections.Counter(tuple(a.split()[1::2]) for a in lab.answers("thing_4")[::4])
    # 20 draws of 32 x 32 pairs: 0.2 coincidences are expected.
    assert sum(count - 1 for count in pairs.values()) <= 2


def test_every_word_is_one_piece():
    vocab = vocabulary("lab")
    for text in [*lab.documents()[:200], lab.verbalise("thing_2", "Zelon", "x", "{h} {t}")]:
        words = text.replace(".", " .").replace(",", " ,").replace(":", " :").split()
        assert len(vocab.encode(text)) == len(words) or text.endswith("x")
    assert lab.VOCABULARY.read_bytes() == lab.make_vocabulary()
    assert vocab.decode(vocab.encode("Other: words? (spelled)")) == "Other: words? (spelled)"


def test_unknown_names_are_told():
    with pytest.raises(UserError, match="thing_4"):
        lab.answers("thing_3")
    with pytest.raises(UserError, match="tests"):
        lab.triples("thing_4", "tests")
