# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The rows of a file as inputs of a model: as they are, or under the template of a task."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mto_jax import checkpoints, errors
from mto_jax.checkpoints.trained import trained
from mto_jax.text2text import queries, record_sets, registry, tables, templates, tokenising
from mto_jax.text2text.answers import slots
from mto_jax.text2text.mapping import mapping
from mto_jax.text2text.readers import MissingColumn
from mto_jax.text2text.records import Record
from mto_jax.text2text.tables import Row
from mto_jax.text2text.vocabulary import Vocabulary


class Line(NamedTuple):
    """A row of a file.

    Attributes:
      place: file and line, for messages.
      row: its columns; {"input": text} of a line of text.
      table: whether it is a row of a table.
    """

    place: str
    row: Row
    table: bool


@dataclasses.dataclass(frozen=True)
class Input:
    """A row of the input file.

    Attributes:
      row: its columns.
      source: the text that the model reads.
      rendered: its record under the template of a task; None without a task.
    """

    row: Mapping[str, Any]
    source: str
    rendered: templates.Rendered | None = None

    @property
    def slots(self) -> int:
        """How many answers the template asks for."""
        return slots(self.rendered.target_text) if self.rendered else 1


@dataclasses.dataclass(frozen=True)
class Rendering:
    """A task under a template, which rows become inputs of.

    Attributes:
      model_record: a record of the task.
      columns: of its fields, see `queries.columns`.
      wording: of its templates.
      template: the template.
    """

    model_record: Record
    columns: queries.Columns
    wording: templates.Wording
    template: templates.Template

    @classmethod
    def of(
        cls,
        task: str,
        template: str | None,
        fields: Mapping[str, Any] | None,
        module: str | None,
        checkpoint: checkpoints.Checkpoint,
    ) -> "Rendering":
        """Returns the task that a user names, under a template or that of a checkpoint's training.

        Raises:
          UserError: no such task or template, or the checkpoint does not know its template.
        """
        known = trained(checkpoint)
        few = _few(task, module or known.module)
        fitting = {t.name: t for t in templates.templates_for(few.kind, few.wording)}
        if template is None:
            chosen = known.template([*fitting.values()])
            if chosen is None and (choice := mapping().get(task)):
                chosen = fitting.get(choice.template)
            if chosen is None:
                raise errors.UserError(
                    f"{checkpoint.title} does not say which template it was trained with: pass "
                    f"--template, one of {', '.join(fitting)}. (`mto try` shows the answers under "
                    "each.)"
                )
        elif template in fitting:
            chosen = fitting[template]
        else:
            raise errors.unknown(f"template of {task} called", template, fitting)
        columns = queries.columns(record_sets.data_set(task), fields)
        return cls(few.records[0], columns, few.wording, chosen)

    @classmethod
    def of_training(
        cls, checkpoint: checkpoints.Checkpoint, first: Line | None
    ) -> "Rendering | None":
        """Returns task and template of a checkpoint's training, if the first row wants them.

        What is done is said on standard error; None where nothing is known or to be done.
        """
        known = trained(checkpoint)
        if known.data_set is None or first is None:
            return None
        try:
            rendering = cls.of(known.data_set, None, None, None, checkpoint)
        except errors.UserError as error:
            print(
                f"warning: inputs are taken as they are, not as {known.task}, which "
                f"{checkpoint.title} was trained on: {error}",
                file=sys.stderr,
            )
            return None
        if not rendering.fits(first):
            return None
        print(
            f"each row is read as {known.data_set} under {rendering.template.name}, which "
            f"{checkpoint.title} was trained on; --task=none takes inputs as they are",
            file=sys.stderr,
        )
        return rendering

    def check_rows(self, rows: int) -> None:
        """Raises a UserError unless a prompt of so many rows is what the template needs."""
        needed = tokenising.SoftPrompt().needs(self.template)
        if needed > rows:
            raise errors.UserError(
                f"The template {self.template.name} wants {needed} rows of a soft prompt, but the "
                f"model has {rows}. Take another template, or set SoftPrompt.length as in training."
            )

    def input(self, line: Line) -> Input:
        """Returns the input of a row.

        Raises:
          UserError: it does not have the fields of the task.
        """
        if line.table:
            record = queries.of_row(line.row, self.model_record, self.columns)
        else:
            record = queries.of_line(line.row["input"], self.model_record)
        rendered = templates.render(self.template, record, self.wording)
        return Input(line.row, rendered.source_text, rendered)

    def fits(self, line: Line) -> bool:
        """Returns whether a row is to be rendered: it is no source already, and has the columns."""
        text = line.row.get("input")
        if isinstance(text, str) and (
            text.startswith(f"{self.model_record.task}:")
            or "<extra_id_0>" in text
            or "<prompt>" in text
        ):
            return False
        try:
            self.input(line)
        except MissingColumn:
            return "input" not in line.row
        except errors.UserError:
            pass  # it is told with its place
        return True

    def tokenise(self, entry: Input, vocabulary: Vocabulary, length: int) -> tuple[list[int], bool]:
        """Returns the ids of an input, EOS included, and whether it was cut.

        Raises:
          UserError: it does not fit even when its free fields are shortened.
        """
        assert entry.rendered is not None
        soft = tokenising.SoftPrompt()
        try:
            tokens = tokenising.tokenise(entry.rendered, vocabulary, {"inputs": length}, soft=soft)
        except tokenising.TooLong as error:
            raise errors.UserError(
                f"The input {error.text[:200]!r} does not fit, even with its free fields "
                f"shortened: it needs infer.input_length = {error.needed}."
            ) from error
        return tokens.inputs, tokens.inputs_cut

    def as_dict(self) -> dict[str, Any]:
        """Returns what its inputs depend on, as JSON has it."""
        wording = dataclasses.asdict(self.wording)
        record = self.model_record.task, type(self.model_record).__name__
        return {
            "record": record,
            "columns": self.columns,
            "wording": wording,
            "template": self.template.name,
        }


_TABLES = (".tsv", ".csv", ".jsonl", ".json")
_OUTPUT = ("model_input", "prediction", "raw_prediction", "log_likelihood", "predictions")


def read(path: str) -> Iterator[Line]:
    """Yields the rows of a table, or {"input": line} of any other file; "-" is standard input.

    Raises:
      UserError: no such file, no row, or one that cannot be read; file and line are named.
    """
    name = "standard input" if path == "-" else path
    if path != "-" and not pathlib.Path(path).is_file():
        raise errors.UserError(f"There is no input file {path}. Check infer.input_file.")
    table = path.removesuffix(".gz").endswith(_TABLES)
    lines = ((number, {"input": line}) for number, line in tables.lines(path))
    for number, row in tables.rows(path) if table else lines:
        yield Line(f"{name}, line {number}", row, table)


def inputs(lines: Iterable[Line], rendering: Rendering | None) -> Iterator[Input]:
    """Yields the inputs in rows.

    Args:
      rendering: the task whose records the rows are; None takes the column "input" as it is.

    Raises:
      UserError: a row cannot be used; file and line are named.
    """
    for line in lines:
        try:
            yield _input(line, rendering)
        except errors.UserError as error:
            hint = ""
            if isinstance(error, MissingColumn):
                hint = " Name the right one with --gin.infer.fields=\"{'FIELD': 'COLUMN'}\"."
            raise errors.UserError(f"{line.place}: {error}{hint}") from error


def _input(line: Line, rendering: Rendering | None) -> Input:
    row = line.row
    if taken := [column for column in row if column in _OUTPUT]:
        raise errors.UserError(f"the column {taken[0]!r} is one of the output: rename it.")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise errors.UserError(
            "half of a surrogate pair (\\ud800 to \\udfff), which is no text."
        ) from error
    if rendering is not None:
        return rendering.input(line)
    if not isinstance(row.get("input"), str):
        raise errors.UserError(
            f'expected a text in the column "input", found {json.dumps(row)[:80]}. (With --task '
            "the columns are those of the data set.)"
        )
    return Input(row, row["input"])


def _few(task: str, module: str | None) -> record_sets.RecordSet:
    """Returns some records of a task."""
    registry.register_all(registry.module_names(module))
    split = next(iter(record_sets.data_set(task).readers))
    (few,) = record_sets.read([record_sets.Wanted(task, split, 1)])
    return few
