# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Words in common: n-gram counts of many texts as sparse arrays, longest common subsequences.

ROUGE and CIDEr are made of these. Letters: N predictions, M references of all of them one after the
other, G different n-grams. A text is a list of words.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse

Words = Sequence[str]


class Texts(NamedTuple):
    """References and predictions that belong together.

    Attributes:
      references: of all examples, M in all; at least one of each.
      predictions: one of each example.
      example_M: the number of the example that each reference belongs to; ascending.
    """

    references: list[Words]
    predictions: list[Words]
    example_M: np.ndarray

    @classmethod
    def of(cls, references: Sequence[Sequence[Words]], predictions: Sequence[Words]) -> "Texts":
        """`references[i]` are those of prediction i."""
        example_M = np.repeat(np.arange(len(predictions)), [*map(len, references)])
        return cls([*itertools.chain.from_iterable(references)], [*predictions], example_M)

    def best(self, scores_M: np.ndarray) -> np.ndarray:
        """Returns the maximum over the references [N]."""
        return np.maximum.reduceat(scores_M, np.unique(self.example_M, return_index=True)[1])

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the number of words of every reference [M] and of every prediction [N]."""
        references, predictions = (
            np.array([len(text) for text in texts]) for texts in (self.references, self.predictions)
        )
        return references, predictions

    def ngrams(
        self, orders: int
    ) -> Iterator[tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]]:
        """Yields n-gram counts of references [M, G] and predictions [N, G], n = 1 to `orders`."""
        texts = [*self.references, *self.predictions]
        numbers: dict[str, int] = {}
        words = [numbers.setdefault(word, len(numbers)) for text in texts for word in text]
        # The last word is followed by one of no text.
        words = np.array([*words, 0], np.int64)
        text = np.repeat(np.arange(len(texts) + 1), [*map(len, texts), 1])
        # The position of the first word of every n-gram, and its number among the different
        # n-grams.
        starts, grams = np.arange(len(words) - 1), words[:-1]
        for n in range(1, orders + 1):
            shape = len(texts), int(grams.max(initial=0)) + 1
            counts = scipy.sparse.csr_array((np.ones(len(grams)), (text[starts], grams)), shape)
            yield counts[: len(self.references)], counts[len(self.references) :]
            longer = text[np.minimum(starts + n, len(text) - 1)] == text[starts]
            starts, grams = starts[longer], grams[longer]
            _, grams = np.unique(grams * len(numbers) + words[starts + n], return_inverse=True)

    def common_subsequences(self) -> np.ndarray:
        """Returns the length of the longest common subsequence of each reference [M]."""
        lengths, bits = [], [positions(prediction) for prediction in self.predictions]
        for reference, example in zip(self.references, self.example_M.tolist(), strict=True):
            lengths.append(common_words(reference, bits[example], len(self.predictions[example])))
        return np.array(lengths)


def positions(words: Words) -> dict[str, int]:
    """Returns for every word the set of its positions, as bits of an integer."""
    bits: dict[str, int] = {}
    for i, word in enumerate(words):
        bits[word] = bits.get(word, 0) | 1 << i
    return bits


def common_words(words: Iterable[str], where: dict[str, int], size: int) -> int:
    """Returns the length of the longest common subsequence of `words` and `size` words at `where`.

    An addition of integers for each word (Hyyro, "Bit-Parallel LCS-Length Computation Revisited",
    2004): bit i becomes 0 where a common subsequence grows by word i.

    >>> common_words("to earn some money".split(), positions("to earn money".split()), 3)
    3
    """
    full = (1 << size) - 1
    row = full
    for word in words:
        match = row & where.get(word, 0)
        row = (row + match | row - match) & full
    return size - row.bit_count()
