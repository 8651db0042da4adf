# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model with its vocabulary, against PyTorch with the same weights."""

import gin
import pytest
import torch

from mto_jax.decoding.model import Model
from mto_jax.errors import UserError
from mto_jax.text2text import vocabulary
from tests.decoding import tiny

SOURCES = ["17 5 33 8 26", "4 9", "21 21 30 2 7 12"]


@pytest.fixture
def model():
    ours, _ = tiny.models(1)
    return Model(ours.config, tiny.Numbers(), "tiny", lambda: ours)


def theirs(source: str, **options) -> str:
    """The words of PyTorch's best sequence for a source."""
    _, twin = tiny.models(1)
    ids = torch.tensor([[*map(int, source.split()), 1]])
    found = twin.generate(ids, do_sample=False, min_new_tokens=0, eos_token_id=1, **options)
    return tiny.Numbers().decode(found[0, 1:].tolist())


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_predictions_are_pytorchs(model, beams):
    found = model.predict(SOURCES, beams=beams, max_length=6)
    # A hypothesis that is still running at the end counts in both.
    raw = [outputs[0].raw_text for outputs in found.outputs]
    assert raw == [theirs(s, num_beams=beams, max_new_tokens=6) for s in SOURCES]
    assert found.texts == model.generate(SOURCES, beams=beams, max_length=6)
    assert found.inputs == SOURCES
    assert [len(outputs) for outputs in found.outputs] == [1, 1, 1]


def test_beams_find_likelier_outputs_than_greedy_decoding(model):
    greedy, beams = (model.predict(SOURCES, beams=b, max_length=6) for b in (1, 8))
    gains = [
        b[0].log_likelihood - g[0].log_likelihood
        for b, g in zip(beams.outputs, greedy.outputs, strict=True)
    ]
    assert max(gains) > 0.1
    assert greedy == model.predict(SOURCES, max_length=6)
    assert greedy.texts == model.generate(SOURCES, max_length=6)
    assert greedy.texts != beams.texts


def test_a_long_input_is_cut_and_the_batch_size_changes_nothing(model):
    long = " ".join(SOURCES)
    cut = " ".join(long.split()[:6])
    assert model.generate([long], input_length=7) == model.generate([cut])
    assert model.generate(SOURCES, batch_size=1) == model.generate(SOURCES)


def test_scores_are_pytorchs_likelihoods(model):
    targets = ["3 8", "11", "40 5 6"]
    _, twin = tiny.models(1)
    for source, target, score in zip(SOURCES, targets, model.score(SOURCES, targets), strict=True):
        ids, labels = (torch.tensor([[*map(int, t.split()), 1]]) for t in (source, target))
        with torch.no_grad():
            loss = twin(input_ids=ids, labels=labels).loss
        assert score == pytest.approx(-loss.item() * labels.numel(), rel=1e-4)


def test_a_checkpoint_is_opened_by_its_path(tmp_path):
    demo = vocabulary.vocabulary("demo")
    gin.bind_parameter("vocabulary.name", "demo")
    options = {"vocabulary": demo, "vocab_size": demo.padded_size}
    tiny.checkpoint(tmp_path / "run", {1: 0.9, 2: 0.1}, **options)
    best, newest, first = (Model.open(tmp_path / "run", which) for which in ("best", "newest", 1))
    assert best.vocabulary.digest == demo.digest
    assert best.digest == first.digest != newest.digest
    assert best.generate(["a cup"], max_length=4) == first.generate(["a cup"], max_length=4)


@pytest.mark.parametrize(("rows", "wanted"), [(3, None), (2, 2), (4, None)])
def test_a_text_wants_no_more_rows_than_the_soft_prompt_has(rows, wanted):
    gin.bind_parameter("SoftPrompt.length", 3)
    network = tiny.prompted(rows)
    numbers = tiny.Numbers()
    prompted = Model(network.config, numbers, "prompted", lambda: network)
    if wanted is None:
        assert prompted.encode("<prompt> 5") == [*map(numbers.soft_id, range(3)), 5]
    else:
        with pytest.raises(UserError, match=f"wants row {wanted} of .* has {rows} rows"):
            prompted.encode("<prompt> 5")
