# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's T5 as the independent reference: the same random weights in both frameworks."""

import jax.numpy as jnp
import numpy as np
import torch
import transformers
from flax import nnx

from mto_jax.models.t5 import T5, T5Config
from mto_jax.training.state import abstract_model


def torch_model(config: T5Config, seed: int = 0) -> transformers.T5ForConditionalGeneration:
    """A T5 of transformers with the sizes of `config` and random weights, norm scales included."""
    torch.manual_seed(seed)
    reference = transformers.T5Config(
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        num_layers=config.num_encoder_layers,
        num_decoder_layers=config.num_decoder_layers,
        num_heads=config.num_heads,
        relative_attention_num_buckets=config.num_buckets,
        relative_attention_max_distance=config.max_distance,
        feed_forward_proj=config.mlp,
        tie_word_embeddings=config.tie_embeddings,  # here it only decides about scaling
        dropout_rate=config.dropout_rate,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(reference)
    if not config.tie_embeddings:  # transformers 5 ties the head of every fresh T5, v1.1 too
        head = torch.randn(config.vocab_size, config.d_model) * config.d_model**-0.5
        model.lm_head.weight = torch.nn.Parameter(head)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                parameter.uniform_(0.5, 1.5)
            elif "relative_attention_bias" in name:
                parameter.normal_()
    return model.eval()


def _layer_names(config: T5Config) -> dict[str, tuple[str, bool]]:
    """{path inside our stack: (name inside torch's block, transposed)}, "encoder" and "decoder"
    alike."""
    attention = {"query": "q", "key": "k", "value": "v", "out": "o"}
    wi = ("wi_0", "wi_1") if config.mlp.startswith("gated") else ("wi",)
    names = {}
    for stack, sublayers in {
        "encoder": [("attention", "SelfAttention")],
        "decoder": [("self_attention", "SelfAttention"), ("cross_attention", "EncDecAttention")],
    }.items():
        for i, (ours, theirs) in enumerate(sublayers):
            names[f"{stack}.layers.{ours}_norm.scale"] = (f"layer.{i}.layer_norm", False)
            for a, b in attention.items():
                names[f"{stack}.layers.{ours}.{a}"] = (f"layer.{i}.{theirs}.{b}", True)
        last = len(sublayers)
        names[f"{stack}.layers.mlp_norm.scale"] = (f"layer.{last}.layer_norm", False)
        for w in (*wi, "wo"):
            names[f"{stack}.layers.mlp.{w}"] = (f"layer.{last}.DenseReluDense.{w}", True)
    return names


def as_ours(config: T5Config, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Torch's tensors (weights or gradients) by our names, stacked and turned our way."""
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    ours = {"embedding": arrays["shared.weight"]}
    if not config.tie_embeddings:
        ours["lm_head"] = arrays["lm_head.weight"].T
    for stack in ("encoder", "decoder"):
        ours[f"{stack}.final_norm.scale"] = arrays[f"{stack}.final_layer_norm.weight"]
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ours[f"{stack}.relative_bias"] = arrays[bias]
    for name, (theirs, transposed) in _layer_names(config).items():
        stack = name.split(".")[0]
        count = getattr(config, f"num_{stack}_layers")
        layers = [arrays[f"{stack}.block.{i}.{theirs}.weight"] for i in range(count)]
        ours[name] = np.stack([w.T if transposed else w for w in layers])
    return ours


def named(params: nnx.State) -> dict[str, np.ndarray]:
    """Our parameters, or their gradients, by dotted name."""
    flat = nnx.to_flat_state(params)
    return {".".join(path): np.asarray(variable[...]) for path, variable in flat}


def our_model(config: T5Config, reference: transformers.T5ForConditionalGeneration) -> T5:
    """Our T5 with the weights of the torch model."""
    weights = as_ours(config, dict(reference.named_parameters()))
    spec = abstract_model(lambda rngs: T5(config, rngs))
    assert weights.keys() == spec.shapes.keys()
    return spec.merge({name: jnp.asarray(weight) for name, weight in weights.items()})
