# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5Gemma of Hugging Face transformers with the weights of one of ours, and its gradients."""

import numpy as np
import torch
import transformers

from mto_jax.models.config import T5GemmaConfig
from mto_jax.models.t5gemma import T5Gemma
from mto_jax.training.state import by_name

# Our name in a layer -> (theirs, whether the matrix is transposed).
_SHARED = {
    "mlp_norm.scale": ("pre_feedforward_layernorm", False),
    "mlp.wi_0": ("mlp.gate_proj", True),
    "mlp.wi_1": ("mlp.up_proj", True),
    "mlp.wo": ("mlp.down_proj", True),
    "mlp_post_norm.scale": ("post_feedforward_layernorm", False),
}


def _attention(ours: str, theirs: str, norm: str) -> dict[str, tuple[str, bool]]:
    return {
        f"{ours}_norm.scale": (f"pre_{norm}_layernorm", False),
        f"{ours}_post_norm.scale": (f"post_{norm}_layernorm", False),
        **{
            f"{ours}.{name}": (f"{theirs}.{letter}_proj", True)
            for name, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o"))
        },
    }


_LAYER = {
    "encoder": {**_attention("attention", "self_attn", "self_attn"), **_SHARED},
    "decoder": {
        **_attention("self_attention", "self_attn", "self_attn"),
        **_attention("cross_attention", "cross_attn", "cross_attn"),
        **_SHARED,
    },
}


def settings(config: T5GemmaConfig) -> transformers.T5GemmaConfig:
    """The configuration of transformers for one of ours."""

    def stack(c: T5GemmaConfig, layers: int) -> dict:
        return {
            "vocab_size": c.vocab_size,
            "hidden_size": c.d_model,
            "intermediate_size": c.d_ff,
            "num_hidden_layers": layers,
            "num_attention_heads": c.num_heads,
            "num_key_value_heads": c.num_kv_heads,
            "head_dim": c.d_kv,
            "query_pre_attn_scalar": c.query_scalar,
            "sliding_window": c.window,
            "attn_logit_softcapping": c.attention_softcap or None,
            "final_logit_softcapping": c.logit_softcap or None,
            "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
            "rms_norm_eps": c.norm_epsilon,
        }

    return transformers.T5GemmaConfig(
        encoder=stack(config.of_encoder, config.num_encoder_layers),
        decoder=stack(config, config.num_decoder_layers),
        vocab_size=config.vocab_size,
        decoder_start_token_id=config.decoder_start_id,
        attn_implementation="eager",
    )


def _names(config: T5GemmaConfig) -> dict[str, list[tuple[str, bool]]]:
    """Our name -> their names, one a layer where there are layers."""
    names = {}
    counts = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    for stack, layers in counts.items():
        names[f"{stack}.embedding"] = [(f"model.{stack}.embed_tokens.weight", False)]
        names[f"{stack}.final_norm.scale"] = [(f"model.{stack}.norm.weight", False)]
        for ours, (theirs, transposed) in _LAYER[stack].items():
            names[f"{stack}.layers.{ours}"] = [
                (f"model.{stack}.layers.{i}.{theirs}.weight", transposed) for i in range(layers)
            ]
    return names


def model(ours: T5Gemma) -> transformers.T5GemmaForConditionalGeneration:
    """The model of transformers with our weights, in float32 and evaluation mode."""
    theirs = transformers.T5GemmaForConditionalGeneration(settings(ours.config)).eval()
    weights = by_name(ours)
    state = {}
    for name, places in _names(ours.config).items():
        value = np.asarray(weights.pop(name))
        for i, (place, transposed) in enumerate(places):
            part = value[i] if ".layers." in name else value
            state[place] = torch.tensor(part.T if transposed else part)
    assert not weights
    state["lm_head.out_proj.weight"] = state["model.decoder.embed_tokens.weight"]
    theirs.load_state_dict(state)
    return theirs


def gradients(theirs: torch.nn.Module, config: T5GemmaConfig) -> dict[str, np.ndarray]:
    """The gradients that `backward` left, by our names."""
    named = dict(theirs.named_parameters())
    result = {}
    for name, places in _names(config).items():
        parts = [np.asarray(named[place].grad) for place, _ in places]
        parts = [part.T if places[0][1] else part for part in parts]
        result[name] = np.stack(parts) if ".layers." in name else parts[0]
    return result
