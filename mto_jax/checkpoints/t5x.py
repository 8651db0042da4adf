# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5X checkpoints without T5X: zarr arrays with a msgpack `checkpoint` file, Orbax, and single msgpack files.

Layers may be apart (`encoder/layers_0/...`) or scanned into one array (`encoder/layers/...`, or in umT5
`encoder/encoder/...`), with the layers on axis 1.
"""

import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mto_jax.checkpoints import tensorstore
from mto_jax.checkpoints.foreign import File
from mto_jax.checkpoints.lazy import Tensor, in_memory
from mto_jax.errors import UserError
from mto_jax.models.config import T5Config

_PLACEHOLDER = "PLACEHOLDER://"  # how Orbax's msgpack file says that an array lies in a folder
_SCANNED = re.compile(r"^(encoder|decoder)/(?:layers|\1)/")
_LAYER = re.compile(r"^(encoder|decoder)/layers_(\d+|\{i\})/(.+)$")


def is_checkpoint(path: pathlib.Path) -> bool:
    """Whether `path` looks like a T5X checkpoint, or a folder of them."""
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
                f"{path} holds no checkpoint: neither config.json (Hugging Face), nor a file 'checkpoint' or "
                f"'{tensorstore.METADATA}' (T5X, Orbax) or folders checkpoint_N with one, nor a folder "
                "checkpoints/ (a run of this program)."
            )
        if (folder / "checkpoint").is_file():
            flat = dict(_flatten(_unpack(folder / "checkpoint")))
            orbax = any(str(leaf).startswith(_PLACEHOLDER) for leaf in flat.values())
            kind = "T5X, Orbax with a msgpack index" if orbax else "T5X, zarr with a msgpack index"
        else:
            arrays, zarr3 = tensorstore.orbax_names(folder)
            flat = {name: _Stored(array, zarr3=zarr3) for name, array in arrays.items()}
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
        tensors=tensors,
        left=left,
        step=step,
        layers="scanned" if scanned else "apart",
    )


def config(tensors: Mapping[str, Tensor], like: T5Config | None) -> T5Config:
    """Sizes read off the shapes of the tensors.

    The file does not tell the activation of the feed-forward layer, the reach of the relative bias
    and the dropout rate: they are those of `like`, or what gin binds for T5Config, which by default
    are those of T5 v1.1.

    Raises:
      UserError: the tensors are not those of a T5.
    """

    def shape(name: str) -> tuple[int, ...]:
        """Of one layer's tensor, whichever way layers are kept."""
        if (stack := name.replace("layers_0", "layers_{i}")) in tensors and stack != name:
            return tensors[stack].shape[1:]
        if name not in tensors:
            some = ", ".join(list(tensors)[:5]) or "no parameters at all"
            raise UserError(f"There is no {name} in it, so it is not a T5 (it holds {some}).")
        return tensors[name].shape

    def layers(stack: str) -> int:
        found = [_LAYER.match(name) for name in tensors]
        found = [m for m in found if m and m[1] == stack]
        if any(m[2] == "{i}" for m in found):
            return next(
                t.shape[0]
                for name, t in tensors.items()
                if name.startswith(f"{stack}/layers_{{i}}/")
            )
        return 1 + max((int(m[2]) for m in found), default=-1)

    gated = (
        "encoder/layers_0/mlp/wi_0/kernel" in tensors
        or "encoder/layers_{i}/mlp/wi_0/kernel" in tensors
    )
    vocab_size, d_model = shape("token_embedder/embedding")
    per_layer = "encoder/relpos_bias/rel_embedding" not in tensors
    bias = (
        "encoder/layers_0/relpos_bias/rel_embedding"
        if per_layer
        else "encoder/relpos_bias/rel_embedding"
    )
    num_heads, num_buckets = shape(bias)
    joined = int(np.prod(shape("encoder/layers_0/attention/query/kernel"))) // d_model
    known = like or T5Config()
    fields = {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": joined // num_heads,
        "num_heads": num_heads,
        "d_ff": shape("encoder/layers_0/mlp/wo/kernel")[0],
        "num_encoder_layers": layers("encoder"),
        "num_decoder_layers": layers("decoder"),
        "num_buckets": num_buckets,
        "max_distance": known.max_distance,
        "relative_bias_per_layer": per_layer,
        "mlp": (known.mlp if known.mlp != "relu" else "gated-gelu") if gated else "relu",
        "tie_embeddings": "decoder/logits_dense/kernel" not in tensors,
        "dropout_rate": known.dropout_rate,
        "norm_epsilon": known.norm_epsilon,
    }
    return T5Config.from_dict(fields)


class _Stored:
    """An array of an Orbax checkpoint that has no msgpack file."""

    def __init__(self, name: str, *, zarr3: bool):
        self.name, self.zarr3 = name, zarr3


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
        f"{file} is not a T5X checkpoint: {reason}. Of a model of Hugging Face, give the folder with its "
        "config.json."
    )


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("a/b", leaf) of a tree of dicts; the TensorStore spec of an array is a leaf, empty ones are none."""
    if isinstance(tree, dict) and not ("driver" in tree and "kvstore" in tree):
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}/{key}" if prefix else str(key))
    elif tree is not None:
        yield prefix, tree


def _tensor(folder: pathlib.Path, leaf: Any) -> Tensor:
    if isinstance(leaf, _Stored):
        return tensorstore.array(folder, leaf.name, zarr3=leaf.zarr3)
    if isinstance(
        leaf, dict
    ):  # The path in it is relative to the checkpoint, wherever that was then.
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
