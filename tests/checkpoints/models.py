# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every family, made by transformers, and logits of both sides."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from mto_jax import checkpoints
from mto_jax.models import t5
from mto_jax.training.state import abstract_model

# Different numbers for different sizes, so that no two axes can be mistaken for each other.
_SIZES = {
    "vocab_size": 128,
    "d_model": 20,
    "d_kv": 6,
    "d_ff": 28,
    "num_heads": 3,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
_T5, _MT5, _UMT5 = (
    (transformers.T5Config, transformers.T5ForConditionalGeneration),
    (transformers.MT5Config, transformers.MT5ForConditionalGeneration),
    (transformers.UMT5Config, transformers.UMT5ForConditionalGeneration),
)
_V11 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
# Family -> classes of transformers, settings, whether the head is the embedding.
FAMILIES = {
    "t5": (_T5, {}, True),
    "t5_v1_1": (_T5, _V11, False),
    "t5_gated_tied": (_T5, {"feed_forward_proj": "gated-gelu"}, True),
    "t5_relu_untied": (_T5, {"tie_word_embeddings": False}, False),
    "mt5": (_MT5, _V11 | {"vocab_size": 256}, False),
    "mt5_tied": (_MT5, {}, True),
    "umt5": (_UMT5, _V11, False),
    "umt5_tied": (_UMT5, {}, True),
    "ul2": (_T5, {"feed_forward_proj": "gated-silu"}, True),
    "byt5": (_T5, _V11 | {"vocab_size": 384, "num_layers": 3, "num_decoder_layers": 1}, False),
}
# The shapes of the published sizes: depth, heads against width, width against feed-forward.
PRESETS = {
    "small": {"num_layers": 4, "num_decoder_layers": 4, "num_heads": 3, "d_model": 24},
    "base": {"num_layers": 3, "num_decoder_layers": 3, "num_heads": 4, "d_model": 24},
    "large": {"num_layers": 6, "num_decoder_layers": 6, "num_heads": 4, "d_model": 16},
    "xl": {"num_layers": 4, "num_decoder_layers": 4, "num_heads": 8, "d_model": 32},
    "xxl": {"num_layers": 4, "num_decoder_layers": 4, "num_heads": 8, "d_model": 64, "d_ff": 160},
}


def torch_model(family: str, seed: int = 0, **sizes):
    """A model of transformers with random weights, norms and biases included."""
    (config_class, model_class), settings, tied = FAMILIES[family]
    torch.manual_seed(seed)
    model = model_class(config_class(**(_SIZES | settings | sizes)))
    if not tied:  # transformers 5 ties the head of every fresh model
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=1.0 if "bias" in name else 0.3)
    return model.eval()


def saved(model, folder: pathlib.Path, **options) -> pathlib.Path:
    """The folder, with the model as transformers writes it."""
    model.save_pretrained(folder, **options)
    return folder


def tokens(vocab_size: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two sources, one of them padded, and two decoder inputs."""
    rng = np.random.default_rng(seed)
    source = rng.integers(2, vocab_size, (2, 15)).astype(np.int32)
    source[1, 9:] = 0
    target = rng.integers(2, vocab_size, (2, 11)).astype(np.int32)
    target[:, 0] = 0
    return source, target


def torch_logits(model, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(source).long(),
            attention_mask=torch.tensor(source != 0).long(),
            decoder_input_ids=torch.tensor(target).long(),
        ).logits.numpy()


@functools.cache
def _forward(config):
    spec = abstract_model(lambda rngs: t5.T5(config, rngs))

    def forward(parameters, source, target):
        model = spec.merge(parameters)
        segments = (source != 0).astype(jnp.int32)
        encoded = model.encode(source, segments)
        return model.logits(model.decode(encoded, segments, target, jnp.ones_like(target)))

    return jax.jit(forward)


def our_logits(config, parameters, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.array(_forward(config)(dict(parameters), source, target))


def load(path, config=None, shardings=None, **options):
    """(model, parameters) of a checkpoint, opened with `checkpoints.Options(**options)`."""
    checkpoint = checkpoints.open(path, options=checkpoints.Options(**options))
    return config or checkpoint.config, checkpoint.parameters(shardings, config)
