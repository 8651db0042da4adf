# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Labelled texts: GLUE, SuperGLUE and IMDB.

Local files lie in MTO_DATA_DIR, in their original format; a set without a local file comes from
TFDS. Where the labels of the test set are hidden, "test" is the validation set.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping

from mto_jax.metrics import labels as label_metrics
from mto_jax.metrics import text as text_metrics
from mto_jax.text2text import registration as tasks
from mto_jax.text2text.readers import LabelledTextRow, RecordFile, Row, cell, data_path, lines
from mto_jax.text2text.records import LabelledText, Record
from mto_jax.text2text.tfds import LocalOrTfds, TfdsRecords

Files = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TextRow:
    """A row -> a labelled text, where the columns have other names in other releases of the set.

    Attributes:
        labels: what the sources say -> the label word.
        text, text2, label: the names that the column may have; text2 is () for single texts.
        word: the column of a word that the question is about (WiC); it is put before the text.
        joined: a column that is put after text2 (MultiRC's answer).
        no_label: label of the rows without one; they are left out.
    """

    task: str
    labels: tuple[tuple[str, str], ...]
    text: Files
    text2: Files = ()
    label: Files = ("label",)
    word: str = ""
    joined: str = ""
    no_label: str = "-"

    def __call__(self, row: Row) -> LabelledText | None:
        text, text2, label = (
            next((name for name in names if name in row), names[0]) if names else ""
            for names in (self.text, self.text2, self.label)
        )
        if row.get(label) == self.no_label:
            return None
        if self.word:
            row = row | {text: f"{cell(row, 'word', self.word)}: {cell(row, 'text', text)}"}
        if self.joined:
            second = (cell(row, "text2", column) for column in (text2, self.joined))
            row = row | {text2: " ".join(second)}
        return LabelledTextRow(self.task, self.labels, text, label, text2)(row)


def stsb(row: Row) -> LabelledText:
    """A similarity from 0 to 5, rounded to steps of 0.2 as T5 does."""
    score = float(cell(row, "label", "score" if "score" in row else "label"))
    first, second = (cell(row, "text", column) for column in ("sentence1", "sentence2"))
    return LabelledText("stsb", first, f"{round(score * 5) / 5:.1f}", second)


def wsc(row: Row) -> LabelledText:
    """Returns whether the second span, a pronoun, refers to the first."""
    row = row | row.get("target", {})  # the authors' files have the spans there
    first, second = (cell(row, "text2", column) for column in ("span1_text", "span2_text"))
    row |= {"claim": f"{second} refers to {first}"}
    return LabelledTextRow("wsc", tuple(TRUE_FALSE.items()), text2="claim")(row)


@dataclasses.dataclass(frozen=True)
class TextSet:
    """One data set: its words and where its splits are.

    Attributes:
        labels: what the sources say -> the label word.
        phrase, related, names: see `templates.Wording`.
        build: makes a record of a row; by default `TextRow` with the columns below.
        text, text2, label, word, joined: see `TextRow`.
        files: for each split, file names (the first that exists is read).
        columns: the names of the columns of files without a header line.
        broken: some rows of the files have another number of fields; they are left out.
        tfds, tfds_held_out: name in TFDS, and its split for validation and test.
    """

    labels: Mapping[str, str]
    phrase: str
    files: Mapping[str, Files]
    text: Files = ("sentence",)
    text2: Files = ()
    label: Files = ("label",)
    word: str = ""
    joined: str = ""
    names: tuple[str, str] = ("", "")
    related: Mapping[str, str] = dataclasses.field(default_factory=dict)
    columns: Files | None = None
    broken: bool = False
    build: Callable[[Row], LabelledText | None] | None = None
    tfds: str = ""
    tfds_held_out: str = "validation"


def _files(folder: str, train: Files, validation: Files, test: Files = ()) -> dict[str, Files]:
    chosen = {"train": train, "validation": validation, "test": test or validation}
    return {split: tuple(f"{folder}/{name}" for name in names) for split, names in chosen.items()}


def _tsv(folder: str) -> dict[str, Files]:
    """File names of GLUE and SuperGLUE."""
    train = ("train.tsv", "train.jsonl", "train_sample.tsv", "fewglue_train.jsonl")
    held_out = ("dev.tsv", "val.jsonl", "dev_matched.tsv", "dev_sample.tsv", "val_sample.jsonl")
    return _files(folder, train, held_out)


SENTIMENT = {"0": "negative", "1": "positive", "negative": "negative", "positive": "positive"}
SENTIMENT_WORDS = {"negative": "bad", "positive": "good"}
ENTAILMENT = {"entailment": "entailment", "not_entailment": "contradiction"}
THREE_WAY = {label: label for label in ("entailment", "neutral", "contradiction")}
TRUE_FALSE = {"True": "yes", "False": "no", "true": "yes", "false": "no", "1": "yes", "0": "no"}
YES_NO_WORDS = {"yes": "true", "no": "false"}
NLI_WORDS = {"entailment": "true", "neutral": "possible", "contradiction": "false"}

SETS = {
    "sst2": TextSet(
        SENTIMENT, "The sentiment is", _tsv("sst2"), related=SENTIMENT_WORDS, tfds="glue/sst2"
    ),
    "cola": TextSet(
        {
            "0": "unacceptable",
            "1": "acceptable",
            "unacceptable": "unacceptable",
            "acceptable": "acceptable",
        },
        "This sentence is",
        _files(
            "cola", ("in_domain_train.tsv",), ("in_domain_dev.tsv",), ("out_of_domain_dev.tsv",)
        ),
        columns=("source", "label", "mark", "sentence"),
        related={"unacceptable": "wrong", "acceptable": "right"},
        tfds="glue/cola",
    ),
    "mrpc": TextSet(
        {
            "0": "different",
            "1": "equivalent",
            "not_equivalent": "different",
            "equivalent": "equivalent",
        },
        "The meaning of the two is",
        _files(
            "mrpc",
            ("msr_paraphrase_train.txt", "msr_paraphrase_train.tsv", "train.tsv"),
            ("msr_paraphrase_test.txt", "msr_paraphrase_test.tsv", "dev.tsv"),
        ),
        text=("#1 String", "sentence1"),
        text2=("#2 String", "sentence2"),
        label=("Quality", "label"),
        names=("sentence1", "sentence2"),
        related={"different": "no", "equivalent": "yes"},
        tfds="glue/mrpc",
    ),
    "qqp": TextSet(
        {
            "0": "different",
            "1": "equivalent",
            "not_duplicate": "different",
            "duplicate": "equivalent",
        },
        "The meaning of the two is",
        _tsv("qqp"),
        broken=True,
        text=("question1",),
        text2=("question2",),
        label=("is_duplicate", "label"),
        names=("question1", "question2"),
        related={"different": "no", "equivalent": "yes"},
        tfds="glue/qqp",
    ),
    "mnli": TextSet(
        THREE_WAY,
        "This is a case of",
        _tsv("mnli"),
        text=("premise", "sentence1"),
        text2=("hypothesis", "sentence2"),
        label=("gold_label", "label"),
        names=("premise", "hypothesis"),
        related=NLI_WORDS,
        tfds="glue/mnli",
        tfds_held_out="validation_matched",
    ),
    "rte": TextSet(
        ENTAILMENT,
        "This is a case of",
        _tsv("rte"),
        text=("sentence1", "premise"),
        text2=("sentence2", "hypothesis"),
        names=("premise", "hypothesis"),
        related=NLI_WORDS,
        tfds="glue/rte",
    ),
    "qnli": TextSet(
        {"entailment": "yes", "not_entailment": "no"},
        "Does the sentence answer the question?",
        _tsv("qnli"),
        text=("sentence",),
        text2=("question",),
        names=("sentence", "question"),
        related=YES_NO_WORDS,
        tfds="glue/qnli",
    ),
    "wnli": TextSet(
        {"1": "entailment", "0": "contradiction"} | ENTAILMENT,
        "This is a case of",
        _tsv("wnli"),
        text=("sentence1",),
        text2=("sentence2",),
        names=("premise", "hypothesis"),
        related=NLI_WORDS,
        tfds="glue/wnli",
    ),
    "stsb": TextSet(
        {f"{step / 5:.1f}": f"{step / 5:.1f}" for step in range(26)},
        "The similarity from 0 to 5 is",
        _tsv("stsb"),
        names=("sentence1", "sentence2"),
        build=stsb,
        tfds="glue/stsb",
    ),
    "boolq": TextSet(
        TRUE_FALSE,
        "The answer is",
        _tsv("boolq"),
        text=("passage",),
        text2=("question",),
        names=("passage", "question"),
        related=YES_NO_WORDS,
        tfds="super_glue/boolq",
    ),
    "cb": TextSet(
        THREE_WAY,
        "This is a case of",
        _tsv("cb"),
        text=("premise",),
        text2=("hypothesis",),
        names=("premise", "hypothesis"),
        related=NLI_WORDS,
        tfds="super_glue/cb",
    ),
    "wic": TextSet(
        TRUE_FALSE,
        "Does the word have the same meaning in both?",
        _tsv("wic"),
        text=("sentence1",),
        text2=("sentence2",),
        word="word",
        related=YES_NO_WORDS,
        tfds="super_glue/wic",
    ),
    "multirc": TextSet(
        TRUE_FALSE,
        "Is the answer right?",
        _tsv("multirc"),
        text=("paragraph",),
        text2=("question",),
        joined="answer",
        related=YES_NO_WORDS,
        tfds="super_glue/multirc",
    ),
    "wsc": TextSet(
        TRUE_FALSE,
        "Is this right?",
        _tsv("wsc"),
        build=wsc,
        related=YES_NO_WORDS,
        tfds="super_glue/wsc.fixed",
    ),
}
# Those of GLUE and SuperGLUE beside accuracy, and the value that decides.
MORE_METRICS = {
    "cola": (label_metrics.matthews, "matthews"),
    "mrpc": (label_metrics.label_f1, "f1_equivalent"),
    "qqp": (label_metrics.label_f1, "f1_equivalent"),
    "stsb": (label_metrics.correlation, "spearman"),
    "cb": (label_metrics.label_f1, "f1_macro"),
    "multirc": (label_metrics.label_f1, "f1_yes"),
}


@dataclasses.dataclass(frozen=True)
class ImdbFolder:
    """IMDB reviews in the original folders, aclImdb/{train,test}/{neg,pos}/*.txt, or from TFDS."""

    split: str

    def paths(self) -> list[pathlib.Path]:
        return [path for path, _ in self._files()]

    def _files(self) -> list[tuple[pathlib.Path, str]]:
        try:
            folder = data_path(f"aclImdb/{self.split}")
        except tasks.UserError:  # MTO_DATA_DIR is not set
            return []
        labels = {"neg": "negative", "pos": "positive"}
        return [
            (path, word)
            for name, word in labels.items()
            for path in sorted((folder / name).glob("*.txt"))
        ]

    def __call__(self) -> Iterator[Record]:
        files = self._files()
        if not files:
            yield from TfdsRecords("imdb_reviews", self.split, _imdb_row)()
        for path, label in files:
            text = " ".join(line for _, line in lines(path)).replace("<br />", " ")
            yield LabelledText("imdb", text, label)


def _imdb_row(row: Row) -> LabelledText:
    label = {"neg": "negative", "pos": "positive"}[row["label"]]
    return LabelledText("imdb", row["text"].replace("<br />", " "), label)


def _splits(name: str, texts: TextSet) -> dict[str, LocalOrTfds]:
    build = texts.build or TextRow(
        name,
        tuple(texts.labels.items()),
        texts.text,
        texts.text2,
        texts.label,
        texts.word,
        texts.joined,
    )
    return {
        split: LocalOrTfds(
            RecordFile(names, build, texts.columns, broken=texts.broken),
            TfdsRecords(texts.tfds, "train" if split == "train" else texts.tfds_held_out, build),
        )
        for split, names in texts.files.items()
    }


def register() -> None:
    """Registers all sets under all templates for labelled texts; reads no file."""
    for name, texts in SETS.items():
        *more, metric = MORE_METRICS.get(name, ("accuracy",))
        tasks.register_records(
            name,
            kind="labelled_text",
            splits=_splits(name, texts),
            phrase=texts.phrase,
            names=texts.names,
            labels=tuple(dict.fromkeys(texts.labels.values())),
            related=texts.related,
            metric_fns=(text_metrics.accuracy, *more),
            metric=metric,
        )
    tasks.register_records(
        "imdb",
        kind="labelled_text",
        splits={
            "train": ImdbFolder("train"),
            "validation": ImdbFolder("test"),
            "test": ImdbFolder("test"),
        },
        phrase="The sentiment is",
        labels=("negative", "positive"),
        related=SENTIMENT_WORDS,
    )
