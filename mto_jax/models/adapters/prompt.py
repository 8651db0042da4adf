# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompt tuning: learned embeddings (Lester et al. 2021, https://arxiv.org/abs/2104.08691)."""

import dataclasses
from collections.abc import Mapping

import gin
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mto_jax import errors, fields
from mto_jax.errors import UserError
from mto_jax.models.adapters.base import AdapterModule, Method, register_adapter

ENCODERS = ("table", "mlp", "residual", "lstm", "low_rank")
_PEFT_ROWS = "prompt_embeddings"


@register_adapter
@gin.configurable
@dataclasses.dataclass(frozen=True)
class PromptTuning(Method):
    """Soft tokens: token id `vocabulary.soft_id(i)` is row i of a table of embeddings.

    Attributes:
      rows: P, rows of the table. The prompt of a task is `tokenising.SoftPrompt.length` of them.
      encoder: how the rows are computed. "table": they are parameters. "mlp", "lstm": from a
        trained table by a feed-forward layer or a bidirectional LSTM (Liu et al. 2021, P-tuning).
        "residual": the table plus a bottleneck of it (Razdaibiedina et al. 2023). "low_rank": the
        product of two thin matrices.
      width: hidden size of mlp, residual and lstm; rank of low_rank.
      anchor: weight of the mean squared distance of the rows from their initial values.
    """

    rows: int = 10
    encoder: str = "table"
    width: int = 128
    anchor: float = 0.0

    name = "prompt"
    fixed = ("anchor",)
    peft_types = ("PROMPT_TUNING", "P_TUNING")
    peft_fields = (
        *("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads"),
        *("num_layers", "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_kwargs"),
        *("tokenizer_name_or_path", "encoder_reparameterization_type", "encoder_hidden_size"),
        *("encoder_num_layers", "encoder_dropout"),
    )

    def __post_init__(self) -> None:
        self.require_count("rows")
        self.require_count("width")
        self.require("anchor", self.anchor >= 0, "0 or more")
        if self.encoder not in ENCODERS:
            raise errors.unknown("PromptTuning.encoder", self.encoder, ENCODERS)

    def in_model(self, d_model, rngs):
        return _Prompt(self, d_model, rngs)

    def started(self, parameters):
        if not self.anchor:
            return parameters
        return {**parameters, "prompt.anchor": self.fold(parameters)["prompt.table"]}

    @property
    def folded(self):
        return fields.from_dict(PromptTuning, {"rows": self.rows})

    def fold(self, parameters):
        """Returns {"prompt.table": rows [P, D]}."""
        own = {name.removeprefix("prompt."): value for name, value in parameters.items()}
        return {"prompt.table": _rows(own, self.encoder)}

    def merge(self, parameters):
        return {}  # the rows stay beside the weights

    def to_peft(self, parameters):
        table_PxD = parameters["prompt.table"]
        rows, width = table_PxD.shape
        config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": rows, "token_dim": width}
        return {**config, "num_transformer_submodules": 1}, {_PEFT_ROWS: table_PxD}

    @classmethod
    def from_peft(cls, config, tensors, where):
        """The first rows are the encoder's; PEFT never reads those of the decoder, which follow.

        P-tuning differs in training alone: PEFT stores the rows that its encoder made.
        """
        P, parts = config.get("num_virtual_tokens"), config.get("num_transformer_submodules") or 1
        table = tensors.get(_PEFT_ROWS, np.empty(0))
        if set(tensors) != {_PEFT_ROWS} or table.ndim != 2 or not P or len(table) != P * parts:
            present = ", ".join(f"{name} {list(value.shape)}" for name, value in tensors.items())
            raise UserError(
                f"{where} holds {present or 'no tensors'}; expected {_PEFT_ROWS} with {parts} x "
                f"{P} rows (num_transformer_submodules x num_virtual_tokens)."
            )
        return fields.from_dict(cls, {"rows": P}), {"prompt.table": table[:P]}


class _Prompt(AdapterModule):
    """Parameters of the rows, and their computation."""

    def __init__(self, method: PromptTuning, d_model: int, rngs: nnx.Rngs):
        P, D, W = method.rows, d_model, method.width
        self.encoder, self.anchor_weight = method.encoder, method.anchor

        def uniform(shape, bound):
            value = jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound)
            return nnx.Param(value, axes=(None,) * len(shape))

        def zeros(*shape):
            return nnx.Param(jnp.zeros(shape, jnp.float32), axes=(None,) * len(shape))

        if self.encoder == "low_rank":
            # Entries of the product have the variance of a table's, 1/12.
            bound = (0.75 / W) ** 0.25
            self.left, self.right = uniform((P, W), bound), uniform((W, D), bound)
        else:
            self.table = uniform((P, D), 0.5)  # Lester et al. 2021, section 3.1
        if self.encoder in ("mlp", "residual"):
            self.down, self.down_bias = uniform((D, W), D**-0.5), zeros(W)
            self.up, self.up_bias = uniform((W, D), W**-0.5), zeros(D)
        if self.encoder == "residual":
            # Nothing is added at first: the prompt starts as its table.
            self.norm, self.up = nnx.Param(jnp.ones(D), axes=(None,)), zeros(W, D)
        if self.encoder == "lstm":
            for direction in ("forward", "backward"):
                setattr(self, f"{direction}_in", uniform((D, 4 * W), W**-0.5))
                setattr(self, f"{direction}_state", uniform((W, 4 * W), W**-0.5))
                setattr(self, f"{direction}_bias", zeros(4 * W))
            self.up, self.up_bias = uniform((2 * W, D), (2 * W) ** -0.5), zeros(D)
        if self.anchor_weight:
            self.anchor = nnx.Param(self.rows(), axes=(None, None))

    def rows(self) -> jax.Array:
        """Returns the embeddings [P, D] of the soft tokens, float32."""
        weights = {
            name: value[...] for name, value in vars(self).items() if isinstance(value, nnx.Param)
        }
        return _rows(weights, self.encoder)

    def penalty(self) -> jax.Array:
        """Returns the weighted mean squared distance of the rows from the anchor, a scalar."""
        if not self.anchor_weight:
            return jnp.zeros(())
        distance = self.rows() - jax.lax.stop_gradient(self.anchor[...])
        return self.anchor_weight * jnp.mean(jnp.square(distance))


def _rows(weights: Mapping[str, jax.Array], encoder: str) -> jax.Array:
    """Returns the rows [P, D] of a prompt from its encoder's weights, named as in `_Prompt`."""
    if encoder == "low_rank":
        return weights["left"] @ weights["right"]
    table_PxD = weights["table"]
    if encoder == "table":
        return table_PxD
    if encoder == "lstm":
        states_Px2W = jnp.concatenate(
            [
                _lstm(table_PxD, weights, "forward"),
                _lstm(table_PxD[::-1], weights, "backward")[::-1],
            ],
            axis=1,
        )
        return states_Px2W @ weights["up"] + weights["up_bias"][None]
    h_PxD = table_PxD
    if encoder == "residual":
        mean_square_Px1 = jnp.mean(jnp.square(table_PxD), axis=1, keepdims=True)
        h_PxD = table_PxD * jax.lax.rsqrt(mean_square_Px1 + 1e-6) * weights["norm"][None]
    h_PxW = jax.nn.relu(h_PxD @ weights["down"] + weights["down_bias"][None])
    h_PxD = h_PxW @ weights["up"] + weights["up_bias"][None]
    return table_PxD + h_PxD if encoder == "residual" else h_PxD


def _lstm(x_PxD: jax.Array, weights: Mapping[str, jax.Array], direction: str) -> jax.Array:
    """Returns the hidden states [P, W] of an LSTM that reads x from its first row on."""
    into, state, bias = (weights[f"{direction}_{part}"] for part in ("in", "state", "bias"))

    def step(carry, gates_4W):
        hidden_W, cell_W = carry
        i, f, g, o = jnp.split(gates_4W + hidden_W @ state, 4)
        cell_W = jax.nn.sigmoid(f) * cell_W + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden_W = jax.nn.sigmoid(o) * jnp.tanh(cell_W)
        return (hidden_W, cell_W), hidden_W

    zero_W = jnp.zeros(state.shape[0], x_PxD.dtype)
    return jax.lax.scan(step, (zero_W, zero_W), x_PxD @ into + bias[None])[1]
