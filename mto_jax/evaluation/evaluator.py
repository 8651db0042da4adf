# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluating a model on examples: predict, compare with the references, give intervals.

The one place where predictions are scored: of a prepared task (`evaluate_dataset`: train, evaluate)
and of records under a template (`evaluate_records`: match, tune, tables). A task with metrics is
decoded; if it lists the answers that it allows, they can also be ranked by likelihood. A task
without metrics (a pre-training objective) is scored by its perplexity.
"""

import collections
import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mto_jax import errors, peers
from mto_jax.data import loader
from mto_jax.data.manifest import Prepared
from mto_jax.decoding import generation as decoding_lib
from mto_jax.decoding import scoring
from mto_jax.decoding.generation import Decoding
from mto_jax.evaluation.result import Result
from mto_jax.evaluation.task_metrics import all_metrics
from mto_jax.metrics import statistics
from mto_jax.metrics import text as metrics_lib
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text import task as tasks
from mto_jax.text2text import tokenising
from mto_jax.text2text.answers import answer, slots
from mto_jax.text2text.task import Task
from mto_jax.text2text.templates import Template
from mto_jax.text2text.tokenising import SoftPrompt
from mto_jax.text2text.vocabulary import Vocabulary


def alone(items: Sequence, work: Callable[[Sequence, int], Sequence]) -> Sequence:
    """`peers.over` of a process that works by itself: the results of `work`."""
    return work(items, 0)


Spread = Callable[[Sequence, Callable[[Sequence, int], Sequence]], Sequence]
Example = Mapping[str, Any]  # a record of prepared data, or `text2text.task.example`


def evaluate_dataset(
    model: EncoderDecoder,
    prepared: Prepared,
    vocabulary: Vocabulary,
    decoding: Decoding,
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] = lambda count: None,
) -> Result:
    """Evaluate `model` on every example of one prepared task (not a mixture: take its `tasks`).

    On several hosts all processes make this call, each with the model on its own devices; each
    decodes and scores a part of the examples, and all return the whole result.

    Args:
      progress: called with the number of examples just done.

    Raises:
      UserError: the task was prepared with another vocabulary, or names a metric that cannot be
        imported or whose model is missing. An exception in a metric is not caught.
    """
    check_vocabulary(prepared, vocabulary)
    functions = all_metrics(prepared)
    if not functions:
        return _perplexity(model, prepared, vocabulary, batch_size, progress)
    examples = [
        example
        for _, examples in loader.eval_batches(prepared, batch_size=batch_size)
        for example in examples
    ]
    if not examples[0].get("references"):  # a task of SeqIO alone
        functions = [*map(metrics_lib.on_texts, functions)]
    result = evaluate_examples(
        model,
        examples,
        functions,
        vocabulary,
        decoding,
        spread=peers.over,
        batch_size=batch_size,
        progress=progress,
    )
    return dataclasses.replace(result, task=prepared.name, split=prepared.split)


def evaluate_records(
    model: EncoderDecoder,
    task: Task,
    template: Template,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    *,
    soft: SoftPrompt | None = None,
    decoding: Decoding | None = None,
    asking: Callable[[Sequence[int]], Sequence[int]] | None = None,
    rank: bool = False,
    batch_size: int = 32,
    progress: Callable[[int], None] = lambda count: None,
) -> Result:
    """Evaluate `model` on the held-out records of a task under a template.

    Args:
      lengths: most tokens of "inputs" and "targets".
      soft: which rows a soft prompt has; None means gin's.
      decoding: None is greedy, whatever gin says.
      asking: makes what the model reads of the source of a record, see `in_context.asking`.
      rank: score by likelihood as well, where all records list the answers that are allowed.
      progress: called with the number of examples just decoded.

    Raises:
      UserError: a record that does not fit the lengths, or a metric whose model is missing.
    """
    decoding = decoding or Decoding.from_dict({"max_length": lengths["targets"]})
    examples = tokenising.all_of(
        lambda record: tasks.example(template, record, task.wording, vocabulary, lengths, soft),
        task.held_out,
    )
    if asking:
        examples = [example | {"inputs": asking(example["inputs"])} for example in examples]
    result = evaluate_examples(
        model,
        examples,
        all_metrics(task),
        vocabulary,
        decoding,
        rank=rank,
        decides=task.metrics.decides,
        batch_size=batch_size,
        progress=progress,
    )
    return dataclasses.replace(result, task=task.name)


def evaluate_examples(
    model: EncoderDecoder,
    examples: Sequence[Example],
    functions: Sequence[metrics_lib.Metric],
    vocabulary: Vocabulary,
    decoding: Decoding,
    *,
    rank: bool = True,
    decides: str = "",
    spread: Spread = alone,
    batch_size: int = 32,
    progress: Callable[[int], None] = lambda count: None,
) -> Result:
    """Predict and score examples.

    With `Decoding.num_outputs` above 1 the likeliest output is the prediction that is scored.
    Beside it stands the score of the paper's authors, "best_of_K_NAME": for every example the
    greatest score of its K outputs, chosen with the references in hand, so it is no score of what
    the model answers.

    Args:
      rank: score by likelihood as well, where all examples list the answers that are allowed.
      decides: name of the value by which the best constant answer is chosen; "" for the first.
      spread: `peers.over` where all processes make this call, to cut the examples over them.
    """

    def answers(part: Sequence[Example], first: int) -> list[list[decoding_lib.Output]]:
        return predict(
            model,
            part,
            vocabulary,
            decoding,
            batch_size=batch_size,
            first_index=first,
            progress=progress,
        )

    outputs = spread(examples, answers)
    rows = [
        _row(example, candidates[0], vocabulary)
        for example, candidates in zip(examples, outputs, strict=True)
    ]
    targets = [row["references"] for row in rows]
    for doubt in metrics_lib.doubts(functions, targets):
        _warn(doubt)
    metrics, resampled = score(functions, targets, [row["prediction"] for row in rows])
    if decoding.num_outputs > 1:
        predictions_KxN = [
            [
                _row(e, candidates[min(k, len(candidates) - 1)], vocabulary)["prediction"]
                for e, candidates in zip(examples, outputs, strict=True)
            ]
            for k in range(decoding.num_outputs)
        ]
        metrics |= best_of(functions, targets, predictions_KxN)
    scores = {
        name: values for known in resampled.values() for name, values in known.per_example.items()
    }
    if rank and all(len(example.get("choices", ())) for example in examples):
        ranked, ranked_scores = _rank(model, examples, rows, vocabulary, batch_size, spread)
        metrics |= ranked
        scores |= ranked_scores
    for i, row in enumerate(rows):
        row["scores"] = {name: float(values[i]) for name, values in scores.items()}
    constant = best_constant(functions, targets, decides).values
    return Result(
        "", "", metrics, rows, {name: known.value for name, known in constant.items()}, resampled
    )


@functools.cache  # once, however many models are evaluated
def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


def predict(
    model: EncoderDecoder,
    examples: Sequence[Example],
    vocabulary: Vocabulary,
    decoding: Decoding,
    *,
    batch_size: int = 32,
    first_index: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> list[list[decoding_lib.Output]]:
    """Returns the outputs of each example, best first.

    The soft tokens at the start of its target are the decoder's prefix.
    """
    prefixes = [tuple(vocabulary.soft_prefix(example["targets"])) for example in examples]
    outputs: list[list[decoding_lib.Output]] = [[] for _ in examples]
    for prefix in dict.fromkeys(prefixes):
        rows = [i for i, own in enumerate(prefixes) if own == prefix]
        decoded = decoding_lib.decode(
            model,
            [examples[i]["inputs"] for i in rows],
            decoding,
            vocabulary,
            soft_prefix=prefix,
            batch_size=batch_size,
            first_index=first_index,
            progress=progress,
        )
        for i, candidates in zip(rows, decoded, strict=True):
            outputs[i] = candidates
    return outputs


def choice_ids(examples: Sequence[Example], vocabulary: Vocabulary) -> list[list[list[int]]]:
    """Returns the token ids of each example's choices, with EOS, behind the decoder's prefix."""
    return [
        [[*prefix, *vocabulary.encode(choice), vocabulary.eos_id] for choice in example["choices"]]
        for example in examples
        for prefix in [vocabulary.soft_prefix(example["targets"])]
    ]


def score(
    functions: Sequence[metrics_lib.Metric],
    targets: metrics_lib.References,
    predictions: Sequence[str],
) -> tuple[dict[str, statistics.Interval], dict[str, statistics.Statistics]]:
    """Returns (values with intervals, the `Statistics` of those that have them), both by name."""
    resampled = [f.statistics(targets, predictions) for f in functions if hasattr(f, "statistics")]
    values = statistics.bootstrap(*resampled) if resampled else {}
    known = {name: statistic for statistic in resampled for name in statistic.value()}
    for function in functions:
        if not hasattr(function, "statistics"):
            plain = function(targets, predictions)
            values |= {name: statistics.Interval(float(value)) for name, value in plain.items()}
    return values, known


class Constant(NamedTuple):
    """One answer to everything: its text, values with intervals, and what these come of."""

    answer: str
    values: dict[str, statistics.Interval]
    resampled: dict[str, statistics.Statistics]


def best_constant(
    functions: Sequence[metrics_lib.Metric], targets: metrics_lib.References, decides: str = ""
) -> Constant:
    """Returns the best single answer to every example: what knowing no example is worth.

    Best of the twenty commonest references, so no constant guess can do much better.

    Args:
      decides: the value by which answers are compared; "" for the first that there is.
    """
    return _best_constant(tuple(functions), tuple(map(tuple, targets)), decides)


@functools.lru_cache(maxsize=64)
def _best_constant(functions, targets, decides: str) -> Constant:
    counts = collections.Counter(itertools.chain.from_iterable(targets))
    commonest = [text for text, _ in counts.most_common(20)]
    gold = [texts[0] for texts in targets]
    # Only the metric that decides is asked twenty times.
    by = next((f for f in functions if decides in f(targets, gold)), functions[0])

    def value(answer: str) -> float:
        values = by(targets, [answer] * len(targets))
        return values.get(decides, next(iter(values.values())))

    best = max(commonest, key=value)
    values, resampled = score(functions, targets, [best] * len(targets))
    first = decides if decides in values else next(iter(values))
    return Constant(best, {first: values[first]} | values, resampled)


def best_of(
    functions: Sequence[metrics_lib.Metric],
    targets: metrics_lib.References,
    predictions_KxN: Sequence[Sequence[str]],
) -> dict[str, statistics.Interval]:
    """Returns "best_of_K_NAME" by name: the mean over examples of the greatest of K scores."""
    best: dict[str, np.ndarray] = {}
    for function in functions:
        if hasattr(function, "statistics"):
            scores_K = [function.statistics(targets, p).per_example for p in predictions_KxN]
            for name in scores_K[0]:
                scores_KxN = np.stack([scores[name] for scores in scores_K])
                best[f"best_of_{len(scores_K)}_{name}"] = scores_KxN.max(axis=0)
    return statistics.bootstrap(statistics.mean(best)) if best else {}


def check_vocabulary(prepared: Prepared, vocabulary: Vocabulary) -> None:
    """Raises a UserError if the task was tokenised with another vocabulary than the model's."""
    if prepared.vocabulary["digest"] != vocabulary.digest:
        raise errors.UserError(
            f"The data of {prepared.name} ({prepared.split}) were prepared with the vocabulary "
            f"{prepared.vocabulary['name']!r}, but the model reads {vocabulary.path!r}: the token "
            "ids mean other words. Set VOCABULARY (vocabulary.name) to the model's; the data are "
            "then prepared again."
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
    if len(example.get("choices", ())):
        row["choices"] = [answer(choice, slots(choice)) for choice in example["choices"]]
    return row


def _rank(model, examples, rows, vocabulary, batch_size, spread):
    """Accuracy of the best of the allowed answers by each rule of `scoring.best_choices`.

    Writes the answer with the greatest sum into each row as "ranked_prediction".
    """

    def score_part(part, first):
        del first
        inputs, choices = [example["inputs"] for example in part], choice_ids(part, vocabulary)
        options = {"batch_size": batch_size}
        scored = scoring.score_choices(model, inputs, choices, vocabulary, **options)
        neutral = scoring.unconditional(model, inputs, choices, vocabulary, **options)
        return [(*scores, prior) for scores, prior in zip(scored, neutral, strict=True)]

    scored: Sequence[Any] = spread(examples, score_part)
    names = {
        "ranked_accuracy": "sum",
        "ranked_accuracy_mean": "mean",
        "ranked_accuracy_pmi": "pmi",
    }
    hits = {name: np.zeros(len(rows)) for name in names}
    for i, (example, row) in enumerate(zip(examples, rows, strict=True)):
        best = scoring.best_choices(*scored[i])
        # Compared as texts of the target, sentinels included: equal only if it is the same choice.
        for name, rule in names.items():
            hits[name][i] = example["choices"][best[rule]] == example["targets_pretokenized"]
        row["ranked_prediction"] = example["choices"][best["sum"]]
    return statistics.bootstrap(statistics.mean(hits)), hits


def _perplexity(model, prepared, vocabulary, batch_size, progress) -> Result:
    batches = math.ceil(prepared.num_examples / batch_size)

    def score_batches(numbers, first):
        scored = []
        for batch, examples in itertools.islice(
            loader.eval_batches(prepared, batch_size=batch_size), first, first + len(numbers)
        ):
            sums_B, counts_B = map(np.asarray, scoring.log_likelihood(model, batch))
            rows = [
                {
                    "input": vocabulary.decode(example["inputs"]),
                    "references": [vocabulary.decode(example["targets"])],
                    "log_likelihood": float(sums_B[i]),
                    "tokens": int(counts_B[i]),
                }
                for i, example in enumerate(examples)
            ]
            scored.append((rows, sums_B[: len(rows)], counts_B[: len(rows)]))
            progress(len(examples))
        return scored

    scored = peers.over(range(batches), score_batches)
    rows = [row for part, _, _ in scored for row in part]
    sums, counts = (np.concatenate([part[i] for part in scored]) for i in (1, 2))

    def finish(totals, num_examples):
        del num_examples
        return {"perplexity": np.exp(-totals[..., 0] / totals[..., 1])}

    known = statistics.Statistics(np.stack([sums, counts], axis=-1).astype(float), finish)
    return Result(prepared.name, prepared.split, statistics.bootstrap(known), rows)
