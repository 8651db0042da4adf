# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""mto infer: predict for the rows of a file or the lines of standard input; writes JSONL in order.

mto infer --gin.MODEL_DIR=runs/uses --input_file=heads.tsv --output_file=answers.jsonl
echo "xIntent: runs <extra_id_0>" | mto infer --gin.MODEL_DIR=hf://google/flan-t5-small

Each row is put into the task and template that the model was trained with, or --task and
--template: a .tsv, .csv or .jsonl file has the columns of the data set (no answers are needed), any
other file and standard input have a head, a question with its choices or a text a line, as `mto
try` takes them. Where no task is known, a line is the whole source as the model is to read it, and
a table has it in the column "input". All columns are carried over. A job on a file that was killed
resumes where it stopped when it is started again.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gin

from mto_jax import checkpoints, checks, errors, peers, remote
from mto_jax.checkpoints.trained import adopt
from mto_jax.console import progress_bar
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.decoding.inputs import Input, Rendering, read
from mto_jax.decoding.inputs import inputs as inputs_of
from mto_jax.decoding.model import Model
from mto_jax.files import digest, file_digest, only_writer, read_record, write_record
from mto_jax.text2text import tokenising
from mto_jax.text2text.answers import answer
from mto_jax.text2text.vocabulary import listed
from mto_jax.training.performance import use_compilation_cache

# Inputs are decoded by length within a chunk, and a chunk is what a killed job loses at most.
_BATCHES_PER_CHUNK = 16


GIN_FILE = "runs/infer.gin"  # where the user names none


def add_flags(parser: argparse._ActionsContainer) -> None:
    """The flags of `mto infer` besides gin's."""
    parser.add_argument(
        "--input_file",
        metavar="FILE",
        help="text, or .tsv, .csv, .jsonl (also .gz); standard input by default",
    )
    parser.add_argument(
        "--output_file", metavar="FILE", help="JSONL to write; standard output by default"
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="the data set whose inputs these are, without a template; by default that of "
        "training; 'none': inputs are whole sources",
    )
    parser.add_argument(
        "--template", metavar="NAME", help="MaskedPrompting, ...; that of training by default"
    )


@gin.configurable
def infer(
    *,
    model_dir: checks.Place,
    input_file: checks.Name = "-",
    output_file: checks.Name = "-",
    task: str | None = None,
    template: str | None = None,
    fields: Mapping[str, str | Sequence[str]] | None = None,
    module: str | None = None,
    checkpoint: str | checks.Natural = "best",
    decoding: Decoding | None = None,
    batch_size: checks.Count = 32,
    input_length: checks.Count = 512,
) -> None:
    """Write a JSON object for every input: its columns, prediction and log-likelihood.

    With a task, "model_input" is what its template made of the row. With `Decoding.num_outputs`
    above 1 the field "predictions" lists all of them, best first. Without a task, `<prompt>` and
    `<shared_prompt>` in an input are the rows of the model's soft prompt, as gin's `SoftPrompt`
    says: "xIntent: <prompt> PersonX runs", as the templates have it. While a job runs, its rows are
    in OUTPUT_FILE.part; OUTPUT_FILE appears when all are there. On several hosts each process
    decodes a part of the inputs, and the first writes.

    Args:
      model_dir: a run directory, one step folder of it, or any other checkpoint
        (`checkpoints.open`).
      input_file: .tsv, .csv or .jsonl with a row an input, or text with a line an input (each also
        as .gz); "-" is standard input (one a line).
      output_file: "-" is standard output.
      task: a registered data set without a template; its records are made of the rows. None means
        that of the checkpoint's training, unless the first row is a source already (it begins with
        the task's name and a colon, or has a sentinel or soft prompt); "none": rows are sources.
      template: of the task; None means that of the checkpoint's training, or of the mapping.
      fields: {field: column} of a table whose columns are not called like those of the data set:
        {"head": "tool"}, {"question": "q", "choices": ("a", "b")}.
      module: module(s) that register your own tasks, comma-separated; None means those of the
        checkpoint's training.
      checkpoint: of a run directory: "best", "newest" or the number of a step.
      decoding: how to decode; by default `Decoding()` as gin has it.
      batch_size: inputs at once.
      input_length: tokens of an input, EOS included; longer ones are cut, and counted: at their
        end, or, with a task, as in training, where their longest free field ends.

    Raises:
      UserError: no such checkpoint, task, template or file, an empty file, a row without the
        columns of the task (or "input") or without a text there, with a column of the output, or
        that is no text (file and line are named), another vocabulary than the model's, more soft
        tokens than rows; an output that is the input or no file, that another process writes, or
        that has not as many rows as there are inputs in the end.
    """
    checks.check(infer, locals())
    use_compilation_cache()
    decoding = decoding or Decoding()
    if input_file == "-" and peers.count() > 1:
        raise errors.UserError(
            "Standard input reaches one process alone: several read a file, --input_file=FILE."
        )
    input_file, output_file = (str(remote.local(file)) for file in (input_file, output_file))
    check_output(output_file, input_file)
    opened = checkpoints.open(model_dir, checkpoint)
    known, model = adopt(opened), Model.of(opened)
    rows = read(input_file)
    if task is None and (template or fields):
        task = known.data_set
    if task in (None, "none") and (template or fields):
        raise errors.UserError("A template and fields are those of a task: pass --task=NAME, too.")
    if task is None:
        first = next(rows, None)
        rendering = Rendering.of_training(opened, first)
        rows = itertools.chain([] if first is None else [first], rows)
    else:
        rendering = None
        if task != "none":
            rendering = Rendering.of(task, template, fields, module, opened)
            print(f"each row is read as {task} under {rendering.template.name}", file=sys.stderr)
    # A whole file is read once before any work, so that a bad row is found now and not in an hour.
    total = None
    if input_file != "-":
        total = sum(1 for _ in inputs_of(rows, rendering))
        rows = read(input_file)
    vocabulary, prompt_rows = model.vocabulary, model.network.adapters.prompt_rows
    if rendering is not None:
        rendering.check_rows(prompt_rows)
    cut = prompted = unknown = 0
    lacking: dict[str, None] = {}

    def predict(inputs: list[Input], first_index: int, advance: Callable[[int], None]):
        nonlocal cut, prompted, unknown
        sources = []
        for entry in inputs:
            if rendering is None:
                ids = model.encode(entry.source)
                cut += len(vocabulary.source(ids)) > input_length
                ids = vocabulary.source(ids, input_length)
            else:
                ids, was_cut = rendering.tokenise(entry, vocabulary, input_length)
                cut += was_cut
            prompted += max(ids) >= vocabulary.soft_id(0)
            if vocabulary.unk_id in ids:
                unknown += 1
                lacking.update(dict.fromkeys(vocabulary.lacks(entry.source)))
            sources.append(ids)

        def decode_part(part: Sequence[list[int]], first: int):
            return decode(
                model.network,
                part,
                decoding,
                vocabulary,
                soft_prefix=model.soft_prefix,
                batch_size=batch_size,
                first_index=first_index + first,
                progress=lambda count: advance(count * peers.count()),
            )

        outputs = peers.over(sources, decode_part)
        for entry, candidates in zip(inputs, outputs, strict=True):
            raw = [vocabulary.decode(output.tokens) for output in candidates]
            answers = [answer(text, entry.slots) for text in raw]
            row = {
                **entry.row,
                **({} if rendering is None else {"model_input": entry.source}),
                "prediction": answers[0],
                "raw_prediction": raw[0],
                "log_likelihood": candidates[0].log_likelihood,
            }
            yield row | ({"predictions": answers} if decoding.num_outputs > 1 else {})

    job = {
        "input": input_file if input_file == "-" else file_digest(input_file),
        "checkpoint": model.digest,
        "decoding": dataclasses.asdict(decoding),
        "input_length": input_length,
        "soft_prompt": dataclasses.asdict(tokenising.SoftPrompt()),
        "rendering": rendering and rendering.as_dict(),
    }
    writes = peers.index() == 0
    alone = only_writer(output_file) if writes and output_file != "-" else contextlib.nullcontext()
    with (
        alone,
        _Output(output_file if writes else os.devnull, job) as output,
        progress_bar("infer", total) as advance,
    ):
        index = peers.of_first(output.done)
        advance(index)
        inputs = itertools.islice(inputs_of(rows, rendering), index, None)
        size = batch_size * _BATCHES_PER_CHUNK * peers.count()
        while chunk := list(itertools.islice(inputs, size)):
            output.append(predict(chunk, index, advance))
            index += len(chunk)
        if writes:
            output.check(index if total is None else total)
    if index == 0:
        raise errors.UserError("Standard input is empty: it must hold one input a line.")
    if prompt_rows and not prompted:
        print("no input has <prompt>: the model's soft prompt was not used", file=sys.stderr)
    if unknown:
        print(
            f"{unknown} inputs have characters that the vocabulary lacks{listed(lacking)}",
            file=sys.stderr,
        )
    if cut:
        print(
            f"{cut} inputs were longer than infer.input_length={input_length} tokens and were cut",
            file=sys.stderr,
        )


def check_output(output_file: str, input_file: str) -> None:
    """Checks that writing an output file destroys nothing.

    Raises:
      UserError: it is the input, a folder, a device or a pipe, called like a table of another form,
        or its folder is not there.
    """
    path = pathlib.Path(output_file)
    if output_file == "-":
        return
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise errors.UserError(
            f"The output file {path} is {kind}: name a file, or '-' for standard output."
        )
    both = path.exists() and input_file != "-" and os.path.exists(input_file)
    if both and path.samefile(input_file):
        raise errors.UserError(
            f"The output file {path} is the input file: its lines would be lost. Name another."
        )
    if path.suffix in (".tsv", ".csv"):
        raise errors.UserError(f"The output is JSONL: call the output file {path.stem}.jsonl.")
    if not path.resolve().parent.is_dir():
        raise errors.UserError(f"There is no folder {path.resolve().parent} for {path}: make it.")


class _Output:
    """Rows that are appended chunk by chunk and survive a kill.

    A file, standard output for "-", or os.devnull, which keeps none.

    Attributes:
      done: rows that an earlier start of the same job has left.
    """

    def __init__(self, path: str, job: Mapping[str, Any]):
        self.done = 0
        if path in ("-", os.devnull):
            self._path, self._file = None, sys.stdout.buffer if path == "-" else None
            return
        self._path = pathlib.Path(path).resolve()  # a link's target
        self._part = self._path.with_name(f"{self._path.name}.part")
        self._job = self._path.with_name(f"{self._path.name}.part.json")
        self._description = job
        self._digest = hashlib.sha256()
        rows = self._rows_before() if job["input"] != "-" else b""
        self._digest.update(rows)
        self.done = rows.count(b"\n")
        if rows:
            os.truncate(self._part, len(rows))  # a kill may leave half a chunk
            print(f"{self._part} has {self.done} rows of this job: going on", file=sys.stderr)
        else:
            for left in (self._part, self._job):
                left.unlink(missing_ok=True)
        self._size = len(rows)
        self._file = self._part.open("ab")

    def _rows_before(self) -> bytes:
        """Returns the rows of an earlier start of this job, as far as they are whole."""
        if not self._part.exists() or not self._job.exists():
            return b""
        try:
            record = read_record(self._job)
        except errors.UserError as error:
            print(f"{error}. The rows are computed again.", file=sys.stderr)
            return b""
        if record["job"] != json.loads(json.dumps(self._description)):
            return b""
        rows = self._part.read_bytes()[: record["size"]]
        if digest(rows) != record["rows"]:
            print(f"{self._part} is damaged. Its rows are computed again.", file=sys.stderr)
            return b""
        return rows

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a chunk of rows; they are on the disk when this returns."""
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        if self._file is None:
            return
        try:
            self._file.write(content)
            self._file.flush()
            if self._path is not None:
                os.fsync(self._file.fileno())
                self._digest.update(content)
                self._size += len(content)
                there = {"size": self._size, "rows": self._digest.hexdigest()}
                write_record(self._job, {"job": self._description, **there})
        except OSError as error:
            if self._path is None:
                raise
            raise errors.UserError(
                f"{self._part} cannot be written: {error.strerror}. The same command goes on from "
                "its last whole row."
            ) from error

    def check(self, count: int) -> None:
        """Raises a `UserError` unless there are `count` rows."""
        if self._path is None:
            return
        with self._part.open("rb") as file:
            rows = sum(1 for _ in file)
        if rows != count:
            raise errors.UserError(
                f"{self._part} has {rows} rows for {count} inputs: the input has changed, or "
                "something else writes there. Remove it and start again."
            )

    def __enter__(self) -> "_Output":
        return self

    def __exit__(self, kind, value, trace) -> None:
        if self._path is None or self._file is None:
            return
        with contextlib.suppress(OSError):  # of a full disk, which was said
            self._file.close()
        if kind is None:
            os.replace(self._part, self._path)
            self._job.unlink(missing_ok=True)
