# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Multiple-choice questions.

CommonsenseQA (1 and 2), OpenBookQA, PIQA, SocialIQA, COPA, WinoGrande, ReCoRD, HellaSwag, ARC,
StrategyQA.

Local files lie in MTO_DATA_DIR, in the format of their authors; what has a TFDS name comes from
there when there is no file. Where the labels of the test set are hidden, "test" is the validation
set.
"""

import dataclasses

from mto_jax.text2text import registration as tasks
from mto_jax.text2text.readers import MultipleChoiceRow, RecordFile, Row, answer_number, cell, cells
from mto_jax.text2text.records import MultipleChoice
from mto_jax.text2text.tfds import LocalOrTfds, TfdsRecords

Files = dict[str, RecordFile]
YES_NO = ("yes", "no")


@dataclasses.dataclass(frozen=True)
class LabelledChoices:
    """A question with labelled choices and an "answerKey": CommonsenseQA, OpenBookQA, ARC.

    The authors write {"question": {"stem": ..., "choices": [{"label": ..., "text": ...}, ...]},
    ...}. Other copies have the question as a text and, beside it, {"choices": {"label": [...],
    "text": [...]}}.
    """

    task: str
    with_fact: bool = False

    def __call__(self, row: Row) -> MultipleChoice:
        nested = row["question"] if isinstance(row.get("question"), dict) else row
        names = ("stem", "question_stem", "question")  # of the authors, the hub, TFDS
        question = cell(nested, "question", next((n for n in names if n in nested), names[0]))
        labels, texts = zip(*_labelled(nested), strict=True)
        key = cell(row, "answer", "answerKey")
        answer = labels.index(key) if key in labels else answer_number(key, texts)
        fact = cell(row, "fact", "fact1") if self.with_fact else ""
        return MultipleChoice(self.task, question, texts, answer, fact=fact)


def _labelled(row: Row) -> list[tuple[str, str]]:
    """(label, text) of every choice."""
    choices = row.get("choices")
    if choices is None:  # TFDS has choice_A, choice_B, ...
        columns = [column for column in row if "choice_" in column]
        return [(c.removeprefix("choice_"), cell(row, "choices", c)) for c in columns]
    if isinstance(choices, dict):
        labels, texts = (cells(choices, "choices", column) for column in ("label", "text"))
        return list(zip(labels, texts, strict=True))
    return [(cell(c, "choices", "label"), cell(c, "choices", "text")) for c in choices]


@dataclasses.dataclass(frozen=True)
class YesNo:
    """A statement or question whose answer is yes or no, or true or false."""

    task: str

    def __call__(self, row: Row) -> MultipleChoice:
        if isinstance(row.get("answer"), bool):
            row = row | {"answer": "yes" if row["answer"] else "no"}
        answer = answer_number(cell(row, "answer", "answer"), YES_NO, kinds=("text",))
        return MultipleChoice(self.task, cell(row, "question", "question"), YES_NO, answer)


@dataclasses.dataclass(frozen=True)
class Arc:
    """A question of ARC: with labelled choices, or {"query", "choices", "gold": number from 0}."""

    task: str

    def __call__(self, row: Row) -> MultipleChoice:
        if "gold" not in row:
            return LabelledChoices(self.task)(row)
        row = row | {"query": cell(row, "question", "query").removeprefix("Question:")}
        return MultipleChoiceRow(self.task, "query", answer="gold", answer_is="number")(row)


def hellaswag(row: Row) -> MultipleChoice:
    """The beginning of a text and four ways to go on."""
    column = "ctx" if "ctx" in row else "context"  # TFDS
    return MultipleChoiceRow("hellaswag", column, "endings", "label", answer_is="number")(row)


def copa(row: Row) -> MultipleChoice | None:
    """A premise and two alternatives, one of which is its cause or its effect."""
    if "label" not in row:  # SuperGLUE's test set
        return None
    asked = {"cause": "What was the cause?", "effect": "What happened as a result?"}
    # TFDS names the classes "choice1" and "choice2", the files number them from 0.
    label = {"choice1": 0, "choice2": 1}.get(row["label"], row["label"])
    row = row | {"question": asked[cell(row, "question", "question")], "label": label}
    columns = ("choice1", "choice2")
    build = MultipleChoiceRow("copa", choices=columns, answer="label", context="premise")
    return dataclasses.replace(build, answer_is="number")(row)


def record(row: Row) -> MultipleChoice | None:
    """ReCoRD: which entity of the passage is @placeholder; the first accepted answer counts."""
    entities = tuple(dict.fromkeys(cells(row, "choices", "entities")))
    answers = [answer for answer in cells(row, "answer", "answers") if answer in entities]
    if not answers:
        return None
    passage = cell(row, "context", "passage").replace("\n@highlight\n", " ")
    question, number = cell(row, "question", "query"), entities.index(answers[0])
    return MultipleChoice("record", question, entities, number, context=passage)


_PIQA = MultipleChoiceRow("piqa", "goal", ("sol1", "sol2"), "label", answer_is="number")
_SOCIAL = MultipleChoiceRow(
    "socialiqa",
    choices=("answerA", "answerB", "answerC"),
    answer="label",
    first_answer=1,
    context="context",
    answer_is="number",
)
_WINOGRANDE = MultipleChoiceRow(
    "winogrande",
    question="sentence",
    choices=("option1", "option2"),
    first_answer=1,
    answer_is="number",
)


def _splits(folder: str, build, train: str, validation: str, test: str = "") -> Files:
    """Readers of the three splits, each of file names between spaces: the first there is read."""
    chosen = {"train": train, "validation": validation, "test": test or validation}
    return {
        split: RecordFile(tuple(f"{folder}/{name}" for name in names.split()), build)
        for split, names in chosen.items()
    }


def _labelled_beside(splits: Files, train: str, held_out: str) -> Files:
    """Returns the readers with the labels in a file of their own where the user has one."""
    labels = {"train": train, "validation": held_out, "test": held_out}
    return {
        split: dataclasses.replace(file, beside=("label", (labels[split],)))
        for split, file in splits.items()
    }


def _or_tfds(splits: Files, name: str, test: str = "validation") -> dict[str, LocalOrTfds]:
    remote = {"train": "train", "validation": "validation", "test": test}
    return {
        split: LocalOrTfds(file, TfdsRecords(name, remote[split], file.build))
        for split, file in splits.items()
    }


def _arc(part: str) -> dict[str, LocalOrTfds]:
    """A part of ARC, easy or challenge; without a development file the test set stands in."""
    official, test = f"ARC-{part.title()}", f"{part}_test.jsonl"
    files = _splits(
        "arc",
        Arc(f"arc_{part}"),
        f"{official}-Train.jsonl {part}_train.jsonl {part}_train_part.jsonl",
        f"{official}-Dev.jsonl {part}_dev.jsonl {test}",
        f"{official}-Test.jsonl {test}",
    )
    return _or_tfds(files, f"ai2_arc/{official}", test="test")


_BOOK, _BOOK_FACT = (LabelledChoices("openbookqa", with_fact) for with_fact in (False, True))
_CSQA, _CSQA2 = LabelledChoices("commonsenseqa"), YesNo("commonsenseqa2")
_STRATEGY = RecordFile(
    ("strategyqa/strategyqa_train.json", "strategyqa/train.jsonl", "strategyqa/train_part.jsonl"),
    YesNo("strategyqa"),
)

SETS = {
    "commonsenseqa": _splits(
        "commonsenseqa", _CSQA, "train_rand_split.jsonl", "dev_rand_split.jsonl"
    ),
    "commonsenseqa2": _splits(
        "commonsenseqa2",
        _CSQA2,
        "CSQA2_train.json CSQA2_train.json.gz",
        "CSQA2_dev.json CSQA2_dev.json.gz",
    ),
    "openbookqa": _or_tfds(
        _splits("openbookqa", _BOOK, "train.jsonl", "dev.jsonl", "test.jsonl"),
        "openbookqa",
        test="test",
    ),
    "openbookqa_fact": _splits(
        "openbookqa",
        _BOOK_FACT,
        "train_complete.jsonl",
        "dev_complete.jsonl",
        "test_complete.jsonl",
    ),
    "piqa": _or_tfds(
        _labelled_beside(
            _splits("piqa", _PIQA, "train.jsonl train_part.jsonl", "valid.jsonl"),
            "piqa/train-labels.lst",
            "piqa/valid-labels.lst",
        ),
        "piqa",
    ),
    "socialiqa": _labelled_beside(
        _splits("socialiqa", _SOCIAL, "train.jsonl train_sample.jsonl", "dev.jsonl"),
        "socialiqa/train-labels.lst",
        "socialiqa/dev-labels.lst",
    ),
    "copa": _or_tfds(
        _splits("copa", copa, "train.jsonl", "val.jsonl", "test.jsonl"), "super_glue/copa"
    ),
    "winogrande": _splits("winogrande", _WINOGRANDE, "train_xl.jsonl train_m.jsonl", "dev.jsonl"),
    "record": _or_tfds(_splits("record", record, "train.jsonl", "val.jsonl"), "super_glue/record"),
    "hellaswag": _or_tfds(
        _splits(
            "hellaswag",
            hellaswag,
            "hellaswag_train.jsonl train.jsonl",
            "hellaswag_val.jsonl val.jsonl val_sample.jsonl",
        ),
        "hellaswag",
    ),
    "arc_easy": _arc("easy"),
    "arc_challenge": _arc("challenge"),
    # Only the training questions have public answers: the heads divide them.
    "strategyqa": tasks.by_heads(_STRATEGY),
    # WinoGrande comes with training sets of several sizes.
    **{
        f"winogrande_{size}": _splits("winogrande", _WINOGRANDE, f"train_{size}.jsonl", "dev.jsonl")
        for size in ("xs", "s", "m")
    },
}


def register() -> None:
    """Registers all sets under all templates for questions; reads no file."""
    for name, splits in SETS.items():
        gap = "_" if name.startswith("winogrande") else ""
        tasks.register_records(name, kind="multiple_choice", splits=splits, gap=gap)
