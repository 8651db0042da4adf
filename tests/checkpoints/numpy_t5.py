# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A T5 v1.1 in plain NumPy over the raw arrays of a T5X checkpoint, and readers of those without
any of our code."""

import gzip
import json
import math
import pathlib

import msgpack
import numpy as np


def raw_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Parameters by T5X's names, out of a legacy file or a folder of zarr arrays."""
    file = path if path.is_file() else path / "checkpoint"
    tree = msgpack.unpackb(file.read_bytes(), ext_hook=_extension, strict_map_key=False)
    result = {}

    def walk(node, name):
        if isinstance(node, np.ndarray):
            result[name] = node
        elif "driver" in node:
            result[name] = _zarr(path / node["kvstore"]["path"])
        else:
            for key, value in node.items():
                walk(value, f"{name}/{key}" if name else key)

    walk(tree["optimizer"]["target"], "")
    return result


def _extension(code: int, data: bytes):
    shape, dtype, content = msgpack.unpackb(data, raw=True)
    return np.frombuffer(content, dtype.decode()).reshape(shape)


def _zarr(folder: pathlib.Path) -> np.ndarray:
    layout = json.loads((folder / ".zarray").read_text())
    (rows, columns), (high, wide) = layout["shape"], layout["chunks"]
    assert layout["compressor"]["id"] == "gzip"
    padded = np.zeros((math.ceil(rows / high) * high, math.ceil(columns / wide) * wide), np.float32)
    for i in range(0, rows, high):
        for j in range(0, columns, wide):
            content = gzip.decompress((folder / f"{i // high}.{j // wide}").read_bytes())
            chunk = np.frombuffer(content, layout["dtype"]).reshape(high, wide)
            padded[i : i + high, j : j + wide] = chunk
    return padded[:rows, :columns]


def logits(arrays: dict[str, np.ndarray], source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[B, T, V] of one unpadded batch: source [B, S], decoder inputs [B, T]."""
    weights = {name: value.astype(np.float64) for name, value in arrays.items()}
    encoded = _stack(weights, "encoder", source, None)
    return _stack(weights, "decoder", target, encoded) @ weights["decoder/logits_dense/kernel"]


def _stack(w, stack, tokens, encoded):
    x = w["token_embedder/embedding"][tokens]
    table = w[f"{stack}/relpos_bias/rel_embedding"]  # [H, buckets]
    heads, length = table.shape[0], tokens.shape[1]
    buckets = [
        [_bucket(s - t, stack == "encoder", table.shape[1]) for s in range(length)]
        for t in range(length)
    ]
    bias = table[:, np.array(buckets)]
    if stack == "decoder":
        bias = np.where(np.tril(np.ones((length, length))), bias, -np.inf)
    for i in range(sum(name.startswith(f"{stack}/layers_") and "wo" in name for name in w)):
        layer = f"{stack}/layers_{i}"
        own = "attention" if stack == "encoder" else "self_attention"
        y = _norm(x, w[f"{layer}/pre_{own}_layer_norm/scale"])
        x = x + _attention(w, f"{layer}/{own}", y, y, bias, heads)
        if encoded is not None:
            y = _norm(x, w[f"{layer}/pre_cross_attention_layer_norm/scale"])
            x = x + _attention(w, f"{layer}/encoder_decoder_attention", y, encoded, 0.0, heads)
        y = _norm(x, w[f"{layer}/pre_mlp_layer_norm/scale"])
        gate = y @ w[f"{layer}/mlp/wi_0/kernel"]
        gate = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        x = x + (gate * (y @ w[f"{layer}/mlp/wi_1/kernel"])) @ w[f"{layer}/mlp/wo/kernel"]
    return _norm(x, w[f"{stack}/{stack}_norm/scale"])


def _norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def _attention(w, name, x, context, bias, heads):
    def split(y):
        return y.reshape(*y.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    q = split(x @ w[f"{name}/query/kernel"])
    k, v = (split(context @ w[f"{name}/{part}/kernel"]) for part in ("key", "value"))
    scores = q @ k.swapaxes(-1, -2) + bias
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    y = (scores / scores.sum(-1, keepdims=True)) @ v
    return y.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1) @ w[f"{name}/out/kernel"]


def _bucket(distance, bidirectional, count, reach=128):
    """Section 2.1 of Raffel et al.: exact small distances, logarithmic large ones."""
    offset = 0
    if bidirectional:
        count //= 2
        offset = count if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = count // 2
    if distance < exact:
        return offset + distance
    far = exact + int(math.log(distance / exact) / math.log(reach / exact) * (count - exact))
    return offset + min(far, count - 1)
