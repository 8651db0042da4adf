# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model with its vocabulary, against PyTorch with the same weights."""

import pytest
import torch

from mto_jax.decoding.model import Model
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
