# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The results of cells: what a model scores on the task, the facts or the objective it is asked."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.decoding.scoring import log_likelihood
from mto_jax.evaluation.evaluator import best_constant, evaluate_records
from mto_jax.evaluation.task_metrics import all_metrics, deciding_value, value_names
from mto_jax.experiments import costs
from mto_jax.experiments.data import CellData
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.store import Result
from mto_jax.experiments.strategies import ADAPTER_METHODS, FINE_TUNE, UNTRAINED
from mto_jax.files import digest
from mto_jax.matching.teacher_forcing import tail_scores
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text import records
from mto_jax.text2text.task import Example, Task, tokenise
from mto_jax.text2text.templates import TEMPLATES, reference_texts, render
from mto_jax.training.finetune import row_lengths

DEV_LOSS = "dev_loss"  # the metric; per target token
LOSS = "loss"  # the metric; per target token of each example
# The metric: whether each word of a reference is the frozen model's first choice among all words,
# given those before, where the fact is asked as a sentence of a text, without the task's name in
# front. What a model knows, however long an answer its pre-training has taught it.
RECALL = "recall"
_AT_ONCE = 32  # examples
HELD_OUT = 256  # validation examples of an objective whose loss is asked for


def metrics(cell: Cell, own: Task, asked: Task, has_dev: bool) -> list[str]:
    """Returns the metrics that the result of a cell will have.

    Args:
      own, asked: the tasks that it trains on and is tested on.
      has_dev: there are dev heads.
    """
    if cell.method == "recall" or cell.measure:
        return [LOSS if cell.measure == "loss" else RECALL]
    names = [*value_names(asked, TEMPLATES[cell.asked.template])]
    if has_dev and cell.method in FINE_TUNE:
        names.append(f"validation_{deciding_value(own, TEMPLATES[cell.template])}")
    if has_dev and cell.method in ("frozen", *ADAPTER_METHODS):
        names.append(DEV_LOSS)
    return [*names, *(costs.METRICS if cell.method != "constant" else ())]


def answers(
    model: EncoderDecoder,
    data: CellData,
    more: Mapping[str, float],
    asking: Callable[[Sequence[int]], list[int]] | None = None,
) -> dict[str, Any]:
    """Returns the result of the model's answers; `more` are values beside the metrics of these."""
    result = evaluate_records(
        model,
        data.tested.task,
        data.tested_template,
        data.vocabulary,
        data.lengths,
        soft=data.soft,
        asking=asking,
    )
    values = {**result.values(), **more}
    return _result(data, result.scores, values, result.predictions, result.constant)


def validation(model: EncoderDecoder, data: CellData) -> dict[str, float]:
    """Returns the deciding metric on the dev heads, as "validation_rougeL"; empty without them."""
    if not data.own.dev:
        return {}
    task = dataclasses.replace(data.own.task, held_out=data.own.dev)
    result = evaluate_records(model, task, data.template, data.vocabulary, data.lengths)
    name = deciding_value(task, data.template)
    return {f"validation_{name}": result.metrics[name].value}


def constant(data: CellData) -> Result:
    """Returns the result of the best single answer to every head."""
    task = data.own.task
    references = [reference_texts(data.template, r, task.wording) for r in task.held_out]
    best = best_constant(all_metrics(task), references, task.metrics.decides)
    scores = {
        name: scores_N.tolist()
        for statistics in best.resampled.values()
        for name, scores_N in statistics.per_example.items()
    }
    values = {name: interval.value for name, interval in best.values.items()}
    return _result(data, scores, values, [best.answer] * len(references))


def recall(model: EncoderDecoder, data: CellData) -> Result:
    """Returns the result of `RECALL`."""
    task, vocabulary = data.tested.task, data.vocabulary
    examples = tokenise(
        data.tested_template, task.held_out, task, vocabulary, data.lengths, as_sentence=True
    )
    scored = tail_scores(model, examples, vocabulary, rivals=vocabulary.words)
    known = iter([float(np.all(tail.rank_N == 0)) for tail in scored])
    counts = [sum(1 for _ in records.one_per_reference([record])) for record in task.held_out]
    scores = [float(np.mean(list(itertools.islice(known, count)))) for count in counts]
    return _result(data, {RECALL: scores}, {RECALL: float(np.mean(scores))}, [])


def objective_loss(model: EncoderDecoder, data: CellData, objective: DatasetConfig) -> Result:
    """Returns the result of the loss on prepared examples of an objective."""
    examples = loader.sample(loader.ensure(objective), HELD_OUT, seed=0)
    sum_N, count_N = _losses(model, examples)
    scores = (sum_N / count_N).tolist()
    result = _result(data, {LOSS: scores}, {LOSS: float(np.mean(scores))}, [])
    result["info"]["examples"] = digest(examples)[:16]
    return result


def mean_loss(model: EncoderDecoder, examples: Sequence[Example]) -> float:
    """Returns the loss per target token."""
    sum_N, count_N = _losses(model, examples)
    return float(sum_N.sum() / count_N.sum())


def _losses(model: EncoderDecoder, examples: Sequence[Example]) -> np.ndarray:
    """[2, N]: sums of the losses of each example's target tokens, and their numbers.

    EOS and sentinels count, as in `tune_adapters`.
    """
    capacity, scored = row_lengths(examples), []
    for start in range(0, len(examples), _AT_ONCE):
        rows = [
            {"inputs": np.asarray(inputs, np.int32), "targets": np.asarray(targets, np.int32)}
            for inputs, targets in examples[start : start + _AT_ONCE]
        ]
        batch = loader.assemble(rows, np.arange(len(rows)), _AT_ONCE, capacity)
        scored.append(np.array(log_likelihood(model, batch), float)[:, : len(rows)])
    sum_N, count_N = np.concatenate(scored, axis=1)
    return np.stack([-sum_N, count_N])


def _result(
    data: CellData,
    scores: Mapping[str, Sequence[float]],
    values: Mapping[str, float],
    predictions: Sequence[str],
    constant: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    task, template = data.tested.task, data.tested_template
    shown = task.held_out if predictions else ()
    trained_on = 0 if data.cell.method in UNTRAINED else len(data.training())
    return {
        "scores": scores,
        "values": values,
        "info": {
            "examples": digest([records.to_json(record) for record in task.held_out])[:16],
            "trained on": trained_on,
            "distinct predictions": len(set(predictions)),
            "predictions": predictions,
            "sources": [render(template, r, task.wording).source_text for r in shown],
            "references": [reference_texts(template, r, task.wording) for r in shown],
            "best constant answer": constant or {},
        },
    }
