# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives as SeqIO preprocessors: texts are tokenised, cut into chunks and corrupted."""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.text2text.objectives import (
    OBJECTIVES,
    SHORTEST,
    TEXT,
    Corrupted,
    TextPair,
    parameters,
    raw_length,
)
from mto_jax.text2text.vocabulary import Vocabulary, literal, of_seqio

BATCH = 64  # documents per call from TensorFlow into numpy: a call costs more than a short document


def chunks(tokens: np.ndarray, raw_length: int) -> Iterator[np.ndarray]:
    """Cut a document into chunks of `raw_length` >= 3 tokens and the rest; no token is lost.

    Where the rest would be one single token, the chunk before it gives one away. Nothing is joined
    across documents: the loader packs short examples. A document of fewer than two tokens has
    nothing to predict and gives no chunk.

    >>> [len(c) for c in chunks(np.arange(25), 12)]
    [12, 11, 2]
    """
    if len(tokens) < SHORTEST:
        return
    starts = list(range(0, len(tokens), raw_length))
    if len(tokens) - starts[-1] < SHORTEST:
        starts[-1] -= 1
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        yield tokens[start:end]


def _texts(vocab: Vocabulary, raw_length: int, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
    # Raw text may by chance spell out a sentinel; it must not pass for one of ours.
    for ids in vocab.encode_batch([literal(text.decode()) for text in texts]):
        yield from chunks(np.asarray(ids, np.int32), raw_length)


def _pairs(
    vocab: Vocabulary,
    raw_length: int,
    bodies: Sequence[bytes],
    tails: Sequence[bytes],
    labels: Sequence[bytes] | None = None,
) -> Iterator[TextPair]:
    """Token pairs; a pair with an empty side has nothing to learn and is left out."""
    body_ids = vocab.encode_batch([_one_gap(body.decode()) for body in bodies])
    tail_ids = vocab.encode_batch([literal(tail.decode()) for tail in tails])
    labels = [b""] * len(bodies) if labels is None else labels
    for body, tail, label in zip(body_ids, tail_ids, labels, strict=True):
        if body and tail:
            yield TextPair(np.asarray(body, np.int32), np.asarray(tail, np.int32), label.decode())


def _one_gap(body: str) -> str:
    """The body with the first `<extra_id_0>` as its gap, and any other sentinel as text."""
    before, gap, after = body.partition("<extra_id_0>")
    return literal(before) + gap + literal(after)


def _padded(rows: Sequence[np.ndarray], length: int, eos: int) -> Corrupted:
    """Rows with EOS, padded to int32 [N, length], and their lengths, int32 [N]."""
    result = np.zeros((len(rows), length), np.int32)
    for padded, row in zip(result, rows, strict=True):
        padded[: len(row)] = row
        padded[len(row)] = eos
    return result, np.array([len(row) + 1 for row in rows], np.int32)


def preprocessor(name: str) -> Callable:
    """The objective as a SeqIO preprocessor: strings in, `inputs` and `targets` with EOS out.

    It takes a dataset with the objective's `fields` (scalar strings), tokenises, cuts long
    documents into chunks, corrupts and appends EOS; nothing is truncated (of a `TextPair`, what is
    farthest from the gap). The noise follows from SeqIO's seed and the position in the dataset
    alone. To see each text under several noisings, repeat the dataset before (`num_epochs` of
    `Task.get_dataset`): each pass draws again.

    Raises:
      UserError: no objective of that name; when the dataset is built: lengths too short or not
        given, a field that the dataset lacks.
    """
    if name not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES)
    objective = OBJECTIVES[name]
    examples = _texts if objective.fields == TEXT else _pairs

    def preprocess(dataset, sequence_length, output_features):
        import seqio
        import tensorflow as tf

        missing = [field for field in objective.fields if field not in dataset.element_spec]
        if missing:
            raise UserError(
                f"The objective {name!r} reads the string fields {', '.join(objective.fields)}, "
                f"but the dataset has only {', '.join(dataset.element_spec)}: add "
                f"{', '.join(missing)}."
            )
        if not sequence_length:
            raise UserError(f"The objective {name!r} needs TASK_FEATURE_LENGTHS.")
        vocab = of_seqio(output_features["targets"].vocabulary)
        lengths = {**sequence_length, "inputs": sequence_length["inputs"] - len(vocab.bos)}
        longest = raw_length(name, lengths, vocab)
        plain = inspect.unwrap(objective.corrupt)  # gin's part is done: it costs 10 us an example
        corrupt = functools.partial(plain, vocab=vocab, lengths=lengths, **parameters(name))

        def corrupt_batch(seed, *columns):
            rng = np.random.Generator(np.random.Philox(key=seed.astype(np.uint64)))
            made = (corrupt(x, rng) for x in examples(vocab, longest, *columns))
            pairs = [pair for pair in made if pair is not None]
            inputs = [np.insert(i, 0, vocab.bos) if vocab.bos else i for i, _ in pairs]
            inputs = _padded(inputs, sequence_length["inputs"], vocab.eos_id)
            targets = _padded([t for _, t in pairs], sequence_length["targets"], vocab.eos_id)
            return *inputs, *targets

        def corrupted(batch, seed):
            columns = [tf.stack(seed), *(batch[field] for field in objective.fields)]
            outputs = tf.numpy_function(corrupt_batch, columns, [tf.int32] * 4)
            for output, rank in zip(outputs, (2, 1, 2, 1), strict=True):
                output.set_shape([None] * rank)
            return outputs

        def unpadded(inputs, inputs_size, targets, targets_size):
            return {"inputs": inputs[:inputs_size], "targets": targets[:targets_size]}

        corrupt_batches: Any = seqio.map_over_dataset(corrupted, num_seeds=1)
        strings = dataset.map(lambda example: {f: example[f] for f in objective.fields})
        return corrupt_batches(strings.batch(BATCH)).unbatch().map(unpadded)

    return preprocess
