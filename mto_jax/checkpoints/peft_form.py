# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names and configuration of an adapter on a T5 in Hugging Face PEFT.

Each method translates its own tensors (`Method.to_peft`, `Method.from_peft`), with the layers of a
stack in one array and the base's weights called as ours; here they get PEFT's names, one tensor a
layer. PEFT's configuration has many fields; those that would change what an adapter computes are
refused by name.

What PEFT cannot repeat is said: `differences`, `base_fields`.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax import hub
from mto_jax.checkpoints import huggingface, parameter_names
from mto_jax.checkpoints.foreign_fields import Fields
from mto_jax.errors import UserError
from mto_jax.models.adapters import METHODS, Adapters
from mto_jax.text2text.templates import TEMPLATES

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
    adapters: Adapters, parameters: Arrays, family: str = "t5"
) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """(PEFT's configuration, its tensors) of folded adapters; None: PEFT has no form for them.

    Args:
      family: of the base, whose names of weights PEFT takes.
    """
    form = adapters.methods[0].to_peft(parameters) if len(adapters.methods) == 1 else None
    if form is None:
        return None
    config = {"task_type": "SEQ_2_SEQ_LM", "inference_mode": True, **form[0]}
    names = parameter_names.table("hf", family=family)
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
    if "token_dim" in config and family == "t5gemma":
        # PEFT asks for these, which a prompt does not use, and finds none in T5Gemma's config.json.
        config |= {"num_layers": 1, "num_attention_heads": 1}
    if "feedforward_modules" in config:  # those that the method names as we do
        own = {f".{name}" for name in config["feedforward_modules"]}
        templates = [names[n].template for n in names if n[n.rfind(".") :] in own]
        config["feedforward_modules"] = sorted({t.split(".")[-2] for t in templates})
    return config | ({"target_modules": sorted(modules)} if modules else {}), tensors


def base_fields(description: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns the base model as PEFT names it: a repository of the hub, or a folder's whole path.

    None stands for a base that Transformers cannot load, such as a run of ours.
    """
    path = str((description.get("base") or {}).get("path") or "")
    folder = pathlib.Path(path).expanduser()
    name = path if path.startswith(hub.PREFIX) else hub.name_in_hub(folder)
    if name:
        repository, _, revision = name.removeprefix(hub.PREFIX).partition("@")
        return {"base_model_name_or_path": repository, "revision": revision or None}
    loads = path and huggingface.is_checkpoint(folder)
    name = str(folder.resolve()) if loads else None
    return {"base_model_name_or_path": name, "revision": None}


def differences(adapters: Adapters, description: Mapping[str, Any]) -> list[str]:
    """Returns sentences about what PEFT would not repeat, or could not load; mostly none.

    Args:
      description: "template" and "base" of it count, see `peft.save_adapter`.
    """
    base = str((description.get("base") or {}).get("path") or "")
    texts = []
    if base and base_fields(description)["base_model_name_or_path"] is None:
        texts.append(
            f"PEFT cannot load the base model {base}, which is not in Hugging Face's form. `mto "
            f"convert --from={base} --to=hf --output=DIR` writes it so; `mto convert "
            "--from=ADAPTER --to=peft --output=... --gin.base_checkpoint.path=DIR` names it in the "
            "adapter, for AutoPeftModelForSeq2SeqLM."
        )
    name = description.get("template")
    template = TEMPLATES.get(str(name))
    if adapters.prompt_rows and (template is None or template.soft != "first"):
        where = f"the template {name} does not" if name else "the template may not"
        texts.append(
            f"PEFT puts a soft prompt in front of the whole source, where {where} have it: then "
            "its answers differ. Templates with First in their name (FirstPT, MaskedFirstPT, "
            "FirstAnswerPrompting, ...) are repeated exactly."
        )
    return texts


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
    weights = {
        name.template.removesuffix(".weight"): ours
        for family in ("t5", "t5gemma")
        for ours, name in parameter_names.table("hf", family=family).items()
        if name.per_layer
    }
    others: dict[str, np.ndarray] = {}
    layers: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    depths = {"encoder": 1, "decoder": 1}
    for key, value in tensors.items():
        match = re.fullmatch(r"base_model\.model\.(.+?\.(?:block|layers))\.(\d+)\.(.+)", key)
        name = f"{match[1]}.{{i}}.{match[3]}" if match else ""
        module = next((module for module in weights if name.startswith(f"{module}.")), None)
        if match is None or module is None:
            others[key] = value
            continue
        weight, i = weights[module], int(match[2])
        layers.setdefault((weight, name.removeprefix(f"{module}.")), {})[i] = value
        stack = weight.partition(".")[0]
        depths[stack] = max(depths[stack], 1 + i)
    adapted = {(weight.rpartition(".")[2], suffix) for weight, suffix in layers}
    for weight in dict.fromkeys(weights.values()):
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
