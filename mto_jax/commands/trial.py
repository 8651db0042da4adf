# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""mto try: type a head, a question or a text and see what a model answers under every template.

mto try --gin.MODEL_DIR=runs/a
mto try --gin.MODEL_DIR=runs/a --relation=xIntent
mto try --gin.MODEL_DIR=runs/a --task=commonsenseqa
echo "PersonX runs" | mto try --gin.MODEL_DIR=runs/a --relation=xWant
"""

import argparse
import dataclasses
import sys
from typing import Any

import gin
import numpy as np
import rich.console
import rich.table
import rich.text

from mto_jax import checkpoints, checks, errors
from mto_jax.checkpoints.trained import adopt
from mto_jax.console import wide
from mto_jax.decoding import scoring
from mto_jax.decoding.generation import Decoding
from mto_jax.evaluation.evaluator import choice_ids, predict
from mto_jax.text2text import phrases, queries, record_sets, records, templates, tokenising
from mto_jax.text2text.answers import answer, slots
from mto_jax.text2text.task import example
from mto_jax.text2text.templates import Template, Wording
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training.performance import use_compilation_cache

HELP = """Type one {form} a line and see the answer under every template of the kind '{kind}'.
relation NAME   go on with another relation of ATOMIC, for example: relation xNeed
help            this text
an empty line, Ctrl-D or Ctrl-C ends"""


@dataclasses.dataclass(frozen=True)
class Subject:
    """The kind of record to try: a typed line becomes a record like `model_record`."""

    model_record: records.Record
    wording: Wording
    examples: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of record, a key of `queries.FORMS`."""
        return records.KIND_NAMES[type(self.model_record)]


@dataclasses.dataclass(frozen=True)
class Answer:
    """Predictions of a model for one record under one template.

    Attributes:
      predictions: best first.
      log_likelihood: of the first prediction.
      ranked: the likeliest of the allowed answers and its probability among them; None where any
        text is allowed.
    """

    template: Template
    source: str
    predictions: list[str]
    log_likelihood: float
    ranked: tuple[str, float] | None


GIN_FILE = "runs/try.gin"  # where the user names none


def add_flags(parser: argparse._ActionsContainer) -> None:
    """The flags of `mto try` besides gin's."""
    parser.add_argument("--relation", metavar="NAME", help="a relation of ATOMIC-2020: xIntent")
    parser.add_argument(
        "--task", metavar="NAME", help="a data set without its template: commonsenseqa"
    )


@gin.configurable
def trial(
    *,
    model_dir: checks.Place,
    relation: str | None = None,
    task: str | None = None,
    module: str | None = None,
    checkpoint: str | checks.Natural = "best",
    decoding: Decoding | None = None,
) -> None:
    """Answer the lines that are typed (or piped in) until an empty one, the end of input or Ctrl-C.

    Templates with a soft prompt are shown if the model has rows for it.

    Args:
      model_dir: a run directory, one step folder of it, or any other checkpoint
        (`checkpoints.open`).
      relation: a relation of ATOMIC-2020, whose phrase needs no data. Give this or `task`, or
        neither for a run that was trained on a task.
      task: a registered data set of any kind, without a template; a few of its records are read to
        learn its kind and its words.
      module: module(s) that register your own tasks, comma-separated; by default those of the
        run's training.
      checkpoint: of a run directory: "best", "newest" or the number of a step.
      decoding: how to decode; by default `Decoding()` as gin has it.

    Raises:
      UserError: no such checkpoint, relation or task, or another vocabulary than the model's. What
        is wrong with a typed line is printed, and the next is asked for.
    """
    checks.check(trial, locals())
    use_compilation_cache()
    opened = checkpoints.open(model_dir, checkpoint)
    known = adopt(opened)
    if task is None and relation is None:
        task = known.data_set
    if relation is not None and task is None:
        subject = of_relation(relation)
    elif task is not None and relation is None:
        subject = of_task(task, module or known.module)
    else:
        raise errors.UserError(
            "Give either a relation of ATOMIC (--relation=xIntent) or a data set "
            "(--task=commonsenseqa); only a run that was trained on one task knows it itself."
        )
    vocabulary = opened.adopt_vocabulary()
    model = opened.model(vocabulary)
    decoding = decoding or Decoding()

    console = wide(highlight=False)
    if sys.stdin.isatty():
        console.print(introduction(subject), markup=False, soft_wrap=True)
    try:
        while line := _read(subject):
            try:
                if line.startswith("relation "):
                    subject = of_relation(line.removeprefix("relation ").strip())
                    line = "help"
                if line == "help":
                    console.print(introduction(subject), markup=False, soft_wrap=True)
                    continue
                record = queries.of_line(line, subject.model_record)
                with rich.console.Console(stderr=True).status("decoding"):
                    answers = answer_all(model, record, subject.wording, decoding, vocabulary)
                console.print(table(line, answers))
            except errors.UserError as error:
                console.print(f"error: {errors.message(error)}", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print()


def of_relation(relation: str) -> Subject:
    """A relation of ATOMIC-2020 with the phrase that gin chooses.

    Raises:
      UserError: there is no such relation.
    """
    phrase = phrases.relation_phrase(relation)
    return Subject(records.Triple(relation, relation, "head", ("tail",)), Wording(phrase))


def of_task(task: str, module: str | None = None) -> Subject:
    """A registered data set, with some lines of its validation split as examples.

    Raises:
      UserError: there is no such data set, or its files cannot be read.
    """
    (few,) = record_sets.read([record_sets.Wanted(task, "validation", 3)], module)
    return Subject(few.records[0], few.wording, tuple(map(line_of, few.records)))


def line_of(record: records.Record) -> str:
    """Returns a record as it would be typed, without its answer: what `queries.of_line` reads."""
    match record:
        case records.MultipleChoice():
            asked = " ".join(filter(None, (record.fact, record.context, record.question)))
            return " | ".join((asked, *record.choices))
        case records.LabelledText(text=text, text2=text2):
            return f"{text} | {text2}" if text2 else text
    return record.head


def applicable(kind: str, wording: Wording, prompt_rows: int) -> list[Template]:
    """Returns the templates of a kind for which so many rows of soft prompt suffice."""
    soft = tokenising.SoftPrompt()
    return [
        template
        for template in templates.templates_for(kind, wording)
        if soft.needs(template) <= prompt_rows
    ]


def answer_all(
    model: Any,
    record: records.Record,
    wording: Wording,
    decoding: Decoding,
    vocabulary: Vocabulary,
) -> list[Answer]:
    """Returns the model's answers to a record under every template, decoded as one batch."""
    kind = records.KIND_NAMES[type(record)]
    applied = applicable(kind, wording, model.adapters.prompt_rows)
    examples = [example(template, record, wording, vocabulary) for template in applied]
    outputs = predict(model, examples, vocabulary, decoding, batch_size=len(examples))
    ranked = _rank(model, examples, record, wording, vocabulary)
    return [
        Answer(
            template,
            row["inputs_pretokenized"],
            [
                answer(vocabulary.decode(output.tokens), slots(row["targets_pretokenized"]))
                for output in candidates
            ],
            candidates[0].log_likelihood,
            best,
        )
        for template, row, candidates, best in zip(applied, examples, outputs, ranked, strict=True)
    ]


def _rank(model, examples, record, wording, vocabulary) -> list[tuple[str, float] | None]:
    """Returns the likeliest allowed answer of each example, and its share of the probability."""
    names = record.choices if isinstance(record, records.MultipleChoice) else wording.labels
    if not names:
        return [None] * len(examples)
    inputs, choices = [row["inputs"] for row in examples], choice_ids(examples, vocabulary)
    scored = scoring.score_choices(model, inputs, choices, vocabulary, batch_size=len(inputs))
    likelihoods = [np.exp(sums - sums.max()) for sums, _ in scored]
    return [(names[int(p.argmax())], float(p.max() / p.sum())) for p in likelihoods]


def table(title: str, answers: list[Answer]) -> rich.table.Table:
    """The answers side by side; typed and decoded text is shown as it is, never read as markup."""
    result = rich.table.Table(title=rich.text.Text(title), title_justify="left", show_lines=True)
    result.add_column("template and source", overflow="fold", ratio=3)
    result.add_column("answer", overflow="fold", ratio=2)
    result.add_column("log-\nlikelihood", justify="right")
    ranked = any(row.ranked for row in answers)
    if ranked:
        result.add_column("likeliest of\nthe allowed", overflow="fold", ratio=1)
    for row in answers:
        cells = [
            rich.text.Text(f"{row.template.name}\n").append(row.source, style="dim"),
            rich.text.Text("\n".join(row.predictions), style="bold"),
            f"{row.log_likelihood:.2f}",
        ]
        if ranked:
            best, probability = row.ranked or ("", 0.0)
            cells.append(rich.text.Text(f"{best} ({probability:.0%})" if best else ""))
        result.add_row(*cells)
    return result


def introduction(subject: Subject) -> str:
    """Returns the help: what can be typed, and some lines of the data set."""
    lines = [HELP.format(form=queries.FORMS[subject.kind], kind=subject.kind)]
    return "\n".join([*lines, *(f"for example     {example}" for example in subject.examples)])


def _read(subject: Subject) -> str:
    """The next line, "" at the end; a prompt is shown to a person alone."""
    prompt = ""
    if sys.stdin.isatty():
        import readline  # noqa: F401  (gives `input` a history and editing)

        prompt = f"\n{subject.model_record.task}: {queries.FORMS[subject.kind]}> "
    try:
        return input(prompt).strip()
    except EOFError:
        return ""
    except UnicodeDecodeError as error:
        raise errors.UserError(f"What was typed is not valid UTF-8 ({error}).") from error
