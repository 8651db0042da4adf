# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluating a model on a prepared task: decode, compare with the references, give intervals.

A task whose metrics are named in its manifest is decoded; if it lists the answers that it allows, they
are also ranked by likelihood. A task without metrics (a pre-training objective) is scored by its
perplexity. `mto evaluate` and the dev metrics of training both come here.
"""

import dataclasses
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import numpy as np
from flax import nnx

from mto_jax import errors
from mto_jax.data import loader
from mto_jax.data.manifest import Prepared
from mto_jax.decoding import generation as decoding_lib
from mto_jax.decoding import scoring
from mto_jax.decoding.generation import Decoding
from mto_jax.metrics import statistics
from mto_jax.metrics import text as metrics_lib
from mto_jax.text2text.vocabulary import Vocabulary

_SENTINEL = re.compile(r"<extra_id_\d+>")


@dataclasses.dataclass(frozen=True)
class Result:
    """What one task gave.

    Attributes:
      task: name of the task.
      split: name of the split.
      metrics: values with their 95 % bootstrap intervals over the examples.
      rows: one JSON-like dict an example: "input", "references", "prediction", "raw_prediction" (sentinels
        included), "log_likelihood" of the prediction, "scores" by metric name, for those metrics that
        score single examples, and, where only some answers are allowed, these as "choices" and the likeliest
        as "ranked_prediction". Of an objective: "input", "references", "log_likelihood", "tokens".
    """

    task: str
    split: str
    metrics: dict[str, statistics.Interval]
    rows: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """The task and its split, for a person."""
        return f"{self.task} ({self.split})"

    def values(self) -> dict[str, float]:
        """The metrics without their intervals."""
        return {name: interval.value for name, interval in self.metrics.items()}

    def jsonl(self) -> str:
        """The rows, one JSON object a line."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)


def evaluate_dataset(
    model: nnx.Module,
    prepared: Prepared,
    vocabulary: Vocabulary,
    decoding: Decoding,
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] = lambda count: None,
) -> Result:
    """Evaluate `model` on every example of one prepared task (not a mixture: take its `tasks`).

    With `Decoding.num_outputs` above 1 the likeliest output is the prediction that is scored. Beside it
    stands what the paper's authors take, "best_of_K_NAME": for every example the greatest score of its K
    outputs, chosen with the references in hand, so it is no score of what the model answers.

    Args:
      progress: called with the number of examples just done.

    Raises:
      UserError: the task was prepared with another vocabulary, or names a metric that cannot be imported or
        whose model is missing. An exception in a metric is not caught.
    """
    check_vocabulary(prepared, vocabulary)
    functions = [metric_function(name) for name in task_metrics(prepared)]
    for function in functions:
        getattr(function, "ready", str)()  # before the long work
    if not functions:
        return _perplexity(model, prepared, vocabulary, batch_size, progress)
    examples = [
        example
        for _, examples in loader.eval_batches(prepared, batch_size=batch_size)
        for example in examples
    ]
    soft_prefix = vocabulary.soft_prefix(examples[0]["targets"])  # the same in the whole task
    outputs = decoding_lib.decode(
        model,
        [example["inputs"] for example in examples],
        decoding,
        vocabulary,
        soft_prefix=soft_prefix,
        batch_size=batch_size,
        progress=progress,
    )
    rows = [
        _row(example, answers[0], vocabulary)
        for example, answers in zip(examples, outputs, strict=True)
    ]
    targets = [row["references"] for row in rows]
    metrics, scores = score(functions, targets, [row["prediction"] for row in rows])
    if decoding.num_outputs > 1:
        predictions_KxN = [
            [
                _row(e, answers[min(k, len(answers) - 1)], vocabulary)["prediction"]
                for e, answers in zip(examples, outputs, strict=True)
            ]
            for k in range(decoding.num_outputs)
        ]
        metrics |= best_of(functions, targets, predictions_KxN)
    if all(example.get("choices") for example in examples):
        ranked, ranked_scores = _rank(model, examples, rows, vocabulary, soft_prefix, batch_size)
        metrics |= ranked
        scores |= ranked_scores
    for i, row in enumerate(rows):
        row["scores"] = {name: float(values[i]) for name, values in scores.items()}
    return Result(prepared.name, prepared.split, metrics, rows)


def score(
    functions: Sequence[metrics_lib.Metric],
    targets: metrics_lib.References,
    predictions: Sequence[str],
) -> tuple[dict[str, statistics.Interval], dict[str, np.ndarray]]:
    """(metric values with intervals, scores [N] of single examples), both by name."""
    resampled = [f.statistics(targets, predictions) for f in functions if hasattr(f, "statistics")]
    values = statistics.bootstrap(*resampled) if resampled else {}
    scores: dict[str, np.ndarray] = {}
    for known in resampled:
        scores |= known.per_example
    for function in functions:
        if not hasattr(function, "statistics"):
            plain = function(targets, predictions)
            values |= {name: statistics.Interval(float(value)) for name, value in plain.items()}
    return values, scores


def best_of(
    functions: Sequence[metrics_lib.Metric],
    targets: metrics_lib.References,
    predictions_KxN: Sequence[Sequence[str]],
) -> dict[str, statistics.Interval]:
    """ "best_of_K_NAME" of the metrics that score single examples: the mean of the greatest of K scores."""
    best: dict[str, np.ndarray] = {}
    for function in functions:
        if hasattr(function, "statistics"):
            found = [function.statistics(targets, p).per_example for p in predictions_KxN]
            for name in found[0]:
                scores_KxN = np.stack([scores[name] for scores in found])
                best[f"best_of_{len(found)}_{name}"] = scores_KxN.max(axis=0)
    return statistics.bootstrap(statistics.mean(best)) if best else {}


def answer(text: str, slots: int = 1) -> str:
    """The answer in a decoded text.

    A text that starts with `<extra_id_0>` answers in slots: what stands between that sentinel and the
    next is the answer, or, for a template of several slots, the texts after the first `slots`
    sentinels. Any other text is the answer as it stands.

    >>> answer("<extra_id_0> a cup <extra_id_1> is here"), answer("a cup")
    ('a cup', 'a cup')
    >>> answer("<extra_id_0> bank <extra_id_1> choice2", slots=2)
    'bank choice2'
    """
    if not text.startswith("<extra_id_0>"):
        return text.strip()
    pieces = _SENTINEL.split(text)[1 : 1 + slots]
    return " ".join(piece.strip() for piece in pieces).strip()


def slots(target: str) -> int:
    """How many answers a target text has: its sentinels, or 1 without any.

    >>> slots("<extra_id_0> bank <extra_id_1> choice2"), slots("a cup")
    (2, 1)
    """
    return max(1, len(_SENTINEL.findall(target)))


@gin.configurable
def task_metrics(prepared: Prepared, *, add: Sequence[str] = ()) -> tuple[str, ...]:
    """Names "module:function" of the metrics of a task: its own, and those that gin adds to those of any task.

    A task without metrics (an objective) gets none.
    """
    return tuple(dict.fromkeys([*prepared.metrics, *add])) if prepared.metrics else ()


def metric_function(name: str) -> metrics_lib.Metric:
    """The metric "module:function".

    Raises:
      UserError: no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise errors.UserError(
            f"The metric {name!r} cannot be imported ({error}). Start from the folder that holds the "
            "module, or install it."
        ) from error
    if not callable(getattr(module, function_name, None)):
        known = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise errors.unknown(f"metric in {module_name} called", function_name, known)
    return getattr(module, function_name)


def check_vocabulary(prepared: Prepared, vocabulary: Vocabulary) -> None:
    """Raises a UserError if the task was tokenised with another vocabulary than the model's."""
    if prepared.vocabulary["digest"] != vocabulary.digest:
        raise errors.UserError(
            f"The data of {prepared.name} ({prepared.split}) were prepared with the vocabulary "
            f"{prepared.vocabulary['name']!r}, but the model reads {vocabulary.path!r}: the token ids "
            "mean other words. Set VOCABULARY (vocabulary.name) to the model's; the data are then prepared anew."
        )


def _row(example: Mapping, output: decoding_lib.Output, vocabulary: Vocabulary) -> dict[str, Any]:
    raw = vocabulary.decode(output.tokens)
    target = example.get("targets_pretokenized") or vocabulary.decode(example["targets"])
    row = {
        "input": example.get("inputs_pretokenized") or vocabulary.decode(example["inputs"]),
        "references": list(example.get("references") or [answer(target, slots(target))]),
        "prediction": answer(raw, slots(target)),
        "raw_prediction": raw,
        "log_likelihood": output.log_likelihood,
    }
    if example.get("choices"):
        row["choices"] = [answer(choice, slots(choice)) for choice in example["choices"]]
    return row


def _rank(model, examples, rows, vocabulary, soft_prefix, batch_size):
    """Accuracy of the best of the allowed answers by each rule of `scoring.best_choices`.

    Writes the answer with the greatest sum into each row as "ranked_prediction".
    """
    inputs = [example["inputs"] for example in examples]
    choices = [
        [
            [*soft_prefix, *vocabulary.encode(choice), vocabulary.eos_id]
            for choice in example["choices"]
        ]
        for example in examples
    ]
    scored = scoring.score_choices(model, inputs, choices, vocabulary, batch_size=batch_size)
    neutral = scoring.unconditional(model, inputs, choices, vocabulary, batch_size=batch_size)
    names = {
        "ranked_accuracy": "sum",
        "ranked_accuracy_mean": "mean",
        "ranked_accuracy_pmi": "pmi",
    }
    hits = {name: np.zeros(len(rows)) for name in names}
    for i, (example, row) in enumerate(zip(examples, rows, strict=True)):
        best = scoring.best_choices(*scored[i], neutral[i])
        # Compared as texts of the target, sentinels included: equal only if it is the same choice.
        for name, rule in names.items():
            hits[name][i] = example["choices"][best[rule]] == example["targets_pretokenized"]
        row["ranked_prediction"] = example["choices"][best["sum"]]
    return statistics.bootstrap(statistics.mean(hits)), hits


def _perplexity(model, prepared, vocabulary, batch_size, progress) -> Result:
    rows, sums, counts = [], [], []
    for batch, examples in loader.eval_batches(prepared, batch_size=batch_size):
        sums_B, counts_B = map(np.asarray, scoring.log_likelihood(model, batch))
        sums.extend(sums_B[: len(examples)])
        counts.extend(counts_B[: len(examples)])
        rows += [
            {
                "input": vocabulary.decode(example["inputs"]),
                "references": [vocabulary.decode(example["targets"])],
                "log_likelihood": float(sums_B[i]),
                "tokens": int(counts_B[i]),
            }
            for i, example in enumerate(examples)
        ]
        progress(len(examples))

    def finish(totals, num_examples):
        del num_examples
        return {"perplexity": np.exp(-totals[..., 0] / totals[..., 1])}

    known = statistics.Statistics(np.stack([sums, counts], axis=-1).astype(float), finish)
    return Result(prepared.name, prepared.split, statistics.bootstrap(known), rows)
