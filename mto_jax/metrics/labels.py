# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of labels and of numbers: Matthews, F1 by label, Pearson and Spearman. See `text`.

Labels are compared as `text.accuracy` does. A prediction that is no label is a class of its own, so
it is always wrong. Of several references the first is the truth, or the one that the prediction
equals.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from mto_jax import errors
from mto_jax.metrics import statistics
from mto_jax.metrics.text import References, metric, plain


def _classes(
    targets: References, predictions: Sequence[str]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns the sorted labels, the true classes [N], the predicted [N] (-1 if no label)."""
    predicted = [plain(prediction) for prediction in predictions]
    allowed = [[plain(reference) for reference in references] for references in targets]
    true = [p if p in t else t[0] for t, p in zip(allowed, predicted, strict=True)]
    labels = sorted(set(true))
    number = {label: i for i, label in enumerate(labels)}
    return (
        labels,
        np.array([number[t] for t in true]),
        np.array([number.get(p, -1) for p in predicted]),
    )


def _counts(targets: References, predictions: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the labels, and whether each is right, predicted and true: [N, 3 * labels]."""
    labels, true_N, predicted_N = _classes(targets, predictions)
    is_true_NxC, is_predicted_NxC = (
        (classes_N[:, None] == np.arange(len(labels))).astype(float)
        for classes_N in (true_N, predicted_N)
    )
    return labels, np.hstack([is_true_NxC * is_predicted_NxC, is_predicted_NxC, is_true_NxC])


def _constant(metric_name: str, targets: References) -> str:
    if len({plain(references[0]) for references in targets}) > 1:
        return ""
    return f"All references are {targets[0][0]!r}: {metric_name} is not defined on them, and is 0."


@metric(doubt=functools.partial(_constant, "Matthews' correlation"))
def matthews(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Matthews' correlation of the true and the predicted class, from -1 to 1; CoLA's metric.

    With more than two labels it is Gorodkin's R_K (2004), as in scikit-learn. 0, as there, if all
    predictions or all references are the same.
    """
    _, counts_Nx3C = _counts(targets, predictions)

    def finish(sums, num_examples):
        right, predicted, true = np.split(sums, 3, axis=-1)
        # Of the squares of the class that is no label only the predictions' is not 0.
        other = num_examples - predicted.sum(axis=-1)
        covariance = num_examples * right.sum(axis=-1) - (predicted * true).sum(axis=-1)
        variances = (num_examples**2 - (predicted**2).sum(axis=-1) - other**2) * (
            num_examples**2 - (true**2).sum(axis=-1)
        )
        return {"matthews": _ratio(covariance, np.sqrt(variances))}

    return statistics.Statistics(counts_Nx3C, finish)


@metric
def label_f1(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """F1 of every label, "f1_LABEL", and their mean, "f1_macro".

    GLUE's F1 of MRPC and QQP is that of "equivalent", SuperGLUE's of MultiRC that of "yes", and of
    CB the mean. 0 for a label that is neither predicted nor true in a resample.
    """
    labels, counts_Nx3C = _counts(targets, predictions)

    def finish(sums, num_examples):
        del num_examples
        right, predicted, true = np.split(sums, 3, axis=-1)
        f1_C = _ratio(2 * right, predicted + true)
        names = [f"f1_{label.replace(' ', '_')}" for label in labels]
        values = {name: f1_C[..., i] for i, name in enumerate(names)}
        return values | {"f1_macro": f1_C.mean(axis=-1)}

    return statistics.Statistics(counts_Nx3C, finish)


@metric(doubt=functools.partial(_constant, "a correlation"))
def correlation(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Pearson's and Spearman's correlation of numbers, from -1 to 1; STS-B's metrics.

    A prediction that is not a number counts as one less than the least reference (on STS-B's scale
    -1, as in T5's own evaluation); "not_a_number" is their share. A correlation is 0 if all
    predictions or all references are equal. Spearman: Pearson of the ranks, equal numbers share
    their mean rank; every resample is ranked by itself. Only the first reference is read.

    Raises:
      UserError: a reference is not a number.
    """
    true_N: list[float] = []
    for i, references in enumerate(targets):
        value = _number(references[0])
        if value is None:
            raise errors.UserError(
                f"Example {i}: the reference {targets[i][0]!r} is not a number, so a correlation "
                "cannot be computed. Give the task another metric, such as accuracy."
            )
        true_N.append(value)
    predicted_N = [_number(prediction) for prediction in predictions]
    worst = min(true_N) - 1
    pairs_N = [
        (t, worst if p is None else p, p is None) for t, p in zip(true_N, predicted_N, strict=True)
    ]
    # A resample is the number of times that each of P different pairs is drawn.
    pairs_Px3, pair_N = np.unique(np.array(pairs_N, float), axis=0, return_inverse=True)
    rows = np.arange(len(pair_N)), pair_N.reshape(-1)
    is_pair_NxP = scipy.sparse.csr_array((np.ones(len(pair_N)), rows))

    def finish(sums, num_examples):
        true_P, predicted_P, wrong_P = pairs_Px3.T
        return {
            "pearson": _correlation(true_P, predicted_P, sums),
            "spearman": _correlation(_ranks(true_P, sums), _ranks(predicted_P, sums), sums),
            "not_a_number": sums @ wrong_P / num_examples,
        }

    return statistics.Statistics(is_pair_NxP, finish)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _ranks(values_P: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the mean rank of each value [..., P] where value p stands `counts[..., p]` times."""
    order = np.argsort(values_P)
    _, starts, level_P = np.unique(values_P[order], return_index=True, return_inverse=True)
    counts_L = np.add.reduceat(counts[..., order], starts, axis=-1)
    ranks_L = np.cumsum(counts_L, axis=-1) - (counts_L - 1) / 2
    return ranks_L[..., level_P[np.argsort(order)]]


def _correlation(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns Pearson's correlation of pairs (x, y) [..., P] that stand `counts` times each."""
    total = counts.sum(axis=-1, keepdims=True)
    rounding = 1e-12 * total[..., 0] * np.abs(x).max() * np.abs(y).max()
    x, y = (z - (counts * z).sum(axis=-1, keepdims=True) / total for z in (x, y))
    spread = np.sqrt((counts * x**2).sum(axis=-1) * (counts * y**2).sum(axis=-1))
    return _ratio((counts * x * y).sum(axis=-1), np.where(spread > rounding, spread, 0.0))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns a / b, and 0 where b is 0."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
