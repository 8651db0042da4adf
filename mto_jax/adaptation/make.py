# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a corpus to a file of labelled pairs, with a report of what was kept and what was dropped.

The folder receives pairs.jsonl, report.json (the request, the counts), and, where they were
trained, splitter/ and classifier/. The same request again finds the pairs there and makes nothing.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import gin

from mto_jax import checks
from mto_jax.adaptation import held_out, teaching
from mto_jax.adaptation import pairs as pairs_lib
from mto_jax.adaptation import sentences as sentences_lib
from mto_jax.adaptation.counts import Counts
from mto_jax.adaptation.pairs import Cut, Pair
from mto_jax.checkpoints import Checkpoint
from mto_jax.console import progress_bar
from mto_jax.data.manifest import describe_file
from mto_jax.errors import UserError, unknown
from mto_jax.files import digest, lock, read_record, write_atomically, write_record
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.training.finetune import Tuning, complete

SPLIT_METHODS = ("splitter", "spans", "phrases")
GROUPINGS = ("classifier", "length")

# None where pairs may turn out not to be wanted (`mto match`).
Corpus = Annotated[
    Any,
    checks.Rule(
        lambda c: c is None or (isinstance(c, str) and bool(c.strip())),
        "a text that is not empty, or None",
    ),
]

# Of each sentence: where to cut it, or why not, and what the report shows as an example of that.
Split = Callable[[Sequence[str]], list[tuple[Cut | str, str]]]
# Of each (body, tail): "Filling" or "Mapping".
Label = Callable[[Sequence[tuple[str, str]]], list[str]]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class PairConfig:
    """The settings by which sentences become pairs.

    Attributes:
      corpus: unlabelled text: a file or folder, "demo", or a name of `text_corpora`.
      format: of a file or folder: "lines" or "paragraphs" (separated by blank lines); either way
        documents are split into sentences.
      method: where to cut: "splitter" (a model trained on facts), "spans" (random ones) or
        "phrases" (after a relation's phrase).
      search: how the splitter is asked: "generate" (it writes the tail, which is dropped if it does
        not stand in the sentence) or "suffix" (it chooses among the ends of the sentence).
      groups: who tells Filling from Mapping: "classifier" (a model trained on facts), or "length"
        (a tail of fewer than 4 words is Filling).
      facts: tasks whose training facts teach splitter and classifier, and their groups.
      facts_per_task: most facts of each.
      held_out: tasks whose validation and test heads are kept out: a sentence that holds one is
        dropped.
      module: module(s) that register all these tasks, where they are the user's.
      splitter: how to train the splitter; None means `Tuning()`, as gin binds it.
      classifier: how to train the classifier; likewise.
      phrases: for "phrases"; None takes those of ATOMIC-2020's relations in gin's style.
      max_tail_words: longest random span.
      min_words: shorter sentences are dropped.
      max_words: longer sentences are.
      max_sentences: sentences that the splitter is asked about, drawn at random; the other methods
        cost next to nothing and look at all.
      max_pairs: pairs to keep.
      seed: of all of it.

    Raises:
      UserError: an unknown method, group or format, or a limit that leaves nothing.
    """

    corpus: Corpus
    format: str = "lines"
    method: str = "splitter"
    search: str = "generate"
    groups: str = "classifier"
    facts: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: dict(teaching.ATOMIC_FACTS)
    )
    facts_per_task: checks.Count = 500
    held_out: Sequence[str] = ()
    module: str | None = None
    splitter: Tuning | None = None
    classifier: Tuning | None = None
    phrases: Sequence[str] | None = None
    max_tail_words: checks.Count = 8
    min_words: int = 4
    max_words: int = 40
    max_sentences: checks.Count = 20_000
    max_pairs: checks.Count = 8_000
    seed: checks.Seed = 0

    def __post_init__(self):
        checks.check_fields(self)
        if self.method not in SPLIT_METHODS:
            raise unknown("way to split sentences (PairConfig.method)", self.method, SPLIT_METHODS)
        if self.search not in teaching.SEARCHES:
            raise unknown(
                "search of the splitter (PairConfig.search)", self.search, teaching.SEARCHES
            )
        if self.groups not in GROUPINGS:
            raise unknown("way to group pairs (PairConfig.groups)", self.groups, GROUPINGS)
        if not 2 <= self.min_words <= self.max_words:
            raise UserError(
                f"PairConfig.min_words = {self.min_words} and max_words = {self.max_words} leave "
                "no sentence: at least 2 words, one for body and one for tail, and min <= max."
            )

    @property
    def needs_model(self) -> bool:
        """Returns whether a model is trained: for the splitter or the classifier."""
        return self.method == "splitter" or self.groups == "classifier"


def ensure(
    config: PairConfig, folder: pathlib.Path, base: Checkpoint | None
) -> tuple[pathlib.Path, Counts]:
    """Return the file of pairs and its report, made unless `folder` has them already.

    Args:
      base: checkpoint that splitter and classifier start from.

    Raises:
      UserError: what is wrong with the corpus or the facts; or fewer than two pairs came out: it
        says why the sentences were dropped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock"):  # runs that share the folder wait for the first
        return _ensure(config, folder, base if config.needs_model else None)


def _ensure(
    config: PairConfig, folder: pathlib.Path, base: Checkpoint | None
) -> tuple[pathlib.Path, Counts]:
    request = _request(config, base)
    path, report_path = folder / "pairs.jsonl", folder / "report.json"
    if path.exists() and report_path.exists():
        try:
            known = read_record(report_path, unsigned=True)
            if known["request"] == request and known["pairs"] == digest(path.read_bytes()):
                return path, Counts.from_json(known["report"])
        except UserError as error:
            print(f"{error}. The pairs are made again.", file=sys.stderr)
    pairs, report = make(config, folder, base)
    text = pairs_lib.to_jsonl(pairs)
    write_atomically(path, text)
    content = {
        "request": request,
        "pairs": digest(text.encode()),
        "report": report.to_json(),
    }
    write_record(report_path, content)
    return path, report


def make(
    config: PairConfig, folder: pathlib.Path, base: Checkpoint | None
) -> tuple[list[Pair], Counts]:
    """Return the pairs of a corpus in random order, and a report on its sentences; see `ensure`."""
    report = Counts()
    with progress_bar("reading sentences", None) as advance:

        def documents():
            for document in sentences_lib.documents(config.corpus, config.format):
                advance(1)
                yield document

        sentences = sentences_lib.draw(
            documents(),
            report,
            min_words=config.min_words,
            max_words=config.max_words,
            count=config.max_sentences if config.method == "splitter" else None,
            seed=config.seed,
        )
    heads = held_out.read_heads(config.held_out, config.module)
    for sentence in sentences:
        if heads.in_text(sentence.text):
            report.drop(held_out.DROPPED, sentence.text)
    sentences = [sentence for sentence in sentences if not heads.in_text(sentence.text)]
    texts = [sentence.text for sentence in sentences]
    split, label = _methods(config, folder, base)
    kept: list[tuple[str, str, str]] = []
    for sentence, (cut, example) in zip(sentences, split(texts), strict=True):
        if isinstance(cut, str):
            report.drop(cut, example)
        elif len(kept) == config.max_pairs:
            report.drop(f"not among the {config.max_pairs} pairs drawn", sentence.text)
        else:
            kept.append((*pairs_lib.cut_out(sentence.text, cut), sentence.source))
    if len(kept) < 2:
        raise UserError(
            f"The corpus {config.corpus} gave {len(kept)} pairs under PairConfig.method = "
            f"{config.method!r}; at least 2 are needed, one to train and one to hold out. "
            f"{report.reasons()}. Give more text, other limits or another method "
            f"({', '.join(SPLIT_METHODS)})."
        )
    labels = label([(body, tail) for body, tail, _ in kept])
    report.labels.update(labels)
    return [Pair(b, t, label, s) for (b, t, s), label in zip(kept, labels, strict=True)], report


def _methods(
    config: PairConfig, folder: pathlib.Path, base: Checkpoint | None
) -> tuple[Split, Label]:
    """The functions that cut sentences and that label pairs."""
    label: Label = teaching.by_length
    if base is not None:
        vocabulary = vocabularies.vocabulary()
        model = base.model(vocabulary)
        facts = teaching.read_facts(config.facts, config.facts_per_task, config.module)

        def tuning(name: str, how: Tuning | None) -> teaching.CachedTuning:
            return teaching.CachedTuning(
                complete(how or Tuning()), folder / name, base.digest, vocabulary
            )

        if config.groups == "classifier":
            label = teaching.by_classifier(
                model,
                facts,
                config.facts,
                config.facts_per_task,
                vocabulary,
                tuning("classifier", config.classifier),
                config.seed,
            )
    if config.method == "spans":
        return lambda texts: [
            (pairs_lib.at_random(text, config.seed, config.max_tail_words), text) for text in texts
        ], label
    if config.method == "phrases":
        patterns = pairs_lib.phrase_patterns(config.phrases)
        return lambda texts: [(pairs_lib.at_phrase(text, patterns), text) for text in texts], label

    lessons = [
        pair
        for task in facts
        for pair in teaching.fact_pairs(task, config.facts_per_task, config.seed)
    ]
    examples = teaching.splitter_examples(lessons, vocabulary)
    splitter = tuning("splitter", config.splitter)(model, examples, seed=config.seed)

    def split(texts: Sequence[str]) -> list[tuple[Cut | str, str]]:
        tails = teaching.SEARCHES[config.search](splitter, texts, vocabulary)
        return [
            (pairs_lib.at_prediction(text, tail), f"{text} -> {tail}")
            for text, tail in zip(texts, tails, strict=True)
        ]

    return split, label


def _request(config: PairConfig, base: Checkpoint | None) -> Any:
    """Return what decides the pairs, as JSON; facts and held-out tasks count by name."""
    files, _ = sentences_lib.corpus_files(config.corpus, config.format)
    described = [describe_file(file) for file in files]
    request = {
        "config": dataclasses.asdict(config),
        "files": [entry.get("sha256", entry["mtime_ns"]) for entry in described],
        "style": gin.get_bindings("relation_phrase"),
    }
    if base is not None:
        request["model"] = base.digest
        request["tuning"] = [
            dataclasses.asdict(complete(how or Tuning()))
            for how in (config.splitter, config.classifier)
        ]
    return json.loads(json.dumps(request))
