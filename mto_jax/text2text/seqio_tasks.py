# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registered data sets as SeqIO tasks: one for every template and objective, `<name>_<template>`.

And the other way round, a SeqIO task that a user's module adds as a data set of its own examples.

This module imports SeqIO and TensorFlow; `registration` calls it where SeqIO is imported.
"""

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from mto_jax.errors import UserError
from mto_jax.metrics.by_kind import task_metrics
from mto_jax.metrics.text import on_texts
from mto_jax.text2text import preprocessing, records, templates, tokenising, vocabulary
from mto_jax.text2text.answers import answer, slots
from mto_jax.text2text.objectives import OBJECTIVES
from mto_jax.text2text.registration import DataSet
from mto_jax.text2text.task import example


class RecordSource(seqio.DataSource):
    """The records of a data set as a SeqIO source of {"record": one line of JSON}.

    All templates of a data set share a source.
    """

    def __init__(self, data: DataSet):
        super().__init__(data.readers)
        self.data = data

    @property
    def input_files(self) -> list[str]:
        return self.data.input_files

    @property
    def report(self) -> Mapping[str, Mapping[str, int]]:
        return self.data.report

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    def num_input_examples(self, split: str) -> int:
        return len(self.data.records_of(split))

    def get_dataset(
        self, split="train", shuffle=True, seed=None, shard_info=None, **_
    ) -> tf.data.Dataset:
        kept = self.data.some_records_of(split)
        columns: Any = self._columns(kept)
        dataset = tf.data.Dataset.from_tensor_slices(columns)
        if shard_info:
            dataset = dataset.shard(shard_info.num_shards, shard_info.index)
        if shuffle:
            dataset = dataset.shuffle(len(kept), seed=seed)
        return dataset

    def _columns(self, kept: list[records.Record]) -> dict[str, list[str]]:
        return {"record": [records.to_json(record) for record in kept]}


class SentenceSource(RecordSource):
    """Source of records as sentences for objectives: {"text", "body", "tail"}, see `templates`."""

    def _columns(self, kept: list[records.Record]) -> dict[str, list[str]]:
        wording = self.data.wording()
        bodies, tails = zip(*templates.pairs(kept, wording), strict=True)
        text = list(templates.sentences(kept, wording))
        return {"text": text, "body": list(bodies), "tail": list(tails)}


# Features of an example; those that are lists have any length.
LISTS = {"inputs": tf.int32, "targets": tf.int32, "references": tf.string, "choices": tf.string}
SCALARS = {
    "inputs_pretokenized": tf.string,
    "targets_pretokenized": tf.string,
    "task": tf.string,
    "inputs_truncated": tf.int32,
    "targets_truncated": tf.int32,
    "too_long": tf.int32,
}
# In a sequence_length: examples that are too long come empty, with "too_long": 1, and are no error.
SKIP_TOO_LONG = "skip_too_long"
CHUNK = 256  # examples that cross from Python to TensorFlow at once; one by one is ten times slower


def preprocessor(
    name: str, template: templates.Template, data: DataSet, vocab: vocabulary.Vocabulary
) -> Callable[..., tf.data.Dataset]:
    """Returns a SeqIO preprocessor: records -> examples (`task.example`) that fit the lengths.

    Its dataset raises `tokenising.TooLong` for the longest of those that do not fit, or marks them,
    see `SKIP_TOO_LONG`.
    """

    def render_and_tokenise(dataset: tf.data.Dataset, sequence_length, output_features):
        del output_features
        words, soft = data.wording(), tokenising.SoftPrompt()

        def made_of(record: bytes) -> dict[str, Any]:
            made = example(template, records.from_json(record), words, vocab, sequence_length, soft)
            return made | {"task": name, "too_long": 0}

        def made_of_or_empty(record: bytes) -> dict[str, Any]:
            try:
                return made_of(record)
            except tokenising.TooLong:
                return (
                    {key: [] for key in LISTS}
                    | dict.fromkeys(SCALARS, "")
                    | {"inputs_truncated": 0, "targets_truncated": 0, "too_long": 1}
                )

        def generate() -> Iterator[dict[str, tf.Tensor | tf.RaggedTensor]]:
            skip = SKIP_TOO_LONG in (sequence_length or {})
            chunks = (chunk["record"] for chunk in dataset.batch(CHUNK).as_numpy_iterator())
            for chunk in chunks:
                try:
                    made = tokenising.all_of(made_of_or_empty if skip else made_of, chunk)
                except tokenising.TooLong:  # say what the rest of the file needs, too
                    rest = itertools.chain(chunk, itertools.chain.from_iterable(chunks))
                    made = tokenising.all_of(made_of, rest)
                yield _stack(made)

        signature = {k: tf.RaggedTensorSpec([None, None], dtype) for k, dtype in LISTS.items()}
        signature |= {k: tf.TensorSpec([None], dtype) for k, dtype in SCALARS.items()}
        return tf.data.Dataset.from_generator(generate, output_signature=signature).unbatch()

    return render_and_tokenise


def _stack(examples: list[dict[str, Any]]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """A list of examples as one structure of arrays."""
    stacked: dict[str, tf.Tensor | tf.RaggedTensor] = {
        name: tf.constant([row[name] for row in examples], dtype) for name, dtype in SCALARS.items()
    }
    ragged: Any = tf.RaggedTensor  # TensorFlow's annotations lack its class methods
    for name, dtype in LISTS.items():
        values = [value for row in examples for value in row[name]]
        lengths = [len(row[name]) for row in examples]
        stacked[name] = ragged.from_row_lengths(tf.constant(values, dtype), lengths)
    return stacked


# What each task is made of: adding the same again changes nothing, another thing is an error.
_added: dict[str, tuple] = {}


def add(data: DataSet) -> None:
    """Adds a data set to SeqIO's registry under its templates, and its sentences under objectives.

    Raises:
      UserError: a task of one of these names holds other data or words.
    """
    vocab = vocabulary.vocabulary()
    source, sentences = RecordSource(data), SentenceSource(data)
    tasks = {
        name: (source, preprocessor(name, template, data, vocab), data.metrics.functions)
        for name, template in data.tasks.items()
    }
    for objective, row in OBJECTIVES.items():
        if set(row.fields) <= {"text", "body", "tail"}:
            tasks[f"{data.name}_{objective}"] = sentences, preprocessing.preprocessor(objective), ()
    identity = (data.identity, vocab.path, vocab.extra_ids)
    for name, (data_source, step, metric_fns) in tasks.items():
        if not _is_added(name, identity):
            seqio.TaskRegistry.add(
                name,
                source=data_source,
                preprocessors=[step],
                output_features=_features(vocab),
                metric_fns=metric_fns,
            )


@functools.lru_cache(maxsize=8)
def _features(vocab: vocabulary.Vocabulary):
    return vocabulary.features(vocab)


def _is_added(task: str, identity: tuple) -> bool:
    """True if this very task exists. A task that differs in its vocabulary alone is removed."""
    if task not in seqio.TaskRegistry.names():
        _added[task] = identity
        return False
    known = _added.get(task)
    if known == identity:
        return True
    if known is None or known[0] != identity[0]:
        raise UserError(
            f"There is already a task '{task}' with other data or words. Task names must differ: "
            "give this data set another name."
        )
    seqio.TaskRegistry.remove(task)
    _added[task] = identity
    return False


# ---- Tasks of a user's module -----------------------------------------------------------------


@functools.cache
def as_registered(task: seqio.Task) -> DataSet:
    """Returns a SeqIO task as a data set of its examples, `records.AsRegistered`.

    Its metrics are the task's, or those of free generation where it has none.

    Raises:
      UserError: the task has no features inputs and targets.
    """
    check_features(task)
    readers = {split: functools.partial(_examples, task, split) for split in task.splits}
    own: Any = task.metric_fns
    functions = [*map(on_texts, own)] or None
    metrics = task_metrics(records.AS_REGISTERED, functions, "")
    return DataSet(task.name, records.AS_REGISTERED, readers, templates.Wording(), "", metrics)


def check_features(task: seqio.Task) -> None:
    """Raises a `UserError` for a task without inputs and targets."""
    if missing := [key for key in ("inputs", "targets") if key not in task.output_features]:
        raise UserError(
            f"The task {task.name} has the features {sorted(task.output_features)}; an "
            f"encoder-decoder needs 'inputs' and 'targets'. Add {missing} to its output_features."
        )


@contextlib.contextmanager
def errors_of(task: seqio.Task) -> Iterator[None]:
    """Raises what goes wrong while TensorFlow makes a task's examples as a `UserError`."""
    try:
        yield
    except tf.errors.OpError as error:
        # A Python function inside TensorFlow's pipeline reports its own error as text.
        own = re.search(
            r"(?:UserError|TooLong): (.+?)(?:\n\s*\n|\nTraceback|\Z)", str(error), re.DOTALL
        )
        if own:
            raise UserError(own[1].strip()) from error
        # What TensorFlow puts around the words: its function, and the operation.
        words = re.sub(r"\{\{function_node .*?\}\} |\s*\[Op:\w+\] name:.*", "", str(error))
        raise UserError(
            f"The task {task.name} failed while its examples were made: {words}"
        ) from error
    except OSError as error:
        raise UserError(f"The task {task.name} cannot read its data: {error}") from error


def _examples(task: seqio.Task, split: str) -> Iterator[records.AsRegistered]:
    options: Any = {"trim_output_features": False, "try_in_mem_cache": False}
    with errors_of(task):
        try:
            dataset = task.get_dataset(None, split=split, shuffle=False, **options)
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"The examples of the task {task.name} cannot be made without feature lengths "
                f"({error!r}), as those of a task that is matched, tuned or tabled have to be."
            ) from error
        for made in dataset.as_numpy_iterator():
            source, target = (_text(task, key, made) for key in ("inputs", "targets"))
            references = tuple(text.decode() for text in made.get("references", ()))
            references = references or (answer(target, slots(target)),)
            yield records.AsRegistered(task.name, source, target, references)


def _text(task: seqio.Task, key: str, made: Mapping[str, Any]) -> str:
    """The text whose tokens, with EOS, a feature is."""
    vocab: Any = task.output_features[key].vocabulary
    ids, given = made[key].tolist(), made.get(f"{key}_pretokenized")
    texts = [given.decode()] if isinstance(given, bytes) else []
    for text in [*texts, vocab.decode(ids[:-1])]:
        if [*vocab.encode(text), vocab.eos_id] == ids:
            return text
    raise UserError(
        f"The {key} of the task {task.name} are not the tokens of a text with EOS at the end: "
        f"{ids[:10]}... To match, tune or table it, let its preprocessors end in tokenize and "
        "append_eos. mto train, evaluate and infer take it as it is."
    )
