# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records -> SeqIO tasks: one task for every template, named `<name>_<template>`.

A user's own data set is one call (`register_file`), or `register_records` with any functions that
return records. Registering reads no data; reading, cleaning and sampling happen when a split is used.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import seqio
import tensorflow as tf

from mto_jax.errors import UserError, unknown
from mto_jax.metrics import text as text_metrics
from mto_jax.text2text import few_shot, readers, records, templates, vocabulary
from mto_jax.text2text.objectives import OBJECTIVES
from mto_jax.text2text.objectives import preprocessor as objective_preprocessor

Reader = Callable[[], Iterable[records.Record]]

METRICS = {
    "triple": (
        text_metrics.rouge,
        text_metrics.bleu,
        text_metrics.exact_match,
        text_metrics.diversity,
    ),
    "multiple_choice": (text_metrics.accuracy,),
    "labelled_text": (text_metrics.accuracy,),
    "generation": (text_metrics.rouge, text_metrics.bleu),
}


class RecordSource(seqio.DataSource):
    """The records of a data set, cleaned and sampled as gin says, as a SeqIO source.

    An example of the source is {"record": one line of JSON}. All templates of a data set share a source.

    Attributes:
        readers: what reads each split.
        report: for every split that was read, how many records were read, dropped (and why) and kept.
    """

    def __init__(self, splits: Mapping[str, Reader]):
        super().__init__(splits)
        self.readers = dict(splits)
        self.report: dict[str, few_shot.Report] = {}
        self._raw: dict[str, list[records.Record]] = {}

    @property
    def input_files(self) -> list[str]:
        """The files that the readers name, as far as they do and the files exist."""
        named = [reader.paths() for reader in self.readers.values() if hasattr(reader, "paths")]
        return sorted({os.fspath(path) for paths in named for path in paths if path.exists()})

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    def num_input_examples(self, split: str) -> int:
        return len(self.records_of(split))

    def records_of(self, split: str) -> list[records.Record]:
        """The records of a split: training ones one per reference, others one per head."""
        if split not in self.readers:
            raise unknown("split", split, self.readers)
        report = self.report[split] = {}
        if split != "train":
            kept = few_shot.evaluation_records(self._read(split), report)
            return few_shot.evaluation_sample(kept, report)
        held_out = [
            record for other in self.splits if other != "train" for record in self._read(other)
        ]
        return few_shot.few_shot(
            few_shot.training_records(self._read("train"), held_out, report), report
        )

    def _read(self, split: str) -> list[records.Record]:
        if split not in self._raw:
            self._raw[split] = list(self.readers[split]())
        return self._raw[split]

    def get_dataset(
        self, split="train", shuffle=True, seed=None, shard_info=None, **_
    ) -> tf.data.Dataset:
        kept = self.records_of(split)
        if not kept:
            raise UserError(
                f"The split '{split}' has no records left to use: {self.report[split]}. Check the files."
            )
        dataset = tf.data.Dataset.from_tensor_slices(self._columns(kept))
        if shard_info:
            dataset = dataset.shard(shard_info.num_shards, shard_info.index)
        if shuffle:
            dataset = dataset.shuffle(len(kept), seed=seed)
        return dataset

    def _columns(self, kept: list[records.Record]) -> dict[str, list[str]]:
        return {"record": [records.to_json(record) for record in kept]}


class SentenceSource(RecordSource):
    """The same records as sentences for objectives: {"text", "body", "tail"}, see `templates.pairs`."""

    def __init__(self, splits: Mapping[str, Reader], wording: Callable[[], templates.Wording]):
        super().__init__(splits)
        self._wording = wording

    def _columns(self, kept: list[records.Record]) -> dict[str, list[str]]:
        bodies, tails = zip(*templates.pairs(kept, self._wording()), strict=True)
        text = list(templates.sentences(kept, self._wording()))
        return {"text": text, "body": list(bodies), "tail": list(tails)}


# Features of an example; those that are lists have any length.
LISTS = {"inputs": tf.int32, "targets": tf.int32, "references": tf.string, "choices": tf.string}
SCALARS = {
    "inputs_pretokenized": tf.string,
    "targets_pretokenized": tf.string,
    "task": tf.string,
    "inputs_truncated": tf.int32,
    "targets_truncated": tf.int32,
}
CHUNK = 256  # examples that cross from Python to TensorFlow at once; one by one is ten times slower


def example(
    template: templates.Template,
    record: records.Record,
    wording: templates.Wording,
    vocab: vocabulary.Vocabulary,
    lengths: Mapping[str, int] | None,
    soft: templates.SoftPrompt,
    task: str,
) -> dict[str, Any]:
    """One example of a task: ids with EOS, the texts they come from, and what evaluation needs.

    `references` are the gold answers without sentinels; `choices` are the target texts (with
    sentinels) of all answers that are allowed, empty where any text is; `*_truncated` is 1 where a
    field lost tokens.
    """
    rendered = templates.render(template, record, wording)
    tokens = templates.tokenise(rendered, vocab, lengths, soft=soft)
    return {
        "inputs": tokens.inputs,
        "targets": tokens.targets,
        "inputs_pretokenized": rendered.source_text,
        "targets_pretokenized": rendered.target_text,
        "task": task,
        "references": templates.reference_texts(template, record, wording),
        "choices": templates.candidate_texts(template, record, wording),
        "inputs_truncated": int(tokens.inputs_cut),
        "targets_truncated": int(tokens.targets_cut),
    }


@dataclasses.dataclass(frozen=True)
class _Words:
    """A task's wording; the phrase may be a function, so that gin is asked only when it is used."""

    phrase: str | Callable[[], str]
    names: tuple[str, str]
    labels: tuple[str, ...]
    related: tuple[tuple[str, str], ...]

    def wording(self) -> templates.Wording:
        phrase = self.phrase() if callable(self.phrase) else self.phrase
        return templates.Wording(phrase, self.names, self.labels, dict(self.related))


def preprocessor(
    template: templates.Template,
    wording: Callable[[], templates.Wording],
    vocab: vocabulary.Vocabulary,
    task: str,
) -> Callable[..., tf.data.Dataset]:
    """SeqIO preprocessor: records -> examples (see `example`) that fit `sequence_length`."""

    def render_and_tokenise(dataset: tf.data.Dataset, sequence_length, output_features):
        del output_features
        words, soft = wording(), templates.SoftPrompt()

        def generate() -> Iterator[dict[str, tf.Tensor | tf.RaggedTensor]]:
            for chunk in dataset.batch(CHUNK).as_numpy_iterator():
                chunk_records = map(records.from_json, chunk["record"])
                yield _stack(
                    [
                        example(template, record, words, vocab, sequence_length, soft, task)
                        for record in chunk_records
                    ]
                )

        signature = {k: tf.RaggedTensorSpec([None, None], dtype) for k, dtype in LISTS.items()}
        signature |= {k: tf.TensorSpec([None], dtype) for k, dtype in SCALARS.items()}
        return tf.data.Dataset.from_generator(generate, output_signature=signature).unbatch()

    return render_and_tokenise


def _stack(examples: list[dict[str, Any]]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """A list of examples as one structure of arrays."""
    stacked = {
        name: tf.constant([one[name] for one in examples], dtype) for name, dtype in SCALARS.items()
    }
    for name, dtype in LISTS.items():
        values = [value for one in examples for value in one[name]]
        lengths = [len(one[name]) for one in examples]
        stacked[name] = tf.RaggedTensor.from_row_lengths(tf.constant(values, dtype), lengths)
    return stacked


class RecordSet(NamedTuple):
    """A registered data set without any template: what matching and adaptation read."""

    kind: str
    source: RecordSource
    wording: Callable[[], templates.Wording]


RECORD_SETS: dict[str, RecordSet] = {}

# What each name stands for: registering the same again changes nothing, another thing is an error.
_registered: dict[str, tuple] = {}


def register_records(
    name: str,
    *,
    kind: str,
    splits: Mapping[str, Reader],
    phrase: str | Callable[[], str] = "",
    names: tuple[str, str] = ("", ""),
    labels: Sequence[str] = (),
    related: Mapping[str, str] | None = None,
    metric_fns: Sequence[Callable] | None = None,
) -> list[str]:
    """Registers a data set under every template of its kind, and its sentences under every objective.

    Args:
        name: letters, digits and "_"; the tasks are `<name>_<template>` and `<name>_<objective>`, e.g.
            "kitchen_masked_prompting" and, for adaptation, "kitchen_span_corruption".
        kind: "triple", "multiple_choice", "labelled_text" or "generation".
        splits: a function for each split that returns its records. "train" is cleaned, kept apart from
            the heads of all other splits and sampled by `few_shot`; the others by `evaluation_sample`.
            A function that has `paths()` tells which files it reads.
        phrase: what stands between head and tail, see `templates.Wording`; a triple must have one.
        names: names of the two texts of a labelled text, e.g. ("premise", "hypothesis").
        labels: all label words of a labelled text.
        related: a related word for every label; gives the task the two-slot template.
        metric_fns: functions of `mto_jax.metrics.text`; by default those of the kind.

    Returns:
        The names of the tasks that wear a template.

    Raises:
        UserError: unknown kind, a bad name, a name that another data set has, a triple without a phrase, a
            labelled text without labels, a phrase that names the head twice.
    """
    if kind not in records.KINDS:
        raise unknown("kind of record", kind, records.KINDS)
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"A task cannot be called {name!r}: use letters, digits and '_' only.")
    if kind == "triple" and not phrase:
        raise UserError(
            f"The relation '{name}' has no phrase. Give the words between head and tail, for example "
            "phrase='is used for'."
        )
    if kind == "labelled_text" and not labels:
        raise UserError(
            f"The task '{name}' has no labels. Give the label words: labels=('no', 'yes')."
        )
    missing = [label for label in labels if related and label not in related]
    if missing:
        raise UserError(f"The task '{name}' has no related word for: {', '.join(missing)}.")
    words = _Words(phrase, tuple(names), tuple(labels), tuple((related or {}).items()))
    if isinstance(phrase, str):
        templates.check_phrase(phrase)

    vocab = vocabulary.vocabulary()
    metric_fns = tuple(METRICS[kind] if metric_fns is None else metric_fns)
    identity = (kind, tuple(splits.items()), words, metric_fns)
    identity = (identity, vocab.path, vocab.extra_ids)
    source = RecordSource(splits)
    wearable = templates.templates_for(kind, templates.Wording(related=dict(words.related)))
    tasks = {f"{name}_{template.snake_name}": template for template in wearable}
    for task, template in tasks.items():
        _add(
            task,
            identity,
            source,
            preprocessor(template, words.wording, vocab, task),
            vocab,
            metric_fns,
        )
    RECORD_SETS[name] = RecordSet(kind, source, words.wording)
    sentences = SentenceSource(splits, words.wording)
    for objective, row in OBJECTIVES.items():
        if set(row.fields) <= {"text", "body", "tail"}:
            _add(
                f"{name}_{objective}", identity, sentences, objective_preprocessor(objective), vocab
            )
    return list(tasks)


def _add(
    task: str, identity: tuple, source, step: Callable, vocab, metric_fns: Sequence[Callable] = ()
):
    if not _is_registered(task, identity):
        seqio.TaskRegistry.add(
            task,
            source=source,
            preprocessors=[step],
            output_features=_features(vocab),
            metric_fns=metric_fns,
        )


@functools.lru_cache(maxsize=8)
def _features(vocab: vocabulary.Vocabulary):
    return vocabulary.features(vocab)


def _is_registered(task: str, identity: tuple) -> bool:
    """True if this very task exists. A task that differs in its vocabulary alone makes room."""
    if task not in seqio.TaskRegistry.names():
        _registered[task] = identity
        return False
    known = _registered.get(task)
    if known == identity:
        return True
    if known is None or known[0] != identity[0]:
        raise UserError(
            f"There is already a task '{task}' with other data or words. Task names must differ: give this "
            "data set another name."
        )
    seqio.TaskRegistry.remove(task)
    _registered[task] = identity
    return False


# ---- A user's own file ------------------------------------------------------------------------

# The tenths of the heads that each split of a single file gets.
SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}


@dataclasses.dataclass(frozen=True)
class _Share:
    """The part of a file whose heads fall into one split, by a digest of the head."""

    file: readers.RecordFile
    split: str

    def paths(self):
        return self.file.paths()

    def __call__(self) -> Iterator[records.Record]:
        for record in self.file():
            if few_shot.tenth(record.head) in SHARES[self.split]:
                yield record


def by_heads(file: readers.RecordFile) -> dict[str, Reader]:
    """Readers of the three splits of a file that comes whole: always the same heads in each."""
    return {split: _Share(file, split) for split in SHARES}


def register_file(
    name: str,
    path: str | os.PathLike | Mapping[str, str | os.PathLike],
    *,
    kind: str = "triple",
    fields: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    phrase: str = "",
    labels: Mapping[str, str] | Sequence[str] = (),
    related: Mapping[str, str] | None = None,
    names: tuple[str, str] = ("", ""),
    first_answer: int = 0,
    metric_fns: Sequence[Callable] | None = None,
) -> list[str]:
    """Registers a TSV, CSV or JSONL file (or .gz of one) under every template of its kind.

        register_file("kitchen", "facts.tsv", phrase="is used for", fields={"head": "tool", "tail": "use"})

    registers `kitchen_mapping`, `kitchen_masked_prompting` and so on, and for adaptation to its sentences
    `kitchen_span_corruption`, `kitchen_denoising` and so on.

    Args:
        name: see `register_records`; also the name that opens every source text.
        path: the file, or a file for each split: {"train": ..., "validation": ..., "test": ...}. A single
            file is split by heads: 80 % train, 10 % validation, 10 % test, always the same way.
        kind: "triple", "multiple_choice", "labelled_text" or "generation".
        fields: the column of every field that is not called like the field itself. Triple: head, tail.
            Multiple choice: question, choices (the column of a list, or a tuple of columns), answer;
            optional context, fact. Labelled text: text, label; optional text2. Generation: source, target.
        columns: the names of the columns of a TSV or CSV without a header line.
        phrase, related, names, metric_fns: see `register_records`.
        labels: the label words, or what the file says -> the label word: {"0": "negative", ...}.
        first_answer: the number of the first choice (0 or 1) where answers are numbers.

    Returns:
        The names of the tasks.

    Raises:
        UserError: what `register_records` raises, an unknown field, a missing file. Errors in the rows name
            file, line and field when the data are read.
    """
    if kind not in records.KINDS:
        raise unknown("kind of record", kind, records.KINDS)
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in (fields or {}).items()}
    row_type, known = _ROWS[kind]
    for field in fields:
        if field not in known:
            raise unknown(f"field of a {kind} record", field, known)
    label_words = (
        dict(labels) if isinstance(labels, Mapping) else {label: label for label in labels}
    )
    extras: dict[str, Any] = {}
    if kind == "triple":
        extras["relation"] = name
    elif kind == "labelled_text":
        extras["labels"] = tuple(label_words.items())
    elif kind == "multiple_choice":
        extras["first_answer"] = first_answer
    build = row_type(task=name, **extras, **fields)

    columns = tuple(columns) if columns else None
    given = path if isinstance(path, Mapping) else {"train": path}
    files = {
        split: readers.RecordFile((os.path.abspath(os.path.expanduser(file)),), build, columns)
        for split, file in given.items()
    }
    for file in files.values():
        file.check()  # a missing file is told now, not when a run starts
    splits: dict[str, Reader] = files
    if not isinstance(path, Mapping):
        splits = by_heads(files["train"])
    return register_records(
        name,
        kind=kind,
        splits=splits,
        phrase=phrase,
        names=names,
        labels=tuple(dict.fromkeys(label_words.values())),
        related=related,
        metric_fns=metric_fns,
    )


_ROWS = {
    "triple": (readers.TripleRow, ("head", "tail")),
    "multiple_choice": (
        readers.MultipleChoiceRow,
        ("question", "choices", "answer", "context", "fact"),
    ),
    "labelled_text": (readers.LabelledTextRow, ("text", "label", "text2")),
    "generation": (readers.GenerationRow, ("source", "target")),
}
