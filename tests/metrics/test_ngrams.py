# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts of n-grams and longest common subsequences against loops, on random texts of few words."""

import collections
import functools

import numpy as np
import pytest

from mto_jax.metrics import ngrams


def random_texts(seed: int):
    rng = np.random.default_rng(seed)

    def text():
        return rng.choice(list("abcd"), rng.integers(0, 8)).tolist()

    references = [[text() for _ in range(rng.integers(1, 4))] for _ in range(20)]
    return references, [text() for _ in references]


def grams(words, n):
    return collections.Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_ngrams(most):
    """Texts are alike in their counts as they are in their n-grams: all inner products agree."""
    references, predictions = random_texts(0)
    texts = ngrams.Texts.of(references, predictions)
    assert [len(references[i]) for i in range(20)] == np.bincount(texts.example_M).tolist()
    orders = 0
    for n, (reference_MxG, prediction_NxG) in enumerate(texts.ngrams(most), start=1):
        expected = [
            [
                sum(count * grams(p, n)[gram] for gram, count in grams(r, n).items())
                for p in predictions
            ]
            for r in texts.references
        ]
        np.testing.assert_array_equal((reference_MxG @ prediction_NxG.T).toarray(), expected)
        sizes = [sum(grams(p, n).values()) for p in predictions]
        np.testing.assert_array_equal(prediction_NxG.sum(axis=1), sizes)
        orders = n
    assert orders == most


def test_no_words_at_all():
    texts = ngrams.Texts.of([[[]], [[], []]], [[], []])
    for reference_MxG, prediction_NxG in texts.ngrams(2):
        assert (reference_MxG.shape[0], prediction_NxG.shape[0]) == (3, 2)
        assert reference_MxG.sum() == prediction_NxG.sum() == 0
    assert texts.common_subsequences().tolist() == [0, 0, 0]


def test_common_subsequences():
    references, predictions = random_texts(1)
    texts = ngrams.Texts.of(references, predictions)

    @functools.cache
    def longest(a, b):
        if not a or not b:
            return 0
        if a[-1] == b[-1]:
            return 1 + longest(a[:-1], b[:-1])
        return max(longest(a[:-1], b), longest(a, b[:-1]))

    expected = [
        longest(tuple(r), tuple(predictions[i]))
        for r, i in zip(texts.references, texts.example_M, strict=True)
    ]
    assert texts.common_subsequences().tolist() == expected
    best = [max(expected[m] for m in np.flatnonzero(texts.example_M == i)) for i in range(20)]
    assert texts.best(np.array(expected)).tolist() == best
