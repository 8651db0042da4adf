# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Invented knowledge in which the length of an answer is crossed with the sort of its head.

The relations of real knowledge bases confound both: attributes of things are short, intentions are
long. Here heads of two sorts have an answer of 1, 2, 4 and 8 words each, drawn word by word, which
nothing but the pre-training text tells. Four heads at a time, a family, share their answers, so
that a model of a million parameters learns them in minutes. The relation `thing_4` asks for the
four words of a thing. Every fact has 12 wordings, of which the last `UNSEEN` never occur in the
text. The vocabulary holds whole words.
"""

import functools
import itertools
import json
import pathlib
import random
import re

from sentencepiece import sentencepiece_model_pb2

from mto_jax.errors import unknown
from mto_jax.text2text.records import Triple

ASSETS = pathlib.Path(__file__).parents[1] / "assets"
WORDS, VOCABULARY = ASSETS / "lab" / "lab.json", ASSETS / "lab_vocab.model"
SPLITS = ("train", "validation", "test")
SPLIT_CYCLE = ("train", "test", "validation", "train", "test")  # of five families in turn
FAMILIES, FAMILY = 20, 4  # of a sort; heads of each
HEADS_PER_SORT = FAMILIES * FAMILY
UNSEEN = 3
UL2_MODES = ("[NLU]", "[NLG]", "[S2S]")
SEED = 2026

_lab = json.loads(WORDS.read_text())
WORDINGS: list[str] = _lab["wordings"]
RELATIONS: dict[str, dict[str, str]] = _lab["relations"]  # {"noun", "phrase"} of each


def words_of(relation: str) -> int:
    """Returns the length of a relation's answers in words.

    >>> words_of("thing_4")
    4
    """
    return int(relation.split("_")[1])


@functools.cache
def heads(sort: str) -> tuple[str, ...]:
    """Returns the heads of a sort, "thing" or "event"; no name is used twice."""
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprtvz", "aeiou")]
    names = ["".join(pair) for pair in itertools.permutations(syllables, 2)]
    names = random.Random(SEED).sample(names, HEADS_PER_SORT * len(_lab["heads"]))
    start = list(_lab["heads"]).index(sort) * HEADS_PER_SORT
    chosen = names[start : start + HEADS_PER_SORT]
    form = _lab["heads"][sort]
    return tuple(form.format(name=f"{name}n", Name=f"{name}n".capitalize()) for name in chosen)


@functools.cache
def answers(relation: str) -> tuple[str, ...]:
    """Returns the answer of every head of a relation's sort, in the order of `heads`: by families.

    Raises:
      UserError: an unknown relation.
    """
    if relation not in RELATIONS:
        raise unknown("relation of the laboratory", relation, RELATIONS)
    rng = random.Random(f"{SEED} {relation}")
    shape = _lab["shapes"][str(words_of(relation))].split()
    words = _lab["words"]
    own = [
        " ".join(rng.choice(words[slot]) if slot in words else slot for slot in shape)
        for _ in range(FAMILIES)
    ]
    return tuple(answer for answer in own for _ in range(FAMILY))


def triples(relation: str, split: str) -> list[Triple]:
    """Returns the records of a relation in a split; a family is in the same one for all relations.

    Raises:
      UserError: an unknown relation or split.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    facts = zip(heads(relation.split("_")[0]), answers(relation), strict=True)
    return [
        Triple(relation, relation, head, (answer,))
        for i, (head, answer) in enumerate(facts)
        if SPLIT_CYCLE[i // FAMILY % len(SPLIT_CYCLE)] == split
    ]


def verbalise(relation: str, head: str, answer: str, wording: str) -> str:
    """Returns a fact in one of `WORDINGS`, as a sentence.

    >>> verbalise("thing_1", "Bonan", "copper", WORDINGS[1])
    'The material of Bonan is copper.'
    """
    return wording.format(h=head, t=answer, **RELATIONS[relation])


@functools.cache
def documents() -> tuple[str, ...]:
    """Returns every fact in every seen wording, a sentence each, in random order."""
    sentences = [
        verbalise(relation, head, answer, wording)
        for relation in RELATIONS
        for head, answer in zip(heads(relation.split("_")[0]), answers(relation), strict=True)
        for wording in WORDINGS[:-UNSEEN]
    ]
    return tuple(random.Random(SEED).sample(sentences, len(sentences)))


def make_vocabulary() -> bytes:
    """Returns a SentencePiece model that holds every word whole; pad 0, EOS 1, unknown 2.

    Other words are spelled: all printable ASCII characters are pieces.
    """
    counts: dict[str, int] = {}
    unseen = [
        verbalise(relation, "", "", wording)
        for relation in RELATIONS
        for wording in WORDINGS[-UNSEEN:]
    ]
    names = [name for relation in RELATIONS for name in (relation, f"{relation}:")]
    for text in itertools.chain(documents(), unseen, names, UL2_MODES):
        for word in re.findall(r"\[\w+\]|\w+:$|\w+|[^\w\s]", text):
            piece = word if re.fullmatch(r"[^\w\s]", word) else f"▁{word}"
            counts[piece] = counts.get(piece, 0) + 1
    model = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece
    for piece, kind in (
        ("<pad>", kinds.CONTROL),
        ("</s>", kinds.CONTROL),
        ("<unk>", kinds.UNKNOWN),
    ):
        model.pieces.add(piece=piece, score=0.0, type=kind)
    characters = ["▁", *(chr(code) for code in range(33, 127) if chr(code) not in counts)]
    ordered = [*sorted(counts, key=lambda piece: (-counts[piece], piece)), *characters]
    for rank, piece in enumerate(ordered):
        # Any whole word is likelier than the same word spelled.
        score = -0.001 * rank - (20.0 if piece in characters else 0.0)
        model.pieces.add(piece=piece, score=score, type=kinds.NORMAL)
    spec = model.trainer_spec
    spec.model_type = spec.UNIGRAM
    spec.pad_id, spec.eos_id, spec.unk_id, spec.bos_id = 0, 1, 2, -1
    spec.vocab_size = len(model.pieces)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = True
    return model.SerializeToString(deterministic=True)


if __name__ == "__main__":
    VOCABULARY.write_bytes(make_vocabulary())
    print(f"{VOCABULARY}: {VOCABULARY.stat().st_size:,} bytes")
