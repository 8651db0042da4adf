# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small trainings in memory: a loaded model, a list of tokenised examples, some steps, a new model.

Few-shot probes, trainings on a handful of examples, classifiers and splitters are made this way: no
data set is prepared and no file is written. Fits of the same shape share one compiled step.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gin
import jax
import numpy as np
import optax
from flax import nnx

from mto_jax import checks
from mto_jax.data.batch import Batch
from mto_jax.data.loader import assemble
from mto_jax.data.packing import bucket
from mto_jax.errors import UserError
from mto_jax.models.config import ModelConfig
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.models.families import build
from mto_jax.training import sharding
from mto_jax.training import state as states
from mto_jax.training import step as steps_lib
from mto_jax.training.optimizers import Optimizer

Example = tuple[Sequence[int], Sequence[int]]  # token ids of inputs and targets, EOS at the end
Loss = Callable[[], float]


def fit(
    model: EncoderDecoder,
    examples: Sequence[Example],
    *,
    steps: int,
    batch_size: int = 8,
    optimizer: Optimizer | None = None,
    lengths: Mapping[str, int] | None = None,
    dropout_rate: float | None = None,
    trainable: str | Sequence[str] = "all",
    replay: Sequence[Example] = (),
    replay_share: float = 0.0,
    seed: int = 0,
    progress: Callable[[int, Loss], None] = lambda count, loss: None,
) -> EncoderDecoder:
    """Returns a copy of `model` trained for `steps` steps on `examples`.

    Every epoch takes the examples in a new order, one a row; the last batch of an epoch may be
    filled up with empty rows. Runs on one device, or on those that the model is cut over.

    Args:
      model: as `Checkpoint.model` gives it.
      examples: their token ids.
      steps: 0 returns a model with the same parameters; `epochs(...)` counts steps in epochs.
      batch_size: rows of a batch.
      optimizer: None means `Optimizer()`, as gin binds it.
      lengths: {"inputs": S, "targets": T} of a row; None takes the least bucket lengths that hold
        all examples, so that similar fits have one shape.
      dropout_rate: None takes the model's own.
      trainable: "all", or patterns of the names of the parameters that train, e.g. "decoder.*".
      replay: examples of what the model was pre-trained with, mixed in against forgetting.
      replay_share: their part of the rows, `replayed_rows` of each batch.
      seed: of the order and of dropout.
      progress: called after every step with 1 and a function: the mean loss so far of `examples`,
        for which the device must be waited for.

    Raises:
      UserError: no examples, one longer than `lengths`, a pattern that fits no parameter,
        parameters that were rounded to bfloat16, a batch that does not divide over the devices, or
        a loss that is NaN or infinite.
    """
    replay = replay if replay_share else ()
    if replay_share and not replay:
        raise UserError(f"replay_share is {replay_share}, but there is nothing to replay.")
    S, T = row_lengths([*examples, *replay], lengths)
    if steps == 0:
        return model
    config = model.config
    if dropout_rate is not None:
        config = dataclasses.replace(config, dropout_rate=dropout_rate)
    patterns = trainable if isinstance(trainable, str) else tuple(trainable)
    chosen = optimizer or Optimizer()
    states.check_float32(states.by_name(model), "trained")
    graphdef, parameters = nnx.split(model)
    leaves = jax.tree.leaves(parameters)
    if (mesh := sharding.mesh_of(leaves)) is not None:
        sharding.check_batch(batch_size, mesh, name="batch_size")
    shape = _Shape(config, batch_size, S, T, chosen, steps, bool(replay), patterns, mesh)
    program = _program(shape)
    # The step donates its state, so it gets a copy.
    copies = map(jax.numpy.copy, leaves)
    named = dict(zip(program.spec.shapes, copies, strict=True))
    state = states.start(program.target, named, program.transformation, seed)
    totals = jax.device_put(program.zeros, sharding.replicated(program.mesh))

    def loss() -> float:
        sums = jax.device_get(totals)
        if replay:
            return float(sums["task_loss"][0] / sums["task_weight"][0])
        return float(sums["loss"] / sums["weight"])

    rows = replayed_rows(batch_size, replay_share)
    for batch in _batches(examples, replay, (batch_size - rows, rows), (S, T), steps, seed):
        state, totals = program.step(state, totals, sharding.place_whole(batch, program.mesh))
        progress(1, loss)
    if int(totals["bad_step"]) != steps_lib.NO_BAD_STEP:
        raise UserError(
            f"The loss became NaN or infinite at step {int(totals['bad_step'])} of {steps}. Lower "
            "the learning rate (Optimizer.learning_rate)."
        )
    trained = {**state.frozen, **state.trainable}
    leaves = [trained[name] for name in program.spec.shapes]
    return nnx.merge(graphdef, jax.tree.unflatten(jax.tree.structure(parameters), leaves))


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Tuning:
    """The settings of `fit`: call it with a model, examples and a seed."""

    epochs: checks.Count = 5
    batch_size: checks.Count = 8
    optimizer: Optimizer | None = None  # None means `Optimizer()`, as gin binds it
    dropout_rate: checks.Share | None = 0.0  # None means the model's own
    trainable: str | Sequence[str] = "all"  # or patterns of parameters' names
    replay_share: checks.Share = 0.0  # the part of the rows that is replayed; needs `replay`

    def __post_init__(self):
        checks.check_fields(self)

    def __call__(
        self,
        model: EncoderDecoder,
        examples: Sequence[Example],
        *,
        replay: Sequence[Example] = (),
        seed: int = 0,
        progress: Callable[[int, Loss], None] = lambda count, loss: None,
    ) -> EncoderDecoder:
        return fit(
            model,
            examples,
            steps=self.steps(len(examples)),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            dropout_rate=self.dropout_rate,
            trainable=self.trainable,
            replay=replay,
            replay_share=self.replay_share,
            seed=seed,
            progress=progress,
        )

    def steps(self, examples: int) -> int:
        """The steps of a training on so many examples, beside what is replayed."""
        own = self.batch_size - replayed_rows(self.batch_size, self.replay_share)
        return epochs(self.epochs, examples, own)


def replayed_rows(batch_size: int, share: float) -> int:
    """Returns the rows of a batch that are replayed: one at least of a share above 0.

    >>> replayed_rows(8, 0.25), replayed_rows(8, 0.01), replayed_rows(8, 0)
    (2, 1, 0)

    Raises:
      UserError: no row would be left for the task itself.
    """
    rows = max(1, round(batch_size * share)) if share else 0
    if rows >= batch_size:
        raise UserError(
            f"A replay share of {share:g} leaves no row of a batch of {batch_size} to the task "
            "itself. Lower it, or raise the batch size."
        )
    return rows


def complete(tuning: Any) -> Any:
    """Returns `tuning` (also a `MultiAdapterTuning`) with gin's optimizer in place of None."""
    return dataclasses.replace(tuning, optimizer=tuning.optimizer or Optimizer())


def epochs(count: int, examples: int, batch_size: int) -> int:
    """Returns the steps of `count` epochs over `examples` examples.

    >>> epochs(3, examples=5, batch_size=8), epochs(5, examples=90, batch_size=8)
    (3, 60)
    """
    return count * math.ceil(examples / batch_size)


def row_lengths(
    examples: Sequence[Example],
    lengths: Mapping[str, int] | None = None,
    rounded: Callable[[int], int] = bucket,
) -> tuple[int, int]:
    """Returns (S, T) of rows that hold all examples: `lengths`, or the longest, `rounded` up.

    Raises:
      UserError: no examples, or one longer than `lengths`.
    """
    if not examples:
        raise UserError("There is nothing to train on: the list of examples is empty.")
    longest = [max(len(example[i]) for example in examples) for i in (0, 1)]
    S, T = (lengths["inputs"], lengths["targets"]) if lengths else map(rounded, longest)
    if longest[0] > S or longest[1] > T:
        raise UserError(
            f"An example has {longest[0]} input or {longest[1]} target tokens, more than the "
            f"lengths {{'inputs': {S}, 'targets': {T}}} of the training. Raise them or shorten the "
            "example."
        )
    return S, T


def _batches(
    examples: Sequence[Example],
    replay: Sequence[Example],
    rows: tuple[int, int],
    capacity: tuple[int, int],
    steps: int,
    seed: int,
) -> Iterator[Batch]:
    """Batches of so many rows of each; with task ids 1 and 2 where something is replayed."""
    # What is replayed does not change the order of the examples.
    own = _endless(examples, rows[0], np.random.default_rng(seed))
    other = _endless(replay, rows[1], np.random.default_rng([seed, 1]))
    for _ in range(steps):
        first, second = next(own), next(other)
        row_N = np.r_[: len(first), rows[0] : rows[0] + len(second)]
        task_N = 1 + (row_N >= rows[0]) if replay else None
        yield assemble([*first, *second], row_N, sum(rows), capacity, task_N)


def _endless(
    examples: Sequence[Example], rows: int, rng: np.random.Generator
) -> Iterator[list[dict]]:
    """So many examples at a time, every epoch in a new order; the last of an epoch may be fewer."""
    made = [
        {"inputs": np.asarray(inputs, np.int32), "targets": np.asarray(targets, np.int32)}
        for inputs, targets in examples
    ]
    chosen: list[int] = []
    while True:
        chosen = chosen or rng.permutation(len(made)).tolist()
        taken, chosen = chosen[:rows], chosen[rows:]
        yield [made[i] for i in taken]


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Everything that a compiled step depends on."""

    config: ModelConfig
    batch_size: int
    S: int
    T: int
    optimizer: Optimizer
    steps: int
    replays: bool = False
    trainable: str | tuple[str, ...] = "all"
    mesh: jax.sharding.Mesh | None = None  # that the model is cut over

    def _key(self) -> str:
        optimizer = self.optimizer
        # The rate of every step but a constant one depends on the length of the run.
        constant = optimizer.schedule == "constant" and optimizer.warmup == 0
        return repr(dataclasses.replace(self, steps=0) if constant else self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shape) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class _Program(NamedTuple):
    """A compiled step and what its state is made with."""

    step: Any
    spec: states.AbstractModel
    target: states.TrainState
    transformation: optax.GradientTransformation
    zeros: dict[str, np.ndarray]
    mesh: jax.sharding.Mesh


@functools.lru_cache(maxsize=16)
def _program(shape: _Shape) -> _Program:
    one = jax.local_devices()[:1]
    mesh = shape.mesh or sharding.mesh(1, 1, 1, devices=one, slices=1)
    spec = states.abstract_model(functools.partial(build, shape.config))
    names = states.trainable_names(list(spec.shapes), shape.trainable)
    transformation = shape.optimizer.build(shape.steps)
    target = states.abstract_state(spec, names, transformation, mesh)
    loss = steps_lib.t5_loss(spec, mesh, packed=False, num_tasks=2 * shape.replays)
    lengths = {"inputs": shape.S, "targets": shape.T}
    batch = steps_lib.abstract_batch(shape.batch_size, lengths, mesh, task_ids=shape.replays)
    zeros = steps_lib.zero_totals(loss, target, batch)
    step = steps_lib.train_step(loss, transformation, shape.optimizer.rate(shape.steps))
    compiled = steps_lib.compile_step(step, target, zeros, batch, mesh)
    return _Program(compiled, spec, target, transformation, zeros, mesh)
