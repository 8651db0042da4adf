# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A tokenizer as Gemma's: BOS in front, `<unused0>` and so on for sentinels, bytes for the rest."""

import gin
import numpy as np
import pytest
import seqio
import tensorflow as tf
import transformers

from mto_jax.errors import UserError
from mto_jax.text2text.objectives import OBJECTIVES
from mto_jax.text2text.preprocessing import preprocessor
from mto_jax.text2text.vocabulary import features, load, vocabulary
from tests import gemma_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("gemma")
    gemma_tokenizer.write(place)
    return place


@pytest.fixture(scope="module")
def theirs(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


TEXTS = ("the cat sat on the mat", " two  spaces ", "été", "a <eos> b", "")


@pytest.mark.parametrize("text", TEXTS)
def test_sources_are_those_of_transformers_with_an_end(folder, theirs, text):
    ours = vocabulary(str(folder))
    ids = ours.source(ours.encode(text))
    assert (ours.bos, ours.eos_id, ours.pad_id, ours.unk_id) == ((2,), 1, 0, 3)
    if "<eos>" in text:  # of a person: spelled out, no end
        assert ids.count(1) == 1
    else:
        assert ids == [*theirs(text).input_ids, 1]
    assert ours.decode(ids[1:]) == text
    assert ours.source(ours.encode(text), 4) == [*ids[:-1][:3], 1]


def test_unused_tokens_are_sentinels(folder, theirs):
    ours = load(str(folder / "tokenizer.json"))
    assert ours.extra_ids == 10
    wanted = [theirs.convert_tokens_to_ids(f"<unused{k}>") for k in range(10)]
    assert ours.sentinels.tolist() == wanted == list(range(5, 15))
    assert ours.encode("the <extra_id_0> sat") == theirs("the <unused0> sat").input_ids[1:]
    assert ours.decode(ours.encode("the <extra_id_1> sat")) == "the <extra_id_1> sat"
    ids = np.array([4, 5, 14, 15])
    assert ours.is_sentinel(ids).tolist() == [False, True, True, False]
    assert ours.words == range(15, ours.size)
    # The file that is saved is theirs.
    assert "<extra_id_0>" not in (folder / "tokenizer.json").read_text()


def test_another_mapping_is_another_vocabulary(folder):
    first = load(str(folder / "tokenizer.json"))
    gin.bind_parameter("sentinel_tokens.pattern", "<mark{}>")
    load.cache_clear()
    other = load(str(folder / "tokenizer.json"))
    assert other.extra_ids == 2
    assert other.digest != first.digest


def test_a_vocabulary_without_sentinels_says_so(folder):
    gin.bind_parameter("sentinel_tokens.pattern", "")
    load.cache_clear()
    ours = load(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=r"no sentinel <extra_id_0>.*none"):
        ours.sentinel_id(0)
    rng = np.random.default_rng(0)
    lengths = {"inputs": 32, "targets": 32}
    with pytest.raises(UserError, match="no sentinel"):
        OBJECTIVES["span_corruption"].corrupt(
            np.arange(20, 40, dtype=np.int32), rng, vocab=ours, lengths=lengths
        )


def test_spans_are_marked_in_order(folder):
    ours = load(str(folder / "tokenizer.json"))
    tokens = np.arange(20, 60, dtype=np.int32)
    rng, lengths = np.random.default_rng(0), {"inputs": 64, "targets": 64}
    inputs, targets = OBJECTIVES["span_corruption"].corrupt(
        tokens, rng, vocab=ours, lengths=lengths
    )
    for ids in (inputs, targets):
        marks = ids[ours.is_sentinel(ids)]
        assert marks.tolist() == list(range(5, 5 + len(marks)))
    assert len(inputs) + len(targets) == 40 + 2 * len(marks)


@pytest.mark.parametrize("name", ["span_corruption", "prefix_lm", "ul2"])
def test_objectives_run_on_text(folder, name):
    """As a preprocessor of SeqIO: sources begin with BOS, nothing of the text is lost."""
    ours = vocabulary(str(folder))
    texts = [f"the cat sat on the mat {i} and so it is to the person who went" for i in range(5)]
    task = seqio.Task(
        "of_gemma",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
                {"text": texts}
            ),
            splits=["train"],
        ),
        preprocessors=[preprocessor(name)],
        output_features=features(ours),
    )
    lengths = {"inputs": 128, "targets": 128}
    dataset = task.get_dataset(lengths, "train", shuffle=False, seed=0)
    examples = list(dataset.as_numpy_iterator())
    assert len(examples) >= len(texts)
    for example in examples:
        assert example["inputs"][0] == 2
        assert 2 not in example["targets"]
        assert (example["inputs"][-1], example["targets"][-1]) == (1, 1)
    if name == "prefix_lm":
        whole = [[*e["inputs"][1:-1], *e["targets"][:-1]] for e in examples]
        assert whole == [ours.encode(text) for text in texts]


@pytest.fixture(autouse=True)
def fresh():
    load.cache_clear()
    yield
    load.cache_clear()
