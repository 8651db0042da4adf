# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tensors of a checkpoint, and their assignment to the parameters of a model."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Self

import gin
import numpy as np

from mto_jax.checkpoints import parameter_names
from mto_jax.checkpoints.lazy import Tensor
from mto_jax.errors import UserError, unknown
from mto_jax.models.adapters import NONE, Adapters, is_adapter
from mto_jax.models.config import RUNTIME_FIELDS, ModelConfig, T5GemmaConfig

# Fields that say how a model is computed or trained, or that may differ in padding, not what it is.
_NO_IDENTITY = (*RUNTIME_FIELDS, "vocab_size", "family")

# (pattern, replacement) as in T5X: see `Contents.assign`.
Rules = Sequence[tuple[str, str | None]]


@gin.configurable("load_checkpoint")
@dataclasses.dataclass(frozen=True)
class Options:
    """The user's settings for reading checkpoints.

    Attributes:
      assignment_map: rules for a partial restore, see `Contents.assign`.
      allow_pickle: read `pytorch_model.bin` (by PyTorch, which must be installed, and nothing but
        tensors of it) where there are no safetensors.
      dtype: what a model that is used, or frozen beneath adapters, keeps its matrices in:
        "float32", or "bfloat16", half as large, with T5Config.dtype = "bfloat16", which computes
        with them in bfloat16 anyway.
    """

    assignment_map: Rules = ()
    allow_pickle: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16"):
            raise unknown("load_checkpoint.dtype", str(self.dtype), ("float32", "bfloat16"))


@dataclasses.dataclass(frozen=True)
class File:
    """Lazy tensors under the names that a file gives them."""

    path: str
    format: str
    side: str  # whose names they are: "hf", "t5x" or "ours"
    tensors: Mapping[str, Tensor]
    left: Mapping[str, str] = dataclasses.field(default_factory=dict)  # name -> why it is not used
    notes: Sequence[str] = ()
    step: int | None = None
    layers: str = "unstacked"  # or "scanned"
    unrecorded: Sequence[str] = ()  # fields of T5Config that the format does not record


@dataclasses.dataclass(frozen=True)
class Contents:
    """A T5 in a file: our parameters as lazy tensors, and an account of every tensor in it."""

    file: File
    config: ModelConfig  # as stored; `vocab_size` is the number of rows in the file
    tensors: Mapping[str, Tensor]  # by our name
    used: Mapping[str, Sequence[str]]  # our name -> names in the file
    faults: Mapping[str, Sequence[str]]  # our name -> what is missing or misshapen
    extra: Mapping[str, Tensor]  # by the file's name: parameters that a T5 does not have

    @classmethod
    def of(cls, file: File, config: ModelConfig) -> Self:
        """The account of a file that holds the model `config`."""
        if file.side == "ours":
            expected = parameter_names.shapes(config)
            used = {name: [name] for name in file.tensors if name in expected}
            built = parameter_names.Assembly(file.tensors, used, {})
        else:
            built = parameter_names.assemble(config, file.tensors, file.side)
        names = {name for names in built.used.values() for name in names}
        extra = {name: tensor for name, tensor in file.tensors.items() if name not in names}
        return cls(file, config, built.tensors, built.used, built.faults, extra)

    @property
    def model(self) -> ModelConfig:
        """The model to fill by default; a foreign vocabulary is padded to a multiple of 128."""
        rows = self.config.vocab_size
        rows = rows if self.file.side == "ours" else parameter_names.padded(rows)
        return dataclasses.replace(self.config, vocab_size=rows)

    def assign(
        self, config: ModelConfig | None = None, rules: Rules = (), adapters: Adapters = NONE
    ) -> tuple[dict[str, Tensor], list[str]]:
        """Assigns a tensor to each parameter of a model; returns (tensors by our name, report).

        Args:
          config: the model to fill; None takes `model`.
          rules: (pattern, replacement) pairs for a partial restore; the first pattern that matches
            the whole name of a parameter decides. A replacement (with \\1 for groups) names the
            parameter of the checkpoint to take instead; None leaves the parameter out, so that it
            keeps its fresh value. A None rule that matches a tensor of the file (or parameter of
            the checkpoint) which the model has no place for leaves it unread.
          adapters: of the model; those that the checkpoint lacks are left out.

        Raises:
          UserError: lists each tensor that is missing, misshapen or extra, and what was expected.
        """
        target = config or self.model
        tensors, report = self._fit_vocabulary(target.vocab_size)
        report = [*self.file.notes, *report]
        problems = []
        chosen, taken = {}, set()
        for name, shape in parameter_names.shapes(target, adapters).items():
            source = _source(name, rules)
            if source != name:
                report.append(f"{name} <- {source or 'fresh'}")
            if source is None or (is_adapter(source) and source not in tensors):
                continue
            taken.add(source)
            if source in self.faults:
                problems += self.faults[source]
            elif source not in tensors:
                problems.append(f"missing: {source}, expected {list(shape)}")
            elif tensors[source].shape != shape:
                actual = list(tensors[source].shape)
                problems.append(f"misshapen: {source} is {actual}, expected {list(shape)}")
            else:
                chosen[name] = tensors[source]
        spare = {
            name: t.shape for name, t in {**tensors, **self.extra}.items() if name not in taken
        }
        for name, shape in spare.items():
            if any(to is None and re.fullmatch(pattern, name) for pattern, to in rules):
                report.append(f"{name} {list(shape)} is left unread")
            elif name not in self.extra and rules:
                report.append(f"{name} {list(shape)} has no place here")
            else:
                problems.append(f"extra: {name} {list(shape)}, expected no such tensor")
        if type(self.config) is not type(target):
            there, here = family(self.config), family(target)
            problems.insert(0, f"another family of models: {there} there, {here} here")
        elif not rules:
            problems += [
                f"another model: {field.name} = {getattr(self.config, field.name)!r} there, "
                f"{getattr(target, field.name)!r} here"
                for field in dataclasses.fields(target)
                if field.name not in (*self.file.unrecorded, *_NO_IDENTITY)
                and getattr(self.config, field.name) != getattr(target, field.name)
            ]
        if problems:
            raise self._misfit(problems)
        return chosen, report

    def _fit_vocabulary(self, size: int) -> tuple[Mapping[str, Tensor], list[str]]:
        """The tensors for a vocabulary that differs in padding only, and what was done."""
        stored = self.config.vocab_size
        if size == stored or parameter_names.padded(size) != parameter_names.padded(stored):
            return self.tensors, []
        how = "new ones copy that of the pad token" if size > stored else "cut"
        report = [f"vocabulary: {stored} rows there, {size} here ({how})"]
        return parameter_names.fit_vocabulary(self.tensors, size), report

    def _misfit(self, problems: Sequence[str]) -> UserError:
        shown = [f"  {line}" for line in problems[:40]]
        if len(problems) > 40:
            shown.append(f"  ... and {len(problems) - 40} more")
        return UserError(
            f"{self.file.path} ({self.file.format}) does not fit the model:\n"
            + "\n".join(shown)
            + "\nChange the model, or say by load_checkpoint.assignment_map which parameters to "
            "take: a pair (pattern, other name) renames, (pattern, None) leaves out."
        )

    def describe(self) -> str:
        """Returns a description of the checkpoint as readable text."""
        config, counts = self.config, collections.Counter()
        for tensor in {**self.tensors, **self.extra}.values():
            counts[str(tensor.dtype)] += int(np.prod(tensor.shape))
        lines = [
            *_header(self.file),
            ("family", family(config)),
            ("parameters", f"{sum(counts.values()):,}"),
            ("types", ", ".join(f"{name} ({count:,})" for name, count in counts.items())),
            (
                "layers",
                f"{config.num_encoder_layers} + {config.num_decoder_layers}, {self.file.layers}",
            ),
            ("sizes", ", ".join(f"{f} {getattr(config, f)}" for f in _sizes(config))),
            ("vocabulary", f"{config.vocab_size} rows"),
            ("head", "tied to the embedding" if config.tie_embeddings else "of its own"),
            ("feed-forward", config.mlp),
            ("positions", _positions(config)),
        ]
        lines += [("problem", fault) for faults in self.faults.values() for fault in faults]
        lines += [("extra", f"{name} {list(t.shape)}") for name, t in self.extra.items()]
        return columns([*lines, *_footer(self.file)])


def _source(name: str, rules: Rules) -> str | None:
    """The parameter of the checkpoint that `name` takes by the first rule that matches, or None."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return None if replacement is None else match.expand(replacement)
    return name


def _sizes(config: ModelConfig) -> list[str]:
    if isinstance(config, T5GemmaConfig):
        own = ["d_model", "d_kv", "num_heads", "num_kv_heads", "d_ff"]
        unequal = any(getattr(config, f) != getattr(config, f"encoder_{f}") for f in own)
        return [*own, *(f"encoder_{field}" for field in own if unequal)]
    return ["d_model", "d_kv", "num_heads", "d_ff"]


def _positions(config: ModelConfig) -> str:
    if isinstance(config, T5GemmaConfig):
        return f"rotary, a window of {config.window} in every other layer"
    tables = "one table a layer" if config.relative_bias_per_layer else "one table a stack"
    reach = f"{config.num_buckets} buckets up to distance {config.max_distance}"
    return f"relative bias, {reach}, {tables}"


def family(config: ModelConfig) -> str:
    """The name of the published models of this build, as far as sizes and options say."""
    if isinstance(config, T5GemmaConfig):
        return "T5Gemma"
    if config.relative_bias_per_layer:
        return "umT5"
    if config.mlp == "relu":
        return "T5 1.0" if config.tie_embeddings else "T5 1.0 with a head of its own"
    if config.mlp == "gated-silu":
        return "UL2"
    known = {250112: "mT5", 384: "ByT5"}
    return known.get(config.vocab_size, "T5 1.1 (also LM-adapted, Flan-T5)")


def describe_file(file: File, reason: str) -> str:
    """Returns a description, as readable text, of a checkpoint that is no T5."""
    tensors = [("holds", f"{name} {list(t.shape)} {t.dtype}") for name, t in file.tensors.items()]
    return columns([*_header(file), ("not a T5", reason), *tensors[:20], *_footer(file)])


def _header(file: File) -> list[tuple[str, str]]:
    step = [] if file.step is None else [("step", f"{file.step:,}")]
    return [("path", file.path), ("format", file.format), *step]


def _footer(file: File) -> list[tuple[str, str]]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in file.left.items():
        by_reason.setdefault(reason, []).append(name)
    left = [
        ("not used", f"{', '.join(names) if len(names) <= 5 else len(names)} ({reason})")
        for reason, names in by_reason.items()
    ]
    return [*(("note", note) for note in file.notes), *left]


def columns(rows: Sequence[tuple[str, str]]) -> str:
    """Titles and texts in two columns, a line each."""
    width = max(len(title) for title, _ in rows)
    return "\n".join(f"{title:<{width}}  {text}" for title, text in rows)
