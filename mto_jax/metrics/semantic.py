# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of meaning, by neural models: sentence embeddings, BERTScore, BLEURT. See `metrics` for the form.

They cost far more than the others and need a model, a local folder or hf://org/name of the Hugging Face hub, so no
task has them by default. With PyTorch (`pip install 'mto-jax[embedding]'`) add them to an evaluation in gin:

    task_metrics.add = ["mto_jax.metrics.semantic:embedding_similarity"]
    embedding_similarity.model = "models/all-MiniLM-L6-v2"
"""

import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gin
import numpy as np

from mto_jax import errors, hub
from mto_jax.metrics import statistics
from mto_jax.metrics.text import References, metric

TEXTS_AT_ONCE = 64
LONGEST = 512  # tokens of a text, where the model does not say


class Encoder(NamedTuple):
    """A model of `transformers` that turns texts into vectors."""

    tokenizer: Any
    network: Any

    def __call__(
        self, texts: Sequence[str], layer: int = -1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each text (hidden states [T, D] after `layer`, special_T: True at tokens that are no text)."""
        import torch

        longest = min(self.tokenizer.model_max_length, LONGEST)
        batch = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=longest,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        special_BxT = batch.pop("special_tokens_mask").numpy() > 0
        mask_BxT = batch["attention_mask"].numpy() > 0
        with torch.inference_mode():
            outputs = self.network(**batch.to(self.network.device), output_hidden_states=True)
        hidden_BxTxD = outputs.hidden_states[layer].float().cpu().numpy()
        for hidden_TxD, special_T, mask_T in zip(hidden_BxTxD, special_BxT, mask_BxT, strict=True):
            yield hidden_TxD[mask_T], special_T[mask_T]


@functools.cache
def _encoder(metric_name: str, model: str, **options) -> Encoder:
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise errors.UserError(
            f"The metric {metric_name} needs PyTorch ({error}): pip install 'mto-jax[embedding]'."
        ) from error
    folder = _folder(metric_name, model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        network = AutoModel.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise errors.UserError(
            f"{metric_name}.model: {folder} holds no model that transformers can load: "
            f"{str(error).splitlines()[0]}"
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Encoder(tokenizer, network.eval().to(device))


def _folder(metric_name: str, model: str) -> pathlib.Path:
    if not model.startswith(hub.PREFIX) and not pathlib.Path(model).is_dir():
        raise errors.UserError(
            f"{metric_name}.model is {model!r}, but there is no such folder. Give a folder with a model of "
            "transformers, or hf://org/name for one of the Hugging Face hub."
        )
    return hub.resolve(model)


# ---- Sentence embeddings ----------------------------------------------------------------------


@gin.configurable("embedding_similarity")
def _sentence_model(model: str = "hf://sentence-transformers/all-MiniLM-L6-v2") -> str:
    """The name of the model, which is loaded and known to embed a text as the mean of its tokens."""
    _encoder("embedding_similarity", model)
    path = (
        _folder("embedding_similarity", model) / "1_Pooling" / "config.json"
    )  # of the library sentence-transformers
    pooling = json.loads(path.read_text()) if path.exists() else {"pooling_mode": "mean"}
    if not (pooling.get("pooling_mode_mean_tokens") or pooling.get("pooling_mode") == "mean"):
        raise errors.UserError(
            f"The sentence model {model} does not embed a text as the mean of its tokens, as "
            f"embedding_similarity does ({path}). Set embedding_similarity.model to one that does."
        )
    return model


@metric(ready=_sentence_model)
def embedding_similarity(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """Cosine of the embeddings of prediction and reference, from -1 to 1; the best reference counts.

    An embedding is the mean of the last hidden states of all tokens, as the MiniLM sentence models are
    trained (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019).
    """
    encode = _encoder("embedding_similarity", _sentence_model())
    vectors: dict[str, np.ndarray] = {}
    # Texts of one length cost no padding.
    distinct = sorted({text for texts in (*targets, predictions) for text in texts}, key=len)
    for start in range(0, len(distinct), TEXTS_AT_ONCE):
        texts = distinct[start : start + TEXTS_AT_ONCE]
        for text, (hidden_TxD, _) in zip(texts, encode(texts), strict=True):
            vectors[text] = _unit(hidden_TxD.mean(axis=0))
    scores = [
        max(float(vectors[r] @ vectors[p]) for r in t)
        for t, p in zip(targets, predictions, strict=True)
    ]
    return statistics.mean({"embedding_similarity": np.array(scores)})


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# ---- BERTScore --------------------------------------------------------------------------------


class _BertModel(NamedTuple):
    model: str
    layer: int


@gin.configurable("bert_score")
def _bert_model(model: str = "hf://FacebookAI/roberta-large", layer: int = 17) -> _BertModel:
    """Model and layer of BERTScore, loaded; by default those of the authors' package for English."""
    encoder = _bert_encoder(model)
    layers = encoder.network.config.num_hidden_layers
    if not 0 <= layer <= layers:
        raise errors.UserError(
            f"bert_score.layer is {layer}, but {model} has the layers 0 (its embeddings) to {layers}."
        )
    return _BertModel(model, layer)


def _bert_encoder(model: str) -> Encoder:
    # A text's first word is split like any other, which matters to RoBERTa's tokenizer.
    return _encoder("bert_score", model, add_prefix_space=True)


@metric(ready=_bert_model)
def bert_score(targets: References, predictions: Sequence[str]) -> statistics.Statistics:
    """BERTScore F1 without idf weights and baseline rescaling; the best reference counts.

    Every token of one text takes its most similar token of the other (cosine of the hidden states of a
    layer): precision is the mean over the prediction's tokens, recall over the reference's. An empty text
    scores 0. The model's own start and end tokens may be taken but are not averaged over, as in the
    authors' package. Zhang et al., "BERTScore: Evaluating Text Generation with BERT", ICLR 2020.
    """
    model, layer = _bert_model()
    encode = _bert_encoder(model)
    scores = []
    for start in range(0, len(predictions), TEXTS_AT_ONCE):
        here = slice(start, start + TEXTS_AT_ONCE)
        texts = [*dict.fromkeys([*(r for t in targets[here] for r in t), *predictions[here]])]
        known = {
            text: (_unit(hidden_TxD), ~special_T)
            for text, (hidden_TxD, special_T) in zip(texts, encode(texts, layer), strict=True)
        }
        scores += [
            max(_bert_f1(known[r], known[p]) for r in t)
            for t, p in zip(targets[here], predictions[here], strict=True)
        ]
    return statistics.mean({"bert_score": np.array(scores)})


def _bert_f1(reference, prediction) -> float:
    (reference_RxD, counted_R), (prediction_PxD, counted_P) = reference, prediction
    if not counted_R.any() or not counted_P.any():
        return 0.0
    cosine_RxP = reference_RxD @ prediction_PxD.T
    recall = cosine_RxP.max(axis=1)[counted_R].mean()
    precision = cosine_RxP.max(axis=0)[counted_P].mean()
    return float(2 * precision * recall / (precision + recall))


# ---- BLEURT -----------------------------------------------------------------------------------


class _Bleurt(NamedTuple):
    """A BLEURT-20 checkpoint: SentencePiece and a TensorFlow function."""

    pieces: Any
    module: Any  # its variables live as long as it does
    longest: int
    pad_to: int  # tokens of every pair, or 0 for as many as are needed


@gin.configurable("bleurt")
def _bleurt_model(model: str | None = None) -> str:
    """The folder of the BLEURT checkpoint, which is loaded."""
    if model is None or not pathlib.Path(model, "bleurt_config.json").exists():
        found = (
            "is not set" if model is None else f"is {model!r}, where there is no bleurt_config.json"
        )
        raise errors.UserError(
            f"bleurt.model {found}. Set it to the unpacked folder of BLEURT-20 or one of its smaller "
            "versions (BLEURT-20-D12, -D6, -D3), which github.com/google-research/bleurt links to."
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

    Runs the TensorFlow checkpoint of the authors, on the processor: minutes for a few thousand texts. Sellam
    et al., "BLEURT: Learning Robust Metrics for Text Generation", ACL 2020.
    """
    loaded = _bleurt(_bleurt_model())
    pairs = [(r, p) for t, p in zip(targets, predictions, strict=True) for r in t]
    distinct = sorted(set(pairs), key=lambda pair: len(pair[0]) + len(pair[1]))
    known: dict[tuple[str, str], float] = {}
    for start in range(0, len(distinct), TEXTS_AT_ONCE):
        chosen = distinct[start : start + TEXTS_AT_ONCE]
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
