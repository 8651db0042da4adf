# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Optimizers and learning-rate schedules: names and numbers in gin, the mathematics in optax."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import gin
import jax
import jax.numpy as jnp
import optax

from mto_jax import checks
from mto_jax.errors import UserError, unknown


def _is_matrix(parameters: Mapping[str, jax.Array]) -> dict[str, bool]:
    """Returns whether each parameter decays: norm scales and relative position biases do not."""
    return {name: not name.endswith(("scale", "bias")) for name in parameters}


# Options that differ from optax's own defaults. Adafactor: method.md section 8 (no parameter
# scaling, so the learning rate is absolute; update clip 1.0; decay 1 - t^-0.8).
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "adafactor": {
        "multiply_by_parameter_scale": False,
        "clipping_threshold": 1.0,
        "decay_rate": 0.8,
        "weight_decay_mask": _is_matrix,
    },
    "adamw": {"weight_decay": 0.0, "mask": _is_matrix},
    "lamb": {"mask": _is_matrix},
    "lion": {"weight_decay": 0.0, "mask": _is_matrix},
}

# What optax offers as a whole optimizer that needs only gradients and parameters.
NAMES = (
    *("adafactor", "adagrad", "adam", "adamax", "adamw", "amsgrad", "fromage", "lamb"),
    *("lion", "nadam", "nadamw", "novograd", "radam", "rmsprop", "sgd", "yogi"),
)


def _rsqrt_schedule(peak: float, warmup: int) -> optax.Schedule:
    # `join_schedules` also asks for the steps before, which count down to -warmup.
    return lambda step: peak * jnp.sqrt(warmup / (jnp.maximum(step, 0) + warmup))


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The optimizer of a training; `options` go to `optax.NAME` as they are.

    Schedules, with peak `learning_rate` r, w warm-up steps (rising linearly from r/w, so that no
    step is wasted at rate zero), n steps in all and last rate f = final * r:
      constant  r
      linear    r -> f in a straight line over the n - w steps after the warm-up
      cosine    r -> f along half a cosine
      rsqrt     r * sqrt(w / step), w at least 1 (Raffel et al. 2020, section 3.1.2)
    """

    name: str = "adafactor"
    learning_rate: checks.NonNegative = 1e-3
    schedule: str = "constant"
    warmup: checks.NonNegative = 0  # steps; below 1 it is a fraction of the run
    final: checks.NonNegative = 0.0  # last rate of linear and cosine, a fraction of the peak
    clip_norm: checks.Positive | None = 1.0  # global norm of the gradient; None = no clipping
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        checks.check_fields(self)

    def rate(self, train_steps: int) -> optax.Schedule:
        """Learning rate as a function of the step (0 is the first).

        Raises:
          UserError: unknown schedule, or a warm-up longer than the run.
        """
        peak = self.learning_rate
        warmup = round(self.warmup * train_steps) if self.warmup < 1 else int(self.warmup)
        if warmup > train_steps:
            raise UserError(
                f"Optimizer.warmup = {self.warmup} means {warmup} steps, but the run has "
                f"{train_steps}. Give steps, or a fraction of the run below 1."
            )
        rest = max(train_steps - warmup, 1)
        schedules = {
            "constant": lambda: optax.constant_schedule(peak),
            "linear": lambda: optax.linear_schedule(peak, self.final * peak, rest),
            "cosine": lambda: optax.cosine_decay_schedule(peak, rest, self.final),
            "rsqrt": lambda: _rsqrt_schedule(peak, max(warmup, 1)),
        }
        if self.schedule not in schedules:
            raise unknown("schedule", self.schedule, schedules)
        after = schedules[self.schedule]()
        if warmup == 0:
            return after
        rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
        return optax.join_schedules([rise, after], [warmup])

    def build(
        self, train_steps: int, rate: optax.Schedule | None = None
    ) -> optax.GradientTransformation:
        """The optax transformation: clip by global norm, then the named optimizer.

        Args:
          rate: the learning rate by step; None takes `self.rate(train_steps)`.

        Raises:
          UserError: unknown optimizer, option or schedule.
        """
        if self.name not in NAMES:
            raise unknown("optimizer", self.name, NAMES)
        function = getattr(optax, self.name)
        known = set(inspect.signature(function).parameters) - {"learning_rate"}
        for option in self.options:
            if option not in known:
                raise unknown(f"option of the optimizer {self.name!r} called", option, known)
        options = {**DEFAULTS.get(self.name, {}), **self.options}
        transformation = function(rate or self.rate(train_steps), **options)
        if self.clip_norm is None:
            return transformation
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), transformation)
