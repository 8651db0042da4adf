# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What every checkpoint gives, of whatever kind: its model, its parameters and its vocabulary."""

import abc
import dataclasses
import functools
import json
import math
import pathlib
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mto_jax import hub, remote
from mto_jax.checkpoints.contents import Options
from mto_jax.checkpoints.lazy import Tensor, place
from mto_jax.errors import UserError
from mto_jax.files import digest
from mto_jax.models.adapters import NONE, Adapters, fold, is_adapter
from mto_jax.models.config import RUNTIME_FIELDS, ModelConfig
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.models.families import build
from mto_jax.models.flops import num_parameters
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training import sharding
from mto_jax.training.state import Parameters, abstract_model, fingerprints

Shardings = Mapping[str, jax.sharding.Sharding]


class UnknownVocabulary(UserError):
    """Neither a checkpoint nor gin says which vocabulary the model has."""


@dataclasses.dataclass(frozen=True)
class Checkpoint(abc.ABC):
    """A T5 on disk, with its adapters if it has any.

    Attributes:
      path: the local folder or file.
      options: what the user says about reading it.
      run_dir: the run directory that it is in; None unless it is a step of one.
      step_dir: the step folder with the record of how the T5 was trained, if there is one.
      step: how many steps it was trained, as far as it says; else 0.
      adapters: what it adds to the T5, as in training.
    """

    path: pathlib.Path
    options: Options = dataclasses.field(default_factory=Options)

    run_dir = step_dir = None
    step = 0
    adapters = NONE

    @property
    def title(self) -> str:
        """The name for a person: hf://org/name@revision for a folder of the hub's cache."""
        return hub.name_in_hub(self.path) or remote.name_of(self.path)

    @property
    def config(self) -> ModelConfig:
        """The model, as `model` makes it.

        Its vocabulary is padded to a multiple of 128, and the fields that say how it computes
        (`RUNTIME_FIELDS`, such as dtype) are those that gin binds, else the checkpoint's.
        """
        stored = self._stored_config
        bound = gin.get_bindings(type(stored).__name__)
        fields = {name: bound[name] for name in RUNTIME_FIELDS if name in bound}
        return dataclasses.replace(stored, **fields)

    @functools.cached_property
    def digest(self) -> str:
        """Changes when the content does.

        A checkpoint in the hub's cache is known by its commit. Other files may be too large to be
        read for that: their names, sizes and times stand for them.
        """
        if name := hub.name_in_hub(self.path):  # the same on every host
            return digest(name.encode())
        files = [self.path] if self.path.is_file() else sorted(self.path.rglob("*"))
        entries = [
            (str(file.relative_to(self.path.parent)), file.stat().st_size, file.stat().st_mtime_ns)
            for file in files
            if file.is_file()
        ]
        return digest(json.dumps(entries).encode())

    @abc.abstractmethod
    def describe(self) -> str:
        """The checkpoint in words, for a person."""

    def adapter_description(self) -> dict[str, Any]:
        """The description of the adapters, for `peft.save_adapter`.

        Raises:
          UserError: it has none.
        """
        raise UserError(f"{self.title} has no adapters.")

    # ---- Parameters

    def parameters(
        self,
        shardings: Shardings | None = None,
        config: ModelConfig | None = None,
        adapters: Adapters | None = None,
        rounded: Collection[str] = (),
    ) -> Parameters:
        """The parameters in float32 by name, each read straight to its devices.

        What is not taken over as it is (rows added to the vocabulary, rules applied) is said on
        standard error.

        Args:
          shardings: where each parameter lives, such as `AbstractModel.shardings(mesh)`; others are
            not read. None means all, whole, on the first local device.
          config, adapters: the model that they must fit; None means the checkpoint's own. Adapters
            that the checkpoint lacks, and what a rule leaves out, are not in the result.
          rounded: names of those that become bfloat16, one after another.

        Raises:
          UserError: not a T5, or it does not fit: every missing, extra or misshapen tensor is
            listed with what was expected; or its base is not there or has changed.
        """
        tensors, report = self.assign(config, adapters)
        self._print(report)
        if shardings is not None:
            tensors = {name: tensor for name, tensor in tensors.items() if name in shardings}
        arrays, from_base = {}, {}
        for name, tensor in tensors.items():
            value = place(tensor, shardings[name] if shardings else None, np.float32)
            if self._from_base(name):
                from_base |= fingerprints({name: value})
            arrays[name] = value.astype(jnp.bfloat16) if name in rounded else value
        if from_base:
            self._check_base(from_base)
        return arrays

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, still on disk; those from a base were read once for a check.

        Raises:
          UserError: see `parameters`.
        """
        tensors, report = self.assign()
        self._print(report)
        if base := {name: tensor for name, tensor in tensors.items() if self._from_base(name)}:
            self._check_base(tensor_fingerprints(base))
        return tensors

    @functools.cached_property
    def mesh(self) -> Mesh | None:
        """The mesh over which `model` is cut; None: it stands whole on the first local device.

        Raises:
          UserError: see `sharding.inference_mesh`; or its matrices are to be kept in bfloat16, but
            not computed with.
        """
        config, kept = self.config, self.options.dtype
        if kept == "bfloat16" and config.dtype != kept:
            name = type(config).__name__
            raise UserError(
                f'load_checkpoint.dtype is "bfloat16", but {name}.dtype is "{config.dtype}". Set '
                f'{name}.dtype to "bfloat16" as well, or leave load_checkpoint.dtype out.'
            )
        heads = math.gcd(config.num_kv_heads, config.of_encoder.num_kv_heads)
        return sharding.inference_mesh(jnp.dtype(kept).itemsize * num_parameters(config), heads)

    def model(self, vocabulary: Vocabulary) -> EncoderDecoder:
        """The model on the local devices, see `mesh`, the encoder of its prompt folded away.

        Its matrices are kept in `Options.dtype`. Where it is cut or rounded, a line on standard
        error says so.

        Raises:
          UserError: see `parameters` and `mesh`; or it is only a part of a model, or was trained
            with another vocabulary.
        """
        config, mesh = self.config, self.mesh
        self.check_vocabulary(vocabulary)
        spec, unfolded = (
            abstract_model(functools.partial(build, config, adapters=adapters))
            for adapters in (self.adapters.folded, self.adapters)
        )
        shardings = mesh and {**spec.shardings(mesh), **unfolded.shardings(mesh)}
        # What else there is, norms and biases of distance, is small, and computed with in float32.
        matrices = [n for n, axes in spec.axes.items() if "embed" in axes and not is_adapter(n)]
        rounded = matrices if self.options.dtype == "bfloat16" else []
        parameters = fold(self.parameters(shardings, config, rounded=rounded), self.adapters)
        missing = [name for name in spec.shapes if name not in parameters]
        if missing:
            raise UserError(
                f"load_checkpoint.assignment_map leaves out {', '.join(missing)}: a part of a "
                "model can be trained on, but not used as it is."
            )
        if mesh or rounded:
            self._print([_placed(parameters, self.options.dtype, mesh)])
        return spec.merge(parameters)

    @abc.abstractmethod
    def assign(
        self, config: ModelConfig | None = None, adapters: Adapters | None = None
    ) -> tuple[dict[str, Tensor], list[str]]:
        """The tensor on disk for each parameter of a model, and a report; see `parameters`."""

    @property
    @abc.abstractmethod
    def _stored_config(self) -> ModelConfig: ...

    def _print(self, report: Sequence[str]) -> None:
        for line in report if jax.process_index() == 0 else ():
            print(f"{self.title}: {line}", file=sys.stderr)

    def _from_base(self, name: str) -> bool:
        """Returns whether a parameter is read from the checkpoint that this one was trained on."""
        return False

    def _check_base(self, present: Mapping[str, str]) -> None:
        """Raises a UserError if the fingerprints `present` are not those of the base."""
        raise NotImplementedError(f"{type(self).__name__} has no base")

    # ---- Vocabulary

    def adopt_vocabulary(self) -> Vocabulary:
        """The vocabulary, which becomes that of this process: `vocabulary.name` in gin.

        Raises:
          UserError: gin binds another one, or none is known.
        """
        name, vocabulary = self.find_vocabulary()
        if (eos_id := self.config.eos_id) != vocabulary.eos_id:
            print(
                f"{self.title} ends its outputs with token {eos_id}, its vocabulary ends texts "
                f"with {vocabulary.eos_id}: trained on such texts, the model would not stop",
                file=sys.stderr,
            )
        if gin.get_bindings("vocabulary").get("name") is None:
            with gin.unlock_config():
                gin.bind_parameter("vocabulary.name", name)
        return vocabulary

    def find_vocabulary(self) -> tuple[str, Vocabulary]:
        """(`vocabulary.name`, the vocabulary).

        It is the tokenizer beside the checkpoint (in the folder of Hugging Face or the run
        directory), or the one that a run has on record. Where a checkpoint says nothing (T5X), it
        is the one that gin binds, or T5's for 32 128 rows, which is said on standard error.

        Raises:
          UserError: gin binds another one.
          UnknownVocabulary: none is known, or the tokenizer beside it cannot be read.
        """
        bound = gin.get_bindings("vocabulary").get("name")
        recorded, digest = self._recorded_vocabulary
        beside = self._vocabulary_beside
        names = [beside] if beside else []
        names += [name for name in (recorded, bound) if name and name != beside]
        guessed = not names and self.config.vocab_size == 32128
        if guessed:
            names = [vocabularies.DEFAULT]
        reasons = []
        for name in names:
            try:
                vocabulary = vocabularies.vocabulary(name)
                if vocabulary.digest == (digest or vocabulary.digest):
                    break
                reasons.append(f"{name!r} is another.")
            except UserError as error:
                reasons.append(str(error).splitlines()[0])
        else:
            raise UnknownVocabulary(
                f"The vocabulary of {self.title} is not known. {' '.join([*reasons, ''])}Set "
                "VOCABULARY (vocabulary.name) to it: a SentencePiece file, a tokenizer.json, a "
                "folder with one of them, or hf://org/model."
            )
        if guessed:
            print(f"{self.title} has no vocabulary with it: T5's is taken", file=sys.stderr)
        if bound is not None:
            self._check_same(name, vocabulary.digest, vocabularies.vocabulary(bound))
        return name, vocabulary

    def check_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Raises a UserError if the checkpoint belongs to another vocabulary."""
        name, digest = self._recorded_vocabulary
        if digest:
            self._check_same(name, digest, vocabulary)
        rows = self.config.vocab_size
        if rows < vocabulary.size:
            raise UserError(
                f"The model {self.title} has {rows} rows for tokens, but the vocabulary "
                f"{vocabulary.path!r} {vocabulary.size} ids: it belongs to another model. Set "
                "VOCABULARY (vocabulary.name) to the model's."
            )
        check_start(self.config, vocabulary)

    @property
    def _recorded_vocabulary(self) -> tuple[str, str]:
        """The name and digest that the checkpoint gives its vocabulary; "" for what it lacks."""
        return "", ""

    @functools.cached_property
    def _vocabulary_beside(self) -> str | None:
        """The name of the tokenizer in the folder of the checkpoint; None if there is none."""
        return vocabularies.in_folder((self.run_dir or self.path).absolute())

    def _check_same(self, name: str, digest: str, vocabulary: Vocabulary) -> None:
        beside = self._vocabulary_beside
        if digest != vocabulary.digest and not (
            beside and vocabularies.load(beside).pieces == vocabulary.pieces
        ):
            raise UserError(
                f"The model {self.title} was trained with the vocabulary {name!r}, but VOCABULARY "
                f"(vocabulary.name) gives another, {vocabulary.path!r} with {vocabulary.size} ids. "
                "Leave VOCABULARY out, which takes the model's, or set it to that."
            )


def check_start(model: ModelConfig, vocabulary: Vocabulary) -> None:
    """Raises a UserError if the decoder starts with the vocabulary's unknown piece.

    So does a T5Gemma, whose BOS is 2, with a vocabulary of T5's kind.
    """
    if (start := model.decoder_start_id) == vocabulary.unk_id:
        raise UserError(
            f"The decoder starts with token {start} ({type(model).__name__}.decoder_start_id), "
            f"which is the unknown piece of the vocabulary {vocabulary.path!r}: that belongs to "
            "another family of models. Set VOCABULARY (vocabulary.name) to the model's, or, of a "
            f"model from scratch, {type(model).__name__}.decoder_start_id to 0, its padding."
        )


def _placed(parameters: Parameters, dtype: str, mesh: Mesh | None) -> str:
    """Returns in words where parameters lie."""
    counts, sizes, own = zip(
        *(
            (v.size, v.nbytes, v.dtype.itemsize * math.prod(v.sharding.shard_shape(v.shape)))
            for v in parameters.values()
        ),
        strict=True,
    )
    text = f"{sum(counts) / 1e6:,.1f} million parameters in {dtype}, {sum(sizes) / 1e9:.3g} GB"
    if mesh is None:
        return f"{text}, on one device"
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    return f"{text}, cut over {mesh.size} devices ({axes}): {sum(own) / 1e9:.3g} GB on each"


def tensor_fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """`state.fingerprints` of tensors on disk, of which one at a time is in memory."""
    numbers = {}
    for name, tensor in tensors.items():
        numbers |= fingerprints({name: place(tensor, None, np.float32)})
    return numbers
