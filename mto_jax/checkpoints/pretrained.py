# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of any kind as a model on the device, with the vocabulary that belongs to it.

>>> path = locate("hf://google/flan-t5-small")  # or runs/a, a step of it, a folder of T5X
>>> vocabulary = adopt_vocabulary(path)
>>> model = load_model(path, vocabulary)
"""

import dataclasses
import functools
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import gin
import jax

from mto_jax.checkpoints import conversion, peft, runs
from mto_jax.checkpoints.foreign import Rules, place_all
from mto_jax.checkpoints.lazy import Tensor
from mto_jax.data import manifest
from mto_jax.errors import UserError
from mto_jax.files import DIGEST
from mto_jax.models import t5
from mto_jax.models.adapters import NONE, Adapters, fold, is_adapter
from mto_jax.models.config import RUNTIME_FIELDS, T5Config
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training.multi_adapter import attach
from mto_jax.training.state import blueprint, by_name, fingerprints


class UnknownVocabulary(UserError):
    """Neither a checkpoint nor gin tells the vocabulary."""


def locate(path: str | os.PathLike, prefer: str = "newest") -> pathlib.Path:
    """The local folder or file of one checkpoint; the functions below take it.

    Args:
      path: a run directory or a step folder of one, a folder of Hugging Face or T5X, a file of T5X, or
        hf://org/name[@revision], which is downloaded unless it is in the cache; or an adapter folder
        (`mto tune`, PEFT), which stands for its base model with the adapter on it.
      prefer: of a run directory, "newest" or "best".

    Raises:
      UserError: nothing there, damaged, or the hub does not give it.
    """
    if peft.is_adapter(path):
        return pathlib.Path(path)
    if not conversion.is_foreign(path):
        return runs.resolve(path, prefer)
    return conversion.resolve(path)


def is_run(path: str | os.PathLike) -> bool:
    """Whether a path means a run of ours (or a step of one), which may have several checkpoints."""
    return not peft.is_adapter(path) and not conversion.is_foreign(path)


def _under(path: pathlib.Path) -> pathlib.Path:
    """The located base model of an adapter folder; any other checkpoint as it is."""
    if not peft.is_adapter(path):
        return path
    place = base_checkpoint() or peft.load_adapter(path)[2].get("base", {}).get("path")
    if not place:
        raise UserError(
            f"The adapter {path} does not say what model it is for: bind base_checkpoint.path to that."
        )
    return locate_base(place)


def title(path: pathlib.Path) -> str:
    """A located checkpoint's name for a person: hf://org/name@revision for a folder of the hub's cache."""
    return conversion.name_in_hub(path) or str(path)


def config_of(path: pathlib.Path) -> T5Config:
    """The model in a located checkpoint, as `load_model` will make it."""
    path = _under(path)
    if conversion.is_foreign(path):
        config = conversion.open_checkpoint(path).model
    else:
        config = T5Config.from_dict(runs.description(path)["model"])
    return _computing(config)


def step_of(path: pathlib.Path) -> int:
    """How many steps the model of a located checkpoint has trained, as far as it tells; else 0."""
    if peft.is_adapter(path):
        return 0
    if conversion.is_foreign(path):
        return conversion.open_checkpoint(path).file.step or 0
    return runs.description(path)["step"]


def digest(path: pathlib.Path) -> str:
    """Changes when the content of a located checkpoint does.

    For one of ours, its own digest. One in the hub's cache is known by its commit. Other foreign files may be too
    large to be read for that: their names, sizes and times stand for them.
    """
    if is_run(path):
        return manifest.digest((path / DIGEST).read_bytes())
    if name := conversion.name_in_hub(path):  # the same on every host
        return manifest.digest(name.encode())
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    entries = [
        (str(p.relative_to(path.parent)), p.stat().st_size, p.stat().st_mtime_ns) for p in files
    ]
    return manifest.digest(json.dumps(entries).encode())


def load_model(path: pathlib.Path, vocabulary: Vocabulary) -> t5.T5:
    """The model of a located checkpoint, whole, on the first local device.

    The fields of T5Config that say how it computes (`RUNTIME_FIELDS`, such as dtype) are those that gin binds,
    else the checkpoint's.

    Raises:
      UserError: damaged, no T5, only a part of one, or trained with another vocabulary.
    """
    if peft.is_adapter(path):
        return _with_adapter(path, vocabulary)
    config = config_of(path)
    check_vocabulary(path, config, vocabulary)
    adapters = adapters_of(path)
    plan = blueprint(functools.partial(t5.T5, config, adapters=adapters.folded))
    if not conversion.is_foreign(path):
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        stored = blueprint(functools.partial(t5.T5, config, adapters=adapters)).abstract
        wanted = {
            name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=here)
            for name, value in stored.items()
        }
        return plan.merge(fold(parameters_of(path, wanted), adapters))
    _, parameters = conversion.load(path, config=config)
    missing = [name for name in plan.abstract if name not in parameters]
    if missing:
        raise UserError(
            f"load_checkpoint.assignment_map leaves out {', '.join(missing)}: a part of a model can be "
            "trained on, but not used as it is."
        )
    return plan.merge(parameters)


def _with_adapter(path: pathlib.Path, vocabulary: Vocabulary) -> t5.T5:
    """The base model of an adapter folder with the adapter on it."""
    adapters, parameters, description = peft.load_adapter(path)
    base = load_model(_under(path), vocabulary)
    peft.check_fits(adapters, parameters, base.config, str(path))
    recorded = description.get("base", {}).get("fingerprint")
    if recorded and recorded != peft.one_fingerprint(fingerprints(by_name(base))):
        raise UserError(
            f"The adapter {path} was trained on another model than {title(_under(path))}, or that has changed since. "
            "Name the one that it belongs to with base_checkpoint.path."
        )
    return attach(base, adapters, parameters)


def adapters_of(path: pathlib.Path) -> Adapters:
    """What a located checkpoint adds to its T5."""
    if peft.is_adapter(path):
        return peft.load_adapter(path)[0]
    if conversion.is_foreign(path):
        return NONE
    return Adapters.from_dict(runs.description(path).get("adapters", {}))


def names_of(path: pathlib.Path) -> set[str]:
    """The names of the parameters of a run's step, those of the base that it names included."""
    base = runs.base_of(path)
    return runs.stored_names(path) | set(base["fingerprints"] if base else ())


@gin.configurable
def base_checkpoint(path: str | None = None) -> str | None:
    """Where the frozen model of an adapter is, when it is not where it was in training."""
    return path


def parameters_of(
    path: pathlib.Path, wanted: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """The parameters of a run's step, placed as `wanted` says; frozen ones from its base where they are there.

    Raises:
      UserError: it is of another model, or its base is not there or has changed.
    """
    stored = runs.stored_names(path)
    base = runs.base_of(path)
    own = {name: value for name, value in wanted.items() if name in stored or base is None}
    found = runs.restore_parameters(path, own)
    rest = {name: value for name, value in wanted.items() if name not in own}
    if rest:
        found |= base_parameters(base, rest, base_checkpoint())
    return {name: found[name] for name in wanted}


def base_parameters(
    base: Mapping[str, Any] | None,
    wanted: Mapping[str, jax.ShapeDtypeStruct],
    path: str | None = None,
) -> dict[str, jax.Array] | None:
    """The frozen parameters that a checkpoint left in its base; None where it names none.

    Args:
      base: of `checkpoints.base_of`.
      path: where to look instead of the place that the checkpoint names.

    Raises:
      UserError: the base is not there, or is another model.
    """
    if base is None:
        return None
    place = path or base["path"]
    checkpoint = conversion.open_checkpoint(locate_base(place))
    _, tensors, _ = plain_tensors(checkpoint, conversion.Options().assignment_map)
    shardings = {name: value.sharding for name, value in wanted.items() if name in tensors}
    parameters = place_all({name: tensors[name] for name in shardings}, shardings)
    # What is not there at all counts as different.
    _check_base(base, place, {**dict.fromkeys(wanted, ""), **fingerprints(parameters)})
    return parameters


def locate_base(place: str) -> pathlib.Path:
    """`locate` for the model that an adapter or a run was trained on."""
    try:
        return locate(place)
    except UserError as error:
        raise UserError(
            f"The frozen parameters of this checkpoint are those of {place}, which is not to be had: {error} If "
            "it has moved, bind base_checkpoint.path (in training, INITIAL_CHECKPOINT_PATH)."
        ) from error


def _check_base(base: Mapping[str, Any], place: str, now: Mapping[str, str]) -> None:
    """Raises a UserError if the fingerprints `now` of what is at `place` are not those of the base."""
    different = [name for name in now if now[name] != base["fingerprints"][name]]
    if different:
        raise UserError(
            f"This checkpoint was trained on the frozen parameters of {base['path']}, but {place} has others: "
            f"{', '.join(different[:3])}{' and more' if len(different) > 3 else ''} differ. Name the base that it "
            "belongs to (base_checkpoint.path; in training, INITIAL_CHECKPOINT_PATH)."
        )


def plain_tensors(
    checkpoint: conversion.Checkpoint, rules: Rules = ()
) -> tuple[T5Config, dict[str, Tensor], list[str]]:
    """A checkpoint without its adapters: (model, parameters that stay on disk until they are read, notes).

    Args:
      rules: see `Checkpoint.assign`; not for a run with adapters or a base.

    Raises:
      UserError: it is no T5 or does not fit; or a run's base is not there or has changed.
    """
    path = pathlib.Path(checkpoint.file.path)
    base = None if conversion.is_foreign(path) else runs.base_of(path)
    if base is None and not any(is_adapter(name) for name in checkpoint.extra):
        config, tensors, report = checkpoint.assign(rules=rules)
        return config, tensors, [*checkpoint.file.notes, *report]
    tensors = dict(checkpoint.tensors)
    if base is not None:
        place = base_checkpoint() or base["path"]
        there = plain_tensors(conversion.open_checkpoint(locate_base(place)), rules)[1]
        there = {name: tensor for name, tensor in there.items() if name not in tensors}
        _check_base(base, place, tensor_fingerprints(there))
        tensors |= there
    return checkpoint.model, tensors, []


def tensor_fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """`state.fingerprints` of tensors on disk, of which one at a time is in memory."""
    numbers = {}
    for name, tensor in tensors.items():
        numbers |= fingerprints(place_all({name: tensor}, None))
    return numbers


def _computing(config: T5Config) -> T5Config:
    bound = gin.get_bindings("T5Config")
    fields = {name: bound[name] for name in RUNTIME_FIELDS if name in bound}
    return dataclasses.replace(config, **fields)


# ---------------------------------------------------------------------------------- vocabulary


def adopt_vocabulary(path: pathlib.Path) -> Vocabulary:
    """The vocabulary of a located checkpoint, which becomes that of this process: `vocabulary.name` in gin.

    Raises:
      UserError: gin binds another one, or none is known.
    """
    name, vocabulary = own_vocabulary(path, config_of(path))
    if gin.get_bindings("vocabulary").get("name") is None:
        with gin.unlock_config():
            gin.bind_parameter("vocabulary.name", name)
    return vocabulary


def own_vocabulary(path: pathlib.Path, config: T5Config) -> tuple[str, Vocabulary]:
    """(`vocabulary.name`, the vocabulary) of a located checkpoint and the model in it.

    It is spiece.model beside it (in the folder of Hugging Face or the run directory), or the one that a run
    has on record. Where a checkpoint tells nothing (T5X), it is the one that gin binds, or T5's for
    32 128 rows, which is told on standard error.

    Raises:
      UserError: gin binds another one.
      UnknownVocabulary: none is known.
    """
    path = _under(path)
    bound = gin.get_bindings("vocabulary").get("name")
    recorded, digest = _record(path)
    names = [str(file.absolute()) for file in [_beside(path)] if file.is_file()]
    names += [name for name in (recorded, bound) if name]
    guessed = not names and config.vocab_size == 32128
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
            f"The vocabulary of {title(path)} is not known. {' '.join([*reasons, ''])}Set VOCABULARY "
            "(vocabulary.name) to it: a SentencePiece file, a folder with spiece.model, or hf://org/model."
        )
    if guessed:
        print(f"{title(path)} has no vocabulary with it: T5's is taken", file=sys.stderr)
    if bound is not None:
        _check_same(path, name, vocabulary.digest, vocabularies.vocabulary(bound))
    return name, vocabulary


def check_vocabulary(path: pathlib.Path, config: T5Config, vocabulary: Vocabulary) -> None:
    """Raises a UserError if a located checkpoint, with this model in it, belongs to another vocabulary."""
    path = _under(path)
    name, digest = _record(path)
    if digest:
        _check_same(path, name, digest, vocabulary)
    if config.vocab_size < vocabulary.size:
        raise UserError(
            f"The model {title(path)} has {config.vocab_size} rows for tokens, but the vocabulary "
            f"{vocabulary.path!r} {vocabulary.size} ids: it belongs to another model. Set VOCABULARY "
            "(vocabulary.name) to the model's."
        )


def _record(path: pathlib.Path) -> tuple[str, str]:
    """What a checkpoint tells of its vocabulary: its name and digest, each "" if it does not."""
    if not conversion.is_foreign(path):
        record = runs.description(path).get("vocabulary", {})
        return record.get("name", ""), record.get("digest", "")
    file = _beside(path)
    return (str(file), vocabularies.load(str(file)).digest) if file.is_file() else ("", "")


def _beside(path: pathlib.Path) -> pathlib.Path:
    """Where the vocabulary file of a located checkpoint is, if it has one."""
    folder = path if conversion.is_foreign(path) else path.parent.parent
    return folder / vocabularies.MODEL_FILE


def _check_same(path: pathlib.Path, name: str, digest: str, vocabulary: Vocabulary) -> None:
    if digest != vocabulary.digest:
        raise UserError(
            f"The model {title(path)} was trained with the vocabulary {name!r}, but VOCABULARY "
            f"(vocabulary.name) gives another, {vocabulary.path!r} with {vocabulary.size} ids. Leave VOCABULARY "
            "out, which takes the model's, or set it to that."
        )
