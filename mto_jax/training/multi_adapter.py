# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Multi-adapter training: K prompts, LoRAs, ... over a frozen model in a single compiled step.

Every candidate has its own examples, parameters, learning rate, steps and early stopping, and
trains as if it were alone: the step is `jax.vmap` of a single step, in which the frozen weights are
not repeated. So K candidates with a few examples each keep the matrix units as busy as one large
batch would.
"""

import dataclasses
import functools
import io
import math
import os
import pathlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np

from mto_jax import checks
from mto_jax.errors import UserError
from mto_jax.files import digest, write_atomically
from mto_jax.models import adapters as adapters_lib
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import ModelConfig
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.models.families import build
from mto_jax.training import multi_adapter_step, sharding
from mto_jax.training import state as states
from mto_jax.training.finetune import Example, Loss, epochs, row_lengths
from mto_jax.training.optimizers import Optimizer

# Steps that may be on their way to the device while the host continues.
LOOKAHEAD = 2


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An adapter to train, one of K.

    Attributes:
      name: how messages and results call it.
      examples: token ids of inputs and targets; soft tokens are ids from the model's `vocab_size`
        on.
      dev: examples whose loss decides when to stop and which parameters are kept; none: the last
        are.
      learning_rate: peak rate; None takes the optimizer's.
      seed: of the order of the examples, of dropout and of fresh parameters.
      initial: parameters, by name, that do not start as `Adapters` makes them.
    """

    name: str
    examples: Sequence[Example]
    dev: Sequence[Example] = ()
    learning_rate: float | None = None
    seed: int = 0
    initial: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A trained candidate.

    Attributes:
      name: of the candidate.
      parameters: the adapter's parameters by name, prompt encoders included (see `adapters.fold`).
      step: the step after which they were taken; 0: as they started.
      diverged: the evaluation at which the loss was not finite, where the training ended; None: it
        never was.
      dev_losses: (step, dev loss per target token) until it stopped; empty without dev examples.
    """

    name: str
    parameters: dict[str, np.ndarray]
    step: int
    diverged: int | None
    dev_losses: tuple[tuple[int, float], ...]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class MultiAdapterTuning:
    """The settings of multi-adapter training.

    Attributes:
      epochs: over a candidate's own examples.
      batch_size: examples of one candidate in a step; a step has K times as many.
      optimizer: None means `Optimizer()`, as gin binds it. Schedules run over a candidate's own
        steps.
      dropout_rate: None means the model's own.
      evaluations: how often in the longest training the dev loss is taken (and the state kept).
      patience: evaluations without a better dev loss after which a candidate stops; None: never
        early.
    """

    epochs: checks.Count = 15
    batch_size: checks.Count = 8
    optimizer: Optimizer | None = None
    dropout_rate: checks.Share | None = 0.0
    evaluations: checks.Count = 10
    patience: checks.Count | None = None

    def __post_init__(self) -> None:
        checks.check_fields(self)

    def steps(self, examples: int) -> int:
        """Steps of a candidate's training on so many examples."""
        return epochs(self.epochs, examples, self.batch_size)


def tune_adapters(
    model: EncoderDecoder,
    adapters: Adapters,
    candidates: Sequence[Candidate],
    tuning: MultiAdapterTuning,
    *,
    lengths: Mapping[str, int] | None = None,
    state_file: str | os.PathLike | None = None,
    progress: Callable[[int, Loss], None] = lambda count, loss: None,
) -> list[Tuned]:
    """Trains the adapters of all candidates on the frozen `model`; returns them in their order.

    The results are those of training each alone. The candidates are sharded over as many local
    devices as divide K, the examples of each over those that remain. The devices that a model is
    cut over share the work on each candidate.

    Args:
      lengths: {"inputs": S, "targets": T} of all rows; None takes the least multiples of 8 that
        hold all examples.
      state_file: where the state is kept at every evaluation; a run that finds its own state there
        resumes from it, bit for bit.
      progress: called after every step of all candidates with 1 and a function: the mean loss of
        that step, for which the device must be waited for.

    Raises:
      UserError: a candidate without examples, examples that do not fit, a soft token without a row,
        parameters of another shape, too many candidates for the memory, a state file that is
        damaged or of another run.
    """
    S, T = _check(model, adapters, candidates, lengths)
    optimizer = tuning.optimizer or Optimizer()
    config = model.config
    if tuning.dropout_rate is not None:
        config = dataclasses.replace(config, dropout_rate=tuning.dropout_rate)
    K, b = len(candidates), tuning.batch_size
    parameters = states.by_name(model)
    mesh = sharding.mesh_of(parameters.values())
    rounded = tuple(name for name, value in parameters.items() if value.dtype == jnp.bfloat16)
    program = multi_adapter_step.program(
        multi_adapter_step.Shape(config, adapters, K, b, S, T, optimizer, mesh, rounded)
    )
    place = functools.partial(jax.device_put, device=program.cut)

    steps_K = np.array([tuning.steps(len(candidate.examples)) for candidate in candidates])
    total = int(steps_K.max())
    period = math.ceil(total / tuning.evaluations)
    train_KxNx, dev_KxNx = (
        _padded([getattr(candidate, part) for candidate in candidates], S, T)
        for part in ("examples", "dev")
    )
    rows_NxKxb = _orders(candidates, steps_K, b)
    rates_NxK = _rates(optimizer, candidates, steps_K)
    keys_Kx2 = np.stack([jax.random.key_data(jax.random.key(c.seed)) for c in candidates])
    frozen = program.unstack(jax.device_put(parameters, program.frozen))
    trained, fixed = _initial(program, adapters, candidates)
    fixed, carry = place(fixed), program.start(place(trained))
    tracker = _Tracker.start(trained)
    if state_file is not None:
        identity = _identity(parameters, adapters, candidates, tuning, (S, T))
        tracker, carry = tracker.load(pathlib.Path(state_file), identity, carry)
        carry = place(carry)

    sums = []
    for step in range(tracker.step, total):
        active_K = tracker.active & (step < steps_K)
        if not active_K.any():
            break
        control = {
            "rate": rates_NxK[step],
            "active": active_K,
            "key": keys_Kx2,
            "step": np.full(K, step, np.int32),
        }
        batch = _taken(train_KxNx, rows_NxKxb[step])
        batch = jax.device_put(batch, program.tokens)
        carry, step_sums = program.step(frozen, fixed, carry, batch, place(control))
        sums.append(step_sums)
        if len(sums) > LOOKAHEAD:
            jax.block_until_ready(sums[-1 - LOOKAHEAD])
        progress(1, functools.partial(_mean_loss, step_sums))
        last = not (tracker.active & (step + 1 < steps_K)).any()
        if (step + 1) % period == 0 or last:
            dev = _dev_sums(program, frozen, fixed, carry["parameters"], dev_KxNx, b)
            tracker.update(step + 1, steps_K, jax.device_get(sums), dev, carry, tuning.patience)
            sums = []
            if state_file is not None:
                tracker.save(pathlib.Path(state_file), identity, carry)
    return tracker.results(candidates, jax.device_get(fixed))


def _mean_loss(sums: Mapping[str, jax.Array]) -> float:
    sums = jax.device_get(sums)
    return float(np.sum(sums["loss"]) / np.sum(sums["weight"]))


def attach(
    model: EncoderDecoder, adapters: Adapters, parameters: Mapping[str, Any]
) -> EncoderDecoder:
    """Returns `model` with an adapter, its prompt encoder folded into a table."""
    spec = _spec(model.config, adapters.folded)
    return spec.merge({**states.by_name(model), **adapters_lib.fold(parameters, adapters)})


@functools.lru_cache(maxsize=8)
def _spec(config: ModelConfig, adapters: Adapters) -> states.AbstractModel:
    return states.abstract_model(functools.partial(build, config, adapters=adapters))


# ---- Before the first step --------------------------------------------------------------------


def _check(model, adapters, candidates, lengths) -> tuple[int, int]:
    """Returns (S, T) of the rows.

    Raises:
      UserError: no candidates, or one without a name of its own, without examples or with wrong
        tokens.
    """
    if not candidates:
        raise UserError("There is nothing to tune: the list of candidates is empty.")
    names = [candidate.name for candidate in candidates]
    for candidate in candidates:
        if names.count(candidate.name) > 1:
            raise UserError(
                f"Two candidates are called {candidate.name!r}; each needs its own name."
            )
        if not candidate.examples:
            raise UserError(f"The candidate {candidate.name!r} has no examples to train on.")
        highest = max(max(ids) for example in candidate.examples for ids in example)
        if highest >= model.config.vocab_size + adapters.prompt_rows:
            raise UserError(
                f"An example of {candidate.name!r} has the token {highest}, but the model has "
                f"{model.config.vocab_size} and its prompt {adapters.prompt_rows} rows. Raise "
                "PromptTuning.rows (PROMPT_LENGTH), or take a template without a soft prompt."
            )
    every = [e for c in candidates for part in (c.examples, c.dev) for e in part]
    # One shape for all: there is no need for the few lengths of buckets.
    return row_lengths(every, lengths, rounded=lambda longest: longest + -longest % 8)


def _padded(sets, S: int, T: int) -> dict[str, np.ndarray]:
    """Returns examples of K candidates as arrays [K, N + 1, S] and [..., T], the last row empty."""
    N = max(map(len, sets))
    arrays = {}
    for name, side, size in (("inputs_BxS", 0, S), ("targets_BxT", 1, T)):
        rows_KxNx = np.zeros((len(sets), N + 1, size), np.int32)
        for rows, examples in zip(rows_KxNx, sets, strict=True):
            for row, example in zip(rows, examples, strict=False):
                row[: len(example[side])] = example[side]
        arrays[name] = rows_KxNx
    return arrays


def _taken(data: Mapping[str, np.ndarray], rows_Kxb: np.ndarray) -> dict[str, np.ndarray]:
    return {
        name: np.take_along_axis(rows_KxNx, rows_Kxb[:, :, None], axis=1)
        for name, rows_KxNx in data.items()
    }


def _orders(candidates, steps_K: np.ndarray, b: int) -> np.ndarray:
    """Returns the examples of every step, [steps, K, b], shuffled every epoch as in `fit`.

    The last batch of an epoch is padded with the empty row; so are the steps after a candidate's
    last.
    """
    rows_NxKxb = np.full((steps_K.max(), len(candidates), b), -1)
    for k, candidate in enumerate(candidates):
        rng = np.random.default_rng(candidate.seed)
        left: list[int] = []
        for step in range(steps_K[k]):
            left = left or rng.permutation(len(candidate.examples)).tolist()
            taken, left = left[:b], left[b:]
            rows_NxKxb[step, k, : len(taken)] = taken
    return rows_NxKxb


def _rates(optimizer: Optimizer, candidates, steps_K: np.ndarray) -> np.ndarray:
    """Returns the learning rate of each candidate at each step, [steps, K]; 0 after its last."""
    rates_NxK = np.zeros((steps_K.max(), len(candidates)), np.float32)
    for k, (candidate, steps) in enumerate(zip(candidates, steps_K, strict=True)):
        peak = candidate.learning_rate
        own = optimizer if peak is None else dataclasses.replace(optimizer, learning_rate=peak)
        schedule = own.rate(int(steps))
        rates_NxK[:steps, k] = np.broadcast_to(jax.vmap(schedule)(np.arange(steps)), steps)
    return rates_NxK


def _initial(program, adapters: Adapters, candidates) -> tuple[dict, dict]:
    """Returns the parameters [K, ...] that train, and those that never do."""
    stacked: dict[str, list] = {}
    for candidate in candidates:
        parameters = jax.device_get(program.fresh(jax.random.key(candidate.seed)))
        for name, value in candidate.initial.items():
            wanted = getattr(parameters.get(name), "shape", "no such parameter")
            if np.shape(value) != wanted:
                raise UserError(
                    f"The initial {name} of {candidate.name!r} has the shape {np.shape(value)}; "
                    f"the adapter has {wanted}. Its length is PromptTuning.rows, its width the "
                    "model's d_model."
                )
        for name, value in adapters.started(parameters | candidate.initial).items():
            stacked.setdefault(name, []).append(np.asarray(value, np.float32))
    arrays = {name: np.stack(values) for name, values in stacked.items()}
    trained = {name: value for name, value in arrays.items() if adapters_lib.trains(name)}
    return trained, {name: value for name, value in arrays.items() if name not in trained}


def _dev_sums(program, frozen, fixed, parameters, dev, b: int) -> dict[str, np.ndarray]:
    """Returns {"loss": [K], "weight": [K]}, sums over all dev examples."""
    N = dev["inputs_BxS"].shape[1] - 1
    K = dev["inputs_BxS"].shape[0]
    sums = []
    for start in range(0, N, b):
        rows = np.where(np.arange(start, start + b) < N, np.arange(start, start + b), -1)
        batch = jax.device_put(_taken(dev, np.broadcast_to(rows, (K, b))), program.tokens)
        sums.append(program.evaluate(frozen, fixed, parameters, batch))
    return {
        name: np.sum([batch[name] for batch in jax.device_get(sums)], axis=0)
        for name in ("loss", "weight")
    }


# ---- Between evaluations ----------------------------------------------------------------------


@dataclasses.dataclass
class _Tracker:
    """Progress, early stopping and the best parameters of every candidate."""

    step: int
    active: np.ndarray  # [K] bool: neither stopped early nor diverged
    best: dict[str, np.ndarray]  # [K, ...]
    best_step: np.ndarray  # [K]
    best_loss: np.ndarray  # [K]
    diverged: np.ndarray  # [K] step, or -1
    curves: np.ndarray  # [evaluations, 2, K]: step, dev loss; NaN where there is none

    @classmethod
    def start(cls, parameters: Mapping[str, np.ndarray]) -> "_Tracker":
        K = len(next(iter(parameters.values())))
        return cls(
            step=0,
            active=np.ones(K, bool),
            best={name: value.copy() for name, value in parameters.items()},
            best_step=np.zeros(K, int),
            best_loss=np.full(K, np.inf),
            diverged=np.full(K, -1),
            curves=np.zeros((0, 2, K)),
        )

    def update(self, step, steps_K, sums, dev, carry, patience: int | None) -> None:
        """Records an evaluation: keeps the best parameters and stops candidates early."""
        # The candidates that have trained since the last evaluation, and up to which of their
        # steps.
        active_K, step_K = self.active & (self.step < steps_K), np.minimum(step, steps_K)
        summed = {
            name: np.sum([step_sums[name] for step_sums in sums], axis=0)
            for name in ("loss", "weight")
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            dev_K = np.where(active_K, np.divide(dev["loss"], dev["weight"]), np.nan)
        judged_K = np.broadcast_to(dev["weight"], active_K.shape) > 0
        parameters = jax.device_get(carry["parameters"])
        finite_K = np.isfinite(summed["loss"]) & (np.isfinite(dev_K) | ~judged_K)
        for value in parameters.values():
            finite_K = finite_K & np.isfinite(value).reshape(len(value), -1).all(axis=1)
        self.diverged = np.where(active_K & ~finite_K, step_K, self.diverged)
        # Without dev examples the last parameters are the best.
        better_K = active_K & finite_K & (~judged_K | (dev_K < self.best_loss))
        for name, value in parameters.items():
            self.best[name][better_K] = value[better_K]
        self.best_step = np.where(better_K, step_K, self.best_step)
        self.best_loss = np.where(better_K & judged_K, dev_K, self.best_loss)
        self.curves = np.concatenate([self.curves, [[step_K, dev_K]]])
        self.active = self.active & (self.diverged < 0)
        if patience is not None:
            later_NxK = (self.curves[:, 0] > self.best_step) & ~np.isnan(self.curves[:, 1])
            self.active = self.active & (later_NxK.sum(axis=0) < patience)
        self.step = step

    def results(self, candidates, fixed: Mapping[str, np.ndarray]) -> list[Tuned]:
        def curve(k: int) -> tuple[tuple[int, float], ...]:
            points = self.curves[:, :, k]
            return tuple((int(step), float(loss)) for step, loss in points if not np.isnan(loss))

        return [
            Tuned(
                name=candidate.name,
                parameters={name: v[k] for name, v in {**self.best, **fixed}.items()},
                step=int(self.best_step[k]),
                diverged=int(self.diverged[k]) if self.diverged[k] >= 0 else None,
                dev_losses=curve(k),
            )
            for k, candidate in enumerate(candidates)
        ]

    def save(self, path: pathlib.Path, identity: str, carry) -> None:
        """Writes everything that a run needs to resume, atomically."""
        leaves = jax.tree.leaves(jax.device_get(carry))
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "best"}
        arrays = {
            "identity": np.array(identity),
            **{f"tracker.{name}": np.asarray(value) for name, value in own.items()},
            **{f"best.{name}": value for name, value in self.best.items()},
            **{f"carry.{i}": leaf for i, leaf in enumerate(leaves)},
        }
        content = io.BytesIO()
        np.savez(content, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())

    def load(self, path: pathlib.Path, identity: str, carry):
        """Returns (tracker, carry) of a state file; as they are if there is none."""
        if not path.exists():
            return self, carry
        try:
            with np.load(path) as file:  # a zip archive: every array has a checksum
                arrays = dict(file)
            stored = str(arrays["identity"])
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is damaged ({error}). Remove it to train these candidates from the "
                "beginning."
            ) from error
        if stored != identity:
            raise UserError(
                f"{path} is the state of another run (other model, adapters, candidates or "
                "settings). Choose another output directory, or remove the file to start again."
            )
        fields = [field.name for field in dataclasses.fields(self) if field.name != "best"]
        own = {name: arrays[f"tracker.{name}"] for name in fields}
        best = {name: arrays[f"best.{name}"] for name in self.best}
        leaves, treedef = jax.tree.flatten(carry)
        carry = jax.tree.unflatten(treedef, [arrays[f"carry.{i}"] for i in range(len(leaves))])
        return _Tracker(**{**own, "step": int(own["step"]), "best": best}), carry


def _identity(parameters, adapters, candidates, tuning, lengths) -> str:
    initial = [
        (name, digest(np.asarray(value, np.float32).tobytes()))
        for c in candidates
        for name, value in sorted(c.initial.items())
    ]
    parts = [(c.name, c.learning_rate, c.seed, c.examples, c.dev) for c in candidates]
    shared = (states.fingerprints(parameters), adapters, tuning, lengths)
    return digest(repr((shared, parts, initial)))
