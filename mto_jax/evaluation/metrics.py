# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of generated text, from kept libraries, in SeqIO's form.

Every metric is a function `(targets: list[list[str]], predictions: list[str]) -> dict[str, float]`:
`targets[i]` holds all the references of example `i` (their number may differ), every value lies in
[0, 1] unless said otherwise. The score of one example is the maximum over its references; the score
of a data set is the mean over its examples; BLEU and chrF pool their counts over the whole set, as
usual. An exception is never turned into a score. The libraries are imported where they are used: they take
seconds, and every verb imports this module.

A metric that resamples well has an attribute `statistics`, a function of the same arguments that
returns `statistics.Statistics`: per-example scores and what the bootstrap needs.
"""

import collections
import functools
import re
import string
from collections.abc import Callable, Sequence

import numpy as np

from mto_jax import errors
from mto_jax.evaluation import statistics

References = Sequence[Sequence[str]]
Metric = Callable[[References, Sequence[str]], dict[str, float]]


def _metric(make: Callable[[References, Sequence[str]], statistics.Statistics]) -> Metric:
    """The SeqIO metric over the `Statistics` that `make` computes."""

    def with_statistics(targets, predictions):
        _check(targets, predictions)
        return make(targets, predictions)

    @functools.wraps(make)
    def metric(targets, predictions):
        return with_statistics(targets, predictions).value()

    metric.statistics = with_statistics
    return metric


def _check(targets: References, predictions: Sequence[str]) -> None:
    if len(targets) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions for {len(targets)} lists of references.")
    if not len(predictions):
        raise errors.UserError("There are no predictions to score: the data set is empty.")
    for i, references in enumerate(targets):
        if isinstance(references, str):
            raise ValueError(f"Example {i}: the references must be a list of texts, not one text.")
        if not len(references):
            raise errors.UserError(
                f"Example {i} of the data set has no reference to score against."
            )


class _CachedTokenizer:
    """rouge_score's own words, lower-cased and without stemming; every text is split only once."""

    def __init__(self):
        from rouge_score import tokenize

        self.tokenize = functools.lru_cache(maxsize=1 << 18)(
            lambda text: tokenize.tokenize(text, None)
        )


@_metric
def rouge(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """ROUGE-1, ROUGE-2 and ROUGE-L F-measures of `rouge_score`; the best reference counts.

    Words are not stemmed: T5's own evaluation and COMET-ATOMIC do not stem either (both were
    checked against their published numbers). ROUGE: Lin, "ROUGE: A Package for Automatic Evaluation
    of Summaries", 2004.

    >>> rouge([["to earn money", "to work"]], ["to earn some money"])["rougeL"]
    0.8571428571428571
    """
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_CachedTokenizer())
    scores = [scorer.score_multi(t, p) for t, p in zip(targets, predictions, strict=True)]
    return statistics.mean(
        {name: np.array([s[name].fmeasure for s in scores], float) for name in scorer.rouge_types}
    )


@_metric
def rouge_l_coco(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """ROUGE-L as the COCO caption tools and the COMET-ATOMIC 2020 paper compute it.

    Words are what stands between single spaces, case and punctuation count, F weighs recall with
    beta = 1.2, and precision and recall are each the maximum over the references, so they may come
    from different ones. Use it only beside numbers computed that way.
    """
    scores = [_rouge_l_coco(t, p) for t, p in zip(targets, predictions, strict=True)]
    return statistics.mean({"rouge_l_coco": np.array(scores)})


def _rouge_l_coco(references: Sequence[str], prediction: str) -> float:
    words = prediction.split(" ")
    common = [(_common_words(r.split(" "), words), len(r.split(" "))) for r in references]
    precision = max(length / len(words) for length, _ in common)
    recall = max(length / size for length, size in common)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def _common_words(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _pooled(scorer, name: str, targets: References, predictions: Sequence[str]):
    """`Statistics` of a sacrebleu metric: its counts per example, scored after they are summed."""
    # sacrebleu wants the k-th references of all examples together; None fills where one has fewer.
    width = max(map(len, targets))
    references = [[t[k] if k < len(t) else None for t in targets] for k in range(width)]
    values = np.array(scorer._extract_corpus_statistics(predictions, references))

    def finish(sums: np.ndarray, num_examples: int) -> dict[str, np.ndarray]:
        del num_examples
        rows = sums.reshape(-1, sums.shape[-1])
        scores = [scorer._compute_score_from_stats(row.tolist()).score / 100 for row in rows]
        return {name: np.array(scores).reshape(sums.shape[:-1])}

    return statistics.Statistics(values, finish)


@_metric
def bleu(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Corpus BLEU-4 of sacrebleu divided by 100: 13a tokens, exponential smoothing, case kept.

    An n-gram counts as often as in the reference that has it most often, and the brevity penalty
    takes the reference of the nearest length, per example. Post, "A Call for Clarity in Reporting
    BLEU Scores", WMT 2018.
    """
    from sacrebleu.metrics import BLEU

    return _pooled(BLEU(force=True), "bleu", targets, predictions)


@_metric
def chrf(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Corpus chrF2 of sacrebleu divided by 100 (character 6-grams); the best reference counts."""
    from sacrebleu.metrics import CHRF

    return _pooled(CHRF(), "chrf", targets, predictions)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces (the rule of SQuAD's evaluation).

    >>> normalise(" The  coffee-shop. ")
    'coffeeshop'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


@_metric
def exact_match(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Whether the prediction equals a reference after `normalise`."""
    hits = [normalise(p) in map(normalise, t) for t, p in zip(targets, predictions, strict=True)]
    return statistics.mean({"exact_match": np.array(hits, float)})


@_metric
def token_f1(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """F1 of the bags of words after `normalise` (SQuAD); the best reference counts."""
    scores = [
        max(_token_f1(normalise(r).split(), normalise(p).split()) for r in t)
        for t, p in zip(targets, predictions, strict=True)
    ]
    return statistics.mean({"token_f1": np.array(scores, float)})


def _token_f1(reference: list[str], prediction: list[str]) -> float:
    if not reference or not prediction:
        return float(reference == prediction)
    common = (collections.Counter(reference) & collections.Counter(prediction)).total()
    return 2 * common / (len(reference) + len(prediction))


@_metric
def accuracy(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Whether the prediction is one of the references, but for case and spaces. Never a substring."""

    def plain(text):
        return " ".join(text.lower().split())

    hits = [plain(p) in map(plain, t) for t, p in zip(targets, predictions, strict=True)]
    return statistics.mean({"accuracy": np.array(hits, float)})


def diversity(targets: References, predictions: Sequence[str]) -> dict[str, float]:
    """Number of different predictions, and the share of different words and word pairs.

    distinct-n: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models",
    NAACL 2016. A resample repeats examples and so has fewer different ones: no bootstrap interval.
    """
    _check(targets, predictions)
    words = [p.lower().split() for p in predictions]
    result = {"unique_predictions": float(len(set(predictions)))}
    for n in (1, 2):
        grams = [tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1)]
        result[f"distinct_{n}"] = len(set(grams)) / max(1, len(grams))
    return result
