# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint, or say what it is: Hugging Face, T5X, or one of our own runs.

  mto convert --inspect=hf://google/flan-t5-small
  mto convert --from=hf://google/t5-v1_1-base --to=native --output=t5_base
  mto convert --from=runs/a --to=hf --output=my-t5
  mto convert --from=runs/lora --to=peft --output=my-lora

A run or a folder with adapters becomes a plain T5 (hf, native: LoRA and (IA)^3 are merged into the weights), or
the adapter alone (peft). `train`, `evaluate` and `infer` read foreign checkpoints themselves; converting once saves the download and
the check of every start.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import gin
import numpy as np

from mto_jax import errors
from mto_jax.checkpoints import conversion, huggingface, native, peft, pretrained, runs
from mto_jax.checkpoints.lazy import Tensor
from mto_jax.checkpoints.merge import merge
from mto_jax.models.adapters import NONE, Adapters, fold, is_adapter
from mto_jax.models.config import T5Config
from mto_jax.text2text.vocabulary import Vocabulary

TARGETS = ("hf", "native", "peft")


def add_flags(parser) -> None:
    parser.add_argument(
        "--inspect", metavar="PATH", help="print what this checkpoint is, write nothing"
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        help="hf://org/name[@revision], a folder of Hugging Face or T5X, a run directory or step of one, a "
        "folder of an adapter",
    )
    parser.add_argument("--to", metavar="|".join(TARGETS), help="what to write")
    parser.add_argument(
        "--output", metavar="DIR", help="folder to write; must not hold anything yet"
    )
    parser.add_argument(
        "--dtype", metavar="|".join(huggingface.DTYPES), help="of the tensors, for --to=hf"
    )
    parser.add_argument(
        "--allow_pickle",
        action="store_true",
        default=None,
        help="read pytorch_model.bin where there are no safetensors (needs PyTorch)",
    )


@gin.configurable
def convert(
    inspect: str | None = None,
    source: str | None = None,
    to: str | None = None,
    output: str | None = None,
    dtype: str = "float32",
    allow_pickle: bool = False,
) -> None:
    """Write the checkpoint `source` as `output`, or print what `inspect` is.

    Args:
      inspect: the checkpoint to describe.
      source: the checkpoint to convert.
      to: "hf" for a folder that Transformers loads (with a soft prompt in a folder prompt/ in it), "native" for
        a run directory of ours, "peft" for the adapter by itself.
      output: folder to write.
      dtype: of the tensors of a Hugging Face folder: "float32" or "bfloat16".
      allow_pickle: read `pytorch_model.bin`.

    Raises:
      UserError: nothing to do, or the checkpoint cannot be read or written.
    """
    if allow_pickle:  # of all that is read, the base of an adapter too
        with gin.unlock_config():
            gin.bind_parameter("load_checkpoint.allow_pickle", True)
    options = conversion.Options()
    if inspect is not None:
        print(
            peft.inspect(inspect)
            if peft.is_adapter(inspect)
            else conversion.inspect(inspect, options)
        )
        return
    if source is None or to is None or output is None:
        raise errors.UserError(
            "Say what to convert: --from=PATH --to=hf|native|peft --output=DIR; or --inspect=PATH."
        )
    if to not in TARGETS:
        raise errors.unknown("target of a conversion called", to, TARGETS)
    model = _open(source, options)
    for line in model.notes:
        print(f"{source}: {line}", file=sys.stderr)
    if to == "peft" and model.adapters == NONE:
        raise errors.UserError(f"{source} has no adapter; --to=hf or --to=native writes the model.")
    if to == "peft":
        peft.save_adapter(output, model.adapters, model.parameters, model.description())
        print(f"wrote {output}")
        return
    if to == "native" and model.adapters.prompt_rows:
        raise errors.UserError(
            f"{source} has a soft prompt, which --to=native has no place for: --to=hf writes it beside the model, "
            "--to=peft by itself."
        )
    tensors = merge(model.tensors, model.adapters, model.parameters)
    name, vocabulary = _vocabulary(model.path, model.config)
    if to == "native":
        native.write(
            output,
            model.config,
            tensors,
            vocabulary=vocabulary,
            vocabulary_name=name,
            origin=source,
        )
        print(f"wrote {output}; start from it with INITIAL_CHECKPOINT_PATH = '{output}'")
        return
    conversion.save(
        tensors,
        model.config,
        output,
        vocabulary=vocabulary,
        dtype=dtype,
        source=source,
        step_dir=None if conversion.is_foreign(model.path) else model.path,
    )
    print(f"wrote {output}")
    if model.adapters.prompt_rows:
        prompt = Adapters(tuple(m for m in model.adapters.methods if m.rows))
        rows = {
            n: v for n, v in model.parameters.items() if not n.startswith(("encoder.", "decoder."))
        }
        about = {**model.told, "base": {"path": output}}
        peft.save_adapter(pathlib.Path(output) / "prompt", prompt, rows, about)
        print(f"wrote {output}/prompt, its soft prompt, for PeftModel.from_pretrained")


@dataclasses.dataclass(frozen=True)
class _Model:
    """What is converted: a T5 and, where it has one, its adapter, folded."""

    path: pathlib.Path  # of the T5
    config: T5Config
    tensors: Mapping[str, Tensor]  # of the T5 alone, on disk
    notes: list[str]
    adapters: Adapters
    parameters: Mapping[str, np.ndarray]
    told: Mapping[str, Any]  # what is known already of `description`

    def description(self) -> dict[str, Any]:
        """For `peft.save_adapter`."""
        told = {"base": {"path": str(self.path)}, **self.told}
        if "fingerprint" not in told["base"]:
            numbers = pretrained.tensor_fingerprints(self.tensors)
            told["base"] = {**told["base"], "fingerprint": peft.one_fingerprint(numbers)}
        return told


def _open(source: str, options: conversion.Options) -> _Model:
    if peft.is_adapter(source) or source.endswith(".npy"):
        return _open_adapter(source, options)
    checkpoint = conversion.open_checkpoint(source, options=options)
    path = pathlib.Path(checkpoint.file.path)
    config, tensors, notes = pretrained.plain_tensors(checkpoint, options.assignment_map)
    adapters = pretrained.adapters_of(path)
    own = {name: t.whole() for name, t in checkpoint.extra.items() if is_adapter(name)}
    parameters = {name: np.asarray(value) for name, value in fold(own, adapters).items()}
    told = {}
    if adapters != NONE:
        base = runs.base_of(path)
        if base and not checkpoint.tensors:  # nothing of the T5 itself was trained
            fingerprint = peft.one_fingerprint(base["fingerprints"])
            told["base"] = {"path": base["path"], "fingerprint": fingerprint}
        run = runs.description(path)
        told["info"] = {"run": source, "step": run["step"]}
        if "vocabulary" in run:
            told["vocabulary"] = run["vocabulary"]["digest"]
    return _Model(path, config, tensors, notes, adapters.folded, parameters, told)


def _open_adapter(source: str, options: conversion.Options) -> _Model:
    adapters, parameters, told = peft.load_adapter(source)
    base = dict(told.get("base", {}))
    place = pretrained.base_checkpoint() or base.get("path")
    if place is None:
        raise errors.UserError(
            f"{source} does not tell on which model it was trained: bind base_checkpoint.path to it."
        )
    checkpoint = conversion.open_checkpoint(pretrained.locate_base(place), options=options)
    config, tensors, notes = pretrained.plain_tensors(checkpoint, options.assignment_map)
    peft.check_fits(adapters, parameters, config, source)
    base["path"] = place
    if "fingerprint" in base:
        numbers = pretrained.tensor_fingerprints(tensors)
        if peft.one_fingerprint(numbers) != base["fingerprint"]:
            raise errors.UserError(
                f"{source} was trained on another model than that in {place}: the values of its weights differ. "
                "Bind base_checkpoint.path to the model that it belongs to."
            )
    path = pathlib.Path(checkpoint.file.path)
    return _Model(path, config, tensors, notes, adapters, parameters, {**told, "base": base})


def _vocabulary(path: pathlib.Path, config: T5Config) -> tuple[str, Vocabulary | None]:
    """`vocabulary.name` and the vocabulary of a checkpoint; ("", None), which is told, if it is unknown."""
    try:
        name, vocabulary = pretrained.own_vocabulary(path, config)
    except pretrained.UnknownVocabulary as error:
        print(f"no vocabulary goes along: {error}", file=sys.stderr)
        return "", None
    pretrained.check_vocabulary(path, config, vocabulary)
    return name, vocabulary
