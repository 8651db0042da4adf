# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a way of adapting a model costs, by formula: parameters, bytes, FLOPs. Nothing is computed
or allocated."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence

import jax

from mto_jax.models import flops
from mto_jax.models.adapters import NONE, Adapters
from mto_jax.models.config import ModelConfig
from mto_jax.models.families import build
from mto_jax.training import state
from mto_jax.training.optimizers import Optimizer

_BYTES = 4  # of a parameter, a gradient and a moment: all are float32
METRICS = ("trained_parameters", "stored_mb", "memory_gb")
_ANSWERED_TOGETHER = 32  # sources, as the evaluator decodes them


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of adapting a model to a task.

    Attributes:
      trained: parameters.
      stored: bytes for each task, beside the model that all tasks share.
      serving: bytes to answer, of the shared model, its activations and one task's own parameters.
      training: bytes at the peak of the training; `serving` where nothing trains. An estimate.
      example: FLOPs of one example in training; 0 where nothing trains.
      answer: FLOPs of answering one question, without what is cached twice.
    """

    trained: int
    stored: int
    serving: int
    training: int
    example: float
    answer: int

    def values(self) -> dict[str, float]:
        """`METRICS` of a grid's cell."""
        numbers = float(self.trained), self.stored / 1e6, self.training / 1e9
        return dict(zip(METRICS, numbers, strict=True))


def cost(
    config: ModelConfig,
    lengths: Mapping[str, int],
    batch_size: int,
    optimizer: Optimizer,
    *,
    adapters: Adapters = NONE,
    trainable: str | Sequence[str] | None = "all",
    shown: int = 0,
) -> Cost:
    """Returns the cost of a strategy.

    FLOPs: those of the matrix products (`flops.forward_flops`), of encoder and decoder apart. The
    backward pass computes the gradient of the activations, as much as the forward pass, down to the
    first parameter that trains, and that of the weights, as much again, of those that train.

    Memory: parameters, gradients and the optimizer's state of what trains, and the activations that
    the backward pass needs (`activations`), nothing being computed a second time.

    Args:
      config: of the model.
      lengths: {"inputs": S, "targets": T} of a row.
      batch_size: rows of a step.
      optimizer: its state counts.
      adapters: what trains on the frozen model, if anything.
      trainable: what trains of a model without: see `states.trainable_names`; None trains nothing.
      shown: solved examples, each with the question in a source of its own.
    """
    S, T = lengths["inputs"], lengths["targets"]
    shapes = _shapes(config, adapters)
    patterns = "adapters" if adapters != NONE else trainable
    names = state.trainable_names([*shapes], patterns) if patterns else []
    trained = _size(shapes, names)
    sources = max(1, shown)
    whole = flops.forward_flops(config, S, T)
    # Of no targets, the decoder's keys and values of the encoder's output are left.
    width, keys = config.of_encoder.d_model, config.num_kv_heads * config.d_kv
    crossing = 4 * config.num_decoder_layers * S * width * keys
    encoder = flops.forward_flops(config, S, 0) - crossing
    weights = _BYTES * _size(shapes, shapes)
    cache = _BYTES * config.num_decoder_layers * 2 * (sources * S + T) * keys
    serving = weights + _ANSWERED_TOGETHER * (cache + sources * _BYTES * S * width)
    if not names:
        answer = sources * encoder + (whole - encoder)
        return Cost(0, 0, serving, serving, 0.0, answer)
    reaches = any(not name.startswith(("decoder.", "lm_head")) for name in names)
    example = 0.0
    for in_encoder, forward in ((True, encoder), (False, whole - encoder)):
        # The embedding is looked up, not multiplied with, unless it is the head as well.
        part = [
            name
            for name in shapes
            if name.startswith("encoder.") == in_encoder
            and (name != config.source_embedding or (name == "embedding" and config.tie_embeddings))
        ]
        share = _size(shapes, [n for n in part if n in {*names}]) / _size(shapes, part)
        example += forward * (1 + (reaches or not in_encoder) + share)
    kept = activations(config, S, T, encoder=reaches)
    moments = _moments(shapes, names, optimizer)
    training = weights + _BYTES * trained + moments + batch_size * kept
    return Cost(trained, _BYTES * trained, serving, training, example, whole)


def activations(config: ModelConfig, inputs: int, targets: int, *, encoder: bool = True) -> int:
    """Returns the bytes that the backward pass keeps of one row, in float32.

    With S and T tokens, D, F, J = H * K, E the width of keys and values (J, or that of fewer heads)
    and M matrices into the feed-forward layer, each of its own stack:
      encoder layer   S (6 D + 2 J + 2 E + (M + 2) F + 2 H S)
      decoder layer   T (9 D + 4 J + 2 E + (M + 2) F + 2 H (T + S)) + 2 S E
      head            2 T D
    An attention keeps its input before and after the norm, queries, keys, values, weights before
    and after the softmax, and its output before the last product; in bfloat16 it is half as much.

    Args:
      encoder: whether gradients reach the encoder; else it keeps its output alone.
    """
    S, T, first = inputs, targets, config.of_encoder
    m = 2 if config.mlp.startswith("gated") else 1

    def inner(c: ModelConfig) -> int:
        return (m + 2) * c.d_ff + 2 * c.num_kv_heads * c.d_kv

    j = first.num_heads * first.d_kv
    encoder_layer = S * (6 * first.d_model + 2 * j + inner(first) + 2 * first.num_heads * S)
    j, h, e = config.num_heads * config.d_kv, config.num_heads, config.num_kv_heads * config.d_kv
    decoder_layer = T * (9 * config.d_model + 4 * j + inner(config) + 2 * h * (T + S)) + 2 * S * e
    layers = config.num_encoder_layers * encoder_layer if encoder else 0
    layers += config.num_decoder_layers * decoder_layer
    kept = layers + S * first.d_model + 2 * T * config.d_model
    return (2 if config.dtype == "bfloat16" else 4) * kept


@functools.lru_cache(maxsize=64)
def _shapes(config: ModelConfig, adapters: Adapters) -> Mapping[str, jax.ShapeDtypeStruct]:
    return state.abstract_model(functools.partial(build, config, adapters=adapters)).shapes


def _size(shapes: Mapping[str, jax.ShapeDtypeStruct], names: Iterable[str]) -> int:
    return sum(math.prod(shapes[name].shape) for name in names)


def _moments(
    shapes: Mapping[str, jax.ShapeDtypeStruct], names: Sequence[str], optimizer: Optimizer
) -> int:
    """The bytes of the optimizer's state."""
    held = jax.eval_shape(optimizer.build(1000).init, {name: shapes[name] for name in names})
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(held))
