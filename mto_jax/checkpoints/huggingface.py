# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of Hugging Face: config.json with safetensors (or PyTorch's pickles), in and out."""

import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mto_jax.checkpoints import parameter_names, pickles, safetensors, t5gemma
from mto_jax.checkpoints.contents import File
from mto_jax.checkpoints.foreign_fields import Fields, read_object
from mto_jax.checkpoints.lazy import Tensor
from mto_jax.errors import UserError, unknown
from mto_jax.files import write_json
from mto_jax.models.config import ModelConfig, T5Config, T5GemmaConfig

MODEL_TYPES = ("t5", "mt5", "umt5", "t5gemma")
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
_IDS = {
    "decoder_start_token_id": "decoder_start_id",
    "pad_token_id": "pad_id",
    "eos_token_id": "eos_id",
}
_ACTIVATIONS = {"relu": "relu", "gated-gelu": "gelu_new", "gated-silu": "silu"}
_CONFIG = Fields(
    understood=(
        *(*_FIELDS, *_IDS, "model_type", "architectures", "transformers_version", "vocab_size"),
        *("tie_word_embeddings", "scale_decoder_outputs", "is_gated_act", "dense_act_fn"),
    ),
    ignored=(
        *("_name_or_path", "_commit_hash", "_attn_implementation", "_attn_implementation_internal"),
        *("attn_implementation", "bos_token_id", "classifier_dropout", "dtype", "torch_dtype"),
        *("id2label", "label2id", "initializer_factor", "model_max_length", "n_positions"),
        *("num_labels", "output_past", "problem_type", "return_dict", "task_specific_params"),
        *("tokenizer_class", "unk_token_id", "use_cache", "_from_model_config", "gradient_scale"),
        *("gradient_checkpointing", "num_hidden_layers", "hidden_size", "head_dim"),
        *("num_attention_heads",),
    ),
    only={
        "is_encoder_decoder": (True, None),
        "is_decoder": (False, None),
        "tie_encoder_decoder": (False, None),
        "add_cross_attention": (False, True, None),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
        "auto_map": (None, {}),
    },
)
_GENERATION = Fields(
    understood=tuple(_IDS),
    ignored=(
        *("_from_model_config", "bos_token_id", "transformers_version", "use_cache"),
        *("cache_implementation", "output_attentions", "output_hidden_states"),
    ),
    only={},
)
# Relatives that are read by mistake for a model of a family here, and what they do otherwise.
_RELATIVES = {
    "t5gemma2": "T5Gemma 2, whose decoder attends to its own past and to the source in a single "
    "attention, normalises queries and keys, has a rotation of its own for each kind of layer, and "
    "sees images: none of that is a setting of a T5Gemma here",
    "gemma2": "Gemma 2, a decoder without an encoder: mto convert --to=encoder_decoder makes a "
    "T5Gemma of it",
}
# Classes of Transformers that are not an encoder-decoder with a language model's head.
_OTHER_MODELS = {
    "EncoderModel": "an encoder without a decoder",
    "ForSequenceClassification": "a classifier of texts",
    "ForTokenClassification": "a classifier of tokens",
    "ForQuestionAnswering": "a reader that marks answers in a text",
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


def read(path: str | os.PathLike, *, allow_pickle: bool = False) -> tuple[File, ModelConfig]:
    """The tensors of a folder, still on disk, and the model that config.json describes.

    Args:
      allow_pickle: read `pytorch_model.bin` (by PyTorch, which must be installed, and nothing but
        tensors of it) where there are no safetensors.

    Raises:
      UserError: no T5, files missing or damaged, or only pickles and these are not allowed.
    """
    folder = pathlib.Path(path)
    settings = read_object(folder / "config.json")
    if settings.get("model_type") == t5gemma.MODEL_TYPE:
        return _read_t5gemma(folder, settings, allow_pickle)
    notes = _CONFIG.check(settings, str(folder / "config.json"))
    _check_kind(folder, settings)
    ids = _ids(folder, settings, notes)
    tensors, kind = weights(folder, allow_pickle)
    left: dict[str, str] = {}
    if _EMBEDDING not in tensors:
        spare = next((name for name in (*_COPIES, _HEAD) if name in tensors), None)
        if spare is not None and (spare != _HEAD or _ties(settings)):
            tensors[_EMBEDDING] = tensors.pop(spare)
            notes.append(f"{spare} is the embedding")
    for name in list(tensors):
        if name in _COPIES:
            if not _equal(tensors[name], tensors[_EMBEDDING]):
                raise UserError(
                    f"{folder}: the tensor {name} has other values than {_EMBEDDING}. A model "
                    "here has a single embedding, of the encoder's and of the decoder's tokens."
                )
            left[name] = "copy of the embedding"
            del tensors[name]
        elif _UNUSED.fullmatch(name):
            left[name] = "never used by the model"
            del tensors[name]
    tied = _settle_head(settings, tensors, left, notes)
    config = _config(folder, settings, tensors, {**ids, "tie_embeddings": tied})
    file = File(str(folder), kind, "hf", tensors, left, notes)
    return file, config


def _read_t5gemma(
    folder: pathlib.Path, settings: Mapping[str, Any], allow_pickle: bool
) -> tuple[File, T5GemmaConfig]:
    path = folder / "config.json"
    notes = t5gemma.check(settings, str(path))
    stated = {"decoder_start_token_id": None, **t5gemma.ids(settings, str(path))}
    stated |= {k: v for k, v in settings.items() if k in _IDS and v is not None}
    ids = _ids(folder, stated, notes, {"decoder_start_id": stated["bos_token_id"]})
    config = t5gemma.config(settings, ids, str(path))
    tensors, kind = weights(folder, allow_pickle)
    left = without_head(folder, tensors, t5gemma.HEAD, t5gemma.EMBEDDING)
    return File(str(folder), kind, "hf", tensors, left, notes), config


def without_head(
    folder: pathlib.Path, tensors: dict[str, Tensor], head: str, embedding: str
) -> dict[str, str]:
    """Takes a head that is the embedding out of `tensors`; returns what is not used, and why.

    Raises:
      UserError: it has other values.
    """
    if (stored := tensors.pop(head, None)) is None:
        return {}
    if embedding not in tensors or not _equal(stored, tensors[embedding]):
        raise UserError(
            f"{folder}: the tensor {head} has other values than {embedding}. The head of a T5Gemma "
            "here is the decoder's embedding."
        )
    return {head: "copy of the embedding"}


def _check_kind(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Raises a UserError that says what the model is, unless it is a T5 as this program has it."""
    path, model_type = folder / "config.json", settings.get("model_type", "t5")
    if model_type not in MODEL_TYPES:
        relative = f" ({_RELATIVES[model_type]})" if model_type in _RELATIVES else ""
        raise UserError(
            f"{path}: model_type is {model_type!r}{relative}; this program reads "
            f"{', '.join(MODEL_TYPES)} (T5 1.0 and 1.1, LM-adapted, Flan-T5, mT5, umT5, ByT5, UL2, "
            "T5Gemma)."
        )
    for name in map(str, settings.get("architectures") or ()):
        for ending, what in _OTHER_MODELS.items():
            if name.endswith(ending):
                raise UserError(
                    f"{path}: architectures is {name}, {what}; this program reads encoder-decoders "
                    "(T5ForConditionalGeneration)."
                )
    mlp = settings.get("feed_forward_proj", "relu")
    if mlp not in _ACTIVATIONS:
        raise unknown(f"feed_forward_proj (in {path}) here called", str(mlp), _ACTIVATIONS)
    activation = settings.get("dense_act_fn", _ACTIVATIONS[mlp])
    if "feed_forward_proj" in settings and activation != _ACTIVATIONS[mlp]:
        raise UserError(
            f"{path}: dense_act_fn is {activation!r}, which does not fit feed_forward_proj = "
            f"{mlp!r}; expected {_ACTIVATIONS[mlp]!r}."
        )


def _ids(
    folder: pathlib.Path,
    settings: Mapping[str, Any],
    notes: list[str],
    default: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The ids of start, padding and end, by our names; `notes` gets what is not used.

    Args:
      default: what neither file states; None: the decoder starts with padding.
    """
    path, generation = folder / "generation_config.json", {}
    if path.is_file():
        generation = read_object(path)
        notes += _GENERATION.check(generation, str(path))
    ids = {}
    for theirs, ours in _IDS.items():
        values = {
            place: value[0] if isinstance(value, list) and len(value) == 1 else value
            for place, config in (("config.json", settings), (path.name, generation))
            if (value := config.get(theirs)) is not None
        }
        if any(value != next(iter(values.values())) for value in values.values()):
            said = " and ".join(f"{value!r} in {place}" for place, value in values.items())
            raise UserError(
                f"{folder}: {theirs} is {said}. Training would follow the first and decoding the "
                "second: give both files the value that the model was trained with."
            )
        if values:
            ids[ours] = next(iter(values.values()))
    return {**(default or {"decoder_start_id": ids.get("pad_id", 0)}), **ids}


def _config(
    folder: pathlib.Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    given: Mapping[str, Any],
) -> T5Config:
    fields = {ours: settings[theirs] for theirs, ours in _FIELDS.items() if theirs in settings}
    absent = [
        theirs
        for theirs in ("d_model", "d_kv", "num_heads", "d_ff", "num_layers")
        if theirs not in settings
    ]
    if absent:
        raise UserError(f"{folder / 'config.json'} does not say {', '.join(absent)}.")
    if fields.get("num_decoder_layers") is None:
        fields["num_decoder_layers"] = fields["num_encoder_layers"]
    fields.setdefault("mlp", "gated-gelu" if settings.get("is_gated_act") else "relu")
    rows = (
        tensors[_EMBEDDING].shape[0] if _EMBEDDING in tensors else settings.get("vocab_size", 32128)
    )
    per_layer = settings.get("model_type") == "umt5"
    fields |= {**given, "vocab_size": rows, "relative_bias_per_layer": per_layer}
    try:
        return T5Config.from_dict(fields)
    except UserError as error:
        text = str(error)
        for theirs, ours in (_FIELDS | _IDS).items():
            text = text.replace(f"T5Config.{ours} ", f"{theirs} ")
        raise UserError(f"{folder / 'config.json'}: {text}") from error


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


def weights(folder: pathlib.Path, allow_pickle: bool) -> tuple[dict[str, Tensor], str]:
    """The tensors of all weight files of a folder, and what kind of files they are.

    Raises:
      UserError: there are none, or only pickles and these are not allowed; or, once a tensor is
        read, it has values that are no finite numbers.
    """
    for stem, suffix, kind, reader in (
        ("model", "safetensors", "Hugging Face, safetensors", safetensors.read),
        ("pytorch_model", "bin", "Hugging Face, PyTorch pickle", pickles.read),
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
        whole = single.is_file()
        tensors = reader(single) if whole else _read_shards(folder, index, reader)
        tensors = {name: t.finite(f"{folder}: the tensor {name}") for name, t in tensors.items()}
        return tensors, kind if whole else f"{kind}, in several files"
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
    weight_map = read_object(index).get("weight_map", {})
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


# -------------------------------------------------------------------------------------- writing


def write(
    folder: pathlib.Path, config: ModelConfig, tensors: Mapping[str, Tensor], dtype: str = "float32"
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
    generation = {theirs: getattr(config, ours) for theirs, ours in _IDS.items()}
    write_json(folder / "generation_config.json", generation)


def settings(config: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """The config.json of a model, as Transformers 4 and 5 understand it."""
    if isinstance(config, T5GemmaConfig):
        return {**t5gemma.settings(config), "dtype": dtype, "torch_dtype": dtype}
    kind = "umt5" if config.relative_bias_per_layer else "t5"
    return {
        "architectures": [f"{kind.upper()}ForConditionalGeneration"],
        "model_type": kind,
        **{theirs: getattr(config, ours) for theirs, ours in (_FIELDS | _IDS).items()},
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": config.tie_embeddings,
        "is_encoder_decoder": True,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
