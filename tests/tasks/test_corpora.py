# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text files as corpora: reading, the held-out split, tasks end to end, and errors."""

import gzip
import itertools

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.tasks import corpora, demo
from mto_jax.text2text import registry, text_files
from mto_jax.text2text.objectives import OBJECTIVES
from mto_jax.text2text.text_files import held_out_hash, read_documents, text_corpora
from mto_jax.text2text.vocabulary import vocabulary

LENGTHS = {"inputs": 64, "targets": 64}
LINES = [f"Document number {i} tells of a fox." for i in range(250)]


@pytest.fixture(autouse=True)
def _demo_vocabulary():
    gin.parse_config("vocabulary.name = 'demo'")


def write(path, text: str | bytes):
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return str(path)


def read(path, format="lines") -> list[str]:
    return [document.decode() for document in read_documents(text_files.text_files(path), format)]


def examples(task: str, split: str = "train", lengths=LENGTHS, **kwargs) -> list[dict]:
    dataset = seqio.get_mixture_or_task(task).get_dataset(
        lengths, split, shuffle=False, seed=0, **kwargs
    )
    return [
        {key: value.tolist() for key, value in ex.items()} for ex in dataset.as_numpy_iterator()
    ]


def texts(task: str, split: str = "train") -> list[str]:
    """What the targets of a full LM say."""
    return [vocabulary().decode(example["targets"]) for example in examples(task, split)]


# ------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_lines_and_paragraphs(tmp_path, suffix):
    text = "\ufeffone\r\n\r\n  two \nstill two — é\n\n\n\nthree"
    path = write(tmp_path / f"a{suffix}", text)
    assert read(path) == ["one", "two", "still two — é", "three"]
    assert read(path, "paragraphs") == ["one", "two still two — é", "three"]


def test_folder(tmp_path):
    write(tmp_path / "b.txt.gz", "b1\nb2\n")
    write(tmp_path / "a.txt", "a1")
    write(tmp_path / "readme.md", "no corpus")
    assert read(tmp_path) == ["a1", "b1", "b2"]


def test_json_lines_as_c4_is_published(tmp_path):
    rows = '{"text": " A fox.\\nA den. ", "url": "x"}\n\n{"text": "\\u00e9"}\n{"text": " "}\n'
    write(tmp_path / "c4-train.00001-of-00002.json.gz", rows)
    write(tmp_path / "c4-train.00000-of-00002.json.gz", '{"text": "First."}')
    write(tmp_path / "settings.json", "no corpus")
    assert read(tmp_path) == ["First.", "A fox.\nA den.", "é"]
    for bad in ("[1]", '{"texts": "a"}', '{"text": 1}', "{"):
        path = write(tmp_path / "bad.jsonl", f'{{"text": "a"}}\n{bad}')
        with pytest.raises(UserError, match="bad.jsonl, line 2: expected a JSON object with a te"):
            read(path)
    with pytest.raises(UserError, match="holds no text"):
        read(write(tmp_path / "empty.json.gz", '{"text": ""}'))


def test_unreadable_text(tmp_path):
    latin = write(tmp_path / "latin.txt", b"fine\n\nca\xe9\n")
    with pytest.raises(UserError, match=r"latin.txt, line 3: byte 3 of the line \(0xe9\)"):
        read(latin)
    for name, content in (("empty.txt", ""), ("blank.txt.gz", " \n\n")):
        with pytest.raises(UserError, match=f"{name} holds no text"):
            read(write(tmp_path / name, content))
    (tmp_path / "plain.txt.gz").write_bytes(b"not packed")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"word " * 1000)[:-9])
    for name in ("plain", "cut"):
        with pytest.raises(UserError, match=f"{name}.txt.gz is not a whole gzip file"):
            read(tmp_path / f"{name}.txt.gz")
    with pytest.raises(UserError, match=r"no text file or folder .*none.txt"):
        read(tmp_path / "none.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder holds no .txt or .txt.gz"):
        read(tmp_path / "folder")


# ------------------------------------------------------------------------------ the held-out split


def held_out(documents: list[str]) -> list[str]:
    limit = held_out_hash(d.encode() for d in documents)
    return [d for d in documents if text_files.zlib.crc32(d.encode()) <= limit]


@pytest.mark.parametrize("size, expected", [(1, 0), (2, 1), (199, 1), (250, 2), (120_000, 1000)])
def test_held_out_size(size, expected):
    assert len(held_out([f"document {i}" for i in range(size)])) == expected


def test_held_out_depends_on_the_texts_alone():
    chosen = held_out(LINES)
    assert sorted(held_out(LINES[::-1])) == sorted(chosen)
    # Copies of a document are all on one side.
    copied = held_out(LINES * 3)
    assert len(copied) >= 7
    assert all(copied.count(document) == 3 for document in copied)


# ------------------------------------------------------------------------------ tasks


def test_splits_hold_every_document_once(tmp_path):
    registry.register_text("foxes", write(tmp_path / "foxes.txt", "\n".join(LINES)))
    train, validation = texts("foxes_full_lm"), texts("foxes_full_lm", "validation")
    assert len(validation) == 2
    assert sorted(train + validation) == sorted(LINES)
    assert train == [line for line in LINES if line not in validation]


def test_span_corruption_end_to_end(tmp_path):
    text = " ".join(LINES)
    registry.register_text(
        "long", write(tmp_path / "long.txt.gz", text + "\n\n" + LINES[0]), "lines"
    )
    vocab = vocabulary()
    source = seqio.TaskRegistry.get("long_span_corruption").source
    assert source.input_files == [str(tmp_path / "long.txt.gz")]
    restored = []
    splits = [examples("long_span_corruption", split) for split in text_files.SPLITS]
    for example in max(splits, key=len):
        assert example["inputs"][-1] == example["targets"][-1] == vocab.eos_id
        by_sentinel = itertools.groupby(example["targets"][:-1], lambda i: i >= vocab.words.stop)
        spans = [list(group) for is_sentinel, group in by_sentinel if not is_sentinel]
        for token in example["inputs"][:-1]:
            restored += [token] if token < vocab.words.stop else spans[vocab.size - 1 - token]
    assert restored == vocab.encode(text)


def test_corpora_of_gin_and_of_the_data_folder(tmp_path, monkeypatch):
    novels, notes = tmp_path / "novels", write(tmp_path / "notes.txt", "a\nb\nc")
    (tmp_path / "text").mkdir()
    novels.mkdir()
    write(novels / "1.txt", "one\nstill one\n\ntwo\n\nthree")
    write(tmp_path / "text/wiki-en.txt.gz", "x\ny")
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    gin.parse_config(f"""
        text_corpora.lines = {{"notes": "{notes}"}}
        text_corpora.paragraphs = {{"novels": "{novels}"}}
    """)
    assert text_corpora() == {
        "wiki_en": (str(tmp_path / "text/wiki-en.txt.gz"), "lines"),
        "notes": (notes, "lines"),
        "novels": (str(novels), "paragraphs"),
    }
    demo.register()
    for _ in range(2):  # a second registration replaces the first
        corpora.register()
    novel_texts = texts("novels_full_lm") + texts("novels_full_lm", "validation")
    assert sorted(novel_texts) == ["one still one", "three", "two"]
    names = set(seqio.TaskRegistry.names())
    for corpus in ("demo", "c4", "wikipedia", "wiki_en", "notes", "novels"):
        assert {f"{corpus}_{o}" for o in ("span_corruption", "prefix_lm", "ul2")} <= names
        assert f"{corpus}_lm" not in names, "pairs are no raw text"


def test_tfds_corpora_are_lazy():
    corpora.register()
    assert seqio.TaskRegistry.get("c4_ul2").splits == ("train", "validation")
    assert seqio.TaskRegistry.get("wikipedia_ul2").splits == ("train", "validation")


def test_demo_corpus_trains_under_every_objective():
    corpora.register()
    for name in seqio.TaskRegistry.names():
        if name.startswith("demo_") and name.removeprefix("demo_") in OBJECTIVES:
            first = next(iter(examples(name, "validation")))
            assert first["targets"][-1] == vocabulary().eos_id


def test_errors_of_the_user(tmp_path):
    path = write(tmp_path / "one.txt", "only one")
    with pytest.raises(UserError, match="cannot be called 'my-books'"):
        registry.register_text("my-books", path)
    with pytest.raises(UserError, match="Did you mean 'lines'"):
        registry.register_text("books", path, "line")
    with pytest.raises(UserError, match="no text file or folder"):
        registry.register_text("books", str(tmp_path / "none"))

    registry.register_text("books", path)
    assert texts("books_full_lm") == ["only one"]
    with pytest.raises(UserError, match=r"one.txt holds a single document"):
        texts("books_full_lm", "validation")
    with pytest.raises(UserError, match="no split 'test'"):
        texts("books_full_lm", "test")
    registry.register_text("latin", write(tmp_path / "latin.txt", b"good\nb\xe4d\n"))
    with pytest.raises(UserError, match=r"latin.txt, line 2"):
        texts("latin_full_lm")


# ------------------------------------------------------------------------------ real text


def test_real_text_fills_t5_lengths(data_dir):
    gin.parse_config("vocabulary.name = 't5'")
    corpora.register()
    made = examples("wiki_span_corruption", "validation", {"inputs": 512, "targets": 114})
    sizes = {(len(example["inputs"]), len(example["targets"])) for example in made}
    assert (512, 114) in sizes
    assert all(inputs <= 512 and targets <= 114 for inputs, targets in sizes)
    assert len(made) >= 24, "one per cent of 2416 documents"
