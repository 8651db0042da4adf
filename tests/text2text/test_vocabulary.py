# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary against SeqIO's, its id layout, and its errors."""

import pathlib
import shutil
import subprocess
import sys
import time
import unittest.mock

import gin
import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from mto_jax.errors import UserError
from mto_jax.text2text.answers import answer, slots
from mto_jax.text2text.vocabulary import (
    Vocabulary,
    features,
    literal,
    seqio_vocabulary,
    unmarked,
    vocabulary,
)

ODD_TEXTS = [
    "",
    " ",
    "Tom  went\tto\n the market.",
    "  leading and trailing  ",
    "ﬁne ½ Ⅳ １２ ① — “quotes” … naïve café e\u0301",
    "zero\u200bwidth no\u00a0break \ufeffbom \u2028line",
    "你好 мир שלום 🙂👩‍👩‍👧 \U0001f9ff",
    "a\x01control\x7f ▁underscore ▁",
    "<extra_id_0>",
    "<extra_id_0> a tail",
    "the body <extra_id_0>",
    "a <extra_id_0>ly b <extra_id_17> <extra_id_99> c",
    "<extra_id_100> <extra_id_-1> <extra_id_> <extra_id_1",
    "<pad> </s> <unk> <s>",
]


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    return vocabulary("demo")


@pytest.fixture(scope="module")
def reference(vocab):
    return seqio_vocabulary(vocab)


def edited(vocab: Vocabulary, path: pathlib.Path, edit) -> Vocabulary:
    """A copy of the vocabulary whose model file `edit` has changed."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(pathlib.Path(vocab.path).read_bytes())
    edit(proto)
    path.write_bytes(proto.SerializeToString())
    return Vocabulary(path)


def with_sentinels(proto):
    for i in reversed(range(100)):
        proto.pieces.add(piece=f"▁<extra_id_{i}>", score=0.0, type=4)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_encode_equals_seqio(vocab, reference, text):
    assert vocab.encode(text) == reference.encode(text)
    assert vocab.encode(text) == reference.encode_tf(text).numpy().tolist()


WORDS = st.one_of(st.text(max_size=8), st.integers(0, 120).map("<extra_id_{}>".format))


@given(st.lists(WORDS, max_size=8).map(" ".join))
def test_encode_equals_seqio_on_any_text(text):
    vocab = vocabulary("demo")
    assert vocab.encode(text) == seqio_vocabulary(vocab).encode(text)
    assert vocab.encode_batch([text, "b", text]) == [vocab.encode(t) for t in (text, "b", text)]


@pytest.mark.parametrize("text", ["a<extra_id_3> b", "a<extra_id_3><extra_id_4>", "(<extra_id_3>)"])
def test_sentinel_is_found_anywhere(vocab, text):
    assert vocab.encode(text).count(vocab.sentinel_id(3)) == 1
    assert "<extra_id_3>" in vocab.decode(vocab.encode(text))


def test_layout_of_the_ids(vocab):
    assert vocab.size == vocab.words.stop + 100
    assert vocab.sentinel_id(0) == vocab.size - 1
    assert vocab.sentinel_id(99) == vocab.words.stop
    assert vocab.padded_size % 128 == 0
    assert 0 <= vocab.padded_size - vocab.size < 128
    assert [vocab.soft_id(i) for i in (0, 5)] == [vocab.padded_size, vocab.padded_size + 5]
    for i in (100, -1):
        with pytest.raises(UserError, match=r"There is no sentinel <extra_id_.*has 100\."):
            vocab.sentinel_id(i)


def test_t5_sizes(data_dir):
    t5 = vocabulary("t5")
    assert (t5.size, t5.padded_size, t5.sentinel_id(0)) == (32100, 32128, 32099)
    assert t5.encode("a <extra_id_1> tail") == [3, 9, 32098, 9891]
    reference = seqio_vocabulary(t5)
    assert [t5.encode(text) for text in ODD_TEXTS] == [reference.encode(t) for t in ODD_TEXTS]


@given(st.lists(st.integers(0, 1300), max_size=20))
def test_decode_equals_seqio(ids):
    vocab = vocabulary("demo")
    text_ids = [i for i in ids if i and i < vocab.words.stop]
    assert vocab.decode(text_ids) == seqio_vocabulary(vocab).decode(text_ids)
    # Ids without a text change nothing, and nothing counts after EOS.
    silent = [x for i in text_ids for x in (0, i, vocab.size, vocab.soft_id(3))]
    assert vocab.decode([*silent, 1, 5, 1]) == vocab.decode(text_ids)


def test_decode_names_sentinels(vocab):
    ids = vocab.encode("<extra_id_0> one <extra_id_1> two")
    assert vocab.decode([*ids, vocab.eos_id, *ids]) == "<extra_id_0> one <extra_id_1> two"


def test_model_with_its_own_sentinels_gets_no_others(vocab, tmp_path):
    """As mT5's file: the same ids as if they had been added."""
    own = edited(vocab, tmp_path / "own.model", with_sentinels)
    text = "a <extra_id_0> b <extra_id_99>"
    assert (own.size, own.words.stop, own.added_ids) == (vocab.size, vocab.words.stop, 0)
    assert own.encode(text) == vocab.encode(text) == seqio_vocabulary(own).encode(text)
    assert seqio_vocabulary(own).vocab_size == own.size


def test_digest_follows_the_content(vocab, tmp_path):
    copy = shutil.copy(vocab.path, tmp_path / "copy.model")
    assert Vocabulary(copy).digest == vocab.digest
    assert Vocabulary(copy, extra_ids=10).digest != vocab.digest
    other = edited(vocab, tmp_path / "other.model", lambda proto: proto.pieces.pop())
    assert other.digest != vocab.digest


def test_features_end_with_eos(vocab):
    made = features(vocab)
    assert list(made) == ["inputs", "targets"]
    assert all(
        f.add_eos and f.required and f.vocabulary.vocab_size == vocab.size for f in made.values()
    )


def test_names(vocab, tmp_path, monkeypatch):
    shutil.copy(vocab.path, tmp_path / "spiece.model")
    assert vocabulary(str(tmp_path)).digest == vocab.digest
    assert vocabulary(str(tmp_path / "spiece.model")) is vocabulary(str(tmp_path))

    asked = []
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **where: None)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", unittest.mock.Mock())
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        lambda repo_id, filename, revision: (
            asked.append((repo_id, filename, revision)) or vocab.path
        ),
    )
    monkeypatch.delenv("MTO_DATA_DIR", raising=False)
    for name in ("hf://google/mt5-small", "hf://google/mt5-small@abc", "t5"):
        assert vocabulary(name).digest == vocab.digest
    assert asked == [
        ("google/mt5-small", "spiece.model", None),
        ("google/mt5-small", "spiece.model", "abc"),
        ("google-t5/t5-small", "spiece.model", None),
    ]

    (tmp_path / "vocab").mkdir()
    shutil.copy(vocab.path, tmp_path / "vocab/t5_sentencepiece.model")
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    assert vocabulary("t5").path.startswith(str(tmp_path))

    gin.parse_config("vocabulary.name = 'demo'")
    assert vocabulary() is vocabulary("demo")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub's, and no hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://localhost:9")
    monkeypatch.delenv("MTO_DATA_DIR", raising=False)
    return tmp_path / "hub"


def test_hub_out_of_reach(hub):
    began = time.monotonic()
    with pytest.raises(UserError, match=r"'google-t5/t5-small'.*set MTO_DATA_DIR"):
        vocabulary("t5")
    assert time.monotonic() - began < 3  # the hub's client alone goes on trying for 20 s


def test_hub_offline(vocab, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"'org/model'.*HF_HUB_OFFLINE.*MTO_DATA_DIR"):
        vocabulary("hf://org/model")
    snapshot = hub / "models--org--model/snapshots/0123"
    snapshot.mkdir(parents=True)
    shutil.copy(vocab.path, snapshot / "spiece.model")
    (hub / "models--org--model/refs").mkdir()
    (hub / "models--org--model/refs/main").write_text("0123")
    assert vocabulary("hf://org/model").digest == vocab.digest


def test_wrong_files(vocab, tmp_path):
    with pytest.raises(UserError, match="no vocabulary 't6'"):
        vocabulary("t6")
    for content in (b"", b"just some text\n"):
        (tmp_path / "text.model").write_bytes(content)
        with pytest.raises(UserError, match="not a SentencePiece model"):
            Vocabulary(tmp_path / "text.model").encode("a")
    with pytest.raises(UserError, match="Cannot read"):
        Vocabulary(tmp_path / "none.model").encode("a")

    def swap_pad_and_eos(proto):
        proto.trainer_spec.pad_piece, proto.trainer_spec.eos_piece = "</s>", "<pad>"

    with pytest.raises(UserError, match="pad, EOS, unknown = \\(1, 0, 2\\)"):
        edited(vocab, tmp_path / "swapped.model", swap_pad_and_eos).encode("a")


def test_no_tensorflow():
    """Training, evaluation and inference import these modules and must run without TensorFlow."""
    code = (
        "import sys, mto_jax.text2text.vocabulary as v, mto_jax.text2text.objectives, "
        "mto_jax.text2text.text_files; v.vocabulary('demo').encode('a'); assert not {'tensorflow', "
        "'seqio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- Text that looks like control ids -----------------------------------------------------------

HOSTILE = [
    "<extra_id_0>",
    "see <extra_id_0> here",
    "drink <extra_id_1> tea<extra_id_2>, <extra_id_99>",
    "a</s> b </s><pad> <extra_id_1",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("own_sentinels", [False, True])
def test_literal_text_has_no_control_id_and_comes_back(vocab, tmp_path, text, own_sentinels):
    if own_sentinels:
        vocab = edited(vocab, tmp_path / "own.model", with_sentinels)
    ids = vocab.encode(literal(text))
    assert all(vocab.unk_id < i < vocab.words.stop for i in ids)
    assert ids == vocab.encode_batch([literal(text), "x"])[0]
    assert unmarked(vocab.decode(ids)) == text
    # Between sentinels, too: only the true ones open and close the slots of an answer.
    target = f"<extra_id_0> {literal(text)} <extra_id_1> b"
    decoded = vocab.decode([*vocab.encode(target), vocab.eos_id])
    assert decoded == target
    assert answer(decoded) == text
    assert slots(target) == 2


def test_characters_that_the_vocabulary_lacks(vocab, tmp_path):
    assert vocab.lacks("return {y}") == []
    assert vocab.lacks("سلام a س") == ["س", "ل", "ا", "م"]
    without = edited(
        vocab,
        tmp_path / "without.model",
        lambda proto: setattr(
            next(piece for piece in proto.pieces if piece.piece == "<"), "piece", "¬"
        ),
    )
    target = f"<extra_id_0> {literal('<extra_id_1>')} é"
    assert without.lacks(target) == ["<", "é"]
    assert without.lacks("<extra_id_0> é") == ["é"]
