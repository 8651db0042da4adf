# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models that learn from known facts how to treat raw sentences: the splitter and the classifier.

The splitter (method.md section 4) learns from verbalised facts where a sentence's tail is,

    a knife is used for cutting <extra_id_0>  ->  <extra_id_0> cutting

and is then asked about sentences of any kind. The classifier (`mto_jax.adaptation.classifier`)
tells Filling from Mapping.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mto_jax import checkpoints
from mto_jax.adaptation import classifier
from mto_jax.adaptation.pairs import GAP, LABELS, restore, suffixes
from mto_jax.adaptation.sentences import clean
from mto_jax.checkpoints import runs
from mto_jax.console import progress_bar
from mto_jax.decoding import scoring
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.errors import UserError, unknown
from mto_jax.files import damage, digest, write_atomically
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text import few_shot, record_sets, templates
from mto_jax.text2text.answers import answer
from mto_jax.text2text.vocabulary import Vocabulary, literal
from mto_jax.training.finetune import Example, Tuning, epochs, fit

# Relations with a known group, as tasks: those that the paper trains its classifier on. It trains
# the splitter on 16 relations that it does not name; here both learn from the same ones.
ATOMIC_FACTS = {f"atomic_{relation}": group for relation, group in classifier.GROUPS.items()}

# A fact longer than that is no model of a sentence, and one such row would make all rows as long.
MAX_TOKENS = {"inputs": 64, "targets": 32}
CHUNK = 512  # sentences between two moves of the progress bar


def read_facts(
    groups: Mapping[str, str], count: int, module: str | None = None
) -> list[record_sets.RecordSet]:
    """Return the training records of these tasks, up to `count` heads of each with up to 3 tails.

    Raises:
      UserError: no tasks, an unknown task or group, or what a task's reader found wrong.
    """
    if not groups:
        raise UserError(
            "PairConfig.facts is empty: name tasks and their groups, {'atomic_xAttr': 'Filling'}."
        )
    for group in groups.values():
        if group not in LABELS:
            raise unknown("group of facts", group, LABELS)
    wanted = [record_sets.Wanted(task, "train", count) for task in groups]
    return record_sets.read(wanted, module)


def fact_pairs(facts: record_sets.RecordSet, count: int, seed: int) -> list[tuple[str, str]]:
    """Return up to `count` facts of a task in its own words, (body, tail), drawn by `seed`."""
    pairs = {json.dumps(pair): pair for pair in templates.pairs(facts.records, facts.wording)}
    return [pairs[key] for key in few_shot.draw(pairs, count, seed, facts.task)]


@dataclasses.dataclass(frozen=True)
class CachedTuning:
    """A cached tuning: the result stays in a folder and serves the next equal request.

    Attributes:
      tuning: how to train.
      folder: becomes a run directory; replaced when anything that decides the result changes.
      base: digest of the checkpoint that the model to tune comes from.
      vocabulary: of the model.
    """

    tuning: Tuning
    folder: pathlib.Path
    base: str
    vocabulary: Vocabulary

    def __call__(
        self, model: EncoderDecoder, examples: Sequence[Example], *, seed: int = 0
    ) -> EncoderDecoder:
        parts = json.dumps([dataclasses.asdict(self.tuning), seed, self.base, examples])
        request = digest(parts)
        mark = self.folder / "request.txt"
        saved = runs.steps(self.folder)
        if mark.exists() and mark.read_text() == request and saved and damage(saved[-1]) is None:
            return checkpoints.open(saved[-1]).model(self.vocabulary)
        shutil.rmtree(self.folder, ignore_errors=True)
        steps = epochs(self.tuning.epochs, len(examples), self.tuning.batch_size)
        with progress_bar(f"training the {self.folder.name}", steps) as advance:
            tuned = fit(
                model,
                examples,
                steps=steps,
                batch_size=self.tuning.batch_size,
                optimizer=self.tuning.optimizer,
                dropout_rate=self.tuning.dropout_rate,
                seed=seed,
                progress=lambda count, _: advance(count),
            )
        classifier.save(tuned, self.folder, self.vocabulary)
        write_atomically(mark, request)
        return tuned


def splitter_examples(pairs: Iterable[tuple[str, str]], vocabulary: Vocabulary) -> list[Example]:
    """Return the examples that teach a splitter; facts beyond `MAX_TOKENS` are left out."""
    examples = [
        (_source(clean(restore(body, tail)), vocabulary), _target(clean(tail), vocabulary))
        for body, tail in pairs
    ]
    return [
        (inputs, targets)
        for inputs, targets in examples
        if len(inputs) <= MAX_TOKENS["inputs"] and len(targets) <= MAX_TOKENS["targets"]
    ]


def _source(sentence: str, vocabulary: Vocabulary) -> list[int]:
    return vocabulary.source(vocabulary.encode(f"{literal(sentence)} {GAP}"))


def _target(tail: str, vocabulary: Vocabulary) -> list[int]:
    return [*vocabulary.encode(f"{GAP} {literal(tail)}"), vocabulary.eos_id]


def predict_tails(
    splitter: EncoderDecoder, sentences: Sequence[str], vocabulary: Vocabulary
) -> list[str]:
    """Return the tail of each sentence as the splitter writes it (greedy); "" for no output."""
    decoding = Decoding(
        method="greedy",
        max_length=MAX_TOKENS["targets"],
        min_length=0,
        prefix="",
        num_outputs=1,
        stop_at_sentinel=True,
    )
    with progress_bar("splitting sentences", len(sentences)) as advance:
        outputs = decode(
            splitter,
            [_source(sentence, vocabulary) for sentence in sentences],
            decoding,
            vocabulary,
            batch_size=64,
            progress=advance,
        )
    return [clean(answer(vocabulary.decode(output.tokens))) for (output,) in outputs]


def best_suffixes(
    splitter: EncoderDecoder, sentences: Sequence[str], vocabulary: Vocabulary
) -> list[str]:
    """Return the end of each sentence that is likeliest as its tail under the splitter.

    The search is held to what stands in the sentence, so a splitter that cannot copy may still know
    where the tail begins. Likeliest is the mean log-probability of a token of `<extra_id_0> tail`:
    the sum would prefer the last word alone. "" where every suffix is longer than `MAX_TOKENS`.
    """
    chosen = []
    with progress_bar("splitting sentences", len(sentences)) as advance:
        for start in range(0, len(sentences), CHUNK):
            chunk = sentences[start : start + CHUNK]
            tails = [
                {
                    tail: target
                    for tail in suffixes(sentence)
                    if len(target := _target(tail, vocabulary)) <= MAX_TOKENS["targets"]
                }
                for sentence in chunk
            ]
            scored = [i for i, options in enumerate(tails) if options]
            scores = scoring.score_choices(
                splitter,
                [_source(chunk[i], vocabulary) for i in scored],
                [list(tails[i].values()) for i in scored],
                vocabulary,
            )
            best = {
                i: list(tails[i])[np.argmax(sums_C / counts_C)]
                for i, (sums_C, counts_C) in zip(scored, scores, strict=True)
            }
            chosen += [best.get(i, "") for i in range(len(chunk))]
            advance(len(chunk))
    return chosen


# How a splitter is asked for the tails of sentences.
SEARCHES = {"generate": predict_tails, "suffix": best_suffixes}


# ------------------------------------------------------------------------------ groups


def by_length(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Label pairs without a classifier: a tail of fewer than 4 words is Filling, else Mapping.

    >>> by_length([("bees make <extra_id_0>", "honey"), ("bees <extra_id_0>", "fly to their hive")])
    ['Filling', 'Mapping']
    """
    return [LABELS[0] if len(tail.split()) < 4 else LABELS[1] for _, tail in pairs]


def by_classifier(
    model: EncoderDecoder,
    facts: Sequence[record_sets.RecordSet],
    groups: Mapping[str, str],
    count: int,
    vocabulary: Vocabulary,
    tune: Callable[..., EncoderDecoder],
    seed: int,
) -> Callable[[Sequence[tuple[str, str]]], list[str]]:
    """Return a function that labels pairs, with a classifier trained on `count` facts of a task."""
    members: dict[str, list[tuple[str, str]]] = {label: [] for label in LABELS}
    for task in facts:
        heads_and_tails = {json.dumps(pair): pair for pair in classifier.pairs(task.records)}
        drawn = few_shot.draw(heads_and_tails, count, seed, task.task)
        members[groups[task.task]] += [heads_and_tails[key] for key in drawn]
    for group, taught in members.items():
        if not taught:
            raise UserError(
                f"No task of PairConfig.facts is of the group {group}: a classifier must see both. "
                "Add one, or set PairConfig.groups = 'length'."
            )
    trained = classifier.train_classifier(model, members, vocabulary, tune, seed=seed)

    def label(pairs: Sequence[tuple[str, str]]) -> list[str]:
        labels: list[str] = []
        with progress_bar("Filling or Mapping", len(pairs)) as advance:
            for start in range(0, len(pairs), CHUNK):
                bare = [
                    (clean(body.replace(GAP, " ")), tail)
                    for body, tail in pairs[start : start + CHUNK]
                ]
                margins: Any = classifier.margins(trained, bare, vocabulary)
                labels += [LABELS[0] if margin > 0 else LABELS[1] for margin in margins]
                advance(len(bare))
        return labels

    return label
