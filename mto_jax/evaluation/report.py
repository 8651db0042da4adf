# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""One HTML page about an evaluation, which loads nothing: scores, examples, lengths, confusions.

The page is `mto_jax/assets/report.html`, filled by Jinja2 with every text escaped; this module
prepares what it shows. Its figures are inline SVG in per cent of their width, so that a phone shows
them as well.
"""

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mto_jax.evaluation.result import Result
from mto_jax.metrics import text as text_metrics
from mto_jax.metrics.statistics import Interval
from mto_jax.text2text.answers import answer, slots

_EXAMPLES = 6  # best and worst predictions of a task
_BINS = 16  # of the histogram of lengths
_CLASSES = 12  # of a confusion matrix; rarer ones are put together
_RANKED_BY = (
    "rougeL",
    "accuracy",
)  # the score that tells good predictions from bad ones, if it is there
_NO_CHOICE, _OTHERS = "(none)", "(others)"


class Bar(NamedTuple):
    """A value with its interval on an axis; places are in per cent of its length."""

    label: str
    interval: Interval
    at: float
    low: float | None
    high: float | None
    marked: bool


class Bars(NamedTuple):
    """Values on one axis."""

    title: str
    rows: list[Bar]
    ticks: list[str]  # its start, middle and end
    zero: float


class Example(NamedTuple):
    """One prediction; `score` says how good it is, in words."""

    score: str
    log_likelihood: float | None
    row: Mapping[str, Any]


class Bin(NamedTuple):
    """A bar of both histograms: heights in per cent of the highest."""

    label: str
    title: str
    predictions: float
    references: float


class Lengths(NamedTuple):
    """Histograms of the words of predictions and references."""

    bins: list[Bin]
    predictions: float  # mean number of words
    references: float


class Confusion(NamedTuple):
    """counts[i][j]: examples of the class labels[i] for which columns[j] was answered."""

    title: str
    labels: list[str]
    columns: list[str]
    counts: list[list[int]]


def page(
    title: str,
    facts: Mapping[str, str],
    results: Sequence[Result],
    history: Mapping[int, Sequence[Result]],
    step: int,
    config: str = "",
) -> str:
    """The page as HTML.

    Args:
      title: what was evaluated.
      facts: name -> value: command, model, data and the like, shown first.
      results: of one checkpoint.
      history: of all checkpoints of the same evaluation, by step; shown if there are several.
      step: the one that `results` are of.
      config: gin text, shown on demand.
    """
    # Neither is needed where no report is asked for.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mto_jax", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        facts=facts,
        scores=by_task(results),
        history=by_step(history, step) if len(history) > 1 else [],
        tasks=[
            {
                "name": result.title,
                "count": len(result.rows),
                "constant": result.constant,
                "distinct": result.distinct / len(result.rows) if result.constant else None,
                "warnings": result.warnings(),
                "by": ranking(result)[0],
                "examples": dict(zip(("best", "worst"), best_and_worst(result), strict=True)),
                "lengths": lengths(result),
                "confusions": confusions(result),
            }
            for result in results
        ],
        config=config,
    )


# ---- Scores -----------------------------------------------------------------------------------


def by_task(results: Sequence[Result]) -> list[Bars]:
    """Each metric that several tasks have, greatest value first; then those of single tasks."""
    labels = [result.task for result in results]
    if len(set(labels)) < len(labels):
        labels = [result.title for result in results]
    shared: dict[str, list] = {}
    for label, result in zip(labels, results, strict=True):
        for metric, interval in result.metrics.items():
            shared.setdefault(metric, []).append((label, interval))
    alone: dict[tuple, list] = {}
    for metric, rows in shared.items():
        if len(rows) == 1:
            ((label, interval),) = rows
            # Counts and perplexities would flatten what lies between 0 and 1.
            key = (label, "" if abs(interval.value) <= 1 else metric)
            alone.setdefault(key, []).append((metric, interval))
    return [
        bars(metric, sorted(rows, key=lambda row: -row[1].value))
        for metric, rows in shared.items()
        if len(rows) > 1
    ] + [bars(label, rows) for (label, _), rows in alone.items()]


def by_step(history: Mapping[int, Sequence[Result]], step: int) -> list[Bars]:
    """For each task its leading metric at every step."""
    curves = collections.defaultdict(list)
    for number, results in sorted(history.items()):
        for result in results:
            metric = ranking(result)[0]
            if metric in result.metrics:
                curves[f"{result.title}: {metric}"].append((number, result.metrics[metric]))
    return [
        bars(title, [(f"step {number:,}", interval) for number, interval in rows], f"step {step:,}")
        for title, rows in curves.items()
    ]


def bars(title: str, rows: Sequence[tuple[str, Interval]], marked: str = "") -> Bars:
    """The rows (label, interval) on an axis that starts at zero, or below if a value does."""
    ends = [
        end
        for _, interval in rows
        for end in (interval.value, interval.low, interval.high)
        if end is not None
    ]
    top, bottom = _round_up(max(0.0, *ends)), 0.0 - _round_up(max(0.0, -min(ends)))
    top = top if top > bottom else 1.0

    def place(value: float) -> float:
        return round(100 * (value - bottom) / (top - bottom), 2)

    def bound(value: float | None) -> float | None:
        return None if value is None else place(value)

    return Bars(
        title,
        [
            Bar(label, i, place(i.value), bound(i.low), bound(i.high), label == marked)
            for label, i in rows
        ],
        [f"{tick:g}" for tick in (bottom, round((bottom + top) / 2, 6), top)],
        place(0.0),
    )


def _round_up(value: float) -> float:
    """The least of 1, 2, 4, 5, 6, 8, 10 times a power of ten that is not below the value.

    >>> [_round_up(value) for value in (0.0, 0.31, 1.0, 27.0)]
    [0.0, 0.4, 1.0, 40.0]
    """
    if value == 0:
        return 0.0
    power = math.floor(math.log10(value))
    return next(
        end for m in (1, 2, 4, 5, 6, 8, 10) if (end := float(f"{m}e{power}")) >= value * (1 - 1e-9)
    )


# ---- Examples ---------------------------------------------------------------------------------


def ranking(result: Result) -> tuple[str, Callable[[Mapping[str, Any]], float]]:
    """Returns the leading score of single examples: its name and its value of a row."""
    scores = result.rows[0].get("scores", {})
    score = next((name for name in (*_RANKED_BY, *scores) if name in scores), None)
    if score is not None:
        return score, lambda row: row["scores"][score]
    if "tokens" in result.rows[0]:
        return "perplexity", lambda row: -_perplexity(row)
    return "log-likelihood", lambda row: row["log_likelihood"]


def best_and_worst(result: Result) -> tuple[list[Example], list[Example]]:
    """Returns the examples at both ends of `ranking`, of equals the model's surest first."""
    metric, score = ranking(result)
    best = sorted(result.rows, key=lambda row: (-score(row), -row["log_likelihood"]))
    count = min(_EXAMPLES, (len(best) + 1) // 2)
    worst = sorted(best[count:], key=lambda row: (score(row), -row["log_likelihood"]))[:_EXAMPLES]

    def example(row: Mapping[str, Any]) -> Example:
        value = abs(score(row)) if metric == "perplexity" else score(row)
        sure = None if metric in ("perplexity", "log-likelihood") else row["log_likelihood"]
        return Example(f"{value:.2f}", sure, row)

    return [*map(example, best[:count])], [*map(example, worst)]


def _perplexity(row: Mapping[str, Any]) -> float:
    return math.exp(-row["log_likelihood"] / row["tokens"])


# ---- Lengths ----------------------------------------------------------------------------------


def lengths(result: Result) -> Lengths | None:
    """Counts words of predictions and references; None for a task without predictions."""
    if "prediction" not in result.rows[0]:
        return None
    predicted = [len(row["prediction"].split()) for row in result.rows]
    known = [len(text.split()) for row in result.rows for text in row["references"]]
    width = -(-(max(*predicted, *known) + 1) // _BINS)
    shares = [_shares(predicted, width), _shares(known, width)]
    highest = max(*shares[0].values(), *shares[1].values())
    bins = []
    for i in range(max(*shares[0], *shares[1]) + 1):
        first, last = i * width, (i + 1) * width - 1
        label = str(first) if width == 1 else f"{first} to {last}"
        caption = (
            f"{label} words: {shares[0][i]:.0%} of predictions, {shares[1][i]:.0%} of references"
        )
        heights = (round(100 * share[i] / highest, 1) for share in shares)
        bins.append(Bin(str(first), caption, *heights))
    return Lengths(bins, sum(predicted) / len(predicted), sum(known) / len(known))


def _shares(counts: Sequence[int], width: int) -> collections.Counter:
    """Share of the counts in each bin of a width; 0 for a bin that is not there."""
    binned = collections.Counter(count // width for count in counts)
    return collections.Counter({i: n / len(counts) for i, n in binned.items()})


# ---- Confusions -------------------------------------------------------------------------------


def confusions(result: Result) -> list[Confusion]:
    """Confusion matrices of generated and ranked answers; none where any text is an answer.

    If the choices are not the same in every example, the classes are the numbers of the choices.
    """
    rows = result.rows
    if not all(row.get("choices") for row in rows):
        return []
    fixed = all(row["choices"] == rows[0]["choices"] for row in rows)

    def label(row: Mapping[str, Any], text: str) -> str:
        choices, said = [*map(text_metrics.plain, row["choices"])], text_metrics.plain(text)
        if said not in choices:
            return _NO_CHOICE
        place = choices.index(said)
        return row["choices"][place] if fixed else str(place + 1)

    right = [label(row, row["references"][0]) for row in rows]
    most = max((row["choices"] for row in rows), key=len)
    order = most if fixed else [str(i + 1) for i in range(len(most))]
    what = "" if fixed else ", by number of the choice"
    predicted = {f"Generated{what}": [label(row, row["prediction"]) for row in rows]}
    if all("ranked_prediction" in row for row in rows):
        texts = [row["ranked_prediction"] for row in rows]
        predicted[f"Ranked by likelihood{what}"] = [
            label(row, answer(text, slots(text))) for row, text in zip(rows, texts, strict=True)
        ]
    return [confusion(title, right, answers, order) for title, answers in predicted.items()]


def confusion(
    title: str, right: Sequence[str], answers: Sequence[str], order: Sequence[str]
) -> Confusion:
    """The counts; classes stand in `order`, and beyond the `_CLASSES` commonest they are one."""
    common = {label for label, _ in collections.Counter(right).most_common(_CLASSES)}
    shown = [label for label in order if label in common or len(order) <= _CLASSES]
    counts = collections.Counter(
        (r if r in shown else _OTHERS, a if a in (*shown, _NO_CHOICE) else _OTHERS)
        for r, a in zip(right, answers, strict=True)
    )
    labels = shown + [_OTHERS] * any(r == _OTHERS for r, _ in counts)
    columns = shown + [c for c in (_OTHERS, _NO_CHOICE) if any(a == c for _, a in counts)]
    return Confusion(title, labels, columns, [[counts[r, c] for c in columns] for r in labels])
