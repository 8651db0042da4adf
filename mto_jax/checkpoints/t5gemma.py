# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""config.json of a T5Gemma, in and out: two stacks, each with a configuration of its own."""

from collections.abc import Mapping
from typing import Any

from mto_jax.checkpoints.foreign_fields import Fields
from mto_jax.errors import UserError
from mto_jax.models.config import T5GemmaConfig

MODEL_TYPE = "t5gemma"
HEAD = "lm_head.out_proj.weight"
EMBEDDING = "model.decoder.embed_tokens.weight"

# A stack's configuration and T5GemmaConfig call the same thing by these names.
_SIZES = {
    "hidden_size": "d_model",
    "head_dim": "d_kv",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "intermediate_size": "d_ff",
    "query_pre_attn_scalar": "query_scalar",
}
# What both stacks must agree in.
_COMMON = {
    "sliding_window": "window",
    "attn_logit_softcapping": "attention_softcap",
    "rms_norm_eps": "norm_epsilon",
    "vocab_size": "vocab_size",
}
_TOKENS = ("bos_token_id", "pad_token_id", "eos_token_id")
_IGNORED = (
    *("_name_or_path", "_commit_hash", "_attn_implementation", "_attn_implementation_internal"),
    *("_attn_implementation_autoset", "attn_implementation", "attention_dropout", "dtype"),
    *("torch_dtype", "classifier_dropout_rate", "id2label", "label2id", "initializer_range"),
    *("num_labels", "output_attentions", "output_hidden_states", "problem_type", "return_dict"),
    *("tokenizer_class", "transformers_version", "use_cache", "max_position_embeddings"),
    *("chunk_size_feed_forward", "cache_implementation", "architectures", "vocab_size"),
)
_CONFIG = Fields(
    understood=(
        *("model_type", "encoder", "decoder", "dropout_rate", "decoder_start_token_id", *_TOKENS),
    ),
    ignored=_IGNORED,
    only={
        "architectures": (["T5GemmaForConditionalGeneration"], None),
        "is_encoder_decoder": (True, None),
        "tie_word_embeddings": (True, None),
        "quantization_config": (None,),
        "auto_map": (None, {}),
    },
)
STACK = Fields(  # of a stack, and of a Gemma 2
    understood=(
        *(*_SIZES, *_COMMON, *_TOKENS, "num_hidden_layers", "layer_types", "rope_theta"),
        *("rope_parameters", "final_logit_softcapping", "cross_attention_hidden_size"),
    ),
    ignored=(*_IGNORED, "model_type", "is_decoder", "dropout_rate", "is_encoder_decoder"),
    only={
        "attention_bias": (False, None),
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "hidden_act": ("gelu_pytorch_tanh", None),
        "rope_scaling": (None, {}),
        "tie_word_embeddings": (True, None),
        "quantization_config": (None,),
    },
)


def check(settings: Mapping[str, Any], where: str) -> list[str]:
    """Returns a line for each field of config.json that is set and not used.

    Raises:
      UserError: a stack is not described, or a field says what this program does not do.
    """
    notes = _CONFIG.check(settings, where)
    for stack in ("encoder", "decoder"):
        if not isinstance(settings.get(stack), Mapping):
            raise UserError(f"{where} does not describe the {stack} of the T5Gemma.")
        notes += STACK.check(settings[stack], f"{where}, {stack}")
    return notes


def ids(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tokens of the decoder's configuration, by their names; Gemma's where it has none.

    Raises:
      UserError: several tokens end an output, of which none here would be the one to train.
    """
    stated = {"bos_token_id": 2, "pad_token_id": 0, "eos_token_id": 1}
    stated |= {name: settings["decoder"][name] for name in _TOKENS if name in settings["decoder"]}
    stated |= {name: settings[name] for name in _TOKENS if settings.get(name) is not None}
    for name, value in stated.items():
        if not isinstance(value, int):
            raise UserError(
                f"{where}: {name} is {value!r}; it must be a single token. (An instruction-tuned "
                "T5Gemma ends its turns with another token than its texts: give it the one that "
                "outputs are to end with.)"
            )
    return stated


def config(settings: Mapping[str, Any], ids: Mapping[str, Any], where: str) -> T5GemmaConfig:
    """The model that config.json describes.

    Args:
      ids: of start, padding and end, by our names.

    Raises:
      UserError: sizes are missing or do not fit together, or layers that alternate otherwise.
    """
    encoder, decoder = settings["encoder"], settings["decoder"]
    fields: dict[str, Any] = dict(ids)
    for name, stack in (("encoder", encoder), ("decoder", decoder)):
        absent = [key for key in (*_SIZES, "num_hidden_layers") if stack.get(key) is None]
        if absent:
            raise UserError(f"{where} does not say {', '.join(absent)} of the {name}.")
        prefix = "encoder_" if name == "encoder" else ""
        fields |= {prefix + ours: stack[theirs] for theirs, ours in _SIZES.items()}
        fields[f"num_{name}_layers"] = stack["num_hidden_layers"]
        _check_layers(stack, f"{where}, {name}")
    width = decoder.get("cross_attention_hidden_size")
    if width not in (None, encoder["hidden_size"]):
        raise UserError(
            f"{where}: the decoder's cross-attention reads an encoder of the width {width} "
            f"(cross_attention_hidden_size), but the encoder's is {encoder['hidden_size']} "
            "(hidden_size): the stacks are those of two models."
        )
    for theirs, ours in _COMMON.items():
        values = [stack.get(theirs) for stack in (encoder, decoder)]
        if values[0] != values[1]:
            raise UserError(
                f"{where}: {theirs} is {values[0]!r} in the encoder and {values[1]!r} in the "
                "decoder; here both have one."
            )
        if theirs in decoder:
            fields[ours] = values[0] or 0 if ours == "attention_softcap" else values[0]
    theta = [_theta(stack, where) for stack in (encoder, decoder)]
    if theta[0] != theta[1]:
        raise UserError(
            f"{where}: rope_theta is {theta[0]} in the encoder and {theta[1]} in the decoder; here "
            "both have one."
        )
    fields |= {"rope_theta": theta[0], "dropout_rate": settings.get("dropout_rate", 0.0)}
    if "final_logit_softcapping" in decoder:
        fields["logit_softcap"] = decoder["final_logit_softcapping"] or 0.0
    try:
        return T5GemmaConfig.from_dict(fields)
    except UserError as error:
        text = str(error)
        for theirs, ours in (_SIZES | _COMMON).items():
            text = text.replace(f"T5GemmaConfig.{ours} ", f"{theirs} of the decoder ")
            text = text.replace(f"T5GemmaConfig.encoder_{ours} ", f"{theirs} of the encoder ")
        raise UserError(f"{where}: {text}") from error


def _check_layers(stack: Mapping[str, Any], where: str) -> None:
    kinds = ("sliding_attention", "full_attention")
    alternating = [kinds[i % 2] for i in range(stack["num_hidden_layers"])]
    if (stack.get("layer_types") or alternating) != alternating:
        raise UserError(
            f"{where}: layer_types is {stack['layer_types']}; here layers alternate, the first "
            "with a sliding window, the second without."
        )


def _theta(stack: Mapping[str, Any], where: str) -> float:
    rope = stack.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or set(rope) - {"rope_type", "rope_theta"}:
        raise UserError(
            f"{where}: rope_parameters is {rope}; here positions are rotated as rope_type = "
            "'default' does, by rope_theta alone."
        )
    return float(rope.get("rope_theta", stack.get("rope_theta", 10_000.0)))


def settings(config: T5GemmaConfig) -> dict[str, Any]:
    """The config.json of a model, as Transformers 4 and 5 understand it."""

    def stack(sizes: T5GemmaConfig, layers: int, **more: Any) -> dict[str, Any]:
        return {
            "model_type": "t5_gemma_module",
            **{theirs: getattr(sizes, ours) for theirs, ours in (_SIZES | _COMMON).items()},
            "attn_logit_softcapping": config.attention_softcap or None,
            "final_logit_softcapping": config.logit_softcap or None,
            "num_hidden_layers": layers,
            "layer_types": [("sliding", "full")[i % 2] + "_attention" for i in range(layers)],
            "hidden_activation": "gelu_pytorch_tanh",
            "rope_theta": config.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
            "bos_token_id": config.decoder_start_id,
            "pad_token_id": config.pad_id,
            "eos_token_id": config.eos_id,
            **more,
        }

    width = config.encoder_d_model
    decoder = stack(config, config.num_decoder_layers, cross_attention_hidden_size=width)
    return {
        "architectures": ["T5GemmaForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "encoder": stack(config.of_encoder, config.num_encoder_layers),
        "decoder": {**decoder, "is_decoder": True},
        "vocab_size": config.vocab_size,
        "dropout_rate": config.dropout_rate,
        "bos_token_id": config.decoder_start_id,
        "decoder_start_token_id": config.decoder_start_id,
        "pad_token_id": config.pad_id,
        "eos_token_id": config.eos_id,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
    }
