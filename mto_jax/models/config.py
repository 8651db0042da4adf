# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5Config: the sizes and options of a T5, as one frozen dataclass."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import gin

from mto_jax import errors, fields

_CHOICES = {
    "mlp": ("gated-gelu", "gated-silu", "relu"),
    "dtype": ("float32", "bfloat16"),
    "remat": ("none", "minimal", "full"),
    "attention": ("xla", "cudnn"),
}
_SIZES = (
    "vocab_size",
    "d_model",
    "d_kv",
    "num_heads",
    "d_ff",
    "num_encoder_layers",
    "num_decoder_layers",
    "num_buckets",
    "max_distance",
)
_IDS = ("decoder_start_id", "pad_id", "eos_id")
# These change how a model computes, not what it is: a run may go on with other values.
RUNTIME_FIELDS = ("dropout_rate", "dtype", "remat", "attention", "scan_unroll")


@gin.configurable
@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes and options of a T5; the defaults are T5 v1.1 small.

    JSON form: `dataclasses.asdict`, `from_dict`.

    T5 v1.0 (Raffel et al. 2020) is mlp="relu", tie_embeddings=True; v1.1, LM-adapted, Flan-T5 and
    mT5 are mlp="gated-gelu", tie_embeddings=False; umT5 adds relative_bias_per_layer=True; UL2 is
    mlp="gated-silu", tie_embeddings=True.
    """

    vocab_size: int = 32128  # rows of the embedding, padding of the vocabulary included
    d_model: int = 512  # D
    d_kv: int = 64  # K, size of one head
    num_heads: int = 6  # H; H * K need not be D
    d_ff: int = 1024  # F
    num_encoder_layers: int = 8
    num_decoder_layers: int = 8
    num_buckets: int = 32  # of the relative position bias
    max_distance: int = 128  # beyond it, all distances share the last bucket
    relative_bias_per_layer: bool = False  # umT5; else the layers of a stack share one table
    mlp: str = "gated-gelu"  # or "gated-silu", or "relu"
    tie_embeddings: bool = False  # the head is the transposed input embedding
    dropout_rate: float = 0.0
    norm_epsilon: float = 1e-6
    dtype: str = "float32"  # of activations, or "bfloat16"; parameters are always float32
    remat: str = "none"  # what backward recomputes: "none", "minimal" (all but matmuls), "full"
    attention: str = "xla"  # or "cudnn": fused, NVIDIA GPUs only, needs bfloat16
    scan_unroll: int = 0  # layers per iteration of a stack; 0: all 8 or fewer on CPU, else 1
    decoder_start_id: int = 0  # the first token that the decoder reads
    pad_id: int = 0  # for other programs; batches here are padded with 0, which nothing reads
    eos_id: int = 1  # the token that ends an output

    def __post_init__(self) -> None:
        for field, known in _CHOICES.items():
            if getattr(self, field) not in known:
                raise errors.unknown(f"T5Config.{field}", str(getattr(self, field)), known)
        for field in _SIZES:
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise errors.UserError(
                    f"T5Config.{field} is {value!r}; it must be a whole number of 1 or more."
                )
        for field in _IDS:
            value = getattr(self, field)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 0 <= value < self.vocab_size:
                raise errors.UserError(
                    f"T5Config.{field} is {value!r}; it must be the id of a token, 0 to "
                    f"{self.vocab_size - 1}."
                )
        if not isinstance(self.scan_unroll, int) or self.scan_unroll < 0:
            raise errors.UserError(
                f"T5Config.scan_unroll is {self.scan_unroll!r}; it must be a number of layers, or "
                "0."
            )
        if not isinstance(self.norm_epsilon, int | float) or self.norm_epsilon < 0:
            raise errors.UserError(
                f"T5Config.norm_epsilon is {self.norm_epsilon!r}; it must be a number of 0 or more."
            )
        if not isinstance(self.dropout_rate, int | float) or not 0.0 <= self.dropout_rate < 1.0:
            raise errors.UserError(
                f"T5Config.dropout_rate is {self.dropout_rate!r}; it is the share of activations "
                "set to zero and must lie in [0, 1). T5 uses 0.0 for pre-training and 0.1 for "
                "fine-tuning."
            )
        if (
            self.num_buckets < 4
            or self.num_buckets % 2
            or self.max_distance <= self.num_buckets // 2
        ):
            raise errors.UserError(
                f"T5Config.num_buckets={self.num_buckets} and max_distance={self.max_distance} do "
                "not fit: num_buckets must be even and at least 4, max_distance greater than "
                "num_buckets / 2 (T5 has 32 and 128)."
            )
        if self.attention == "cudnn" and (
            self.dtype != "bfloat16" or self.d_kv % 8 or self.d_kv > 128
        ):
            raise errors.UserError(
                "T5Config.attention='cudnn' needs dtype='bfloat16' and d_kv a multiple of 8 up to "
                f"128, but dtype={self.dtype!r} and d_kv={self.d_kv}. Change these, or set "
                "T5Config.attention='xla'."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, see `fields.from_dict`."""
        return fields.from_dict(cls, values)
