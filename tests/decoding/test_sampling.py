# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Penalties, bans and truncation against the processors of Hugging Face transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import generation

from mto_jax.decoding import sampling

SCORES_RxV = np.random.default_rng(0).normal(size=(6, 48)).astype(np.float32) * 2
# Few different tokens, so that they and their n-grams repeat.
HISTORY_RxL = np.random.default_rng(1).integers(0, 3, (6, 12))


@pytest.mark.parametrize("penalty", [0.5, 1.3, 5.5])
def test_repetition_penalty(penalty):
    processor = generation.RepetitionPenaltyLogitsProcessor(penalty)
    expected = processor(torch.tensor(HISTORY_RxL), torch.tensor(SCORES_RxV))
    found = sampling.penalise_repetition(jnp.asarray(SCORES_RxV), HISTORY_RxL, penalty)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (found != SCORES_RxV).any()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 12, 13])
def test_repeated_ngrams(size):
    """Rows with histories of different lengths; what stands past a length does not count."""
    count_R = np.array([1, 2, 5, 9, 11, 12])
    found = sampling.ban_repeated_ngrams(jnp.asarray(SCORES_RxV), HISTORY_RxL, count_R, size)
    processor = generation.NoRepeatNGramLogitsProcessor(size)
    for row, count in enumerate(count_R):
        history = torch.tensor(HISTORY_RxL[row : row + 1, :count])
        expected = processor(history, torch.tensor(SCORES_RxV[row : row + 1]))
        np.testing.assert_array_equal(found[row : row + 1], expected)
    assert np.isinf(found).any() == (size < 4)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"temperature": 1.5, "top_k": 5},
        {"top_p": 0.8},
        {"temperature": 1.3, "top_k": 12, "top_p": 0.6},
        {"top_k": 1, "least": 2},
        {"top_k": 4, "top_p": 0.1, "least": 2},
    ],
    ids=str,
)
def test_candidates(options):
    least = {"min_tokens_to_keep": options.get("least", 1)}
    expected = torch.tensor(SCORES_RxV)
    for name, processor, keep in (
        ("temperature", generation.TemperatureLogitsWarper, {}),
        ("top_k", generation.TopKLogitsWarper, least),
        ("top_p", generation.TopPLogitsWarper, least),
    ):
        if name in options:
            expected = processor(options[name], **keep)(None, expected)
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | options
    found_RxC, ids_RxC = sampling.candidates(jnp.asarray(SCORES_RxV), **options)
    found_RxV = np.full_like(SCORES_RxV, -np.inf)
    np.put_along_axis(found_RxV, np.asarray(ids_RxC), np.asarray(found_RxC), axis=-1)
    np.testing.assert_allclose(found_RxV, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("size", [30, 31, 512, 32128 // 8])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_largest(size, count):
    scores_RxV = np.random.default_rng(size).normal(size=(4, size)).astype(np.float32)
    scores_RxV[1, 3:] = -np.inf
    found, ids = sampling.largest(jnp.asarray(scores_RxV), count)
    expected, expected_ids = jax.lax.top_k(scores_RxV, count)
    np.testing.assert_array_equal(found, expected)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.asarray(ids)[finite], np.asarray(expected_ids)[finite])
