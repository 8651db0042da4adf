# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sampling and beam sampling in distribution: chi-square against probabilities that are
enumerated."""

import functools
import itertools
from collections import Counter, defaultdict

import numpy as np
import scipy.stats
import torch

from mto_jax.decoding.generation import Decoding, decode
from tests.decoding import tiny

VOCABULARY = tiny.Numbers()
INPUT = [17, 5, 33, 8, 26, 1]
DRAWS = 3000
EOS = 1


@functools.cache
def logits_after(tokens: tuple[int, ...]) -> np.ndarray:
    """PyTorch's logits [V] of the token after these."""
    _, twin = tiny.models(1)
    with torch.no_grad():
        found = twin(
            input_ids=torch.tensor([INPUT]), decoder_input_ids=torch.tensor([[0, *tokens]])
        )
    return found.logits[0, -1].double().numpy()


def truncated(scores_V: np.ndarray, how: Decoding) -> dict[int, float]:
    """{token: score} of what may be drawn, by temperature, top-k and top-p."""
    scores_V = scores_V / how.temperature
    order = np.argsort(-scores_V)[: how.top_k]
    probabilities = scipy.special.softmax(scores_V[order])
    kept = max(int(np.sum(np.cumsum(probabilities) - probabilities < how.top_p)), 1)
    return {int(token): scores_V[token] for token in order[:kept]}


def penalised(scores_V: np.ndarray, history: tuple[int, ...], penalty: float) -> np.ndarray:
    scores_V = scores_V.copy()
    for token in {0, *history}:
        scores_V[token] *= penalty if scores_V[token] < 0 else 1 / penalty
    return scores_V


def check(found: Counter, expected: dict) -> None:
    """The counts follow the probabilities; cells of less than five expected draws are one."""
    assert abs(sum(expected.values()) - 1) < 1e-6
    assert set(found) <= set(expected)
    total = found.total()
    cells = [cell for cell, p in expected.items() if p * total >= 5]
    counts = [found[cell] for cell in cells]
    means = [expected[cell] * total for cell in cells]
    if sum(means) < total - 1e-6:
        counts.append(total - sum(counts))
        means.append(total - sum(means))
    assert len(cells) >= 5, "too few cells: a weak test"
    assert scipy.stats.chisquare(counts, means).pvalue > 0.001


def test_samples_follow_the_distribution():
    """Pairs of tokens, with temperature, top-k, top-p and a repetition penalty."""
    model, _ = tiny.models(1)
    how = Decoding(
        method="sample",
        max_length=2,
        num_outputs=DRAWS,
        temperature=2.0,
        top_k=5,
        top_p=0.95,
        repetition_penalty=1.5,
    )
    (outputs,) = decode(model, [INPUT], how, VOCABULARY)
    scores = [output.score for output in outputs]
    assert scores == sorted(scores, reverse=True)

    def choices(tokens):
        known = truncated(penalised(logits_after(tokens), tokens, how.repetition_penalty), how)
        return dict(zip(known, scipy.special.softmax(list(known.values())), strict=True))

    expected = {}
    for first, p in choices(()).items():
        if first == EOS:
            expected[first,] = p
        else:
            expected |= {(first, second): p * q for second, q in choices((first,)).items()}
    check(Counter(tuple(output.tokens) for output in outputs), expected)


def test_beam_samples_follow_the_distribution():
    """The best of two sampled beams after two steps, against the sum over everything that can be
    drawn."""
    model, _ = tiny.models(1)
    how = Decoding(
        method="beam_sample",
        num_beams=2,
        max_length=2,
        temperature=3.0,
        top_k=6,
        top_p=0.99,
        length_penalty=0.5,
    )
    outputs = decode(model, [INPUT] * DRAWS, how, VOCABULARY, batch_size=256)
    assert {len(found) for found in outputs} == {1}

    def extensions(beams):
        """{(tokens, token): score} of running beams {tokens: score}."""
        found = {}
        for tokens, score in beams.items():
            log_probs_V = scipy.special.log_softmax(logits_after(tokens))
            for token, gain in truncated(log_probs_V, how).items():
                found[(*tokens, token)] = score + gain
        return found

    def draws(scores, count):
        """(names in the order in which they are drawn without replacement, probability)."""
        names = list(scores)
        weights = np.exp(np.array([scores[name] for name in names]))
        for order in itertools.permutations(range(len(names)), count):
            left, p = weights.sum(), 1.0
            for i in order:
                p *= weights[i] / left
                left -= weights[i]
            yield [names[i] for i in order], p

    expected = defaultdict(float)
    first = extensions({(): 0.0})
    for drawn, p in draws(first, 4):
        ended = {name: first[name] for name in drawn[:2] if name[-1] == EOS}
        on = sorted((name for name in drawn if name[-1] != EOS), key=lambda name: -first[name])[:2]
        second = extensions({name: first[name] for name in on})
        for last, q in draws(second, 2):
            answers = ended | {name: second[name] / 2**how.length_penalty for name in last}
            expected[max(answers, key=answers.get)] += p * q
    check(Counter(tuple(found[0].tokens) for found in outputs), expected)
