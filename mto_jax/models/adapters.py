# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What can be added to a frozen T5 and trained in its place: soft prompts, LoRA, (IA)^3, prefixes.

`Adapters` says what is added; its parameters are ordinary parameters of the model, called `prompt.*`,
`*.lora.*`, `*.ia3.*` and `*.prefix.*`. A model without adapters has none of them and computes as before.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

import gin
import jax
import jax.numpy as jnp
from flax import nnx

from mto_jax import errors, fields

ENCODERS = ("table", "mlp", "residual", "lstm", "low_rank")
# Weights that LoRA can accompany: of attention, and of either kind of feed-forward.
PROJECTIONS = ("query", "key", "value", "out", "wi", "wi_0", "wi_1", "wo")
_PARTS = {"prompt", "lora", "ia3", "prefix"}


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Adapters:
    """What is added to a T5. JSON form: `dataclasses.asdict`, `from_dict`.

    Attributes:
      prompt_rows: P, rows of the prompt table; token id `vocabulary.soft_id(i)` is row i. A task's prompt is
        `templates.SoftPrompt.length` of them.
      prompt_encoder: how the rows come about. "table": they are parameters (Lester et al. 2021). "mlp",
        "lstm": of a trained table by a feed-forward layer or a bidirectional LSTM (Liu et al. 2021,
        P-tuning). "residual": the table plus a bottleneck of it (Razdaibiedina et al. 2023). "low_rank":
        the product of two thin matrices.
      prompt_width: hidden size of mlp, residual and lstm; rank of low_rank.
      prompt_anchor: weight of the mean squared distance of the rows from where they started.
      lora_rank: r of LoRA (Hu et al. 2022); 0 is none.
      lora_alpha: what LoRA adds is scaled by alpha / r.
      lora_targets: the weights that it accompanies, of `PROJECTIONS`, in every layer of both stacks.
      ia3: (IA)^3 (Liu et al. 2022): scales of keys, values and the feed-forward's hidden layer.
      prefix_length: keys and values that are put before those of every attention (Li & Liang 2021).
    """

    prompt_rows: int = 0
    prompt_encoder: str = "table"
    prompt_width: int = 128
    prompt_anchor: float = 0.0
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: Sequence[str] = ("query", "value")
    ia3: bool = False
    prefix_length: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
        if self.prompt_encoder not in ENCODERS:
            raise errors.unknown("Adapters.prompt_encoder", self.prompt_encoder, ENCODERS)
        for target in self.lora_targets:
            if target not in PROJECTIONS:
                raise errors.unknown("name in Adapters.lora_targets", target, PROJECTIONS)
        for field in ("prompt_rows", "lora_rank", "prefix_length"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 0:
                raise errors.UserError(
                    f"Adapters.{field} is {value!r}; it must be a whole number, 0 for none."
                )
        if self.prompt_width < 1 or self.prompt_anchor < 0:
            raise errors.UserError(
                f"Adapters.prompt_width = {self.prompt_width} and prompt_anchor = {self.prompt_anchor}: "
                "the width must be at least 1, the weight of the anchor 0 or more."
            )
        if self.lora_rank and not self.lora_targets:
            raise errors.UserError(
                "Adapters.lora_targets is empty: name weights such as ('query', 'value')."
            )

    from_dict = classmethod(fields.from_dict)

    @property
    def folded(self) -> Self:
        """The same with a plain table of rows: what `fold` makes, for inference."""
        return dataclasses.replace(self, prompt_encoder="table", prompt_anchor=0.0)


NONE = Adapters.from_dict({})


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter and not to the base model.

    >>> is_adapter("encoder.layers.attention.lora.query_a"), is_adapter("encoder.layers.attention.query")
    (True, False)
    """
    return not _PARTS.isdisjoint(name.split("."))


def trains(name: str) -> bool:
    """Whether a parameter can train at all: the rows that an anchor remembers cannot."""
    return name != "prompt.anchor"


def fold(parameters: Mapping[str, jax.Array], adapters: Adapters) -> dict[str, jax.Array]:
    """The parameters with the prompt encoder computed away: `prompt.table` [P, D] alone stays of it."""
    rest = {name: v for name, v in parameters.items() if not name.startswith("prompt.")}
    if not adapters.prompt_rows:
        return rest
    own = {k.removeprefix("prompt."): v for k, v in parameters.items() if k.startswith("prompt.")}
    return {**rest, "prompt.table": prompt_rows(own, adapters.prompt_encoder)}


# ---- Soft prompts -----------------------------------------------------------------------------


class Prompt(nnx.Module):
    """The table of soft tokens and what computes its rows."""

    def __init__(self, adapters: Adapters, d_model: int, rngs: nnx.Rngs):
        P, D, W = adapters.prompt_rows, d_model, adapters.prompt_width
        self.encoder, self.anchor_weight = adapters.prompt_encoder, adapters.prompt_anchor

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
            for way in ("forward", "backward"):
                setattr(self, f"{way}_in", uniform((D, 4 * W), W**-0.5))
                setattr(self, f"{way}_state", uniform((W, 4 * W), W**-0.5))
                setattr(self, f"{way}_bias", zeros(4 * W))
            self.up, self.up_bias = uniform((2 * W, D), (2 * W) ** -0.5), zeros(D)
        if self.anchor_weight:
            self.anchor = nnx.Param(self.rows(), axes=(None, None))

    def rows(self) -> jax.Array:
        """The embeddings [P, D] that the soft tokens stand for, float32."""
        weights = {
            name: value[...] for name, value in vars(self).items() if isinstance(value, nnx.Param)
        }
        return prompt_rows(weights, self.encoder)

    def penalty(self) -> jax.Array:
        """Weighted mean squared distance of the rows from the anchor, a scalar."""
        if not self.anchor_weight:
            return jnp.zeros(())
        distance = self.rows() - jax.lax.stop_gradient(self.anchor[...])
        return self.anchor_weight * jnp.mean(jnp.square(distance))


def prompt_rows(weights: Mapping[str, jax.Array], encoder: str) -> jax.Array:
    """The rows [P, D] of a prompt from the weights of its encoder, called as in `Prompt`."""
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


def _lstm(x_PxD: jax.Array, weights: Mapping[str, jax.Array], way: str) -> jax.Array:
    """The hidden states [P, W] of an LSTM that reads x from its first row on."""
    into, state, bias = (weights[f"{way}_{part}"] for part in ("in", "state", "bias"))

    def step(carry, gates_4W):
        hidden_W, cell_W = carry
        i, f, g, o = jnp.split(gates_4W + hidden_W @ state, 4)
        cell_W = jax.nn.sigmoid(f) * cell_W + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden_W = jax.nn.sigmoid(o) * jnp.tanh(cell_W)
        return (hidden_W, cell_W), hidden_W

    zero_W = jnp.zeros(state.shape[0], x_PxD.dtype)
    return jax.lax.scan(step, (zero_W, zero_W), x_PxD @ into + bias[None])[1]


# ---- Inside the layers ------------------------------------------------------------------------


def lora(
    adapters: Adapters, shapes: Mapping[str, tuple[int, int]], num_layers: int, rngs: nnx.Rngs
) -> "LoRA | None":
    """LoRA for the weights of a layer, [D, E] each; None where none of them is a target."""
    wanted = adapters.lora_rank and not set(shapes).isdisjoint(adapters.lora_targets)
    return LoRA(adapters, shapes, num_layers, rngs) if wanted else None


class LoRA(nnx.Module):
    """Thin matrices beside weights: x W + (alpha / r) (x A) B, with B zero at first (Hu et al. 2022)."""

    def __init__(
        self,
        adapters: Adapters,
        shapes: Mapping[str, tuple[int, int]],
        num_layers: int,
        rngs: nnx.Rngs,
    ):
        r = adapters.lora_rank
        self.targets = tuple(name for name in shapes if name in adapters.lora_targets)
        self.scale = adapters.lora_alpha / r
        for name in self.targets:
            D, E = shapes[name]
            a = jax.random.uniform(
                rngs.params(), (num_layers, D, r), jnp.float32, -(D**-0.5), D**-0.5
            )
            setattr(self, f"{name}_a", nnx.Param(a, axes=("layers", None, None)))
            b = jnp.zeros((num_layers, r, E), jnp.float32)
            setattr(self, f"{name}_b", nnx.Param(b, axes=("layers", None, None)))

    def __call__(self, name: str, x_BxTxD: jax.Array) -> jax.Array | float:
        """What is added to x through the weight `name`: [B, T, E], or 0 where that weight has none."""
        if name not in self.targets:
            return 0.0
        a_Dxr = getattr(self, f"{name}_a")[...].astype(x_BxTxD.dtype)
        b_rxE = (self.scale * getattr(self, f"{name}_b")[...]).astype(x_BxTxD.dtype)
        return (x_BxTxD @ a_Dxr) @ b_rxE


class IA3(nnx.Module):
    """A scale for each channel of some activations, one at first (Liu et al. 2022)."""

    def __init__(self, widths: Mapping[str, int], num_layers: int):
        for name, width in widths.items():
            setattr(self, name, nnx.Param(jnp.ones((num_layers, width)), axes=("layers", None)))

    def __call__(self, name: str, x_BxTxE: jax.Array) -> jax.Array:
        scale_E = getattr(self, name, None)
        return x_BxTxE if scale_E is None else x_BxTxE * scale_E[None, None].astype(x_BxTxE.dtype)


class Prefix(nnx.Module):
    """Keys and values that every query of an attention sees first, at no distance (Li & Liang 2021)."""

    def __init__(self, length: int, heads: int, size: int, num_layers: int, rngs: nnx.Rngs):
        shape, axes = (num_layers, length, heads, size), ("layers", None, None, None)
        # Keys as large as T5's own queries want them; values small, so that little changes at first.
        self.key = nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32), axes=axes)
        self.value = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), shape, jnp.float32), axes=axes
        )

    def before(self, k_BxSxHxK: jax.Array, v_BxSxHxK: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values with the prefix in front: [B, P + S, H, K]."""

        def put(prefix_PxHxK, x_BxSxHxK):
            front = jnp.broadcast_to(prefix_PxHxK[None], (x_BxSxHxK.shape[0], *prefix_PxHxK.shape))
            return jnp.concatenate([front.astype(x_BxSxHxK.dtype), x_BxSxHxK], axis=1)

        return put(self.key[...], k_BxSxHxK), put(self.value[...], v_BxSxHxK)
