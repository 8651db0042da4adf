# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of Hugging Face: config.json with safetensors (or PyTorch's pickles), in and out."""

import json
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mto_jax.checkpoints import parameter_names, safetensors
from mto_jax.checkpoints.contents import File
from mto_jax.checkpoints.lazy import Tensor
from mto_jax.errors import UserError, unknown
from mto_jax.files import write_json
from mto_jax.models.config import T5Config

MODEL_TYPES = ("t5", "mt5", "umt5")
LARGEST_FILE = 5_000_000_000  # bytes
WRITTEN_DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

# config.json and T5Config call the same thing by these names.
_FIELDS = {
    "d_model": "d_model",
    "d_kv": "d_kv",
    "num_heads": "num_heads",
    "d_ff": "d_ff",
    "num_layers": "num_encoder_layers",
    "num_decoder_layers": "num_decoder_layers",
    "relative_attention_num_buckets": "num_buckets",
    "relative_attention_max_distance": "max_distance",
    "feed_forward_proj": "mlp",
    "dropout_rate": "dropout_rate",
    "layer_norm_epsilon": "norm_epsilon",
}
_EMBEDDING = "shared.weight"
_HEAD = "lm_head.weight"
# Copies of the embedding; a model has one, and a file may name it by any of them.
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Written by early versions of Transformers, never used by the model.
_UNUSED = re.compile(
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
)


# -------------------------------------------------------------------------------------- reading


def is_checkpoint(path: pathlib.Path) -> bool:
    """Returns whether `path` is a folder of the Hugging Face hub's kind."""
    return (path / "config.json").is_file()


def read(path: str | os.PathLike, *, allow_pickle: bool = False) -> tuple[File, T5Config]:
    """The tensors of a folder, still on disk, and the model that config.json describes.

    Args:
      allow_pickle: read `pytorch_model.bin` (by PyTorch, which must be installed, and nothing but
        tensors of it) where there are no safetensors.

    Raises:
      UserError: no T5, files missing or damaged, or only pickles and these are not allowed.
    """
    folder = pathlib.Path(path)
    settings = _read_json(folder / "config.json")
    tensors, kind = _tensors(folder, allow_pickle)
    left, notes = {}, []
    if _EMBEDDING not in tensors:
        spare = next((name for name in (*_COPIES, _HEAD) if name in tensors), None)
        if spare is not None and (spare != _HEAD or _ties(settings)):
            tensors[_EMBEDDING] = tensors.pop(spare)
            notes.append(f"{spare} is the embedding")
    for name in list(tensors):
        if name in _COPIES:
            left[name] = "copy of the embedding"
            del tensors[name]
        elif _UNUSED.fullmatch(name):
            left[name] = "never used by the model"
            del tensors[name]
    tied = _settle_head(settings, tensors, left, notes)
    config = _config(folder, settings, tensors, tied)
    file = File(str(folder), kind, "hf", tensors, left, notes)
    return file, config


def _config(
    folder: pathlib.Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], tied: bool
) -> T5Config:
    model_type = settings.get("model_type", "t5")
    if model_type not in MODEL_TYPES:
        raise UserError(
            f"{folder / 'config.json'} is of a model of type {model_type!r}; this program reads "
            f"{', '.join(MODEL_TYPES)} (T5 1.0 and 1.1, LM-adapted, Flan-T5, mT5, umT5, ByT5, UL2)."
        )
    fields = {ours: settings[theirs] for theirs, ours in _FIELDS.items() if theirs in settings}
    absent = [
        theirs
        for theirs in ("d_model", "d_kv", "num_heads", "d_ff", "num_layers")
        if theirs not in settings
    ]
    if absent:
        raise UserError(f"{folder / 'config.json'} does not tell {', '.join(absent)}.")
    if fields.get("num_decoder_layers") is None:
        fields["num_decoder_layers"] = fields["num_encoder_layers"]
    fields.setdefault("mlp", "gated-gelu" if settings.get("is_gated_act") else "relu")
    rows = (
        tensors[_EMBEDDING].shape[0] if _EMBEDDING in tensors else settings.get("vocab_size", 32128)
    )
    fields |= {
        "vocab_size": rows,
        "tie_embeddings": tied,
        "relative_bias_per_layer": model_type == "umt5",
    }
    return T5Config.from_dict(fields)


def _ties(settings: Mapping[str, Any]) -> bool:
    """Returns whether the file ties the head to the embedding (Transformers' default)."""
    return settings.get("tie_word_embeddings") is not False


def _settle_head(
    settings: Mapping[str, Any], tensors: dict[str, Tensor], left: dict[str, str], notes: list[str]
) -> bool:
    """Returns T5Config.tie_embeddings: the head is the embedding, the decoder's output scaled.

    A model that ties its head without the scale gets a copy of the embedding for a head here; a
    head of its own with the scale is multiplied by it. Transformers 4 has both or neither, by
    `tie_word_embeddings`. Transformers 5 always writes `true` there: `scale_decoder_outputs` says
    whether it scales (mT5 never does), and a head with other values than the embedding is one of
    its own.
    """
    embedding = tensors.get(_EMBEDDING)
    scaled = settings.get("scale_decoder_outputs", _ties(settings))
    if settings.get("model_type") == "mt5":
        scaled = _ties(settings) and str(settings.get("transformers_version", "4")) < "5"
    if _HEAD in tensors and scaled and embedding and _equal(tensors[_HEAD], embedding):
        left[_HEAD] = "copy of the embedding"
        del tensors[_HEAD]
        return True
    if _HEAD in tensors and scaled and settings.get("model_type") != "mt5":
        tensors[_HEAD] = tensors[_HEAD].times(tensors[_HEAD].shape[-1] ** -0.5)
        notes.append("the head is multiplied by the scale of the decoder's output, d_model^-0.5")
    elif _HEAD not in tensors and _ties(settings) and not scaled and embedding:
        tensors[_HEAD] = embedding
        notes.append("the head is a copy of the embedding, as the decoder's output is not scaled")
    return _HEAD not in tensors and _ties(settings)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and np.array_equal(a.whole(), b.whole())


def _tensors(folder: pathlib.Path, allow_pickle: bool) -> tuple[dict[str, Tensor], str]:
    """The tensors of all weight files of a folder, and what kind of files they are."""
    for stem, suffix, kind, reader in (
        ("model", "safetensors", "Hugging Face, safetensors", safetensors.read),
        ("pytorch_model", "bin", "Hugging Face, PyTorch pickle", _read_pickle),
    ):
        index = folder / f"{stem}.{suffix}.index.json"
        single = folder / f"{stem}.{suffix}"
        if not index.is_file() and not single.is_file():
            continue
        if suffix == "bin" and not allow_pickle:
            raise UserError(
                f"{folder} holds its weights as a pickle ({stem}.{suffix}), a format that can "
                "carry programs. If you trust its author, allow it: load_checkpoint.allow_pickle = "
                "True in gin, or mto convert --allow_pickle."
            )
        if single.is_file():
            return reader(single), kind
        return _read_shards(folder, index, reader), f"{kind}, in several files"
    raise UserError(
        f"{folder} has a config.json and no weights: expected model.safetensors, "
        "model.safetensors.index.json with its files, or pytorch_model.bin."
        + (
            ""
            if allow_pickle
            else " (A pickle on the hub is fetched with load_checkpoint.allow_pickle = True only.)"
        )
    )


def _read_shards(folder: pathlib.Path, index: pathlib.Path, reader) -> dict[str, Tensor]:
    weight_map = _read_json(index).get("weight_map", {})
    files = sorted(set(weight_map.values()))
    absent = [name for name in files if not (folder / name).is_file()]
    if absent or any(pathlib.PurePath(name).name != name for name in files):
        raise UserError(
            f"{index} names files that are not beside it: {', '.join(absent or files)}."
        )
    tensors = {}
    for name in files:
        tensors |= reader(folder / name)
    missing = [name for name in weight_map if name not in tensors]
    if missing:
        raise unknown(f"tensor in the files of {index} called", missing[0], tensors)
    return tensors


def _read_pickle(path: pathlib.Path) -> dict[str, Tensor]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} can only be read by PyTorch: pip install torch, or get the model as "
            "safetensors."
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # torch raises errors of many kinds on foreign bytes
        raise UserError(f"{path} does not read as tensors: {str(error).splitlines()[0]}") from error

    def lazy(tensor) -> Tensor:
        dtype = np.dtype(ml_dtypes.bfloat16) if tensor.dtype == torch.bfloat16 else None
        array = tensor.view(torch.int16).numpy().view(dtype) if dtype else tensor.numpy()
        return Tensor(array.shape, array.dtype, lambda index: array[index])

    return {name: lazy(tensor) for name, tensor in state.items()}


def _is_zip(path: pathlib.Path) -> bool:
    """PyTorch's format since 1.6, which can be mapped into memory; before, it was a bare pickle."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {path}: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} does not hold a JSON object.")
    return settings


# -------------------------------------------------------------------------------------- writing


def write(
    folder: pathlib.Path, config: T5Config, tensors: Mapping[str, Tensor], dtype: str = "float32"
) -> None:
    """Write config.json, generation_config.json and safetensors, in several files above 5 GB.

    Args:
      folder: exists.
      tensors: by our name.
      dtype: "float32" or "bfloat16".
    """
    import huggingface_hub

    if dtype not in WRITTEN_DTYPES:
        raise unknown("type of tensors in a Hugging Face checkpoint called", dtype, WRITTEN_DTYPES)
    stored = parameter_names.disassemble(config, tensors, "hf")
    split = huggingface_hub.split_state_dict_into_shards_factory(
        stored,
        get_storage_size=lambda tensor: math.prod(tensor.shape) * WRITTEN_DTYPES[dtype].itemsize,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=LARGEST_FILE,
    )
    for name, keys in split.filename_to_tensors.items():
        safetensors.write(folder / name, {key: stored[key] for key in keys}, WRITTEN_DTYPES[dtype])
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
    write_json(folder / "config.json", settings(config, dtype))
    generation = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    write_json(folder / "generation_config.json", generation)


def settings(config: T5Config, dtype: str = "float32") -> dict[str, Any]:
    """The config.json of a model, as Transformers 4 and 5 understand it."""
    kind = "umt5" if config.relative_bias_per_layer else "t5"
    return {
        "architectures": [f"{kind.upper()}ForConditionalGeneration"],
        "model_type": kind,
        **{theirs: getattr(config, ours) for theirs, ours in _FIELDS.items()},
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": config.tie_embeddings,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
