# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""mto infer: predict for every line of a file or of standard input; writes JSONL in the same order.

mto infer --gin_file=runs/infer.gin --gin.MODEL_DIR=runs/a \\
  --input_file=questions.txt --output_file=answers.jsonl
echo "xIntent: runs <extra_id_0>" | mto infer --gin_file=runs/infer.gin --gin.MODEL_DIR=runs/a

A file that ends in .jsonl holds objects with a field "input"; their other fields are carried over.
A job on a file that was killed resumes where it stopped when it is started again.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import gin

from mto_jax import checks, errors
from mto_jax.console import progress_bar
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.decoding.model import Model
from mto_jax.files import digest, file_digest, only_writer, read_record, write_record
from mto_jax.text2text import templates
from mto_jax.text2text.answers import answer
from mto_jax.text2text.vocabulary import listed
from mto_jax.training.performance import use_compilation_cache

# Inputs are decoded by length within a chunk, and a chunk is what a killed job loses at most.
_BATCHES_PER_CHUNK = 16


def add_flags(parser: argparse._ActionsContainer) -> None:
    """The flags of `mto infer` besides gin's."""
    parser.add_argument(
        "--input_file", metavar="FILE", help="text or .jsonl; standard input by default"
    )
    parser.add_argument(
        "--output_file", metavar="FILE", help="JSONL to write; standard output by default"
    )


@gin.configurable
def infer(
    *,
    model_dir: checks.Place,
    input_file: checks.Name = "-",
    output_file: checks.Name = "-",
    checkpoint: str | checks.Natural = "best",
    decoding: Decoding | None = None,
    batch_size: checks.Count = 32,
    input_length: checks.Count = 512,
) -> None:
    """Write a JSON object for every input: its fields, prediction and log-likelihood.

    `<prompt>` and `<shared_prompt>` in an input are the rows of the model's soft prompt, as gin's
    `SoftPrompt` says: "xIntent: <prompt> PersonX runs", as the templates have it. With
    `Decoding.num_outputs` above 1 the field "predictions" lists all of them, best first.
    While a job runs, its rows are in OUTPUT_FILE.part; OUTPUT_FILE appears when all are there.

    Args:
      model_dir: a run directory, one step folder of it, or any other checkpoint
        (`checkpoints.open`).
      input_file: one input a line, or .jsonl; "-" is standard input (one a line).
      output_file: "-" is standard output.
      checkpoint: of a run directory: "best", "newest" or the number of a step.
      decoding: how to decode; by default `Decoding()` as gin has it.
      batch_size: inputs at once.
      input_length: tokens of an input, EOS included; longer ones are cut at their end, and counted.

    Raises:
      UserError: no such checkpoint or file, an empty file, a line that is not UTF-8, not JSON or
        without "input" (file and line are named), another vocabulary than the model's, more soft
        tokens than rows; an output that is the input or no file, that another process writes, or
        that has not as many rows as there are inputs in the end.
    """
    checks.check(infer, locals())
    use_compilation_cache()
    decoding = decoding or Decoding()
    check_output(output_file, input_file)
    # A whole file is read once before any work, so that a bad line is found now and not in an hour.
    total = None if input_file == "-" else sum(1 for _ in read_inputs(input_file))
    if total == 0:
        raise errors.UserError(f"{input_file} is empty: it must hold one input a line.")
    model = Model.open(model_dir, checkpoint)
    vocabulary, rows = model.vocabulary, model.network.adapters.prompt_rows
    cut = prompted = unknown = 0
    lacking: dict[str, None] = {}

    def predict(records: list[dict], first_index: int, advance: Callable[[int], None]):
        nonlocal cut, prompted, unknown
        inputs = [model.encode(record["input"]) for record in records]
        prompted += sum(max(ids, default=0) >= vocabulary.soft_id(0) for ids in inputs)
        cut += sum(len(ids) >= input_length for ids in inputs)
        for record, ids in zip(records, inputs, strict=True):
            if vocabulary.unk_id in ids:
                unknown += 1
                lacking.update(dict.fromkeys(vocabulary.lacks(record["input"])))
        outputs = decode(
            model.network,
            [[*ids[: input_length - 1], vocabulary.eos_id] for ids in inputs],
            decoding,
            vocabulary,
            soft_prefix=model.soft_prefix,
            batch_size=batch_size,
            first_index=first_index,
            progress=advance,
        )
        for record, candidates in zip(records, outputs, strict=True):
            raw = [vocabulary.decode(output.tokens) for output in candidates]
            row = {
                **record,
                "prediction": answer(raw[0]),
                "raw_prediction": raw[0],
                "log_likelihood": candidates[0].log_likelihood,
            }
            yield row | ({"predictions": [*map(answer, raw)]} if decoding.num_outputs > 1 else {})

    job = {
        "input": input_file if input_file == "-" else file_digest(input_file),
        "checkpoint": model.digest,
        "decoding": dataclasses.asdict(decoding),
        "input_length": input_length,
        "soft_prompt": dataclasses.asdict(templates.SoftPrompt()),
    }
    alone = contextlib.nullcontext() if output_file == "-" else only_writer(output_file)
    with (
        alone,
        _Output(output_file, job) as output,
        progress_bar("infer", total) as advance,
    ):
        advance(output.done)
        index = output.done
        records = itertools.islice(read_inputs(input_file), index, None)
        while chunk := list(itertools.islice(records, batch_size * _BATCHES_PER_CHUNK)):
            output.append(predict(chunk, index, advance))
            index += len(chunk)
        output.check(index if total is None else total)
    if index == 0:
        raise errors.UserError("Standard input is empty: it must hold one input a line.")
    if rows and not prompted:
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
      UserError: it is the input, a folder, a device or a pipe, or its folder is not there.
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
    if not path.resolve().parent.is_dir():
        raise errors.UserError(f"There is no folder {path.resolve().parent} for {path}: make it.")


def read_inputs(path: str) -> Iterator[dict[str, Any]]:
    """Yields {"input": line} of a file ("-": standard input), or the objects of a .jsonl file.

    Raises:
      UserError: no such file, or a line that cannot be used; file and line are named.
    """
    if path == "-":
        yield from _records(sys.stdin.buffer, "standard input", jsonl=False)
        return
    if not pathlib.Path(path).is_file():
        raise errors.UserError(f"There is no input file {path}. Check infer.input_file.")
    with open(path, "rb") as file:
        yield from _records(file, path, jsonl=path.endswith(".jsonl"))


def _records(file: BinaryIO, name: str, jsonl: bool) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        place = f"{name}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise errors.UserError(
                f"{place} is not valid UTF-8 (byte {error.start + 1} of the line). Convert the "
                "file: iconv -f LATIN1 -t UTF-8."
            ) from error
        if "\0" in text:  # as every second byte of UTF-16 is, which without a mark is valid UTF-8
            raise errors.UserError(
                f"{place} holds the character NUL: is this UTF-16 or UTF-32 without a byte order "
                "mark? Convert the file: iconv -f UTF-16LE -t UTF-8."
            )
        if not jsonl:
            yield {"input": text}
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise errors.UserError(f"{place} is not JSON: {error}.") from error
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise errors.UserError(
                f"{place} holds half of a surrogate pair (\\ud800 to \\udfff), which is no text."
            ) from error
        if not isinstance(record, Mapping) or not isinstance(record.get("input"), str):
            raise errors.UserError(
                f'{place}: expected an object with a text in the field "input", found {text[:80]}'
            )
        yield dict(record)


class _Output:
    """Rows that are appended chunk by chunk and survive a kill; a file, or standard output for "-".

    Attributes:
      done: rows that an earlier start of the same job has left.
    """

    def __init__(self, path: str, job: Mapping[str, Any]):
        self.done = 0
        self._path = None if path == "-" else pathlib.Path(path).resolve()  # a link's target
        if self._path is None:
            self._file = sys.stdout.buffer
            return
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
        if self._path is None:
            return
        with contextlib.suppress(OSError):  # of a full disk, which was said
            self._file.close()
        if kind is None:
            os.replace(self._part, self._path)
            self._job.unlink(missing_ok=True)
