# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5X checkpoints without T5X: zarr with a msgpack `checkpoint` file, Orbax, single msgpack files.

Layers may be unstacked (`encoder/layers_0/...`) or scanned into one array (`encoder/layers/...`, or
in umT5 `encoder/encoder/...`), with the layers on axis 1.
"""

import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints import tensorstore
from mto_jax.checkpoints.contents import File
from mto_jax.checkpoints.lazy import Tensor, in_memory
from mto_jax.errors import UserError
from mto_jax.models.config import T5Config

# Of the activation the shapes say only whether it is gated.
UNRECORDED = (
    *("mlp", "max_distance", "norm_epsilon", "dropout_rate"),
    *("decoder_start_id", "pad_id", "eos_id"),
)

_PLACEHOLDER = "PLACEHOLDER://"  # how Orbax's msgpack file says that an array lies in a folder
_SCANNED = re.compile(r"^(encoder|decoder)/(?:layers|\1)/")
_LAYER = re.compile(r"^(encoder|decoder)/layers_(\d+|\{i\})/(.+)$")


def is_checkpoint(path: pathlib.Path) -> bool:
    """Returns whether `path` looks like a T5X checkpoint, or a folder of them."""
    return path.is_file() or _root(path) is not None


def read(path: str | os.PathLike) -> File:
    """The model parameters of a checkpoint, nothing but small arrays read yet.

    Args:
      path: a folder `checkpoint_N`, a run's folder of them (the newest is taken), or a legacy file.

    Raises:
      UserError: not a T5X checkpoint, or arrays are missing.
    """
    path = pathlib.Path(path)
    if path.is_file():
        flat = dict(_flatten(_unpack(path)))
        kind, folder = "T5X, one msgpack file", path.parent
    else:
        folder = _root(path)
        if folder is None:
            raise UserError(
                f"{path} holds no checkpoint: neither config.json (Hugging Face), nor a file "
                f"'checkpoint' or '{tensorstore.METADATA}' (T5X, Orbax) or folders checkpoint_N "
                "with one, nor a folder checkpoints/ (a run of this program)."
            )
        if (folder / "checkpoint").is_file():
            flat = dict(_flatten(_unpack(folder / "checkpoint")))
            orbax = any(str(leaf).startswith(_PLACEHOLDER) for leaf in flat.values())
            kind = "T5X, Orbax with a msgpack index" if orbax else "T5X, zarr with a msgpack index"
        else:
            flat = tensorstore.orbax(folder)
            kind = "T5X, Orbax"

    tensors, left, step = {}, {}, None
    for name, leaf in flat.items():
        inside = re.search(r"(?:^|/)(?:target|params)/(.+)$", name)
        if inside and "param_states" not in name:
            key = inside[1].replace("relative_posemb", "relpos_bias")
            tensors[key] = _tensor(folder, leaf)
        else:
            left[name] = "optimizer state" if "param_states" in name else "not a parameter"
            if re.search(r"(?:^|/)state/step$", name):
                step = _scalar(folder, leaf)
    scanned = {name for name in tensors if _SCANNED.match(name)}
    for name in scanned:
        stack = _SCANNED.sub(r"\1/layers_{i}/", name)
        tensors[stack] = tensors.pop(name).layers_first()
    return File(
        path=str(path if path.is_file() else folder),
        format=kind,
        side="t5x",
        tensors={name: tensor.finite(f"{path}: {name}") for name, tensor in tensors.items()},
        left=left,
        step=step,
        layers="scanned" if scanned else "unstacked",
        unrecorded=UNRECORDED,
    )


def config(tensors: Mapping[str, Tensor]) -> T5Config:
    """The model, its sizes read off the shapes of the tensors.

    What the file does not record (`UNRECORDED`) is what gin binds for T5Config, by default that of
    T5 v1.1.

    Raises:
      UserError: the tensors are not those of a T5.
    """
    shapes, layers = {}, {"encoder": 0, "decoder": 0}
    for name, tensor in tensors.items():
        if (match := _LAYER.match(name)) is None:
            shapes[name] = tensor.shape
            continue
        stack, place, rest = match.groups()
        stacked = place == "{i}"
        layers[stack] = max(layers[stack], tensor.shape[0] if stacked else 1 + int(place))
        shapes[f"{stack}/layer/{rest}"] = tensor.shape[1:] if stacked else tensor.shape

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            some = ", ".join(list(tensors)[:5]) or "no parameters at all"
            raise UserError(f"There is no {name} in it, so it is not a T5 (it holds {some}).")
        return shapes[name]

    gated = "encoder/layer/mlp/wi_0/kernel" in shapes
    vocab_size, d_model = shape("token_embedder/embedding")
    per_layer = "encoder/relpos_bias/rel_embedding" not in shapes
    stack = "encoder/layer" if per_layer else "encoder"
    num_heads, num_buckets = shape(f"{stack}/relpos_bias/rel_embedding")
    joined = int(np.prod(shape("encoder/layer/attention/query/kernel"))) // d_model
    known = T5Config()
    fields = {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": joined // num_heads,
        "num_heads": num_heads,
        "d_ff": shape("encoder/layer/mlp/wo/kernel")[0],
        "num_encoder_layers": layers["encoder"],
        "num_decoder_layers": layers["decoder"],
        "num_buckets": num_buckets,
        "max_distance": known.max_distance,
        "relative_bias_per_layer": per_layer,
        "mlp": (known.mlp if known.mlp != "relu" else "gated-gelu") if gated else "relu",
        "tie_embeddings": "decoder/logits_dense/kernel" not in tensors,
        "dropout_rate": known.dropout_rate,
        "norm_epsilon": known.norm_epsilon,
    }
    return T5Config.from_dict(fields)


def _root(path: pathlib.Path) -> pathlib.Path | None:
    """The folder with the index: `path`, its item `state`, or the newest step in it.

    A step is called checkpoint_N by T5X, N by Orbax.
    """
    numbered = [p for p in path.glob("*") if p.name.removeprefix("checkpoint_").isdigit()]
    numbered.sort(key=lambda p: int(p.name.removeprefix("checkpoint_")), reverse=True)
    for folder in (path, path / "state", path / "default"):
        if (folder / "checkpoint").is_file() or (folder / tensorstore.METADATA).is_file():
            return folder
    return _root(numbered[0]) if numbered else None


def _unpack(file: pathlib.Path) -> Any:
    from flax import serialization

    try:
        tree = serialization.msgpack_restore(file.read_bytes())
    except Exception as error:  # msgpack raises errors of many kinds on foreign bytes
        raise _not_t5x(file, f"it does not read as msgpack ({error})") from error
    if not isinstance(tree, dict):
        raise _not_t5x(file, "it holds no tree of names")
    return tree


def _not_t5x(file: pathlib.Path, reason: str) -> UserError:
    return UserError(
        f"{file} is not a T5X checkpoint: {reason}. Of a model of Hugging Face, give the folder "
        "with its config.json."
    )


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ("a/b", leaf) of a tree of dicts; the TensorStore spec of an array is a leaf."""
    if isinstance(tree, dict) and not ("driver" in tree and "kvstore" in tree):
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}/{key}" if prefix else str(key))
    elif tree is not None:
        yield prefix, tree


def _tensor(folder: pathlib.Path, leaf: Any) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, dict):
        # The path in it is relative to the checkpoint, wherever that was then.
        name = pathlib.PurePosixPath(leaf["kvstore"]["path"]).name
        known = {key: leaf[key] for key in ("metadata", "dtype") if key in leaf}
        return tensorstore.array(folder, name, metadata=known)
    if isinstance(leaf, str):
        return tensorstore.array(folder, leaf.removeprefix(_PLACEHOLDER))
    return in_memory(np.asarray(leaf))


def _scalar(folder: pathlib.Path, leaf: Any) -> int | None:
    """The step, if it can be read; a model loads without."""
    try:
        return int(_tensor(folder, leaf).whole())
    except UserError:
        return None
