# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names of the parameters in Hugging Face and T5X: one table, read in both directions.

Layers are stacked [L, ...] here; there `{i}` counts them from 0. A name that ends in `.T` holds the
transposed matrix: matrices are [inputs, outputs] here and in T5X, [outputs, inputs] in PyTorch, and
the relative bias is [buckets, heads] here and in PyTorch, [heads, buckets] in T5X.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mto_jax.checkpoints.lazy import Index, Tensor, stacked
from mto_jax.errors import UserError
from mto_jax.models.adapters import NONE, Adapters
from mto_jax.models.config import ModelConfig, T5Config
from mto_jax.models.families import build
from mto_jax.training.state import abstract_model

# Our name, that of Hugging Face, that of T5X.
_MODEL: str = """
embedding  shared.weight    token_embedder/embedding
lm_head    lm_head.weight.T decoder/logits_dense/kernel
"""
# In either stack, after `encoder` or `decoder`. The relative bias has the first row where the
# layers of a stack share it, the second where not (T5Config.relative_bias_per_layer).
_HF_BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
_STACK: str = f"""
.relative_bias     .block.0.{_HF_BIAS}      /relpos_bias/rel_embedding.T
.relative_bias     .block.{{i}}.{_HF_BIAS}  /layers_{{i}}/relpos_bias/rel_embedding.T
.final_norm.scale  .final_layer_norm.weight /$_norm/scale
"""
# In a layer, after `STACK.layers.`, `STACK.block.{i}.` and `STACK/layers_{i}/`.
_LAYER: dict[str, str] = {
    "encoder": """
attention_norm.scale       layer.0.layer_norm.weight            pre_attention_layer_norm/scale
attention.query            layer.0.SelfAttention.q.weight.T     attention/query/kernel
attention.key              layer.0.SelfAttention.k.weight.T     attention/key/kernel
attention.value            layer.0.SelfAttention.v.weight.T     attention/value/kernel
attention.out              layer.0.SelfAttention.o.weight.T     attention/out/kernel
mlp_norm.scale             layer.1.layer_norm.weight            pre_mlp_layer_norm/scale
mlp.wi                     layer.1.DenseReluDense.wi.weight.T   mlp/wi/kernel
mlp.wi_0                   layer.1.DenseReluDense.wi_0.weight.T mlp/wi_0/kernel
mlp.wi_1                   layer.1.DenseReluDense.wi_1.weight.T mlp/wi_1/kernel
mlp.wo                     layer.1.DenseReluDense.wo.weight.T   mlp/wo/kernel
""",
    "decoder": """
self_attention_norm.scale  layer.0.layer_norm.weight            pre_self_attention_layer_norm/scale
self_attention.query       layer.0.SelfAttention.q.weight.T     self_attention/query/kernel
self_attention.key         layer.0.SelfAttention.k.weight.T     self_attention/key/kernel
self_attention.value       layer.0.SelfAttention.v.weight.T     self_attention/value/kernel
self_attention.out         layer.0.SelfAttention.o.weight.T     self_attention/out/kernel
cross_attention_norm.scale layer.1.layer_norm.weight            pre_cross_attention_layer_norm/scale
cross_attention.query      layer.1.EncDecAttention.q.weight.T encoder_decoder_attention/query/kernel
cross_attention.key        layer.1.EncDecAttention.k.weight.T encoder_decoder_attention/key/kernel
cross_attention.value      layer.1.EncDecAttention.v.weight.T encoder_decoder_attention/value/kernel
cross_attention.out        layer.1.EncDecAttention.o.weight.T encoder_decoder_attention/out/kernel
mlp_norm.scale             layer.2.layer_norm.weight            pre_mlp_layer_norm/scale
mlp.wi                     layer.2.DenseReluDense.wi.weight.T   mlp/wi/kernel
mlp.wi_0                   layer.2.DenseReluDense.wi_0.weight.T mlp/wi_0/kernel
mlp.wi_1                   layer.2.DenseReluDense.wi_1.weight.T mlp/wi_1/kernel
mlp.wo                     layer.2.DenseReluDense.wo.weight.T   mlp/wo/kernel
""",
}
_SIDES = ("ours", "hf", "t5x")

# T5Gemma, in Hugging Face alone. In either stack, after `STACK.` and `model.STACK.`:
_T5GEMMA_STACK = """
embedding        embed_tokens.weight
final_norm.scale norm.weight
"""
# In a layer, after `STACK.layers.` and `model.STACK.layers.{i}.`; of attention, whose names differ.
_T5GEMMA_ATTENTION = """
$_norm.scale      pre_&_layernorm.weight
$.query           &.q_proj.weight.T
$.key             &.k_proj.weight.T
$.value           &.v_proj.weight.T
$.out             &.o_proj.weight.T
$_post_norm.scale post_&_layernorm.weight
"""
_T5GEMMA_MLP = """
mlp_norm.scale      pre_feedforward_layernorm.weight
mlp.wi_0            mlp.gate_proj.weight.T
mlp.wi_1            mlp.up_proj.weight.T
mlp.wo              mlp.down_proj.weight.T
mlp_post_norm.scale post_feedforward_layernorm.weight
"""
_T5GEMMA_ATTENTIONS = {
    "encoder": {"attention": "self_attn"},
    "decoder": {"self_attention": "self_attn", "cross_attention": "cross_attn"},
}


def _rows() -> list[list[str]]:
    """The whole table: (our name, that of Hugging Face, that of T5X) of each parameter."""
    rows = [line.split() for line in _MODEL.split("\n")[1:-1]]
    for stack, layer in _LAYER.items():
        for line in _STACK.replace("$", stack).split("\n")[1:-1]:
            rows.append([stack + cell for cell in line.split()])
        prefixes = (f"{stack}.layers.", f"{stack}.block.{{i}}.", f"{stack}/layers_{{i}}/")
        for line in layer.split("\n")[1:-1]:
            rows.append(
                [prefix + cell for prefix, cell in zip(prefixes, line.split(), strict=True)]
            )
    return rows


def _t5gemma_rows() -> list[list[str]]:
    """The table of T5Gemma: (our name, that of Hugging Face) of each parameter."""
    rows = []
    for stack, attentions in _T5GEMMA_ATTENTIONS.items():
        layer = "".join(
            _T5GEMMA_ATTENTION.replace("$", ours).replace("&", theirs)
            for ours, theirs in attentions.items()
        )
        for prefixes, text in (
            ((f"{stack}.", f"model.{stack}."), _T5GEMMA_STACK),
            ((f"{stack}.layers.", f"model.{stack}.layers.{{i}}."), layer + _T5GEMMA_MLP),
        ):
            for cells in map(str.split, filter(None, text.split("\n"))):
                rows.append([a + b for a, b in zip(prefixes, cells, strict=True)])
    return rows


@dataclasses.dataclass(frozen=True)
class Name:
    """A parameter's name on the other side; with `{i}` in it, one name a layer."""

    template: str
    transposed: bool

    @property
    def per_layer(self) -> bool:
        return "{i}" in self.template

    def of_layers(self, count: int) -> list[str]:
        """The names of all tensors that make up the parameter."""
        return (
            [self.template.format(i=i) for i in range(count)] if self.per_layer else [self.template]
        )


@dataclasses.dataclass(frozen=True)
class Assembly:
    """Our parameters, made of the tensors of a file."""

    tensors: Mapping[str, Tensor]  # by our name
    used: Mapping[str, Sequence[str]]  # our name -> names in the file
    faults: Mapping[str, Sequence[str]]  # our name -> what is missing or misshapen


def shapes(config: ModelConfig, adapters: Adapters = NONE) -> dict[str, tuple[int, ...]]:
    """Shape of each parameter of a model and its adapters, by its dotted name."""
    spec = abstract_model(lambda rngs: build(config, rngs, adapters))
    return {name: value.shape for name, value in spec.shapes.items()}


def check_complete(config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raises a UserError unless `tensors` are the parameters of the model, all and no others."""
    expected = shapes(config)
    stored = {name: list(tensor.shape) for name, tensor in tensors.items()}
    wrong = [
        f"{name} is {stored.get(name, 'missing')}, expected {list(shape)}"
        for name, shape in expected.items()
        if stored.get(name) != list(shape)
    ]
    wrong += [f"{name} is not a parameter of the model" for name in tensors if name not in expected]
    if wrong:
        raise UserError(f"These parameters are not those of the model: {'; '.join(wrong)}.")


def table(
    side: str, *, family: str = "t5", relative_bias_per_layer: bool = False
) -> dict[str, Name]:
    """The name that any parameter of any model of a family has in files of `side`.

    Args:
      side: "hf" or "t5x".
      family: "t5", or "t5gemma", which T5X does not have.
    """
    column = _SIDES.index(side)
    result = {}
    for cells in _rows() if family == "t5" else _t5gemma_rows():
        name = Name(cells[column].removesuffix(".T"), cells[column].endswith(".T"))
        if cells[0] not in result or relative_bias_per_layer:
            result[cells[0]] = name
    return result


def names(config: ModelConfig, side: str) -> dict[str, Name]:
    """The names that the parameters of a model have in files of `side`, "hf" or "t5x"."""
    per_layer = isinstance(config, T5Config) and config.relative_bias_per_layer
    known = table(side, family=config.family, relative_bias_per_layer=per_layer)
    return {name: known[name] for name in shapes(config)}


def assemble(config: ModelConfig, tensors: Mapping[str, Tensor], side: str) -> Assembly:
    """Our parameters out of the `tensors` of a file, nothing read yet.

    A tensor named by a template with `{i}` in it holds all layers [L, ...]. T5X may keep heads
    apart ([D, H, K] for our [D, H * K]).
    """
    ours, used, faults = {}, {}, {}
    expected = shapes(config)
    for name, stored in names(config, side).items():
        shape = expected[name]
        is_stacked = stored.per_layer and stored.template in tensors
        sources = [stored.template] if is_stacked else stored.of_layers(shape[0])
        wanted = shape[1:] if stored.per_layer and not is_stacked else shape
        wanted = (*wanted[:-2], wanted[-1], wanted[-2]) if stored.transposed else wanted
        used[name] = [source for source in sources if source in tensors]
        wrong = [
            f"misshapen: {source} is {list(tensors[source].shape)}, expected {list(wanted)}"
            if source in tensors
            else f"missing: {source}, expected {list(wanted)}"
            for source in sources
            if source not in tensors or not _fits(tensors[source].shape, wanted)
        ]
        if wrong:
            faults[name] = wrong
            continue
        parts = [tensors[source].reshaped(wanted) for source in sources]
        parts = [part.transposed() for part in parts] if stored.transposed else parts
        ours[name] = stacked(parts) if stored.per_layer and not is_stacked else parts[0]
    return Assembly(ours, used, faults)


def disassemble(config: ModelConfig, tensors: Mapping[str, Tensor], side: str) -> dict[str, Tensor]:
    """The inverse of `assemble`: the tensors of a file of `side`, layers one by one.

    The layers of a parameter follow one another; read in order, it is fetched once and then let go.
    """
    fetch = functools.lru_cache(maxsize=1)(lambda name: tensors[name].whole())
    stored = {}
    for name, other in names(config, side).items():
        shape = tensors[name].shape
        for i, key in enumerate(other.of_layers(shape[0])):

            def read(index: Index, name: str = name, i: int = i, other: Name = other) -> np.ndarray:
                return fetch(name)[(i, *index) if other.per_layer else index]

            part = Tensor(shape[1:] if other.per_layer else shape, tensors[name].dtype, read)
            stored[key] = part.transposed() if other.transposed else part
    return stored


def _fits(stored: Sequence[int], wanted: Sequence[int]) -> bool:
    """Equal, or equal once two neighbouring axes (heads and their size) are joined."""
    joined = [
        (*stored[:i], stored[i] * stored[i + 1], *stored[i + 2 :]) for i in range(len(stored) - 1)
    ]
    return tuple(wanted) in (tuple(stored), *(joined if len(wanted) > 1 else ()))


def fit_vocabulary(tensors: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """`tensors` with embedding [V, D] and head [D, V] cut or lengthened to V = `size`.

    New rows are copies of that of the pad token (id 0): a head that never trained to predict an id
    gives it a low score, while zeros would beat every real token where all logits are negative.
    """
    result = dict(tensors)
    for name, axis in (
        *(("embedding", 0), ("lm_head", 1)),
        *(("encoder.embedding", 0), ("decoder.embedding", 0)),
    ):
        if name in result and result[name].shape[axis] != size:
            result[name] = result[name].resized(axis, size)
    return result


def padded(vocab_size: int) -> int:
    """Rounded up to a multiple of 128, as embedding tables here are (32 100 -> 32 128)."""
    return math.ceil(vocab_size / 128) * 128
