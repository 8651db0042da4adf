# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The functions of `import mto_jax as mto`: models and verbs with plain arguments.

Nothing has to be bound in gin; what is bound there counts where an argument says nothing.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax import errors
from mto_jax.console import progress_bar
from mto_jax.decoding.generation import Decoding
from mto_jax.decoding.model import Model, Prediction, Predictions
from mto_jax.evaluation.evaluator import Result, evaluate_records
from mto_jax.matching import match as matching
from mto_jax.matching.matching import Matching
from mto_jax.text2text import task as tasks
from mto_jax.text2text import templates
from mto_jax.text2text.record_sets import RecordSet, Wanted, read
from mto_jax.text2text.registration import register_file, register_records
from mto_jax.text2text.templates import Template
from mto_jax.training.finetune import epochs as steps_of
from mto_jax.training.finetune import fit
from mto_jax.training.optimizers import Optimizer

__all__ = [
    "Matching",
    "Model",
    "Prediction",
    "Predictions",
    "Result",
    "evaluate",
    "fine_tune",
    "load",
    "match",
    "register_file",
    "register_records",
]

LENGTHS = {"inputs": 400, "targets": 50}


def load(path: str | os.PathLike, checkpoint: str | int = "best") -> Model:
    """Returns the model of a checkpoint, on the first local device, with its own vocabulary.

    Args:
      path: "hf://org/name[@revision]", a run directory or a step of one, a folder of Hugging Face
        or T5X, or the folder of an adapter, which stands for its base with the adapter on it.
      checkpoint: of a run directory: "best", "newest" or the number of a step.

    Raises:
      UserError: nothing there, damaged, not a T5, or its vocabulary is not known.
    """
    model = Model.open(path, checkpoint)
    _ = model.network  # errors come here, not at the first use
    return model


def match(
    model: Model | str,
    tasks: Sequence[str],
    *,
    scores: Sequence[str] = ("expert", "length_rule", "ranks", "probe"),
    lengths: Mapping[str, int] = LENGTHS,
    output_dir: str | None = None,
    **settings: Any,
) -> Matching:
    """Returns which objective and template each task wants from a model.

    Args:
      model: a loaded one, or its path.
      tasks: names of data sets, as `register_file` got them, or "atomic_xIntent", "sst2", ...
      scores: what judges them: see `mto_jax.matching.match`.
      lengths: most tokens of inputs and targets.
      output_dir: also write table, figure, JSON and mapping there, and take from there what an
        earlier call has computed.
      settings: other parameters of `mto_jax.matching.match.match`, such as heads=50, shots=10, or
        objectives=["none", "lm"] with pairs=PairConfig(corpus="sentences.txt", ...), the raw text
        that the model is adapted on.

    Raises:
      UserError: an unknown task or score, or no model at the path.
    """
    return matching.match(
        tasks=tasks,
        initial_checkpoint_path=model,
        output_dir=output_dir,
        task_feature_lengths=lengths,
        scores=scores,
        **settings,
    )


def fine_tune(
    model: Model,
    task: str,
    template: str,
    *,
    heads: int | None = None,
    references: int = 3,
    epochs: int = 5,
    batch_size: int = 8,
    learning_rate: float = 5e-4,
    optimizer: str = "adafactor",
    dropout_rate: float = 0.1,
    lengths: Mapping[str, int] = LENGTHS,
    seed: int = 0,
    module: str | None = None,
) -> Model:
    """Returns a copy of a model that is trained on a task under a template, in memory.

    Args:
      model: stays as it is.
      task: name of a data set.
      template: name of one of its kind's templates, such as "MaskedPrompting", or what
        `match(...).templates` says.
      heads: train on so many heads (questions, texts); None takes the whole training split.
      references: most tails of each of these heads.
      epochs: times that every example is seen.
      batch_size: examples of a step.
      learning_rate: of every step.
      optimizer: name of an optimizer of optax.
      dropout_rate: in training.
      lengths: most tokens of inputs and targets.
      seed: of the order and of dropout.
      module: module(s) that register your own tasks, comma-separated.

    Raises:
      UserError: an unknown task or template, no records, or a loss that is NaN or infinite.
    """
    (known,) = read([Wanted(task, "train", heads, references)], module)
    examples = tasks.tokenise(
        _template(template, known),
        known.records,
        tasks.Task.of(known, dataclasses.replace(known, records=())),
        model.vocabulary,
        lengths,
    )
    steps = steps_of(epochs, len(examples), batch_size)
    with progress_bar(f"fine-tune {task}", steps) as advance:
        network = fit(
            model.network,
            examples,
            steps=steps,
            batch_size=batch_size,
            optimizer=Optimizer(name=optimizer, learning_rate=learning_rate),
            dropout_rate=dropout_rate,
            seed=seed,
            progress=lambda count, loss: advance(count),
        )
    return Model(model.config, model.vocabulary, f"{model.title} on {task}", lambda: network)


def evaluate(
    model: Model,
    task: str,
    template: str,
    *,
    split: str = "validation",
    heads: int | None = 100,
    references: int | None = 3,
    max_length: int | None = None,
    batch_size: int = 32,
    lengths: Mapping[str, int] = LENGTHS,
    module: str | None = None,
    **options: Any,
) -> Result:
    """Returns the predictions of a model on a task under a template, and their scores.

    Args:
      model: the model.
      task: name of a data set.
      template: see `fine_tune`.
      split: of the data set: "validation" or "test".
      heads: evaluate on so many heads, always the same; None takes all.
      references: most references of each; None keeps all.
      max_length: most tokens of a prediction; None takes `lengths["targets"]`.
      batch_size: examples at once.
      lengths: most tokens of inputs and targets.
      module: module(s) that register your own tasks, comma-separated.
      options: other fields of `Decoding`, such as preset="beam".

    Raises:
      UserError: an unknown task, split, template or option, or a metric whose model is missing.
    """
    decoding = Decoding.from_dict({"max_length": max_length or lengths["targets"], **options})
    (known,) = read([Wanted(task, split, heads, references)], module)
    with progress_bar(f"{task} ({split})", len(known.records)) as advance:
        result = evaluate_records(
            model.network,
            tasks.Task.of(dataclasses.replace(known, records=()), known),
            _template(template, known),
            model.vocabulary,
            lengths,
            decoding=decoding,
            batch_size=batch_size,
            progress=advance,
        )
    return dataclasses.replace(result, split=split)


def _template(name: str, known: RecordSet) -> Template:
    """The template of this name, if records of this kind have it."""
    fitting = {t.name: t for t in templates.templates_for(known.kind, known.wording)}
    if name not in fitting:
        raise errors.unknown(f"template of {known.task} called", name, fitting)
    return fitting[name]
