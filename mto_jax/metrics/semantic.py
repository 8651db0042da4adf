# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of meaning, by neural models: sentence embeddings, BERTScore, BLEURT. See `text`.

They cost far more than the others and need a model, a local folder or hf://org/name of the Hugging
Face hub, so no task has them by default. The first two need `sentence-transformers`
(`pip install 'mto-jax[embedding]'`); add them to an evaluation in gin:

    task_metrics.add = ["mto_jax.metrics.semantic:embedding_similarity"]
    embedding_similarity.model = "models/all-MiniLM-L6-v2"
"""

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gin
import numpy as np

from mto_jax import errors, hub
from mto_jax.metrics import statistics
from mto_jax.metrics.text import References, metric

BATCH_SIZE = 64  # texts


@functools.cache
def _load(metric_name: str, model: str, layer: int | None = None) -> Any:
    """Returns the `SentenceTransformer` of a model, or of its first `layer` layers."""
    try:
        import sentence_transformers
        import transformers
    except ImportError as error:
        raise errors.UserError(
            f"The metric {metric_name} needs sentence-transformers ({error}): "
            "pip install 'mto-jax[embedding]'."
        ) from error
    if not model.startswith(hub.PREFIX) and not pathlib.Path(model).is_dir():
        raise errors.UserError(
            f"{metric_name}.model is {model!r}, but there is no such folder. Give a folder with a "
            "model of transformers, or hf://org/name for one of the Hugging Face hub."
        )
    folder, options = str(hub.resolve(model)), {}
    try:
        if layer is not None:
            layers = transformers.AutoConfig.from_pretrained(folder).num_hidden_layers
            if not 0 <= layer <= layers:
                raise errors.UserError(
                    f"{metric_name}.layer is {layer}, but {model} has the layers 0 (its "
                    f"embeddings) to {layers}."
                )
            options = {
                "config_kwargs": {"num_hidden_layers": layer},
                # A text's first word is split like any other, which matters to RoBERTa's tokenizer.
                "processor_kwargs": {"add_prefix_space": True},
            }
        return sentence_transformers.SentenceTransformer(folder, **options)
    except errors.UserError:
        raise
    except (OSError, ValueError) as error:
        raise errors.UserError(
            f"{metric_name}.model: {folder} holds no model that transformers can load: "
            f"{str(error).splitlines()[0]}"
        ) from error


@gin.configurable("embedding_similarity")
def _sentence_model(model: str = "hf://sentence-transformers/all-MiniLM-L6-v2") -> str:
    """Returns the name of the model, which is loaded."""
    _load("embedding_similarity", model)
    return model


@metric(ready=_sentence_model)
def embedding_similarity(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Cosine of the embeddings of prediction and reference, -1 to 1; the best reference counts.

    Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP
    2019.
    """
    model = _load("embedding_similarity", _sentence_model())
    distinct = [*dict.fromkeys(text for texts in (*targets, predictions) for text in texts)]
    vectors = model.encode(distinct, batch_size=BATCH_SIZE, normalize_embeddings=True)
    vectors = dict(zip(distinct, vectors, strict=True))
    scores = [
        max(float(vectors[r] @ vectors[p]) for r in t)
        for t, p in zip(targets, predictions, strict=True)
    ]
    return statistics.mean({"embedding_similarity": np.array(scores)})


class _BertModel(NamedTuple):
    model: str
    layer: int


@gin.configurable("bert_score")
def _bert_model(model: str = "hf://FacebookAI/roberta-large", layer: int = 17) -> _BertModel:
    """Returns model and layer of BERTScore, loaded; by default the authors' for English."""
    _load("bert_score", model, layer)
    return _BertModel(model, layer)


@metric(ready=_bert_model)
def bert_score(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """BERTScore F1 without idf weights and baseline rescaling; the best reference counts.

    Every token of one text takes its most similar token of the other (cosine of the hidden states
    of a layer): precision is the mean over the prediction's tokens, recall over the reference's. An
    empty text scores 0. The model's own start and end tokens may be taken but are not averaged
    over, as in the authors' package `bert-score`, which is not used: with transformers 5 its
    release 0.3.13 fails on an empty text and splits the first word otherwise. Zhang et al.,
    "BERTScore: Evaluating Text Generation with BERT", ICLR 2020.
    """
    model = _load("bert_score", *_bert_model())
    scores = []
    for start in range(0, len(predictions), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        texts = [*dict.fromkeys([*(r for t in targets[batch] for r in t), *predictions[batch]])]
        states = model.encode(texts, batch_size=BATCH_SIZE, output_value="token_embeddings")
        vectors = {
            text: (state_TxD / state_TxD.norm(dim=-1, keepdim=True)).float().cpu().numpy()
            for text, state_TxD in zip(texts, states, strict=True)
        }
        scores += [
            max(_bert_f1(vectors[r], vectors[p]) for r in t)
            for t, p in zip(targets[batch], predictions[batch], strict=True)
        ]
    return statistics.mean({"bert_score": np.array(scores)})


def _bert_f1(reference_RxD: np.ndarray, prediction_PxD: np.ndarray) -> float:
    """Returns F1 of two texts; the first and the last token are the model's own."""
    if min(len(reference_RxD), len(prediction_PxD)) <= 2:
        return 0.0
    cosine_RxP = reference_RxD @ prediction_PxD.T
    recall, precision = (cosine_RxP.max(axis=axis)[1:-1].mean() for axis in (1, 0))
    return float(2 * precision * recall / (precision + recall))


class _Bleurt(NamedTuple):
    """A BLEURT-20 checkpoint: SentencePiece and a TensorFlow function."""

    pieces: Any
    module: Any  # its variables live as long as it does
    longest: int
    pad_to: int  # tokens of every pair, or 0 for as many as are needed


@gin.configurable("bleurt")
def _bleurt_model(model: str | None = None) -> str:
    """Returns the folder of the BLEURT checkpoint, which is loaded."""
    if model is None or not pathlib.Path(model, "bleurt_config.json").exists():
        problem = (
            "is not set" if model is None else f"is {model!r}, where there is no bleurt_config.json"
        )
        raise errors.UserError(
            f"bleurt.model {problem}. Set it to the unpacked folder of BLEURT-20 or one of its "
            "smaller versions (BLEURT-20-D12, -D6, -D3), which github.com/google-research/bleurt "
            "links to."
        )
    _bleurt(model)
    return model


@functools.cache
def _bleurt(model: str) -> _Bleurt:
    import sentencepiece
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # Accelerators are JAX's.
    folder = pathlib.Path(model)
    config: Mapping = json.loads((folder / "bleurt_config.json").read_text())
    if not config.get("sp_model"):
        raise errors.UserError(
            f"{model} is a BLEURT checkpoint of 2020, without SentencePiece. Use BLEURT-20."
        )
    pieces = sentencepiece.SentencePieceProcessor(str(folder / f"{config['sp_model']}.model"))
    longest = config["max_seq_length"]
    pad_to = 0 if config.get("dynamic_seq_length") else longest
    return _Bleurt(pieces, tf.saved_model.load(model), longest, pad_to)


@metric(ready=_bleurt_model)
def bleurt(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """BLEURT, mostly between 0 and 1 for BLEURT-20 but not bounded; the best reference counts.

    Runs the TensorFlow checkpoint of the authors, on the processor: minutes for a few thousand
    texts. Sellam et al., "BLEURT: Learning Robust Metrics for Text Generation", ACL 2020.
    """
    loaded = _bleurt(_bleurt_model())
    pairs = [(r, p) for t, p in zip(targets, predictions, strict=True) for r in t]
    distinct = sorted(set(pairs), key=lambda pair: len(pair[0]) + len(pair[1]))
    known: dict[tuple[str, str], float] = {}
    for start in range(0, len(distinct), BATCH_SIZE):
        chosen = distinct[start : start + BATCH_SIZE]
        known |= zip(chosen, _bleurt_scores(loaded, chosen), strict=True)
    scores = [max(known[r, p] for r in t) for t, p in zip(targets, predictions, strict=True)]
    return statistics.mean({"bleurt": np.array(scores)})


def _bleurt_scores(loaded: _Bleurt, pairs: Sequence[tuple[str, str]]) -> list[float]:
    import tensorflow as tf

    start, end = (loaded.pieces.piece_to_id(piece) for piece in ("[CLS]", "[SEP]"))
    rows = []
    for reference, prediction in pairs:
        r, p = loaded.pieces.encode(reference), loaded.pieces.encode(prediction)
        while len(r) + len(p) > loaded.longest - 3:
            (r if len(r) > len(p) else p).pop()
        rows.append(([start, *r, end, *p, end], len(r) + 2))
    T = loaded.pad_to or max(len(ids) for ids, _ in rows)
    ids_BxT, mask_BxT, segments_BxT = np.zeros((3, len(rows), T), np.int64)
    for i, (ids, first) in enumerate(rows):
        ids_BxT[i, : len(ids)] = ids
        mask_BxT[i, : len(ids)] = 1
        segments_BxT[i, first : len(ids)] = 1
    outputs = loaded.module.signatures["serving_default"](
        input_ids=tf.constant(ids_BxT),
        input_mask=tf.constant(mask_BxT),
        segment_ids=tf.constant(segments_BxT),
    )
    return outputs["predictions"].numpy().reshape(-1).tolist()
