# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of generated text, in SeqIO's form: the overlap of words.

Every metric is a function `(targets: list[list[str]], predictions: list[str]) -> dict[str, float]`:
`targets[i]` holds all the references of example `i` (their number may differ), every value lies in
[0, 1] unless said otherwise. The score of one example is the maximum over its references; the score
of a data set is the mean over its examples; BLEU and chrF pool their counts over the whole set, as
usual. An exception is never turned into a score. The libraries are imported where they are used:
they take seconds, and every verb imports this module.

`metric` makes a metric of a function that returns `statistics.Statistics`. The result has three
attributes: `statistics`, a function of the same arguments that returns these per-example scores and
what the bootstrap needs; `ready`, which loads a model or file that the metric needs and names
it (a JSON value; "" for none), or raises a UserError, so that a missing one is an error before the
long work; and `doubt`, which says of references, in a sentence, why the metric means little on them
("" if it does not).

Other metrics: `captions` (METEOR, CIDEr), `labels` (Matthews, F1 by label, Pearson, Spearman),
`semantic` (sentence embeddings, BERTScore, BLEURT).
"""

import collections
import functools
import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from mto_jax import errors
from mto_jax.metrics import ngrams, statistics

References = Sequence[Sequence[str]]
Metric = Callable[[References, Sequence[str]], dict[str, float]]
Make = Callable[[References, Sequence[str]], statistics.Statistics]


@overload
def metric(make: Make) -> Metric: ...
@overload
def metric(
    *, ready: Callable[[], object] = ..., doubt: Callable[[References], str] = ...
) -> Callable[[Make], Metric]: ...
def metric(
    make: Make | None = None,
    *,
    ready: Callable[[], object] = lambda: "",
    doubt: Callable[[References], str] = lambda targets: "",
) -> Any:
    """Returns the SeqIO metric over the `Statistics` that `make` computes."""
    if make is None:
        return functools.partial(metric, ready=ready, doubt=doubt)

    def with_statistics(targets, predictions):
        _check(targets, predictions)
        return make(targets, predictions)

    @functools.wraps(make)
    def function(targets, predictions):
        return with_statistics(targets, predictions).value()

    del function.__wrapped__  # SeqIO knows metrics by the names of their arguments
    vars(function).update(statistics=with_statistics, ready=ready, doubt=doubt)
    return function


def on_texts(function: Metric) -> Metric:
    """Returns a metric that gives a function of SeqIO's own form one text for each target.

    The metrics of this package stay as they are.
    """
    if hasattr(function, "statistics"):
        return function

    @functools.wraps(getattr(function, "func", function))  # its name, see `by_kind.place`
    def on_first(targets, predictions):
        return function([texts[0] for texts in targets], predictions)

    return on_first


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


def doubts(functions: Sequence[Callable], targets: References) -> list[str]:
    """Returns a sentence for each metric that means little on these references."""
    sentences = (getattr(f, "doubt", lambda targets: "")(targets) for f in functions)
    return [sentence for sentence in sentences if sentence]


def _without(words: Callable[[str], Any], targets: References) -> str:
    """Returns "N of M references" for those that have no words, "" for none."""
    references = [reference for of_example in targets for reference in of_example]
    count = sum(not words(reference) for reference in references)
    return f"{count} of {len(references)} references" if count else ""


def _outside_rouge(targets: References) -> str:
    count = _without(re.compile("[a-z0-9]", re.IGNORECASE).search, targets)
    return count and (
        f"{count} have no word in [a-z0-9], the words of ROUGE, so nothing scores more than 0 on "
        "them: text:rouge_unicode reads other scripts."
    )


@metric(doubt=_outside_rouge)
def rouge(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """ROUGE-1, ROUGE-2 and ROUGE-L F-measures as `rouge_score` has them; the best reference counts.

    Words are `rouge_score`'s, lower-cased and not stemmed: T5's own evaluation and COMET-ATOMIC do
    not stem either (both were checked against their published numbers). The counting is our own,
    for speed. ROUGE: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.

    >>> rouge([["to earn money", "to work"]], ["to earn some money"])["rougeL"]
    0.8571428571428571
    """
    from rouge_score import tokenize

    scores = _rouge(lambda text: tokenize.tokenize(text, None), targets, predictions)
    return statistics.mean(scores)


@functools.cache
def _unicode_word():
    import regex

    unspaced = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    # Joiners belong to words: of Persian and of the scripts of India.
    return regex.compile(
        rf"[{unspaced}]\p{{M}}*|(?:(?![{unspaced}])[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d])+"
    )


def unicode_words(text: str) -> list[str]:
    """Returns the words of any script, in small letters; of one without spaces, its characters.

    >>> unicode_words("Résumé, à jour"), unicode_words("猫がいる")
    (['résumé', 'à', 'jour'], ['猫', 'が', 'い', 'る'])
    """
    return _unicode_word().findall(unicodedata.normalize("NFKC", text).casefold())


@metric(doubt=lambda targets: _no_words("text:rouge_unicode", unicode_words, targets))
def rouge_unicode(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """ROUGE as `rouge` counts it over `unicode_words`, under names of its own: "rougeL_unicode".

    For languages that `rouge` cannot read; no published score is of this kind.

    >>> rouge_unicode([["résumé à jour"]], ["résumé en cours"])["rougeL_unicode"]
    0.3333333333333333
    """
    scores = _rouge(unicode_words, targets, predictions)
    return statistics.mean({f"{name}_unicode": values for name, values in scores.items()})


def _no_words(name: str, words: Callable[[str], Any], targets: References) -> str:
    count = _without(words, targets)
    return count and f"{count} have no words for {name}."


def _rouge(words, targets: References, predictions: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the F-measures [N] of ROUGE-1, 2 and L by name; the best reference counts."""
    texts = _texts(words, targets, predictions)
    lengths_M, lengths_N = texts.lengths()
    common = {"rougeL": (texts.common_subsequences(), 1)}
    for n, (reference_MxG, prediction_NxG) in enumerate(texts.ngrams(2), start=1):
        shared_MxG = reference_MxG.minimum(prediction_NxG[texts.example_M])
        common[f"rouge{n}"] = (shared_MxG.sum(axis=1), n)
    scores = {}
    for name in ("rouge1", "rouge2", "rougeL"):
        common_M, n = common[name]
        recall_M = _ratio(common_M, lengths_M - n + 1)
        precision_M = _ratio(common_M, lengths_N[texts.example_M] - n + 1)
        scores[name] = texts.best(_ratio(2 * precision_M * recall_M, precision_M + recall_M))
    return scores


def _texts(
    words: Callable[[str], list[str]], targets: References, predictions: Sequence[str]
) -> ngrams.Texts:
    words = functools.lru_cache(maxsize=1 << 14)(words)  # some references are everywhere
    return ngrams.Texts.of([[*map(words, t)] for t in targets], [*map(words, predictions)])


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns a / b, and 0 where a is 0."""
    return np.divide(a, b, out=np.zeros(np.shape(a)), where=a > 0)


@metric
def rouge_l_coco(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """ROUGE-L as the COCO caption tools and the COMET-ATOMIC 2020 paper compute it.

    Words are what stands between single spaces, case and punctuation count, F weighs recall with
    beta = 1.2, and precision and recall are each the maximum over the references, so they may come
    from different ones. Use it only beside numbers computed that way.
    """
    texts = _texts(lambda text: text.split(" "), targets, predictions)
    lengths_M, lengths_N = texts.lengths()
    common_M = texts.common_subsequences()
    precision, recall = texts.best(common_M) / lengths_N, texts.best(common_M / lengths_M)
    scores_N = _ratio((1 + 1.2**2) * precision * recall, recall + 1.2**2 * precision)
    return statistics.mean({"rouge_l_coco": scores_N})


@metric
def bleu(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Corpus BLEU-4 of sacrebleu divided by 100: 13a tokens, exponential smoothing, case kept.

    An n-gram counts as often as in the reference that has it most often, and the brevity penalty
    takes the reference of the nearest length, per example. Post, "A Call for Clarity in Reporting
    BLEU Scores", WMT 2018.
    """
    from sacrebleu.metrics.bleu import BLEU

    # The order decides the score of a sentence, which is not used, and not its counts.
    return _bleu(BLEU(force=True, effective_order=True), targets, predictions)


def _bleu(scorer, targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Returns BLEU's `Statistics`: words, the nearest reference's, common n-grams, n-grams."""
    counts = [scorer.sentence_score(p, t) for t, p in zip(targets, predictions, strict=True)]

    def finish(sums: np.ndarray, num_examples: int) -> dict[str, np.ndarray]:
        del num_examples
        scores = [
            scorer.compute_bleu(row[2:6], row[6:], row[0], row[1], scorer.smooth_method).score
            for row in sums.reshape(-1, 10).tolist()
        ]
        return {"bleu": np.reshape(scores, sums.shape[:-1]) / 100}

    return statistics.Statistics(
        np.array([[c.sys_len, c.ref_len, *c.counts, *c.totals] for c in counts]), finish
    )


@metric
def chrf(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Corpus chrF2 of sacrebleu divided by 100 (character 6-grams); the best reference counts.

    sacrebleu has no public counts of a sentence, so these are its n-grams and our sums. Popovic,
    "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.
    """
    from sacrebleu.metrics import helpers
    from sacrebleu.metrics.chrf import CHRF

    def ngrams(text: str) -> list[collections.Counter]:
        return helpers.extract_all_char_ngrams(text, CHRF.CHAR_ORDER)

    counts_Nx6x3 = []
    for references, prediction in zip(targets, predictions, strict=True):
        predicted = ngrams(prediction)
        counts_Rx6x3 = np.array(
            [
                [
                    [p.total() if t else 0, t.total(), (p & t).total()]
                    for p, t in zip(predicted, true, strict=True)
                ]
                for true in map(ngrams, references)
            ]
        )
        counts_Nx6x3.append(counts_Rx6x3[np.argmax(_chrf(counts_Rx6x3))])
    values_NxK = np.reshape(counts_Nx6x3, (len(predictions), -1))
    return statistics.Statistics(
        values_NxK, lambda sums, _: {"chrf": _chrf(sums.reshape(*sums.shape[:-1], -1, 3))}
    )


def _chrf(counts: np.ndarray) -> np.ndarray:
    """Returns chrF2 [...] of the n-grams [..., order, 3] of prediction, reference and both."""
    predicted, true, common = np.moveaxis(counts, -1, 0)
    orders = np.sum((predicted > 0) & (true > 0), axis=-1)
    precision, recall = (_ratio(_ratio(common, n).sum(-1), orders) for n in (predicted, true))
    return _ratio(5 * precision * recall, 4 * precision + recall)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Returns lower case, no punctuation, no articles, single spaces (SQuAD's rule).

    >>> normalise(" The  coffee-shop. ")
    'coffeeshop'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


@metric(doubt=lambda targets: _no_words("text:exact_match", normalise, targets))
def exact_match(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """The share of predictions that equal a reference after `normalise`."""
    hits = [normalise(p) in map(normalise, t) for t, p in zip(targets, predictions, strict=True)]
    return statistics.mean({"exact_match": np.array(hits, float)})


@metric(doubt=lambda targets: _no_words("text:token_f1", normalise, targets))
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


def plain(text: str) -> str:
    """Returns lower case, single spaces: all else counts when an answer or a label is compared.

    >>> plain(" The  Bank. ")
    'the bank.'
    """
    return " ".join(text.lower().split())


@metric
def accuracy(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """The share of predictions that are a reference but for case and spaces, never a substring.

    For a multiple-choice question this is the accuracy of the generated answer; evaluation adds
    that of the likeliest choice ("ranked_accuracy", see `scoring.best_choices`).
    """
    hits = [plain(p) in map(plain, t) for t, p in zip(targets, predictions, strict=True)]
    return statistics.mean({"accuracy": np.array(hits, float)})


def diversity(targets: References, predictions: Sequence[str]) -> dict[str, float]:
    """Number of different predictions, and the share of different words and word pairs.

    distinct-n: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation
    Models", NAACL 2016. A resample repeats examples and so has fewer different ones: no bootstrap
    interval.
    """
    _check(targets, predictions)
    words = [p.lower().split() for p in predictions]
    result = {"unique_predictions": float(len(set(predictions)))}
    for n in (1, 2):
        grams = [tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1)]
        result[f"distinct_{n}"] = len(set(grams)) / max(1, len(grams))
    return result
