# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What Hugging Face PEFT calls the parameters of a soft prompt, of LoRA and of (IA)^3 on a T5, and its config.

PEFT has one tensor a layer, LoRA's transposed (it holds the weights of PyTorch's linear layers). Its
configuration has many fields; those that would change what an adapter computes are refused by name.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints import parameter_names
from mto_jax.errors import UserError
from mto_jax.models.adapters import PROJECTIONS, Adapters

Arrays = Mapping[str, np.ndarray]

_PREFIX = "base_model.model."
_ROWS = "prompt_embeddings"
# Fields that change nothing here: records, what matters in training alone, and what the tensors tell.
_READ_PAST = {
    *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "target_modules", "exclude_modules", "feedforward_modules"),
    *("r", "lora_alpha", "lora_dropout", "init_ia3_weights", "megatron_core", "qalora_group_size"),
    *("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads"),
    *("num_layers", "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path"),
    *("tokenizer_kwargs", "encoder_reparameterization_type", "encoder_hidden_size"),
    *("encoder_num_layers", "encoder_dropout"),
}
_ACCEPTED = {
    "task_type": (None, "SEQ_2_SEQ_LM"),
    # These leave the base as it is; others (PiSSA, OLoRA, LoftQ, ...) change its weights.
    "init_lora_weights": (None, True, False, "gaussian", "orthogonal", "eva"),
}
_MERGE = "Merge it into its base with PEFT (merge_and_unload) and read the merged model."


def expresses(adapters: Adapters) -> bool:
    """Whether PEFT has a form for these: one of prompt, LoRA and (IA)^3, and no prefixes."""
    kinds = (adapters.prompt_rows > 0, adapters.lora_rank > 0, adapters.ia3)
    return sum(kinds) == 1 and not adapters.prefix_length


# ---- Ours to theirs ---------------------------------------------------------------------------


def encode(adapters: Adapters, parameters: Arrays) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(fields of PEFT's configuration, its tensors) of a folded adapter that PEFT `expresses`."""
    config: dict[str, Any] = {"task_type": "SEQ_2_SEQ_LM", "inference_mode": True}
    if adapters.prompt_rows:
        table_PxD = parameters["prompt.table"]
        config |= {
            "peft_type": "PROMPT_TUNING",
            "num_virtual_tokens": table_PxD.shape[0],
            "token_dim": table_PxD.shape[1],
            "num_transformer_submodules": 1,
        }
        return config, {_ROWS: table_PxD}
    names = parameter_names.table("hf")
    modules, tensors = set(), {}
    for name, value in parameters.items():
        weight, kind = _beside(name)
        module = names[weight].template.removesuffix(".weight")
        modules.add(module.rpartition(".")[2])
        for i, one in enumerate(value):
            if kind == "ia3_l":
                one = one[None] if weight.endswith(".wo") else one[:, None]
            else:
                one = one.T
            tensors[f"{_PREFIX}{module.format(i=i)}.{kind}"] = one
    config["target_modules"] = sorted(modules)
    if adapters.ia3:
        config |= {"peft_type": "IA3", "feedforward_modules": ["wo"]}
    else:
        config |= {"peft_type": "LORA", "r": adapters.lora_rank, "lora_alpha": adapters.lora_alpha}
    return config, tensors


def _beside(name: str) -> tuple[str, str]:
    """(the weight that an adapter's parameter accompanies, what PEFT calls the parameter).

    >>> _beside("encoder.layers.mlp.ia3.hidden")
    ('encoder.layers.mlp.wo', 'ia3_l')
    >>> _beside("encoder.layers.attention.lora.key_a")
    ('encoder.layers.attention.key', 'lora_A.weight')
    """
    layer, part, own = name.rsplit(".", 2)
    if part == "ia3":
        return f"{layer}.{'wo' if own == 'hidden' else own}", "ia3_l"
    return f"{layer}.{own[:-2]}", f"lora_{own[-1].upper()}.weight"


# ---- Theirs to ours ---------------------------------------------------------------------------


def decode(
    config: Mapping[str, Any], tensors: Arrays, where: str
) -> tuple[Adapters, dict[str, np.ndarray]]:
    """The inverse of `encode`, also for what PEFT wrote itself.

    Args:
      where: what messages call the adapter.

    Raises:
      UserError: a field, a tensor or a kind of adapter that `Adapters` cannot express; tensors that are missing
        or misshapen.
    """
    kind = str(config.get("peft_type"))
    if kind not in ("PROMPT_TUNING", "P_TUNING", "LORA", "IA3"):
        raise UserError(
            f"{where}: peft_type is {kind}; this program reads PROMPT_TUNING, P_TUNING, LORA and IA3. {_MERGE}"
        )
    for field, value in config.items():
        if field in _ACCEPTED:
            fine = value in _ACCEPTED[field]
        else:
            fine = field in _READ_PAST or value in (None, False, "none", [], {})
        if not fine:
            raise UserError(
                f"{where}: {field} is {value!r}, which has no counterpart here. {_MERGE}"
            )
    if kind.endswith("TUNING"):
        return _decode_prompt(config, tensors, where)
    found = _stacked(tensors, where)
    if kind == "IA3":
        return Adapters.from_dict({"ia3": True}), found
    rank = config.get("r")
    for name, value in found.items():
        if value.shape[2 if name.endswith("_a") else 1] != rank:
            raise UserError(f"{where}: {name} {list(value.shape)} is not of the rank r = {rank}.")
    targets = {name.rpartition(".")[2][:-2] for name in found}
    fields = {
        "lora_rank": rank,
        "lora_alpha": float(config.get("lora_alpha", 8)),
        "lora_targets": [name for name in PROJECTIONS if name in targets],
    }
    return Adapters.from_dict(fields), found


def _decode_prompt(config, tensors, where):
    """The rows that PEFT gives the encoder, the first ones; it never reads the decoder's, which follow.

    P-tuning differs in training alone: PEFT stores the rows that its encoder made.
    """
    P, parts = config.get("num_virtual_tokens"), config.get("num_transformer_submodules") or 1
    table = tensors.get(_ROWS)
    if set(tensors) != {_ROWS} or table.ndim != 2 or not P or len(table) != P * parts:
        there = ", ".join(f"{name} {list(value.shape)}" for name, value in tensors.items())
        raise UserError(
            f"{where} holds {there or 'no tensors'}; expected {_ROWS} with {parts} x {P} rows "
            "(num_transformer_submodules x num_virtual_tokens)."
        )
    return Adapters.from_dict({"prompt_rows": P}), {"prompt.table": table[:P]}


def _stacked(tensors: Arrays, where: str) -> dict[str, np.ndarray]:
    """LoRA's or (IA)^3's tensors by our names, the layers of a stack put together."""
    weights = {there.template: ours for ours, there in parameter_names.table("hf").items()}
    layers: dict[str, dict[int, np.ndarray]] = {}
    for key, value in tensors.items():
        match = re.fullmatch(
            r"base_model\.model\.(\w+\.block)\.(\d+)\.(.+)\.(lora_[AB]\.weight|ia3_l)", key
        )
        weight = match and weights.get(f"{match[1]}.{{i}}.{match[3]}.weight")
        if not weight or value.ndim != 2:
            raise UserError(
                f"{where}: the tensor {key} {list(value.shape)} is none of LoRA or (IA)^3 on a weight of the "
                f"layers. {_MERGE}"
            )
        name, value = _ours(key, weight, match[4], value, where)
        if int(match[2]) in layers.setdefault(name, {}):
            raise UserError(f"{where}: {key} scales the same channels as another tensor.")
        layers[name][int(match[2])] = value
    _check_every_layer(layers, weights.values(), where)
    try:
        return {name: np.stack([by[i] for i in range(len(by))]) for name, by in layers.items()}
    except ValueError as error:
        raise UserError(f"{where}: the shapes of layers differ ({error}).") from error


def _ours(key: str, weight: str, kind: str, value: np.ndarray, where: str):
    """One layer of the parameter beside `weight`: our name, and the value out of PEFT's."""
    layer, own = weight.rsplit(".", 1)
    if kind != "ia3_l":
        return f"{layer}.lora.{own}_{kind[5].lower()}", value.T
    # What comes out of wi_1 (PEFT's choice for mT5) is a factor of what goes into wo.
    name, flat = {"wo": ("hidden", 0), "wi_1": ("hidden", 1)}.get(own, (own, 1))
    if name not in ("key", "value", "hidden") or value.shape[flat] != 1:
        raise UserError(
            f"{where}: {key} {list(value.shape)} has no counterpart here, where (IA)^3 scales what comes out of "
            f"k and v and what goes into wo (target_modules k, v, wo; feedforward_modules wo). {_MERGE}"
        )
    return f"{layer}.ia3.{name}", value.reshape(-1)


def _check_every_layer(
    layers: Mapping[str, Mapping[int, Any]], weights: Iterable[str], where: str
) -> None:
    """Raises a UserError unless what accompanies a weight does so in every layer of both stacks."""
    targets = {name.split(".lora.")[1][:-2] for name in layers if ".lora." in name}
    scales = {"key": "key", "value": "value", "wo": "hidden"}
    scales = scales if any(".ia3." in name for name in layers) else {}
    depths = {"encoder": 1, "decoder": 1}
    for name, by in layers.items():
        stack = name.split(".")[0]
        depths[stack] = max(depths[stack], 1 + max(by))
    for weight in weights:
        layer, _, own = weight.rpartition(".")
        parts = [f"lora.{own}_a", f"lora.{own}_b"] if own in targets else []
        parts += [f"ia3.{scales[own]}"] if own in scales else []
        for part in parts:
            there = layers.get(f"{layer}.{part}", {})
            lost = [i for i in range(depths[layer.split(".")[0]]) if i not in there]
            if lost:
                raise UserError(
                    f"{where} has no {layer}.{part} for layer {lost[0]}; here, what accompanies a weight does so "
                    f"in every layer of both stacks. {_MERGE}"
                )
    if not layers:
        raise UserError(f"{where} holds no tensors.")
