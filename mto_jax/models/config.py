# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The sizes and options of a model, a frozen dataclass for each family: T5 and T5Gemma."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

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

    family: ClassVar[str] = "t5"
    source_embedding: ClassVar[str] = "embedding"  # the parameter of the source's tokens
    # What the layers do for T5Gemma alone.
    norm_offset: ClassVar[float] = 0.0
    post_norms: ClassVar[bool] = False
    query_scale: ClassVar[float] = 1.0
    attention_softcap: ClassVar[float] = 0.0
    logit_softcap: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _check(self)
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

    @property
    def of_encoder(self) -> Self:
        """The configuration whose decoder has the encoder's sizes: this one."""
        return self

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values: every query head has one of its own."""
        return self.num_heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, see `fields.from_dict`."""
        return fields.from_dict(cls, values)


_OfEncoder = Annotated[int, checks.Rule(lambda n: 0 <= n <= 1 << 24, "from 0 to 16777216")]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class T5GemmaConfig:
    """Sizes and options of a T5Gemma (Zhang et al. 2025); the defaults are those of s-s.

    Fields without `encoder_` are those of the decoder; a size of the encoder that is 0 takes the
    decoder's value. JSON form: `dataclasses.asdict`, `from_dict`.
    """

    family: str = "t5gemma"  # tells records of families apart
    vocab_size: _Size = 256_000  # rows of both embeddings; the decoder's is the head as well
    d_model: _Size = 512  # D
    d_kv: _Size = 64  # K, size of one head; even, as halves of it are rotated
    num_heads: _Size = 8  # H, of queries
    num_kv_heads: _Size = 8  # of keys and values; each serves H / num_kv_heads query heads
    d_ff: _Size = 1024  # F
    num_decoder_layers: _Layers = 8
    query_scalar: _Size = 64  # queries are multiplied by query_scalar^-0.5
    encoder_d_model: _OfEncoder = 0
    encoder_d_kv: _OfEncoder = 0
    encoder_num_heads: _OfEncoder = 0
    encoder_num_kv_heads: _OfEncoder = 0
    encoder_d_ff: _OfEncoder = 0
    num_encoder_layers: _Layers = 8
    encoder_query_scalar: _OfEncoder = 0
    # Tokens that a query of the layers 0, 2, 4, ... sees: in the decoder itself and those before
    # it, in the encoder as many on both sides beside itself. The other layers see all.
    window: _Size = 4096
    attention_softcap: checks.NonNegative = 50.0  # bounds the logits of attention; 0: no bound
    logit_softcap: checks.NonNegative = 30.0  # bounds the logits of the head; 0: no bound
    rope_theta: checks.Positive = 10_000.0  # base of the wavelengths of rotary positions
    dropout_rate: checks.Share = 0.0
    norm_epsilon: checks.NonNegative = 1e-6
    dtype: str = "float32"  # of activations, or "bfloat16"; parameters are always float32
    remat: str = "auto"  # as in T5Config
    scan_unroll: checks.Natural = 0  # as in T5Config
    decoder_start_id: checks.Natural = 2  # the first token that the decoder reads, BOS
    pad_id: checks.Natural = 0
    eos_id: checks.Natural = 1

    source_embedding: ClassVar[str] = "encoder.embedding"
    mlp: ClassVar[str] = "gated-gelu"
    attention: ClassVar[str] = "xla"  # the fused kernel of cuDNN has no soft cap
    tie_embeddings: ClassVar[bool] = True
    norm_offset: ClassVar[float] = 1.0  # norms multiply by 1 + their parameter
    post_norms: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.family != "t5gemma":
            raise errors.unknown("T5GemmaConfig.family", str(self.family), ("t5gemma",))
        _check(self)
        for field in _ENCODER_FIELDS:
            if not getattr(self, f"encoder_{field}"):
                object.__setattr__(self, f"encoder_{field}", getattr(self, field))
        for stack, K, H, G in (
            ("", self.d_kv, self.num_heads, self.num_kv_heads),
            ("encoder_", self.encoder_d_kv, self.encoder_num_heads, self.encoder_num_kv_heads),
        ):
            if K % 2:
                raise errors.UserError(
                    f"T5GemmaConfig.{stack}d_kv is {K}; it must be even, as the halves of a head "
                    "are rotated against each other."
                )
            if H % G:
                raise errors.UserError(
                    f"T5GemmaConfig.{stack}num_heads is {H}; it must be a multiple of "
                    f"{stack}num_kv_heads, {G}, as every head of keys serves as many queries."
                )

    @property
    def query_scale(self) -> float:
        """What queries are multiplied by."""
        return self.query_scalar**-0.5

    @property
    def of_encoder(self) -> Self:
        """The configuration whose decoder has the encoder's sizes."""
        sizes = {field: getattr(self, f"encoder_{field}") for field in _ENCODER_FIELDS}
        return dataclasses.replace(self, **sizes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`, see `fields.from_dict`."""
        return fields.from_dict(cls, values)


_ENCODER_FIELDS = ("d_model", "d_kv", "num_heads", "num_kv_heads", "d_ff", "query_scalar")

ModelConfig = T5Config | T5GemmaConfig
_FAMILIES: Mapping[str, type[ModelConfig]] = {"t5": T5Config, "t5gemma": T5GemmaConfig}


@gin.configurable
def model_config(family: str = "t5") -> ModelConfig:
    """Returns the model that gin describes: T5Config, or T5GemmaConfig for the family "t5gemma"."""
    if family not in _FAMILIES:
        raise errors.unknown("family of models (model_config.family) called", family, _FAMILIES)
    return gin.get_configurable(_FAMILIES[family].__name__)()


def from_record(values: Mapping[str, Any]) -> ModelConfig:
    """Returns the model of `dataclasses.asdict`, of either family."""
    family = str(values.get("family", "t5"))
    if family not in _FAMILIES:
        raise errors.unknown("family of models called", family, _FAMILIES)
    return _FAMILIES[family].from_dict(values)


def bindings(config: ModelConfig) -> dict[str, Any]:
    """Returns what gin must bind for `model_config` to return the model."""
    name = type(config).__name__
    values = {f"{name}.{field}": value for field, value in dataclasses.asdict(config).items()}
    return {"model_config.family": config.family, **values}


def _check(config: ModelConfig) -> None:
    """Raises a UserError for a value that no model of either family can have."""
    name = type(config).__name__
    for field, known in _CHOICES.items():
        if getattr(config, field) not in known:
            raise errors.unknown(f"{name}.{field}", str(getattr(config, field)), known)
    checks.check_fields(config)
    for field in _IDS:
        if getattr(config, field) >= config.vocab_size:
            raise errors.UserError(
                f"{name}.{field} is {getattr(config, field)!r}; it must be the id of a token, "
                f"0 to {config.vocab_size - 1}."
            )
