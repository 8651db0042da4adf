# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registering data sets as records: names, kinds, readers, words, labels, metrics.

A user's own data set is one call (`register_file`), or `register_records` with any functions that
return records. Registering reads no data and imports no TensorFlow; reading, cleaning and sampling
happen when a split is used. `mto_jax.text2text.seqio_tasks` makes SeqIO tasks of what is here.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mto_jax.errors import UserError, unknown
from mto_jax.metrics.by_kind import TaskMetrics, task_metrics
from mto_jax.text2text import few_shot, readers, records, registry, templates

Reader = Callable[[], Iterable[records.Record]]


@dataclasses.dataclass(eq=False)
class DataSet:
    """A registered data set without any template; its records, cleaned and sampled as gin says.

    Attributes:
        name: as registered.
        kind: of its records.
        readers: the reader of each split.
        words: what its templates say beside the phrase.
        phrase: see `templates.Wording`; a function is asked when the data are used.
        metrics: what predictions on it are scored by.
        report: for every split that was read, how many records were read, dropped (and why), kept.
    """

    name: str
    kind: str
    readers: Mapping[str, Reader]
    words: templates.Wording
    phrase: str | Callable[[], str]
    metrics: TaskMetrics

    def __post_init__(self):
        self.report: dict[str, few_shot.Report] = {}
        self._raw: dict[str, tuple[Any, list[records.Record]]] = {}

    @property
    def identity(self) -> tuple:
        """Everything that registering it again must not change."""
        return (self.kind, tuple(self.readers.items()), self.words, self.phrase, self.metrics)

    @property
    def tasks(self) -> dict[str, templates.Template]:
        """The SeqIO tasks of its records: name -> template, with or without a soft prompt."""
        fitting = templates.templates_for(self.kind, self.words)
        return {f"{self.name}_{template.snake_name}": template for template in fitting}

    def wording(self) -> templates.Wording:
        """Returns the words of its templates, with the phrase that gin chooses now."""
        phrase = self.phrase() if callable(self.phrase) else self.phrase
        return dataclasses.replace(self.words, phrase=phrase)

    @property
    def input_files(self) -> list[str]:
        """The files that the readers name, as far as they do and the files exist."""
        return sorted({path for split in self.readers for path, _ in self._files(split)})

    def records_of(
        self, split: str, sample: Mapping[str, Any] | None = None
    ) -> list[records.Record]:
        """Reads a split: training records one per reference, others one per head.

        Args:
            split: one of `readers`.
            sample: arguments of `few_shot.few_shot` ("train") or `few_shot.evaluation_sample`
                (other splits) that override gin's.

        Raises:
            UserError: no such split, or what the reader found wrong.
        """
        self.check_split(split)
        report = self.report[split] = {}
        if split == "train":
            others = [other for other in self.readers if other != "train"]
            held_out = [record for other in others for record in self._read(other)]
            kept = few_shot.training_records(self._read("train"), held_out, report)
            kept = few_shot.few_shot(kept, report, **(sample or {}))
        else:
            kept = few_shot.evaluation_records(self._read(split), report)
            kept = few_shot.evaluation_sample(kept, report, **(sample or {}))
        return kept

    def check_split(self, split: str) -> None:
        """Raises a UserError if there is no such split; it says how to get one."""
        if split not in self.readers:
            raise UserError(
                f"The data set {self.name!r} has no split {split!r}, only "
                f"{', '.join(self.readers)}. Register it with a file for that split, "
                f"{{'train': ..., {split!r}: ...}}, or with one file alone, not in a dict: it is "
                "divided by heads into train, validation and test. Or name a split that there is."
            )

    def some_records_of(
        self, split: str, sample: Mapping[str, Any] | None = None
    ) -> list[records.Record]:
        """Returns `records_of(...)`; raises a `UserError` if no record is left."""
        kept = self.records_of(split, sample)
        if not kept:
            raise UserError(
                f"{self.name}: the split '{split}' has no records left to use: "
                f"{self.report[split]}. Check the files."
            )
        return kept

    def _read(self, split: str) -> list[records.Record]:
        """Reads a split once, and again when its files have changed."""
        files = self._files(split)
        if split not in self._raw or self._raw[split][0] != files:
            self._raw[split] = files, list(self.readers[split]())
        return self._raw[split][1]

    def _files(self, split: str) -> list[tuple[str, int]]:
        """(path, time of the last change) of the files that a reader names, if they exist."""
        paths = getattr(self.readers[split], "paths", list)()
        return [(os.fspath(path), path.stat().st_mtime_ns) for path in paths if path.exists()]


DATA_SETS: dict[str, DataSet] = {}


def register_records(
    name: str,
    *,
    kind: str,
    splits: Mapping[str, Reader],
    phrase: str | Callable[[], str] = "",
    names: tuple[str, str] = ("", ""),
    labels: Sequence[str] = (),
    related: Mapping[str, str] | None = None,
    gap: str = "",
    metric_fns: Sequence[Callable] | None = None,
    metric: str = "",
) -> list[str]:
    """Registers a data set under every template of its kind, its sentences under objectives.

    Args:
        name: letters, digits and "_"; the tasks are `<name>_<template>` and `<name>_<objective>`,
            e.g. "kitchen_masked_prompting" and, for adaptation, "kitchen_span_corruption".
        kind: "triple", "multiple_choice", "labelled_text" or "generation".
        splits: a function for each split that returns its records. "train" is cleaned, kept apart
            from the heads of all other splits and sampled by `few_shot`; the others by
            `evaluation_sample`. A function that has `paths()` tells which files it reads.
        phrase: what stands between head and tail, see `templates.Wording`; a triple must have one.
        names: names of the two texts of a labelled text, e.g. ("premise", "hypothesis").
        labels: all label words of a labelled text.
        related: a related word for every label; gives the task the two-slot template.
        gap: what marks the place of the answer inside heads or questions, such as "___"; gives the
            task the templates that have the sentinel there.
        metric_fns: functions of the form of `mto_jax.metrics.text`; by default those of the kind.
        metric: name of the value that decides between models, such as "matthews"; by default the
            kind's ("rougeL" or "accuracy"), or the first value of `metric_fns`.

    Returns:
        The names of its tasks under templates.

    Raises:
        UserError: unknown kind, a bad name, a name that another data set has, a triple without a
            phrase, a labelled text without labels, a phrase that names the head twice.
    """
    if kind not in records.KINDS:
        raise unknown("kind of record", kind, records.KINDS)
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"A task cannot be called {name!r}: use letters, digits and '_' only.")
    if kind == "triple" and not phrase:
        raise UserError(
            f"The relation '{name}' has no phrase. Give the words between head and tail, for "
            "example phrase='is used for'."
        )
    if kind == "labelled_text" and not labels:
        raise UserError(
            f"The task '{name}' has no labels. Give the label words: labels=('no', 'yes')."
        )
    missing = [label for label in labels if related and label not in related]
    if missing:
        raise UserError(f"The task '{name}' has no related word for: {', '.join(missing)}.")
    words = templates.Wording("", (names[0], names[1]), tuple(labels), dict(related or {}), gap)
    if isinstance(phrase, str):
        templates.check_phrase(phrase)

    metrics = task_metrics(kind, metric_fns, metric)
    data = DataSet(name, kind, dict(splits), words, phrase, metrics)
    if name in DATA_SETS and DATA_SETS[name].identity != data.identity:
        raise UserError(
            f"There is already a data set '{name}' with other data, words or metrics. Give this "
            "one another name."
        )
    data = DATA_SETS.setdefault(name, data)  # the same again: what it has read serves
    registry.with_seqio(f"records of {name}", functools.partial(_add_to_seqio, data))
    return [*data.tasks]


def _add_to_seqio(data: DataSet) -> None:
    from mto_jax.text2text import seqio_tasks  # imports TensorFlow

    seqio_tasks.add(data)


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

    @property
    def build(self):
        return self.file.build

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
    gap: str = "",
    names: tuple[str, str] = ("", ""),
    first_answer: int = 0,
    answer_is: str = "",
    metric_fns: Sequence[Callable] | None = None,
    metric: str = "",
) -> list[str]:
    """Registers a TSV, CSV or JSONL file (or .gz of one) under every template of its kind.

        fields = {"head": "tool", "tail": "use"}
        register_file("kitchen", "facts.tsv", phrase="is used for", fields=fields)

    registers `kitchen_mapping`, `kitchen_masked_prompting` and so on, and for adaptation to its
    sentences `kitchen_span_corruption`, `kitchen_denoising` and so on.

    Args:
        name: see `register_records`; also the name that opens every source text.
        path: the file, or a file for each split: {"train": ..., "validation": ..., "test": ...}. A
            single file is split by heads: 80 % train, 10 % validation, 10 % test, always the same.
        kind: "triple", "multiple_choice", "labelled_text" or "generation".
        fields: the column of every field that is not called like the field itself. Triple: head,
            tail. Multiple choice: question, choices (the column of a list, or a tuple of columns),
            answer; optional context, fact. Labelled text: text, label; optional text2. Generation:
            source, target.
        columns: the names of the columns of a TSV or CSV without a header line.
        phrase, related, gap, names, metric_fns, metric: see `register_records`.
        labels: the label words, or what the file says -> the label word: {"0": "negative", ...}.
        first_answer: the number of the first choice (0 or 1) where answers are numbers.
        answer_is: "text", "letter" or "number", where an answer could be taken for several.

    Returns:
        The names of the tasks.

    Raises:
        UserError: what `register_records` raises, an unknown field, a missing file. Errors in the
            rows name file, line and field when the data are read.
    """
    if kind not in records.KINDS:
        raise unknown("kind of record", kind, records.KINDS)
    if answer_is and answer_is not in readers.ANSWERS:
        raise unknown("form of an answer (answer_is)", answer_is, readers.ANSWERS)
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
        extras |= {"first_answer": first_answer, "answer_is": answer_is}
    build = row_type(task=name, **extras, **fields)

    columns = tuple(columns) if columns else None
    given = path if isinstance(path, Mapping) else {"train": path}
    files = {
        split: readers.RecordFile(
            (os.path.abspath(os.path.expanduser(file)),), build, columns, own=True
        )
        for split, file in given.items()
    }
    for file in files.values():
        file.check()  # a missing file is an error now, not when a run starts
    splits = files if isinstance(path, Mapping) else by_heads(files["train"])
    return register_records(
        name,
        kind=kind,
        splits=splits,
        phrase=phrase,
        names=names,
        labels=tuple(dict.fromkeys(label_words.values())),
        related=related,
        gap=gap,
        metric_fns=metric_fns,
        metric=metric,
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
