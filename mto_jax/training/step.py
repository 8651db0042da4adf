# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The train step and the evaluation step: one function each, for every objective.

A loss is a function `(parameters, batch, dropout_key) -> (loss sum, sums)`, where `sums` holds at
least `weight`, the number of target tokens that count. Sums, not means, so that a batch cut over
devices and microbatches of unequal length keeps every token's weight equal.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from mto_jax.data.batch import Batch
from mto_jax.models import losses, partitioning
from mto_jax.models.adapters import penalty
from mto_jax.training import sharding
from mto_jax.training.state import AbstractModel, TrainState

LossFunction = Callable[[Mapping[str, jax.Array], Batch, jax.Array | None], tuple[jax.Array, dict]]
NO_BAD_STEP = jnp.iinfo(jnp.int32).max


def t5_loss(
    spec: AbstractModel,
    mesh: Mesh,
    *,
    packed: bool = True,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    num_tasks: int = 0,
    reduce_dtype: str = "float32",
) -> LossFunction:
    """Returns the teacher-forced cross-entropy of a T5 on a batch sharded over `mesh`.

    A batch with `decoder_task_ids` also gives the loss of each of `num_tasks` tasks. `packed` is
    that of `EncoderDecoder.encode`. Devices add up their gradients of weights in `reduce_dtype`,
    see `runs.train`.
    """

    def loss(parameters, batch, dropout_key):
        model = spec.merge(parameters)
        with partitioning.use_rules(mesh, sharding.RULES, reduce_dtype):
            hidden_BxTxD = model.hidden(batch, packed=packed, dropout_key=dropout_key)
            loss_sum, sums = losses.cross_entropy(
                hidden_BxTxD,
                model.unembedding,
                batch["decoder_target_tokens"],
                batch["decoder_loss_weights"],
                z_loss=z_loss,
                label_smoothing=label_smoothing,
                softcap=model.config.logit_softcap,
                task_ids_BxT=batch.get("decoder_task_ids"),
                num_tasks=num_tasks,
            )
        return loss_sum + penalty(model) * sums["weight"], sums

    return loss


def batch_counts(batch: Batch) -> dict[str, jax.Array]:
    """Returns the numbers of tokens (no padding), packed examples and places of a batch."""
    source_BxS, target_BxT = batch["encoder_segment_ids"], batch["decoder_segment_ids"]
    tokens = jnp.sum(source_BxS > 0) + jnp.sum(target_BxT > 0)
    examples = jnp.sum(jnp.max(target_BxT, axis=1))
    places = source_BxS.size + target_BxT.size
    return {"tokens": tokens, "examples": examples, "places": jnp.int32(places)}


def train_step(
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
    *,
    microbatches: int = 1,
) -> Callable[[TrainState, dict, Batch], tuple[TrainState, dict]]:
    """Returns the function `(state, totals, batch) -> (state, totals)`; donate the state.

    The gradient is that of the loss per target token over the *global* batch. With
    `microbatches` > 1 they run one after another, gradients summed in float32, so that only one
    microbatch's activations are alive. `totals` (see `zero_totals`) adds up what is reported; it
    stays on the devices until it is fetched.
    """

    def step(state, totals, batch):
        step_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)

        def gradient(microbatch, index):
            def loss_of(trainable):
                parameters = {**state.frozen, **trainable}
                return loss(parameters, microbatch, jax.random.fold_in(step_key, index))

            gradients, sums = jax.grad(loss_of, has_aux=True)(state.trainable)
            gradients = jax.tree.map(lambda g: g.astype(jnp.float32), gradients)
            return gradients, {**sums, **batch_counts(microbatch)}

        if microbatches == 1:
            gradients, sums = gradient(batch, 0)
        else:
            # Row r goes to microbatch r % M: every device cuts its own rows, none move.
            def cut(rows):
                rows = rows.reshape(-1, microbatches, *rows.shape[1:])
                return jnp.swapaxes(rows, 0, 1)

            def add(carry, indexed):
                return jax.tree.map(jnp.add, carry, gradient(*indexed)), None

            pieces = jax.tree.map(cut, batch), jnp.arange(microbatches)
            first = jax.tree.map(lambda leaf: leaf[0], pieces)
            shapes = jax.eval_shape(gradient, *first)
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            (gradients, sums), _ = jax.lax.scan(add, zeros, pieces)

        weight = jnp.where(sums["weight"] > 0, sums["weight"], 1.0)
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        norm = optax.tree.norm(gradients)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.trainable)
        trainable: Any = optax.apply_updates(state.trainable, updates)
        updated = TrainState(
            step=state.step + 1,
            trainable=trainable,
            frozen=state.frozen,
            optimizer=optimizer_state,
            key=state.key,
        )
        finite = jnp.isfinite(sums["loss"]) & jnp.isfinite(norm)
        totals = {
            **{name: totals[name] + value for name, value in sums.items()},
            "gradient_norm": totals["gradient_norm"] + norm,
            "learning_rate": jnp.float32(rate(state.step)),
            "steps": totals["steps"] + 1,
            "bad_step": jnp.minimum(
                totals["bad_step"], jnp.where(finite, NO_BAD_STEP, updated.step)
            ),
        }
        return updated, totals

    return step


def zero_totals(loss: LossFunction, state: TrainState, batch: Batch) -> dict[str, np.ndarray]:
    """Returns the totals of no steps; `state` and `batch` may be abstract.

    They hold the sums of the loss's metrics and of `batch_counts`, `gradient_norm` (sum),
    `learning_rate` (last), `steps`, and `bad_step`: the first step, counted from 1, whose loss or
    gradient was NaN or infinite, else `NO_BAD_STEP`.
    """

    def sums(state, batch):
        _, sums = loss({**state.frozen, **state.trainable}, batch, jax.random.key(0))
        return {**sums, **batch_counts(batch)}

    shapes = jax.eval_shape(sums, state, batch)
    zeros = {name: np.zeros(value.shape, np.float32) for name, value in shapes.items()}
    zeros |= {name: np.zeros((), np.float32) for name in ("gradient_norm", "learning_rate")}
    return {**zeros, "steps": np.zeros((), np.int32), "bad_step": np.array(NO_BAD_STEP, np.int32)}


def abstract_batch(
    batch_size: int, lengths: Mapping[str, int], mesh: Mesh, *, task_ids: bool = False
) -> Batch:
    """Returns the abstract global batch with `lengths` {"inputs": S, "targets": T}."""
    where = sharding.batch_sharding(mesh)
    S, T = lengths["inputs"], lengths["targets"]
    features = {
        "encoder_input_tokens": S,
        "encoder_segment_ids": S,
        "encoder_positions": S,
        "decoder_input_tokens": T,
        "decoder_target_tokens": T,
        "decoder_segment_ids": T,
        "decoder_positions": T,
        "decoder_loss_weights": T,
    } | ({"decoder_task_ids": T} if task_ids else {})
    arrays = {
        name: jax.ShapeDtypeStruct(
            (batch_size, length),
            jnp.float32 if name == "decoder_loss_weights" else jnp.int32,
            sharding=where,
        )
        for name, length in features.items()
    }
    return Batch(**arrays)


def lower_step(step: Callable, target: TrainState, totals: Any, batch: Batch, mesh: Mesh) -> Any:
    """Returns the step traced for these arguments, which may be abstract, the state donated.

    The devices of `mesh` need not be here (a TPU topology will do).
    """
    everywhere = sharding.replicated(mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    totals = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), totals
    )
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, everywhere))
    return jitted.lower(target, totals, batch)


def compile_step(step: Callable, target: TrainState, totals: Any, batch: Batch, mesh: Mesh) -> Any:
    """Returns the step compiled ahead of time, see `lower_step`.

    The result takes exactly these shapes and shardings; others raise instead of compiling again.
    """
    return lower_step(step, target, totals, batch, mesh).compile()


def evaluation_step(
    loss: LossFunction,
) -> Callable[[Mapping[str, jax.Array], Batch], dict[str, jax.Array]]:
    """Returns the function `(parameters, batch) -> sums` without dropout."""

    def step(parameters, batch):
        _, sums = loss(parameters, batch, None)
        return sums

    return step
