# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names and configuration of an adapter on a T5 in Hugging Face PEFT.

Each method translates its own tensors (`Method.to_peft`, `Method.from_peft`), with the layers of a
stack in one array and the base's weights called as ours; here they get PEFT's names, one tensor a
layer. PEFT's configuration has many fields; those that would change what an adapter computes are
refused by name.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints import parameter_names
from mto_jax.checkpoints.foreign_fields import Fields
from mto_jax.errors import UserError
from mto_jax.models.adapters import METHODS, Adapters

Arrays = Mapping[str, np.ndarray]

_PREFIX = "base_model.model."
# Fields of all methods that change nothing here.
_IGNORED = (
    *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "target_modules", "exclude_modules"),
)
# Kinds that PEFT cannot merge into a model either.
_PROMPTS = {
    "MULTITASK_PROMPT_TUNING": "it has a prompt for each of several tasks. Choose a task in PEFT "
    "and save the rows that get_prompt(1, task_ids) gives for it with numpy.save: this program "
    "reads a prompt from a .npy file.",
    "ADAPTION_PROMPT": "it is of decoders without an encoder.",
}
_MERGED = ("LORA", "IA3")
_MERGE = "Merge it into its base with PEFT (merge_and_unload) and read the merged model."


def encode(
    adapters: Adapters, parameters: Arrays
) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """(PEFT's configuration, its tensors) of folded adapters; None: PEFT has no form for them."""
    form = adapters.methods[0].to_peft(parameters) if len(adapters.methods) == 1 else None
    if form is None:
        return None
    config = {"task_type": "SEQ_2_SEQ_LM", "inference_mode": True, **form[0]}
    names = parameter_names.table("hf")
    modules, tensors = set(), {}
    for name, value in form[1].items():
        weight = next((weight for weight in names if name.startswith(f"{weight}.")), None)
        if weight is None:
            tensors[name] = value
            continue
        module = names[weight].template.removesuffix(".weight")
        modules.add(module.rpartition(".")[2])
        for i, layer in enumerate(value):
            tensors[f"{_PREFIX}{module.format(i=i)}{name.removeprefix(weight)}"] = layer
    return config | ({"target_modules": sorted(modules)} if modules else {}), tensors


def decode(
    config: Mapping[str, Any], tensors: Arrays, where: str
) -> tuple[Adapters, dict[str, np.ndarray]]:
    """The inverse of `encode`, also for what PEFT wrote itself.

    Args:
      where: what messages call the adapter.

    Raises:
      UserError: a field, a tensor or a kind of adapter that no method can express; tensors that are
        missing or misshapen.
    """
    methods = {kind: method for method in METHODS.values() for kind in method.peft_types}
    kind = str(config.get("peft_type"))
    if kind in _PROMPTS:
        raise UserError(f"{where}: peft_type is {kind}, which has no form here: {_PROMPTS[kind]}")
    if kind not in methods:
        raise UserError(
            f"{where}: peft_type is {kind}; this program reads {', '.join(methods)}. {_MERGE}"
        )
    known = Fields(
        understood=methods[kind].peft_fields,
        ignored=_IGNORED,
        only={"task_type": ("SEQ_2_SEQ_LM", None)},
        unknown_is_fatal=True,
    )
    if not tensors:
        raise UserError(f"{where} holds no tensors.")
    try:
        known.check(config, where)
        method, parameters = methods[kind].from_peft(config, _stacked(tensors, where), where)
    except UserError as error:
        raise UserError(f"{error} {_MERGE}" if kind in _MERGED else str(error)) from error
    return Adapters.of(method), parameters


def _stacked(tensors: Arrays, where: str) -> dict[str, np.ndarray]:
    """The tensors by our names of the weights, the layers of a stack put together.

    Raises:
      UserError: shapes differ between layers, or an adapter of a weight is in some layers only.
    """
    weights = {name.template: ours for ours, name in parameter_names.table("hf").items()}
    others: dict[str, np.ndarray] = {}
    layers: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    depths = {"encoder": 1, "decoder": 1}
    for key, value in tensors.items():
        weight = None
        if match := re.fullmatch(
            r"base_model\.model\.(\w+)\.block\.(\d+)\.(layer\.\d\.\w+\.\w+)\.(.+)", key
        ):
            stack, i, module, suffix = match.groups()
            weight = weights.get(f"{stack}.block.{{i}}.{module}.weight")
        if weight is None:
            others[key] = value
            continue
        layers.setdefault((weight, suffix), {})[int(i)] = value
        depths[stack] = max(depths[stack], 1 + int(i))
    adapted = {(weight.rpartition(".")[2], suffix) for weight, suffix in layers}
    for weight in weights.values():
        for own, suffix in sorted(adapted):
            if own != weight.rpartition(".")[2]:
                continue
            present = layers.get((weight, suffix), {})
            lost = [i for i in range(depths[weight.split(".")[0]]) if i not in present]
            if lost and present:
                raise UserError(
                    f"{where} has no {weight}.{suffix} for layer {lost[0]}; here, an adapter of a "
                    "weight is in every layer of a stack."
                )
    try:
        stacked = {
            f"{weight}.{suffix}": np.stack([by_layer[i] for i in range(len(by_layer))])
            for (weight, suffix), by_layer in layers.items()
        }
    except ValueError as error:
        raise UserError(f"{where}: the shapes of layers differ ({error}).") from error
    return {**others, **stacked}
