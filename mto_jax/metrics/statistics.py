# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Uncertainty of scores: bootstrap intervals and the paired bootstrap comparison of two systems.

Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979; for the
comparison, Koehn, "Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004;
for several levels, Owen and Eckles, "Bootstrapping data arrays of arbitrary order", Annals of
Applied Statistics 6, 2012.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# The resampling counts held at once: 4 M int64 = 32 MB.
_COUNTS_AT_ONCE = 1 << 22


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The sufficient statistics of every example, from which any resample is scored cheaply.

    Attributes:
      values_NxK: K numbers per example, a NumPy array, whose sums over the examples decide the
        metric: the scores themselves for a mean, match counts for BLEU. A SciPy sparse array if
        most are 0.
      finish: `finish(sums_..xK, num_examples)` -> metric values of shape `...` by name.
      per_example: scores of single examples [N] by name, where the metric has them.
    """

    values_NxK: Any
    finish: Callable[[np.ndarray, int], dict[str, np.ndarray]]
    per_example: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def value(self) -> dict[str, float]:
        """Returns the metric over all the examples."""
        values = self.finish(self.values_NxK.sum(axis=0), self.values_NxK.shape[0])
        return {name: float(value) for name, value in values.items()}


@dataclasses.dataclass(frozen=True)
class Interval:
    """A metric value and the bounds of its confidence interval; None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self):
        bounds = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{bounds}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """System A less system B on the same examples; `p` is two-sided."""

    difference: float
    low: float
    high: float
    p: float
    significant: bool

    def __str__(self):
        verdict = "significant" if self.significant else "not significant"
        interval = f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{interval}, p = {self.p:.3f}, {verdict}"


def mean(scores: dict[str, np.ndarray]) -> Statistics:
    """Returns the `Statistics` of metrics that are means of `scores`, [N] by name."""
    names = list(scores)

    def finish(sums: np.ndarray, num_examples: int) -> dict[str, np.ndarray]:
        return {name: sums[..., i] / num_examples for i, name in enumerate(names)}

    return Statistics(np.stack([scores[name] for name in names], axis=-1), finish, scores)


def bootstrap(*metrics: Statistics, samples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Returns the percentile bootstrap interval of every value of metrics of the same examples.

    They share the resamples. The same seed draws the same ones for every metric over the same
    number of examples.
    """
    resampled = _resampled(metrics, samples, seed)
    values = {name: value for metric in metrics for name, value in metric.value().items()}
    return {name: Interval(values[name], *_bounds(resampled[name])) for name in values}


def compare(a: Statistics, b: Statistics, *, samples: int = 1000) -> dict[str, Comparison]:
    """Returns the paired bootstrap of two systems on the same examples in the same order.

    Every resample draws the same examples for both systems. `p` is twice the share of resamples
    (one added, so never 0) on the thinner side of zero; the difference is significant when
    `p < 0.05`.

    Raises:
      ValueError: the systems were scored on different numbers of examples.
    """
    counts = a.values_NxK.shape[0], b.values_NxK.shape[0]
    if counts[0] != counts[1]:
        raise ValueError(
            "A paired comparison needs the same examples for both systems, but there are "
            f"{counts[0]} and {counts[1]}."
        )
    resampled_a, resampled_b = (_resampled([metric], samples, seed=0) for metric in (a, b))
    values_a, values_b = a.value(), b.value()
    result = {}
    for name in (name for name in values_a if name in values_b):
        differences = resampled_a[name] - resampled_b[name]
        result[name] = _comparison(values_a[name] - values_b[name], differences)
    return result


def _comparison(difference: float, resampled: np.ndarray) -> Comparison:
    thin = min(np.sum(resampled <= 0), np.sum(resampled >= 0))
    p = min(1.0, 2 * (thin + 1) / (len(resampled) + 1))
    return Comparison(difference, *_bounds(resampled), p, p < 0.05)


def hierarchical_interval(
    values: np.ndarray,
    levels: Sequence[str],
    *,
    nested: Mapping[str, str | Sequence[str]] | None = None,
    fixed: Collection[str] = (),
    finish: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    samples: int = 1000,
) -> Interval:
    """Returns a mean over several levels and the interval that comes of resampling each of them.

    A resample draws the members of every level with replacement; a value counts as often as all its
    members together were drawn. Means are taken from the last level to the first, so every relation
    counts the same however many heads it has. With two or three members a level's part of the
    interval is somewhat too narrow; a level of a single member adds nothing.

        hierarchical_interval(
            gain_RxPxSxN,  # of relations, pre-training seeds, tuning seeds, heads
            ("relation", "pre-training", "seed", "head"),
            nested={"head": "relation"},
        )

    Args:
      values: floats, an axis a level; NaN where there is no value, such as behind the last head of
        a relation that has fewer. For a contrast, the differences of paired values.
      levels: the name of each axis, the outermost first.
      nested: level -> the earlier level, or levels, that its members belong to: they are drawn
        apart for each member of those. A level that is not named is crossed with all others: they
        share its draw, as when each tuning seed was used with every relation.
      fixed: levels that are not drawn: every member counts once, as what is said is about these
        members and no others.
      finish: for metrics that are no means of examples: `finish(sums, count)` makes the value from
        the sums over the last level [..., K] and the number of its members [...]; then `values` has
        one more axis, [..., N, K], and no NaN.

    Raises:
      ValueError: names and axes do not fit, a level is nested in one that is not before it, or
        there is no value at all.
    """
    value, resampled = _hierarchical(values, levels, nested, fixed, finish, samples)
    return Interval(value, *_bounds(resampled))


def hierarchical_comparison(
    differences: np.ndarray,
    levels: Sequence[str],
    *,
    nested: Mapping[str, str | Sequence[str]] | None = None,
    fixed: Collection[str] = (),
) -> Comparison:
    """Returns whether a mean of paired differences over several levels is not zero.

    The arguments are those of `hierarchical_interval`, `p` is as in `compare`.
    """
    value, resampled = _hierarchical(differences, levels, nested, fixed)
    return _comparison(value, resampled)


def _hierarchical(
    values: np.ndarray,
    levels: Sequence[str],
    nested: Mapping[str, str | Sequence[str]] | None,
    fixed: Collection[str],
    finish: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    samples: int = 1000,
) -> tuple[float, np.ndarray]:
    """Returns (the mean, that of every resample that holds a value)."""
    parents = {
        level: {outer} if isinstance(outer, str) else {*outer}
        for level, outer in (nested or {}).items()
    }
    if values.ndim != len(levels) + (finish is not None) or len({*levels}) < len(levels):
        raise ValueError(f"The levels {tuple(levels)} do not name the axes of {values.shape}.")
    for level, outer in parents.items():
        if level not in levels or not outer <= {*levels[: levels.index(level)]}:
            raise ValueError(f"{level!r} is nested in {outer}, not all before it in {levels}.")
    known = np.ones(values.shape[:-1], bool) if finish else ~np.isnan(values)
    if not known.any():
        raise ValueError("There are no values to take the mean of.")
    filled = values if finish else np.where(known, values, 0.0)
    random = np.random.default_rng(0)
    counts = [
        np.ones((samples, *(1,) * (axis + 1)))
        if level in fixed
        else _counts_of_level(
            known, axis, [levels.index(outer) for outer in parents.get(level, ())], samples, random
        )
        for axis, level in enumerate(levels)
    ]

    def means(counts: Sequence[np.ndarray]) -> np.ndarray:
        mean, weight = filled, known
        for axis in reversed(range(len(levels))):
            weight = counts[axis] * weight
            count = weight.sum(axis=-1)
            if finish and axis == len(levels) - 1:
                mean = finish(np.einsum("...nk,...n->...k", mean, weight), count)
            else:
                mean = (weight * mean).sum(axis=-1) / np.maximum(count, 1)
            weight = count > 0
        return np.where(weight, mean, np.nan)

    whole = means([np.ones((1,) * (axis + 2)) for axis in range(len(levels))])
    rows = max(1, _COUNTS_AT_ONCE // values.size)
    resampled = np.concatenate(
        [means([c[start : start + rows] for c in counts]) for start in range(0, samples, rows)]
    )
    return float(whole[0]), resampled[~np.isnan(resampled)]


def _resampled(metrics: Sequence[Statistics], samples: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the metric values [samples] by name."""
    num_examples = metrics[0].values_NxK.shape[0]
    resampled: dict[str, list[np.ndarray]] = {}
    for counts in _counts(num_examples, samples, seed):
        for metric in metrics:
            for name, values in metric.finish(counts @ metric.values_NxK, num_examples).items():
                resampled.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in resampled.items()}


def _counts(num_examples: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each example is drawn: slices [R, N] of `samples` rows in all."""
    random = np.random.default_rng(seed)
    rows = max(1, _COUNTS_AT_ONCE // num_examples)
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        drawn = random.integers(0, num_examples, size=(size, num_examples))
        drawn += num_examples * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_examples)
        yield counts.reshape(size, num_examples)


def _counts_of_level(
    known: np.ndarray, axis: int, outer: Sequence[int], samples: int, random: np.random.Generator
) -> np.ndarray:
    """Returns how often each member of a level is drawn, float [samples, ..., its members].

    The axes before the last are those of the earlier levels, of length 1 where it is crossed.

    Args:
      known: where there are values, by all levels.
      axis: the level.
      outer: the levels that it is nested in.
    """
    others = tuple(i for i in range(known.ndim) if i != axis and i not in outer)
    there = np.asarray(known.any(axis=others, keepdims=True))
    there = there.reshape(there.shape[: axis + 1])
    counts = np.zeros((samples, *there.shape))
    for place in np.ndindex(there.shape[:-1]):
        if size := there[place].sum():
            counts[(slice(None), *place)] = random.multinomial(size, there[place] / size, samples)
    return counts


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
