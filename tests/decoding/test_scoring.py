# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of given targets against brute force over the full logits."""

import jax
import numpy as np
import pytest
from flax import nnx

from mto_jax.decoding import scoring
from tests.decoding import tiny

VOCABULARY = tiny.Numbers()


def batch(seed: int = 0, rows: int = 5, S: int = 10, T: int = 7) -> dict[str, np.ndarray]:
    """Rows of random lengths, the last one empty; each target ends with EOS."""
    rng = np.random.default_rng(seed)
    sizes_S, sizes_T = rng.integers(2, S + 1, rows), rng.integers(2, T + 1, rows)
    sizes_S[-1] = sizes_T[-1] = 0
    source = (np.arange(S)[None] < sizes_S[:, None]).astype(np.int32)
    target = (np.arange(T)[None] < sizes_T[:, None]).astype(np.int32)
    targets = rng.integers(2, 48, (rows, T), dtype=np.int32) * target
    targets[np.arange(rows - 1), sizes_T[:-1] - 1] = 1
    return {
        "encoder_input_tokens": rng.integers(2, 48, (rows, S), dtype=np.int32) * source,
        "encoder_segment_ids": source,
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_segment_ids": target,
        "decoder_loss_weights": target.astype(np.float32),
    }


def brute_force(model, rows):
    """log-probability and rank of every target token, from sorted full logits in float64."""
    logits = np.asarray(nnx.jit(lambda m, b: m(b))(model, rows), np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = rows["decoder_target_tokens"]
    chosen = np.take_along_axis(log_probs, targets[..., None], -1)[..., 0]
    order = np.argsort(-logits, axis=-1)
    ranks = np.argmax(order == targets[..., None], axis=-1)
    return chosen, ranks


@pytest.mark.parametrize("logits_at_once", [1 << 21, 48 * 8])
def test_token_scores(monkeypatch, logits_at_once):
    monkeypatch.setattr(scoring, "_LOGITS_AT_ONCE", logits_at_once)
    scoring._program.clear_cache()
    model, _ = tiny.models(1)
    rows = batch()
    real = rows["decoder_loss_weights"] > 0
    expected_log_probs, expected_ranks = brute_force(model, rows)
    scores = scoring.token_scores(model, rows)
    np.testing.assert_allclose(scores.log_prob_BxT[real], expected_log_probs[real], atol=1e-4)
    np.testing.assert_array_equal(scores.rank_BxT[real], expected_ranks[real])
    assert expected_ranks[real].max() > 3
    assert not np.any(scores.rank_BxT[~real])
    assert not np.any(scores.log_prob_BxT[~real])
    some = real & (np.arange(real.size).reshape(real.shape) % 3 == 0)
    scores = scoring.token_scores(model, rows, counted_BxT=some)
    np.testing.assert_array_equal(scores.rank_BxT, np.where(some, expected_ranks, 0))


def test_targets_of_a_row_share_a_source():
    """Three targets of two sources in one row score as they do in rows of their own."""
    model, _ = tiny.models(1)
    sources, targets = [[5, 6, 7, 1], [9, 8, 1]], [[11, 12, 1], [13, 1], [14, 15, 1]]
    read = [1, 2, 1]
    packed = {
        "encoder_input_tokens": np.array([[*sources[0], *sources[1], 0]], np.int32),
        "encoder_segment_ids": np.array([[1, 1, 1, 1, 2, 2, 2, 0]], np.int32),
        "decoder_target_tokens": np.array([[*targets[0], *targets[1], *targets[2]]], np.int32),
        "decoder_segment_ids": np.array([[1, 1, 1, 2, 2, 3, 3, 3]], np.int32),
    }
    segments = packed["decoder_segment_ids"]
    packed["decoder_input_tokens"] = scoring.shifted(packed["decoder_target_tokens"], segments)
    found = scoring.token_scores(model, packed, sources_BxT=np.array([0, *read])[segments])
    expected = [
        scoring.score_choices(model, [sources[r - 1]], [[target]], VOCABULARY)[0][0][0]
        for r, target in zip(read, targets, strict=True)
    ]
    sums = np.bincount(segments[0], np.asarray(found.log_prob_BxT)[0])[1:]
    np.testing.assert_allclose(sums, expected, atol=1e-4)


def test_log_likelihood():
    model, _ = tiny.models(1)
    rows = batch()
    log_probs, _ = brute_force(model, rows)
    weights = rows["decoder_loss_weights"]
    sums_B, counts_B = scoring.log_likelihood(model, rows)
    np.testing.assert_allclose(sums_B, (log_probs * weights).sum(-1), atol=1e-4)
    np.testing.assert_array_equal(counts_B, weights.sum(-1))


def test_soft_tokens_of_the_decoder_are_read_and_not_scored():
    model = tiny.prompted(rows=3)
    source, option = [5, 6, 7, 1], [11, 12, 1]
    soft = [VOCABULARY.soft_id(2), VOCABULARY.soft_id(0)]
    ((sums, counts),) = scoring.score_choices(model, [source], [[[*soft, *option]]], VOCABULARY)
    one = np.ones((1, 5), np.int32)
    rows = {
        "encoder_input_tokens": np.array([source]),
        "encoder_segment_ids": one[:, :4],
        "decoder_input_tokens": np.array([[0, *soft, *option[:2]]]),
        "decoder_segment_ids": one,
    }
    logits = model(rows)
    log_probs = np.asarray(jax.nn.log_softmax(logits))[0, [2, 3, 4], option]
    np.testing.assert_allclose(sums, [log_probs.sum()], atol=1e-4)
    assert counts.tolist() == [3]
    targets = {"decoder_target_tokens": np.array([[*soft, *option]]), "decoder_loss_weights": one}
    for found, expected in zip(
        scoring.log_likelihood(model, rows | targets), (sums, counts), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    ((plain, _),) = scoring.score_choices(model, [source], [[option]], VOCABULARY)
    assert abs(plain[0] - sums[0]) > 0.1


def test_depth_rank_counts_the_answer_alone():
    """The Maskability paper's example: ranks 1, 53, 1 of "to earn money" -> 18.33."""
    targets = np.array([[47, 12, 30, 5, 1, 0]])  # <extra_id_0> three-words EOS pad
    weights = scoring.tail_weights(targets, VOCABULARY)
    np.testing.assert_array_equal(weights, [[0, 1, 1, 1, 0, 0]])
    ranks = np.array([[0, 1, 53, 1, 9, 40]])
    assert scoring.depth_rank(ranks, weights)[0] == pytest.approx(55 / 3)


def test_choices_share_their_question():
    """Every choice of every question scores as in a batch of its own; numbers of choices differ."""
    model, _ = tiny.models(1)
    rng = np.random.default_rng(0)
    inputs = [[*rng.integers(2, 40, size).tolist(), 1] for size in (3, 14, 6)]
    choices = [
        [[*rng.integers(2, 40, size).tolist(), 1] for size in sizes]
        for sizes in ((2, 5), (1, 3, 9, 2), (4,))
    ]
    found = scoring.score_choices(model, inputs, choices, VOCABULARY, batch_size=2)
    pairs = [
        (source, option)
        for source, options in zip(inputs, choices, strict=True)
        for option in options
    ]
    shape = (len(pairs), 16)
    rows = {
        name: np.zeros(shape, np.int32)
        for name in (
            "encoder_input_tokens",
            "encoder_segment_ids",
            "decoder_input_tokens",
            "decoder_target_tokens",
            "decoder_segment_ids",
        )
    }
    for i, (source, option) in enumerate(pairs):
        rows["encoder_input_tokens"][i, : len(source)] = source
        rows["encoder_segment_ids"][i, : len(source)] = 1
        rows["decoder_input_tokens"][i, 1 : len(option)] = option[:-1]
        rows["decoder_target_tokens"][i, : len(option)] = option
        rows["decoder_segment_ids"][i, : len(option)] = 1
    expected = np.sum(brute_force(model, rows)[0], -1, where=rows["decoder_segment_ids"] > 0)
    np.testing.assert_allclose(np.concatenate([sums for sums, _ in found]), expected, atol=1e-4)
    for options, (_, counts) in zip(choices, found, strict=True):
        assert counts.tolist() == [len(option) for option in options]


def test_unconditional_reads_no_text_of_the_question(monkeypatch):
    """The neutral source keeps the sentinel (47) and EOS; a choice of two questions is scored
    once."""
    monkeypatch.setattr(scoring, "_CHOICES_AT_ONCE", 2)
    model, _ = tiny.models(1)
    inputs = [[5, 6, 47, 1], [7, 47, 9, 1], [8, 1]]
    choices = [[[47, 3, 1], [4, 5, 1], [6, 1]], [[6, 1], [2, 3, 1]], [[6, 1], [7, 1]]]
    found = scoring.unconditional(model, inputs, choices, VOCABULARY, batch_size=2)
    neutral = [[47, 1], [47, 1], [1]]
    expected = scoring.score_choices(model, neutral, choices, VOCABULARY)
    for ours, (sums, _) in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, sums, atol=1e-4)


def test_best_choices():
    sums, counts = np.array([-4.0, -6.0, -9.0]), np.array([2, 6, 3])
    unconditional = np.array([-3.0, -6.0, -15.0])
    found = scoring.best_choices(sums, counts, unconditional)
    assert found == {"sum": 0, "mean": 1, "pmi": 2}  # -1, 0 and 6 for pmi
