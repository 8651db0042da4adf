# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of captions and of CommonGen beside BLEU and ROUGE: METEOR and CIDEr. See `text`."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mto_jax import errors
from mto_jax.metrics import ngrams, statistics
from mto_jax.metrics.text import References, metric

ORDERS = 4  # CIDEr compares n-grams of 1 to 4 words
SIGMA = 6.0  # of its length penalty, in words


class _Synonyms:
    """WordNet as far as METEOR uses it, cached."""

    def __init__(self, synsets: Callable[[str], Sequence]):
        self.synsets = functools.lru_cache(maxsize=1 << 16)(synsets)


def _wordnet() -> str:
    """Returns the version of WordNet, which is loaded.

    Raises:
      UserError: the data are not on this machine.
    """
    from nltk.corpus import wordnet

    try:
        return f"WordNet {wordnet.get_version()}"
    except LookupError as error:
        raise errors.UserError(
            "METEOR with synonyms needs WordNet, which NLTK does not find on this machine. Run "
            "`python -m nltk.downloader wordnet` where there is a network (NLTK_DATA names the "
            "folder), or use mto_jax.metrics.captions:meteor_stem, which compares equal words and "
            "stems only."
        ) from error


@metric(ready=_wordnet)
def meteor(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """METEOR of NLTK, the best reference counts: equal words, equal stems, WordNet synonyms.

    Lavie and Agarwal, "Meteor: An Automatic Metric for MT Evaluation with High Levels of
    Correlation with Human Judgments", 2007, with NLTK's parameters (alpha 0.9, beta 3, gamma 0.5)
    and words: what COMET-ATOMIC 2020 reports. (NLTK asks for the synonyms of stems, which misses
    some words.) The Java program METEOR 1.5 of the caption tools weighs and matches otherwise and
    gives other numbers.
    """
    from nltk.corpus import wordnet

    _wordnet()
    synonyms = _Synonyms(wordnet.synsets)
    return statistics.mean({"meteor": _meteor(targets, predictions, synonyms)})


@metric
def meteor_stem(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """METEOR of equal words and stems, which needs no WordNet. Lower than `meteor`."""
    none = _Synonyms(lambda word: ())
    return statistics.mean({"meteor_stem": _meteor(targets, predictions, none)})


def _meteor(targets: References, predictions: Sequence[str], wordnet: Any) -> np.ndarray:
    from nltk.translate import meteor_score

    words, stemmer = _tokenizer(), _stemmer()
    scores = [
        meteor_score.meteor_score(list(map(words, t)), words(p), stemmer=stemmer, wordnet=wordnet)
        for t, p in zip(targets, predictions, strict=True)
    ]
    return np.array(scores)


@functools.cache
def _stemmer() -> Any:
    """Returns NLTK's Porter stemmer, cached."""
    from nltk.stem.porter import PorterStemmer

    stemmer = PorterStemmer()
    stemmer.stem = functools.lru_cache(maxsize=1 << 16)(stemmer.stem)
    return stemmer


@functools.cache
def _tokenizer() -> Callable[[str], list[str]]:
    """Returns a function text -> words: NLTK's tokenizer of the pieces between spaces, cached."""
    from nltk.tokenize import NLTKWordTokenizer

    tokenize = NLTKWordTokenizer().tokenize
    last = functools.lru_cache(maxsize=1 << 16)(tokenize)
    # A full stop ends a sentence only at the end of the text: something must follow.
    inner = functools.lru_cache(maxsize=1 << 16)(lambda piece: tokenize(f"{piece} x")[:-1])

    def words(text: str) -> list[str]:
        *before, end = text.split() or [""]
        return [*itertools.chain.from_iterable(map(inner, before)), *last(end)]

    return words


@metric
def cider(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """CIDEr-D, from 0 to 10, as the COCO caption tools compute it: the mean over the references.

    Cosine of the n-gram counts (1 to 4 words), each weighed by how few of the examples have the
    n-gram in a reference, with counts clipped to the reference's and a penalty for another length;
    times 10. Words are NLTK's, lower-cased, without punctuation. The weights come from the
    references of the whole data set, so values of different sets do not compare, an example alone
    scores 0, and the bootstrap keeps them. Vedantam et al., "CIDEr: Consensus-based Image
    Description Evaluation", CVPR 2015.
    """
    tokenize = _tokenizer()

    def words(text: str) -> list[str]:
        return [word for word in tokenize(text.lower()) if any(map(str.isalnum, word))]

    texts = ngrams.Texts.of([[*map(words, t)] for t in targets], [*map(words, predictions)])
    return statistics.mean({"cider": cider_scores(texts)})


def cider_scores(texts: ngrams.Texts) -> np.ndarray:
    """Returns CIDEr-D of every prediction [N]."""
    example_M, N = texts.example_M, len(texts.predictions)
    lengths_M, lengths_N = (np.maximum(lengths, 1) for lengths in texts.lengths())
    penalty_M = np.exp(-((lengths_M - lengths_N[example_M]) ** 2) / (2 * SIGMA**2))
    total_M = np.zeros(len(example_M))
    for reference_MxG, prediction_NxG in texts.ngrams(ORDERS):
        entries = reference_MxG.tocoo()
        seen: Any = scipy.sparse.csr_array(
            (np.ones(entries.nnz), (example_M[entries.row], entries.col)), prediction_NxG.shape
        )
        frequency_G = np.bincount(seen.indices, minlength=seen.shape[1])
        weights_G = np.log(N / np.maximum(frequency_G, 1))
        reference_MxG, prediction_NxG = (
            counts.multiply(weights_G).tocsr() for counts in (reference_MxG, prediction_NxG)
        )
        norm_M, norm_N = (np.sqrt(x.power(2).sum(axis=1)) for x in (reference_MxG, prediction_NxG))
        clipped_MxG = reference_MxG.minimum(prediction_NxG[example_M])
        common_M = clipped_MxG.multiply(reference_MxG).sum(axis=1)
        norm_M = norm_M * norm_N[example_M]
        total_M += penalty_M * np.divide(
            common_M, norm_M, out=np.zeros(len(norm_M)), where=norm_M > 0
        )
    return 10 / ORDERS * np.bincount(example_M, total_M) / np.bincount(example_M)
