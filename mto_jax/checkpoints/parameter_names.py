# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What each parameter is called elsewhere: one table for Hugging Face and T5X, read in both directions.

Layers are stacked [L, ...] here; there `{i}` counts them from 0. A name that ends in `.T` holds the
transposed matrix: matrices are [inputs, outputs] here and in T5X, [outputs, inputs] in PyTorch, and the
relative bias is [buckets, heads] here and in PyTorch, [heads, buckets] in T5X.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mto_jax.checkpoints.lazy import Index, Tensor, stacked
from mto_jax.errors import UserError
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.training.state import blueprint

# A parameter with two rows has the first where the layers of a stack share it, the second where each
# layer has its own (T5Config.relative_bias_per_layer).
_TABLE = """
embedding                                  shared.weight                                                          token_embedder/embedding
encoder.relative_bias                      encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight   encoder/relpos_bias/rel_embedding.T
encoder.relative_bias                      encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight encoder/layers_{i}/relpos_bias/rel_embedding.T
encoder.layers.attention_norm.scale        encoder.block.{i}.layer.0.layer_norm.weight                            encoder/layers_{i}/pre_attention_layer_norm/scale
encoder.layers.attention.query             encoder.block.{i}.layer.0.SelfAttention.q.weight.T                     encoder/layers_{i}/attention/query/kernel
encoder.layers.attention.key               encoder.block.{i}.layer.0.SelfAttention.k.weight.T                     encoder/layers_{i}/attention/key/kernel
encoder.layers.attention.value             encoder.block.{i}.layer.0.SelfAttention.v.weight.T                     encoder/layers_{i}/attention/value/kernel
encoder.layers.attention.out               encoder.block.{i}.layer.0.SelfAttention.o.weight.T                     encoder/layers_{i}/attention/out/kernel
encoder.layers.mlp_norm.scale              encoder.block.{i}.layer.1.layer_norm.weight                            encoder/layers_{i}/pre_mlp_layer_norm/scale
encoder.layers.mlp.wi                      encoder.block.{i}.layer.1.DenseReluDense.wi.weight.T                   encoder/layers_{i}/mlp/wi/kernel
encoder.layers.mlp.wi_0                    encoder.block.{i}.layer.1.DenseReluDense.wi_0.weight.T                 encoder/layers_{i}/mlp/wi_0/kernel
encoder.layers.mlp.wi_1                    encoder.block.{i}.layer.1.DenseReluDense.wi_1.weight.T                 encoder/layers_{i}/mlp/wi_1/kernel
encoder.layers.mlp.wo                      encoder.block.{i}.layer.1.DenseReluDense.wo.weight.T                   encoder/layers_{i}/mlp/wo/kernel
encoder.final_norm.scale                   encoder.final_layer_norm.weight                                        encoder/encoder_norm/scale
decoder.relative_bias                      decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight   decoder/relpos_bias/rel_embedding.T
decoder.relative_bias                      decoder.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight decoder/layers_{i}/relpos_bias/rel_embedding.T
decoder.layers.self_attention_norm.scale   decoder.block.{i}.layer.0.layer_norm.weight                            decoder/layers_{i}/pre_self_attention_layer_norm/scale
decoder.layers.self_attention.query        decoder.block.{i}.layer.0.SelfAttention.q.weight.T                     decoder/layers_{i}/self_attention/query/kernel
decoder.layers.self_attention.key          decoder.block.{i}.layer.0.SelfAttention.k.weight.T                     decoder/layers_{i}/self_attention/key/kernel
decoder.layers.self_attention.value        decoder.block.{i}.layer.0.SelfAttention.v.weight.T                     decoder/layers_{i}/self_attention/value/kernel
decoder.layers.self_attention.out          decoder.block.{i}.layer.0.SelfAttention.o.weight.T                     decoder/layers_{i}/self_attention/out/kernel
decoder.layers.cross_attention_norm.scale  decoder.block.{i}.layer.1.layer_norm.weight                            decoder/layers_{i}/pre_cross_attention_layer_norm/scale
decoder.layers.cross_attention.query       decoder.block.{i}.layer.1.EncDecAttention.q.weight.T                   decoder/layers_{i}/encoder_decoder_attention/query/kernel
decoder.layers.cross_attention.key         decoder.block.{i}.layer.1.EncDecAttention.k.weight.T                   decoder/layers_{i}/encoder_decoder_attention/key/kernel
decoder.layers.cross_attention.value       decoder.block.{i}.layer.1.EncDecAttention.v.weight.T                   decoder/layers_{i}/encoder_decoder_attention/value/kernel
decoder.layers.cross_attention.out         decoder.block.{i}.layer.1.EncDecAttention.o.weight.T                   decoder/layers_{i}/encoder_decoder_attention/out/kernel
decoder.layers.mlp_norm.scale              decoder.block.{i}.layer.2.layer_norm.weight                            decoder/layers_{i}/pre_mlp_layer_norm/scale
decoder.layers.mlp.wi                      decoder.block.{i}.layer.2.DenseReluDense.wi.weight.T                   decoder/layers_{i}/mlp/wi/kernel
decoder.layers.mlp.wi_0                    decoder.block.{i}.layer.2.DenseReluDense.wi_0.weight.T                 decoder/layers_{i}/mlp/wi_0/kernel
decoder.layers.mlp.wi_1                    decoder.block.{i}.layer.2.DenseReluDense.wi_1.weight.T                 decoder/layers_{i}/mlp/wi_1/kernel
decoder.layers.mlp.wo                      decoder.block.{i}.layer.2.DenseReluDense.wo.weight.T                   decoder/layers_{i}/mlp/wo/kernel
decoder.final_norm.scale                   decoder.final_layer_norm.weight                                        decoder/decoder_norm/scale
lm_head                                    lm_head.weight.T                                                       decoder/logits_dense/kernel
"""
_SIDES = ("ours", "hf", "t5x")


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


def shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
    """Shape of each parameter of a T5, by its dotted name."""
    plan = blueprint(lambda rngs: T5(config, rngs))
    return {name: value.shape for name, value in plan.abstract.items()}


def check_complete(config: T5Config, tensors: Mapping[str, Tensor]) -> None:
    """Raises a UserError unless `tensors` are the parameters of the model, all and no others."""
    expected = shapes(config)
    wrong = [
        f"{name} is {list(tensors[name].shape) if name in tensors else 'missing'}, expected {list(shape)}"
        for name, shape in expected.items()
        if name not in tensors or tensors[name].shape != shape
    ]
    wrong += [f"{name} is not a parameter of a T5" for name in tensors if name not in expected]
    if wrong:
        raise UserError(f"These parameters are not those of the model: {'; '.join(wrong)}.")


def table(side: str, *, relative_bias_per_layer: bool = False) -> dict[str, Name]:
    """What any parameter of any T5 is called in files of `side`, "hf" or "t5x"."""
    column = _SIDES.index(side)
    result = {}
    for line in _TABLE.strip().splitlines():
        cells = line.split()
        name = Name(cells[column].removesuffix(".T"), cells[column].endswith(".T"))
        if cells[0] not in result or relative_bias_per_layer:
            result[cells[0]] = name
    return result


def names(config: T5Config, side: str) -> dict[str, Name]:
    """What the parameters of a T5 are called in files of `side`, "hf" or "t5x"."""
    known = table(side, relative_bias_per_layer=config.relative_bias_per_layer)
    return {name: known[name] for name in shapes(config)}


def assemble(config: T5Config, tensors: Mapping[str, Tensor], side: str) -> Assembly:
    """Our parameters out of the `tensors` of a file, nothing read yet.

    A tensor named by a template with `{i}` in it holds all layers [L, ...]. T5X may keep heads apart
    ([D, H, K] for our [D, H * K]).
    """
    ours, used, faults = {}, {}, {}
    expected = shapes(config)
    for name, there in names(config, side).items():
        shape = expected[name]
        one = shape[1:] if there.per_layer else shape
        one = (*one[:-2], one[-1], one[-2]) if there.transposed else one

        def turned(tensor: Tensor, there: Name = there) -> Tensor:
            return tensor.transposed() if there.transposed else tensor

        if there.per_layer and there.template in tensors:
            tensor = tensors[there.template]
            used[name] = [there.template]
            if (
                not _fits(tensor.shape[1:], one)
                or len(tensor.shape) < 2
                or tensor.shape[0] != shape[0]
            ):
                faults[name] = [_misshapen(there.template, tensor, (shape[0], *one))]
            else:
                ours[name] = turned(tensor.reshaped((shape[0], *one)))
            continue
        wanted = there.of_layers(shape[0])
        used[name] = [n for n in wanted if n in tensors]
        wrong = [
            _misshapen(n, tensors[n], one)
            if n in tensors
            else f"missing: {n}, expected {list(one)}"
            for n in wanted
            if n not in tensors or not _fits(tensors[n].shape, one)
        ]
        if wrong:
            faults[name] = wrong
            continue
        parts = [turned(tensors[n].reshaped(one)) for n in wanted]
        ours[name] = stacked(parts) if there.per_layer else parts[0]
    return Assembly(ours, used, faults)


def disassemble(config: T5Config, tensors: Mapping[str, Tensor], side: str) -> dict[str, Tensor]:
    """The inverse of `assemble`: the tensors of a file of `side`, layers one by one.

    The layers of a parameter follow one another; read in order, it is fetched once and then let go.
    """
    fetch = functools.lru_cache(maxsize=1)(lambda name: tensors[name].whole())
    there = {}
    for name, other in names(config, side).items():
        shape = tensors[name].shape
        for i, key in enumerate(other.of_layers(shape[0])):

            def read(index: Index, name: str = name, i: int = i, other: Name = other) -> np.ndarray:
                return fetch(name)[(i, *index) if other.per_layer else index]

            part = Tensor(shape[1:] if other.per_layer else shape, tensors[name].dtype, read)
            there[key] = part.transposed() if other.transposed else part
    return there


def _fits(stored: Sequence[int], wanted: Sequence[int]) -> bool:
    """Equal, or equal once two neighbouring axes (heads and their size) are joined."""
    joined = [
        (*stored[:i], stored[i] * stored[i + 1], *stored[i + 2 :]) for i in range(len(stored) - 1)
    ]
    return tuple(wanted) in (tuple(stored), *(joined if len(stored) == 3 else ()))


def _misshapen(name: str, tensor: Tensor, wanted: Sequence[int]) -> str:
    return f"misshapen: {name} is {list(tensor.shape)}, expected {list(wanted)}"


def fit_vocabulary(tensors: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """`tensors` with embedding [V, D] and head [D, V] cut or lengthened to V = `size`.

    New places are copies of those of the pad token (id 0): a head that never trained to predict an id gives it
    a low score, while zeros would beat every real token wherever all logits are negative.
    """
    result = dict(tensors)
    for name, axis in (("embedding", 0), ("lm_head", 1)):
        if name in result and result[name].shape[axis] != size:
            result[name] = result[name].resized(axis, size)
    return result


def padded(vocab_size: int) -> int:
    """Rounded up to a multiple of 128, as embedding tables here are (32 100 -> 32 128)."""
    return math.ceil(vocab_size / 128) * 128
