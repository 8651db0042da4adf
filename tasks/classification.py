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
class TextSet:
    """One data set: its words and where its splits are.

    Columns may have other names in other releases of a set: "premise|sentence1" is the first of
    them that a row has.

    Attributes:
        labels: what the sources say -> the label word.
        phrase, related, names: see `templates.Wording`.
        text, text2, label: columns; text2 is "" for single texts.
        word: the column of a word that the question is about (WiC); it is put before the text.
        joined: a column that is put after text2 (MultiRC's answer).
        build: makes a record of a row; None for `TextRow`.
        files: for each split, file names (the first that exists is read); None for `_tsv`.
        columns: the names of the columns of files without a header line.
        broken: some rows of the files have another number of fields; they are left out.
        tfds, tfds_held_out: name in TFDS, None for GLUE's, and its split for validation and test.
    """

    labels: Mapping[str, str]
    phrase: str
    text: str = "sentence"
    text2: str = ""
    label: str = "label"
    word: str = ""
    joined: str = ""
    names: tuple[str, str] = ("", "")
    related: Mapping[str, str] = dataclasses.field(default_factory=dict)
    build: Callable[[Row], LabelledText | None] | None = None
    files: Mapping[str, Files] | None = None
    columns: Files | None = None
    broken: bool = False
    tfds: str | None = None
    tfds_held_out: str = "validation"


@dataclasses.dataclass(frozen=True)
class TextRow:
    """A row -> a labelled text; those whose label is "-" have none, and are left out."""

    task: str
    texts: TextSet

    def __call__(self, row: Row) -> LabelledText | None:
        texts = self.texts
        text, text2, label = (
            next((name for name in names.split("|") if name in row), names.partition("|")[0])
            for names in (texts.text, texts.text2, texts.label)
        )
        if row.get(label) == "-":
            return None
        if texts.word:
            row = row | {text: f"{cell(row, 'word', texts.word)}: {cell(row, 'text', text)}"}
        if texts.joined:
            second = (cell(row, "text2", column) for column in (text2, texts.joined))
            row = row | {text2: " ".join(second)}
        return LabelledTextRow(self.task, tuple(texts.labels.items()), text, label, text2)(row)


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


def _files(folder: str, train: Files, validation: Files, test: Files = ()) -> dict[str, Files]:
    chosen = {"train": train, "validation": validation, "test": test or validation}
    return {split: tuple(f"{folder}/{name}" for name in names) for split, names in chosen.items()}


def _tsv(folder: str) -> dict[str, Files]:
    """File names of GLUE and SuperGLUE."""
    train = ("train.tsv", "train.jsonl", "train_sample.tsv", "fewglue_train.jsonl")
    held_out = ("dev.tsv", "val.jsonl", "dev_matched.tsv", "dev_sample.tsv", "val_sample.jsonl")
    return _files(folder, train, held_out)


def _nli(labels: Mapping[str, str], **more) -> TextSet:
    names, words = ("premise", "hypothesis"), "This is a case of"
    related = {"entailment": "true", "neutral": "possible", "contradiction": "false"}
    columns = ("premise|sentence1", "hypothesis|sentence2")
    return TextSet(labels, words, *columns, names=names, related=related, **more)


def _paraphrase(text: str, text2: str, label: str, names: tuple[str, str], **more) -> TextSet:
    same, other = ("1", "equivalent", "duplicate"), ("0", "not_equivalent", "not_duplicate")
    labels = dict.fromkeys(other, "different") | dict.fromkeys(same, "equivalent")
    words, related = "The meaning of the two is", {"different": "no", "equivalent": "yes"}
    return TextSet(labels, words, text, text2, label, names=names, related=related, **more)


def _yes_no(phrase: str, text: str = "", text2: str = "", **more) -> TextSet:
    more.setdefault("labels", TRUE_FALSE)
    related = {"yes": "true", "no": "false"}
    return TextSet(phrase=phrase, text=text, text2=text2, related=related, **more)


SENTIMENT_WORDS = {"negative": "bad", "positive": "good"}
TRUE_FALSE = {"True": "yes", "False": "no", "true": "yes", "false": "no", "1": "yes", "0": "no"}
ENTAILMENT = {"entailment": "entailment", "not_entailment": "contradiction"}
THREE_WAY = {label: label for label in ("entailment", "neutral", "contradiction")}
ACCEPTABLE: dict[str, str] = dict.fromkeys(("0", "unacceptable"), "unacceptable")
ACCEPTABLE |= dict.fromkeys(("1", "acceptable"), "acceptable")
STEPS = [f"{step / 5:.1f}" for step in range(26)]

SETS = {
    "sst2": TextSet(
        {"0": "negative", "1": "positive", "negative": "negative", "positive": "positive"},
        "The sentiment is",
        related=SENTIMENT_WORDS,
    ),
    "cola": TextSet(
        ACCEPTABLE,
        "This sentence is",
        related={"unacceptable": "wrong", "acceptable": "right"},
        files=_files(
            "cola", ("in_domain_train.tsv",), ("in_domain_dev.tsv",), ("out_of_domain_dev.tsv",)
        ),
        columns=("source", "label", "mark", "sentence"),
    ),
    "mrpc": _paraphrase(
        *("#1 String|sentence1", "#2 String|sentence2", "Quality|label"),
        names=("sentence1", "sentence2"),
        files=_files(
            "mrpc",
            ("msr_paraphrase_train.txt", "msr_paraphrase_train.tsv", "train.tsv"),
            ("msr_paraphrase_test.txt", "msr_paraphrase_test.tsv", "dev.tsv"),
        ),
    ),
    "qqp": _paraphrase(
        *("question1", "question2", "is_duplicate|label"),
        names=("question1", "question2"),
        broken=True,
    ),
    "mnli": _nli(THREE_WAY, label="gold_label|label", tfds_held_out="validation_matched"),
    "rte": _nli(ENTAILMENT),
    "wnli": _nli({"1": "entailment", "0": "contradiction"} | ENTAILMENT),
    "cb": _nli(THREE_WAY, tfds="super_glue/cb"),
    "qnli": _yes_no(
        *("Does the sentence answer the question?", "sentence", "question"),
        labels={"entailment": "yes", "not_entailment": "no"},
        names=("sentence", "question"),
    ),
    "stsb": TextSet(
        dict(zip(STEPS, STEPS, strict=True)),
        "The similarity from 0 to 5 is",
        names=("sentence1", "sentence2"),
        build=stsb,
    ),
    "boolq": _yes_no(
        *("The answer is", "passage", "question"),
        names=("passage", "question"),
        tfds="super_glue/boolq",
    ),
    "wic": _yes_no(
        *("Does the word have the same meaning in both?", "sentence1", "sentence2"),
        word="word",
        tfds="super_glue/wic",
    ),
    "multirc": _yes_no(
        *("Is the answer right?", "paragraph", "question"),
        joined="answer",
        tfds="super_glue/multirc",
    ),
    "wsc": _yes_no("Is this right?", build=wsc, tfds="super_glue/wsc.fixed"),
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
    build, tfds = texts.build or TextRow(name, texts), texts.tfds or f"glue/{name}"
    return {
        split: LocalOrTfds(
            RecordFile(names, build, texts.columns, broken=texts.broken),
            TfdsRecords(tfds, "train" if split == "train" else texts.tfds_held_out, build),
        )
        for split, names in (texts.files or _tsv(name)).items()
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
    folders = {"train": "train", "validation": "test", "test": "test"}
    tasks.register_records(
        "imdb",
        kind="labelled_text",
        splits={split: ImdbFolder(folder) for split, folder in folders.items()},
        phrase="The sentiment is",
        labels=("negative", "positive"),
        related=SENTIMENT_WORDS,
    )
