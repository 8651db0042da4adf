# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The order of examples and the rows they share."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mto_jax.data import packing


@settings(max_examples=50)
@given(st.integers(1, 3000), st.integers(0, 2**31), st.integers(0, 2**40))
def test_every_epoch_is_a_permutation(size, seed, epoch):
    index = np.arange(size)
    assert sorted(packing.permute(index, size, np.full(size, epoch), seed)) == list(range(size))


def test_epochs_and_seeds_order_differently():
    orders = {
        tuple(packing.permute(np.arange(50), 50, np.full(50, epoch), seed).tolist())
        for epoch in range(20)
        for seed in range(20)
    }
    assert len(orders) == 400


@pytest.mark.parametrize("size", [3, 4])
def test_all_permutations_are_about_equally_frequent(size):
    epochs = 24_000
    index = np.tile(np.arange(size), epochs)
    order = packing.permute(index, size, np.repeat(np.arange(epochs), size), seed=7)
    counts = collections.Counter(map(tuple, order.reshape(epochs, size).tolist()))
    permutations = list(itertools.permutations(range(size)))
    assert set(counts) == set(permutations)
    expected = epochs / len(permutations)
    assert max(abs(n - expected) for n in counts.values()) < 6 * expected**0.5


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.001, 1000), min_size=1, max_size=6),
    st.integers(0, 10**12),
)
def test_counts_follow_the_rates_and_never_fall(rates, position):
    stream = packing.Stream(((5,),) * len(rates), tuple(rates), seed=0)
    counts, following = stream.counts(position), stream.counts(position + 1)
    assert sum(counts) == position
    assert all(b - a in (0, 1) for a, b in zip(counts, following, strict=True))
    share = np.array(rates) / sum(rates)
    # 2**-40 is the resolution of the rates.
    tolerance = len(rates) + position * len(rates) * 2.0**-38
    np.testing.assert_allclose(counts, share * position, atol=tolerance)


def test_the_stream_reads_pass_after_pass_each_record_once():
    sizes = ((7, 5), (3,))
    stream = packing.Stream(sizes, (3.0, 1.0), seed=11)
    tasks, records = zip(*(stream.window(n) for n in range(2)), strict=True)
    task, record = np.concatenate(tasks), np.concatenate(records)
    first = record[task == 0]
    for start in range(0, 12 * 100, 12):
        assert sorted(first[start : start + 7]) == list(range(7))
        assert sorted(first[start + 7 : start + 12]) == list(range(7, 12))
    second = record[task == 1]
    assert sorted(second[30:33]) == [0, 1, 2]
    assert abs(np.mean(task == 0) - 0.75) < 1e-4
    # Mixed at random, not in blocks: runs of equal tasks stay short.
    assert max(len(list(run)) for _, run in itertools.groupby(task.tolist())) < 80


def test_other_seeds_give_other_orders():
    windows = [packing.Stream(((1000,),), (1.0,), seed).window(3)[1] for seed in (0, 1, 0)]
    assert (windows[0] == windows[2]).all()
    assert (windows[0] != windows[1]).mean() > 0.9


def test_tasks_and_passes_of_a_stream_are_shuffled_differently():
    """The same order of every task would pair their records; the same in every epoch, batches."""
    task, record = packing.Stream(((50,), (50, 50)), (1.0, 1.0), seed=4).window(0)
    orders = np.concatenate(
        [record[task == number][:1000].reshape(20, 50) % 50 for number in range(2)]
    )
    assert len(np.unique(orders, axis=0)) == 40


def test_tasks_are_mixed_by_the_seed_and_the_window():
    streams = [packing.Stream(((9,), (9,)), (1.0, 1.0), seed) for seed in (0, 1)]
    mixes = [tuple(stream.window(number)[0]) for stream in streams for number in range(2)]
    assert len(set(mixes)) == 4


LENGTHS = st.lists(st.tuples(st.integers(0, 16), st.integers(1, 8)), min_size=1, max_size=200)


@settings(max_examples=50)
@given(LENGTHS, st.sampled_from([packing.first_fit, packing.balanced_fit, packing.pack]))
def test_rows_never_overflow_and_none_is_skipped(lengths, fit):
    lengths = np.array(lengths)
    rows = fit(lengths, (16, 8))
    used = np.zeros((rows.max() + 1, 2), int)
    np.add.at(used, rows, lengths)
    assert (used <= (16, 8)).all()
    assert set(rows.tolist()) == set(range(rows.max() + 1))


def short_triples(count, rng):
    """Lengths like those of verbalised ATOMIC-2020 triples (mean 13.5 and 6.8)."""
    inputs, targets = rng.gamma(10, 1.15, count) + 2, rng.gamma(3, 1.6, count) + 2
    return np.stack([np.clip(inputs, 4, 40), np.clip(targets, 3, 32)], axis=1).astype(int)


def test_packed_rows_hold_95_percent_tokens():
    lengths = short_triples(packing.WINDOW, np.random.default_rng(0))
    best, share = packing.recommend(packing.sample(lengths), 128)
    assert packing.non_padding(lengths, (128, best)) > 0.95
    assert abs(share - packing.non_padding(lengths, (128, best))) < 0.02
    # Documents cut to fill their rows.
    assert packing.non_padding(np.array([[126, 30]] * 1000), (128, 32)) > 0.95


def test_the_recommended_length_beats_its_neighbours():
    lengths = packing.sample(short_triples(5000, np.random.default_rng(1)))
    best, share = packing.recommend(lengths, 64)
    assert best % 8 == 0
    assert best >= lengths[:, 1].max()
    for other in (best + 8, best + 16):
        assert packing.non_padding(lengths, (64, other)) <= share
