# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5Config: the sizes and options of a T5, as one frozen dataclass."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Self

import gin

from mto_jax import checks, errors, fields

_CHOICES = {
    "mlp": ("gated-gelu", "gated-silu", "relu"),
    "dtype": ("float32", "bfloat16"),
    "remat": ("auto", "none", "minimal", "full"),
    "attention": ("xla", "cudnn"),
}
_IDS = ("decoder_start_id", "pad_id", "eos_id")
# A size that no T5 has is a mistake, found before memory is asked for.
_Size = Annotated[int, checks.Rule(lambda n: 1 <= n <= 1 << 24, "from 1 to 16777216")]
_Layers = Annotated[int, checks.Rule(lambda n: 1 <= n <= 1024, "from 1 to 1024")]
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

    vocab_size: _Size = 32128  # rows of the embedding, padding of the vocabulary included
    d_model: _Size = 512  # D
    d_kv: _Size = 64  # K, size of one head
    num_heads: _Size = 6  # H; H * K need not be D
    d_ff: _Size = 1024  # F
    num_encoder_layers: _Layers = 8
    num_decoder_layers: _Layers = 8
    num_buckets: _Size = 32  # of the relative position bias
    max_distance: _Size = 128  # beyond it, all distances share the last bucket
    relative_bias_per_layer: bool = False  # umT5; else the layers of a stack share one table
    mlp: str = "gated-gelu"  # or "gated-silu", or "relu"
    tie_embeddings: bool = False  # the head is the transposed input embedding
    dropout_rate: checks.Share = 0.0
    norm_epsilon: checks.NonNegative = 1e-6
    dtype: str = "float32"  # of activations, or "bfloat16"; parameters are always float32
    # What backward computes again: "none", "minimal" (all but matmuls), "full"; "auto" is "none" on
    # a CPU, else "minimal".
    remat: str = "auto"
    attention: str = "xla"  # or "cudnn": fused, NVIDIA GPUs only, needs bfloat16
    scan_unroll: checks.Natural = 0  # layers an iteration; 0: all 8 or fewer on CPU, else 1
    decoder_start_id: checks.Natural = 0  # the first token that the decoder reads
    pad_id: checks.Natural = 0  # for other programs; here 0 pads, which nothing reads
    eos_id: checks.Natural = 1  # the token that ends an output

    def __post_init__(self) -> None:
        for field, known in _CHOICES.items():
            if getattr(self, field) not in known:
                raise errors.unknown(f"T5Config.{field}", str(getattr(self, field)), known)
        checks.check_fields(self)
        for field in _IDS:
            if getattr(self, field) >= self.vocab_size:
                raise errors.UserError(
                    f"T5Config.{field} is {getattr(self, field)!r}; it must be the id of a token, "
                    f"0 to {self.vocab_size - 1}."
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
