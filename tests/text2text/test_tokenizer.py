# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of foreign folders give the ids that Transformers gives, or are refused by name."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import transformers
from tokenizers import ByteLevelBPETokenizer

from mto_jax import checkpoints
from mto_jax.checkpoints import export, tokenizer
from mto_jax.errors import UserError
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.text2text.tokenizer import TokenizerVocabulary
from mto_jax.text2text.vocabulary import in_folder, load, seqio_vocabulary, vocabulary
from tests.checkpoints import models

TEXTS = (
    "a§b¶\nc",
    "plain§hello¶ world",
    "  two  spaces ",
    "put <extra_id_0> here, <extra_id_12>.",
    "",
)


@pytest.fixture(scope="module")
def demo():
    return vocabulary("demo")


@pytest.fixture(scope="module")
def plain(demo, tmp_path_factory):
    """A folder with spiece.model and nothing that adds to it."""
    folder = tmp_path_factory.mktemp("plain")
    shutil.copy(demo.path, folder / "spiece.model")
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    return folder


@pytest.fixture(scope="module")
def added(plain, demo, tmp_path_factory):
    """(folder, tokenizer of Transformers) of the same with three tokens more."""
    folder = tmp_path_factory.mktemp("added")
    theirs = transformers.AutoTokenizer.from_pretrained(plain)
    theirs.add_tokens(["\n", "§", "¶"])
    theirs.save_pretrained(folder)
    shutil.copy(demo.path, folder / "spiece.model")
    return folder, theirs


def test_a_plain_spiece_model_is_taken_as_it_is(plain, demo):
    assert in_folder(plain) == str(plain / "spiece.model")
    assert vocabulary(str(plain)).digest == demo.digest


@pytest.mark.parametrize("text", TEXTS)
def test_added_tokens_have_the_ids_of_transformers(added, text):
    folder, theirs = added
    ours = vocabulary(str(folder))
    ids = [*ours.encode(text), ours.eos_id]
    assert ids == theirs(text).input_ids
    assert ours.encode_batch([text, "a"]) == [ids[:-1], ours.encode("a")]
    # Theirs has no space before a sentinel, from whatever text the ids are.
    expected = re.sub(r"(?<!^)(?=<extra_id_)", " ", theirs.decode(ids[:-1]))
    assert ours.decode([*ids, 7]) == expected


def test_the_text_of_ids_is_the_same_whichever_file_is_read(plain, demo, tmp_path):
    transformers.AutoTokenizer.from_pretrained(plain).save_pretrained(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    tokenizer.write(tmp_path / "ours", demo)
    others = [load(str(tmp_path / name / "tokenizer.json")) for name in ("theirs", "ours")]
    rng = np.random.default_rng(0)
    space = demo.pieces.index("▁")
    for _ in range(300):
        words = rng.integers(3, demo.words.stop, 4)
        sentinels = [demo.sentinel_id(i) for i in rng.integers(0, 9, 3)]
        ids = rng.permutation([space, space, *words, *sentinels])[: rng.integers(1, 9)].tolist()
        for other in others:
            assert other.decode(ids) == demo.decode(ids)
    marked = vocabularies.literal("a <extra_id_0> b")
    for other in others:
        ids = [*demo.encode(marked), demo.sentinel_id(0)]
        assert other.decode(ids) == demo.decode(ids) == f"{marked} <extra_id_0>"


def test_sizes_and_sentinels_with_added_tokens(added, demo):
    ours = vocabulary(str(added[0]))
    assert ours.size == len(added[1]) == demo.size + 3
    assert (ours.eos_id, ours.unk_id, ours.extra_ids) == (1, 2, 100)
    assert [ours.sentinel_id(i) for i in (0, 99)] == [demo.size - 1, demo.words.stop]
    ids = np.array([0, 5, ours.words.stop, demo.size - 1, demo.size, ours.size - 1])
    assert ours.is_sentinel(ids).tolist() == [False, False, True, True, False, False]
    with pytest.raises(UserError, match="no sentinel <extra_id_100>"):
        ours.sentinel_id(100)
    assert set(ours.frequent_ids(10**6)) == set(range(3, demo.words.stop))


@pytest.mark.parametrize("text", ["a </s> b<pad>", "</s>", "<unk>"])
def test_no_text_becomes_a_control_token(added, text):
    ours = vocabulary(str(added[0]))
    ids = ours.encode(text)
    assert {0, ours.eos_id}.isdisjoint(ids)
    assert ours.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_text_that_is_marked_as_literal_has_no_sentinel(added):
    ours = vocabulary(str(added[0]))
    ids = np.array(ours.encode(vocabularies.literal("a <extra_id_0> b")))
    assert not ours.is_sentinel(ids).any()
    assert vocabularies.unmarked(ours.decode(ids)).replace(" ", "") == "a<extra_id_0>b"


def test_a_copy_is_the_same_vocabulary(added, tmp_path):
    ours = vocabulary(str(added[0]))
    ours.save(tmp_path)
    again = vocabulary(str(tmp_path))
    assert again.digest == ours.digest
    assert again.encode(TEXTS[0]) == ours.encode(TEXTS[0])


@pytest.mark.parametrize("text", TEXTS)
def test_seqio_gets_the_same_ids(added, text):
    ours = vocabulary(str(added[0]))
    theirs = seqio_vocabulary(ours)
    assert (theirs.vocab_size, theirs.eos_id, theirs.pad_id) == (ours.size, ours.eos_id, 0)
    assert theirs.encode_tf(tf.constant(text)).numpy().tolist() == ours.encode(text)
    assert theirs == seqio_vocabulary(ours)


def test_added_tokens_without_tokenizer_json_are_read_by_transformers(plain, demo, tmp_path):
    """As Transformers 4 saves a slow tokenizer."""
    folder = tmp_path / "slow"
    shutil.copytree(plain, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    entry = {"content": "§", "lstrip": False, "rstrip": False, "normalized": True}
    entry |= {"single_word": False, "special": False}
    settings["added_tokens_decoder"] = {str(demo.size): entry}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "added_tokens.json").write_text(json.dumps({"§": demo.size}))
    assert in_folder(folder) == str(folder)
    assert demo.size in load(str(folder)).encode("a§b")
    (folder / "added_tokens.json").write_text(json.dumps({"§": demo.size + 1}))
    with pytest.raises(UserError, match=r"lists '§' as token 1281, but Transformers reads 1280"):
        TokenizerVocabulary(folder)


def test_a_tokenizer_json_alone_is_read(added, demo, tmp_path):
    shutil.copy(added[0] / "tokenizer.json", tmp_path)
    ours = vocabulary(str(tmp_path))
    assert ours.encode(TEXTS[0]) == vocabulary(str(added[0])).encode(TEXTS[0])


def test_other_tokenizers_are_refused_by_class_and_files(tmp_path):
    trained = ByteLevelBPETokenizer()
    specials = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(["plain words"] * 9, vocab_size=270, special_tokens=specials)
    trained.save_model(str(tmp_path))
    settings = {"tokenizer_class": "RobertaTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"RobertaTokenizer; merges.txt, vocab.json\) puts \['<s>'"):
        vocabulary(str(tmp_path))
    settings = {"tokenizer_class": "ByT5Tokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="ByT5Tokenizer, is a program without a tokenizer.json"):
        vocabulary(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="does not read as a tokenizer"):
        vocabulary(str(tmp_path))


def test_a_tokenizer_whose_first_token_is_text_is_refused(added, tmp_path):
    content = json.loads((added[0] / "tokenizer.json").read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="'<pad>' as its token 0, which is padding here"):
        TokenizerVocabulary(tmp_path / "tokenizer.json")


# ------------------------------------------------------------------------------ with checkpoints


def model_with(tokenizer_folder, folder, rows):
    models.saved(models.torch_model("t5", vocab_size=rows), folder)
    for path in tokenizer_folder.glob("*"):
        if path.name != "config.json":
            shutil.copy(path, folder)
    return folder


def test_a_checkpoint_and_its_export_keep_added_tokens(added, tmp_path):
    folder, theirs = added
    checkpoint = checkpoints.open(model_with(folder, tmp_path / "in", len(theirs)))
    name, ours = checkpoint.find_vocabulary()
    assert name == str(tmp_path / "in" / "tokenizer.json")
    checkpoint.check_vocabulary(ours)
    export.save_huggingface(
        checkpoint.parameters(), checkpoint.config, tmp_path / "out", vocabulary=ours
    )
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS:
        assert again(text).input_ids == theirs(text).input_ids


def test_t5_s_vocabulary_is_taken_only_where_there_is_no_tokenizer(
    plain, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(vocabularies, "DEFAULT", "demo")
    folder = models.saved(models.torch_model("t5", vocab_size=32100, d_model=4), tmp_path / "in")
    assert checkpoints.open(folder).find_vocabulary()[0] == "demo"
    assert "has no vocabulary with it: T5's is taken" in capsys.readouterr().err
    (folder / "vocab.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    for ask in (
        lambda: checkpoints.open(folder).find_vocabulary(),
        lambda: checkpoints.open(folder).check_vocabulary(vocabulary("demo")),
    ):
        with pytest.raises(checkpoints.UnknownVocabulary, match=r"RobertaTokenizer; vocab.json"):
            ask()


def test_the_same_pieces_are_the_same_vocabulary(plain, demo, tmp_path):
    transformers.AutoTokenizer.from_pretrained(plain).save_pretrained(tmp_path / "tokenizer")
    checkpoint = checkpoints.open(model_with(tmp_path / "tokenizer", tmp_path / "in", demo.size))
    assert checkpoint.find_vocabulary()[1].digest != demo.digest
    checkpoint.check_vocabulary(demo)
