# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A T5Gemma made of decoder-only Gemma 2 (Zhang et al. 2025, https://arxiv.org/abs/2504.06225).

Either stack is a Gemma 2, embedding and norms included. Cross-attention, which a Gemma 2 does not
have, begins as the decoder's self-attention; where the stacks differ in width it is fresh.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from mto_jax.checkpoints import huggingface, t5gemma
from mto_jax.checkpoints.contents import File
from mto_jax.checkpoints.foreign_fields import Fields, read_object
from mto_jax.checkpoints.lazy import Tensor, in_memory
from mto_jax.checkpoints.opening import Foreign
from mto_jax.errors import UserError
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import ModelConfig, T5GemmaConfig
from mto_jax.models.families import build
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training import sharding
from mto_jax.training.state import abstract_model

# The parameters of cross-attention, its norms included: what `train.trainable` warms up alone.
CROSS_ATTENTION = "decoder.layers.cross_attention*"

_CONFIG = Fields(
    understood=(*t5gemma.STACK.understood, "sliding_window_size"),
    ignored=t5gemma.STACK.ignored,
    only={
        **t5gemma.STACK.only,
        "architectures": (["Gemma2ForCausalLM"], None),
        "use_bidirectional_attention": (None, False),
    },
)
_OTHERS = {
    "gemma": "Gemma 1, whose layers have no norm behind attention and feed-forward, and no bound "
    "of the logits",
    "gemma3": "Gemma 3, which normalises queries and keys and sees images",
    "gemma3_text": "Gemma 3, which normalises queries and keys",
    **dict.fromkeys(("t5", "mt5", "umt5", "t5gemma"), "an encoder-decoder already"),
}
_NORMS = {
    "input_layernorm": "pre_self_attn_layernorm",
    "post_attention_layernorm": "post_self_attn_layernorm",
}


@dataclasses.dataclass(frozen=True)
class Gemma2Pair(Foreign):
    """The T5Gemma of two folders of Hugging Face with a Gemma 2 each: `path` has the decoder.

    Attributes:
      encoder: the folder of the encoder; None: that of the decoder.
    """

    encoder: pathlib.Path | None = None

    @property
    def origin_of_cross_attention(self) -> str:
        """What cross-attention begins as, in words."""
        if _one_width(self.config):
            return "its cross-attention is the decoder's self-attention"
        return (
            f"its cross-attention is fresh: the encoder is {self.config.of_encoder.d_model} wide, "
            f"the decoder {self.config.d_model}, so that self-attention does not fit in its place"
        )

    @functools.cached_property
    def _read(self) -> tuple[File, ModelConfig | UserError]:
        folders = {"encoder": self.encoder or self.path, "decoder": self.path}
        settings = {stack: _settings(folder) for stack, folder in folders.items()}
        notes = [
            note
            for folder, own in zip(folders.values(), settings.values(), strict=True)
            for note in _CONFIG.check(own, str(folder / "config.json"))
        ]
        config = _config(settings, " with ".join(dict.fromkeys(map(str, folders.values()))))
        tensors, left = {}, {}
        for stack, folder in folders.items():
            own, kind = huggingface.weights(folder, self.options.allow_pickle)
            left |= huggingface.without_head(
                folder, own, "lm_head.weight", "model.embed_tokens.weight"
            )
            tensors |= {_name(name, stack): tensor for name, tensor in own.items()}
        if _one_width(config):
            tensors |= {
                name.replace("self_attn", "cross_attn"): tensor
                for name, tensor in tensors.items()
                if name.startswith("model.decoder.layers.") and "self_attn" in name
            }
        return File(str(self.path), kind, "hf", tensors, left, list(dict.fromkeys(notes))), config

    def assign(
        self, config: ModelConfig | None = None, adapters: Adapters | None = None
    ) -> tuple[dict[str, Tensor], list[str]]:
        if _one_width(self.config):
            return self.contents.assign(config)
        fresh_ones = CROSS_ATTENTION.replace(".", r"\.").replace("*", ".*")
        tensors, _ = self.contents.assign(config, [(fresh_ones, None)])
        spec = abstract_model(functools.partial(build, config or self.config))
        mesh = sharding.mesh(devices=jax.local_devices()[:1])
        fresh = spec.initialise(jax.random.key(0), mesh, spec.shapes.keys() - tensors.keys())
        return {**tensors, **{name: in_memory(value) for name, value in fresh.items()}}, []

    def find_vocabulary(self) -> tuple[str, Vocabulary]:
        name, vocabulary = super().find_vocabulary()
        beside = vocabularies.in_folder(self.encoder.absolute()) if self.encoder else None
        if beside and vocabularies.load(beside).pieces != vocabulary.pieces:
            raise UserError(
                f"The encoder {self.encoder} has another vocabulary than the decoder {self.path}: "
                "take two models that were trained with one."
            )
        return name, vocabulary


def _settings(folder: pathlib.Path) -> dict[str, Any]:
    """The config.json of a Gemma 2.

    Raises:
      UserError: it is not there, or of another model, whose name is said.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"{folder} has no config.json: --to=encoder_decoder takes a folder of Hugging Face "
            "with a Gemma 2, or hf://google/gemma-2-2b."
        )
    settings = read_object(path)
    if (kind := settings.get("model_type")) != "gemma2":
        other = f" ({_OTHERS[kind]})" if kind in _OTHERS else ""
        raise UserError(
            f"{path}: model_type is {kind!r}{other}; --to=encoder_decoder takes a Gemma 2 "
            "(model_type 'gemma2'), which is what a T5Gemma is made of."
        )
    return settings


def _config(stacks: Mapping[str, Mapping[str, Any]], where: str) -> T5GemmaConfig:
    """The T5Gemma whose `encoder` and `decoder` are described by the files of two Gemma 2."""
    ids = t5gemma.ids(stacks, where)
    ours = {"bos": "decoder_start_id", "pad": "pad_id", "eos": "eos_id"}
    ids = {ours[name.removesuffix("_token_id")]: value for name, value in ids.items()}
    return t5gemma.config(stacks, ids, where)


def _one_width(config: ModelConfig) -> bool:
    """Returns whether the stacks have one width, with which self-attention fits both."""
    return config.of_encoder.d_model == config.d_model


def _name(name: str, stack: str) -> str:
    """The name in a stack of a T5Gemma of a tensor of a Gemma 2."""
    for theirs, ours in _NORMS.items():
        name = name.replace(f".{theirs}.", f".{ours}.")
    return name.replace("model.", f"model.{stack}.", 1)
