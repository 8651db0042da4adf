# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives against facts that hold for every text and seed."""

import collections

import gin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mto_jax.errors import UserError
from mto_jax.text2text import objectives
from mto_jax.text2text.objectives import (
    OBJECTIVES,
    TextPair,
    parameters,
    raw_length,
)
from mto_jax.text2text.vocabulary import vocabulary

LENGTHS = {"inputs": 64, "targets": 40}
VOCAB = vocabulary("demo")
TEXT_OBJECTIVES = [name for name, row in OBJECTIVES.items() if row.fields == ("text",)]

SEEDS = st.integers(0, 2**32)
TEXT_LENGTHS = st.integers(2, 300)
DENSITIES = st.floats(0.05, 0.95)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def text(length: int, seed: int = 0) -> np.ndarray:
    """Ordinary tokens, all different for as long as there are enough, so that places can be told
    apart."""
    return rng(seed).permutation(np.resize(np.arange(3, VOCAB.words.stop, dtype=np.int32), length))


def is_sentinel(tokens: np.ndarray) -> np.ndarray:
    return tokens >= VOCAB.words.stop


def gaps(targets: np.ndarray) -> dict[int, list[int]]:
    """Sentinel -> the tokens that follow it."""
    result: dict[int, list[int]] = {}
    for token in targets.tolist():
        if token >= VOCAB.words.stop:
            assert token not in result, "a sentinel twice"
            result[token] = []
        else:
            result[next(reversed(result))].append(token)
    return result


def filled(inputs: np.ndarray, targets: np.ndarray) -> list[int]:
    """The text: every sentinel of the inputs replaced by its tokens in the targets."""
    by_sentinel = gaps(targets)
    return [x for token in inputs.tolist() for x in by_sentinel.get(token, [token])]


# ------------------------------------------------------------------------------ span corruption


@given(TEXT_LENGTHS, DENSITIES, st.floats(1, 20), SEEDS)
def test_span_corruption(length, density, mean, seed):
    tokens = text(length, seed)
    inputs, targets = objectives.span_corruption(
        tokens, rng(seed), VOCAB, LENGTHS, noise_density=density, mean_span_length=mean
    )
    assert inputs.dtype == targets.dtype == np.int32
    assert filled(inputs, targets) == tokens.tolist()

    noise = int(np.clip(np.round(length * density), 1, length - 1))
    spans = int(np.clip(np.round(noise / mean), 1, min(noise, length - noise, 100)))
    assert (~is_sentinel(targets)).sum() == noise
    in_order = [VOCAB.sentinel_id(i) for i in range(spans)]
    assert inputs[is_sentinel(inputs)].tolist() == in_order
    assert targets[is_sentinel(targets)].tolist() == in_order
    assert all(gaps(targets).values()), "an empty span"
    # The text begins with a kept token and ends with a noise span; no two spans touch.
    assert not is_sentinel(inputs)[0]
    assert is_sentinel(inputs)[-1]
    assert not (is_sentinel(inputs)[1:] & is_sentinel(inputs)[:-1]).any()


@given(TEXT_LENGTHS, DENSITIES, st.floats(1, 20), SEEDS)
def test_span_corruption_anywhere(length, density, mean, seed):
    tokens = text(length, seed)
    noise = {"noise_density": density, "mean_span_length": mean}
    made, t5 = (
        objectives.span_corruption(tokens, rng(seed), VOCAB, LENGTHS, **noise, anywhere=anywhere)
        for anywhere in (True, False)
    )
    assert filled(*made) == tokens.tolist()
    for part, t5_part in zip(made, t5, strict=True):
        assert len(part) == len(t5_part)
        in_order = part[is_sentinel(part)].tolist()
        assert in_order == t5_part[is_sentinel(t5_part)].tolist()
    assert not (is_sentinel(made[0])[1:] & is_sentinel(made[0])[:-1]).any()


def test_place_of_a_single_span():
    """10 tokens, 2 of them noise: T5 always takes the end, `anywhere` each of the 9 places."""
    generator, tokens = rng(), text(10)
    for anywhere, places in ((False, [8]), (True, list(range(9)))):
        draws = collections.Counter(
            np.flatnonzero(
                is_sentinel(
                    objectives.span_corruption(
                        tokens, generator, VOCAB, LENGTHS, noise_density=0.2, anywhere=anywhere
                    )[0]
                )
            ).item()
            for _ in range(1800)
        )
        assert sorted(draws) == places
        assert all(count > 0.75 * 1800 / len(places) for count in draws.values())


def test_t5_lengths():
    assert objectives.span_corruption_lengths(512) == (568, 114)
    assert raw_length("span_corruption", {"inputs": 512, "targets": 114}, VOCAB) == 568
    inputs, targets = objectives.span_corruption(text(568), rng(), VOCAB, LENGTHS)
    assert (len(inputs) + 1, len(targets) + 1) == (512, 114)


def test_more_spans_than_sentinels():
    """3000 tokens want 150 spans of 3; there are 100 sentinels, so 100 spans hold the 450 noise
    tokens."""
    inputs, targets = objectives.span_corruption(text(3000), rng(), VOCAB, LENGTHS)
    assert len(inputs) == 2550 + 100
    assert len(targets) == 450 + 100
    assert filled(inputs, targets) == text(3000).tolist()
    assert objectives.span_counts(3000, 0.15, 3.0) == (450, 100)


def test_every_division_is_equally_likely():
    """5 items in 3 segments: 6 divisions."""
    generator = rng()
    draws = collections.Counter(
        tuple(objectives._segment_ends(5, 3, generator).tolist()) for _ in range(6000)
    )
    assert len(draws) == 6
    assert all(900 < count < 1100 for count in draws.values())


@given(TEXT_LENGTHS, DENSITIES, SEEDS)
def test_single_span_denoising(length, density, seed):
    tokens = text(length, seed)
    in_place, end = (
        objectives.single_span_denoising(
            tokens, rng(seed), VOCAB, LENGTHS, noise_density=density, sentinel=place
        )
        for place in ("in_place", "end")
    )
    assert filled(*in_place) == tokens.tolist()
    noise = int(np.clip(np.round(length * density), 1, length - 1))
    assert len(in_place[1]) == noise + 1
    assert end[0][-1] == VOCAB.sentinel_id(0)
    np.testing.assert_array_equal(end[1], in_place[1])
    np.testing.assert_array_equal(end[0][:-1], in_place[0][~is_sentinel(in_place[0])])


def test_every_place_of_a_single_span_is_equally_likely():
    """3 of 10 tokens begin at 8 places."""
    generator, tokens = rng(), text(10)
    draws = collections.Counter(
        int(np.argmax(is_sentinel(inputs)))
        for inputs, _ in (
            objectives.single_span_denoising(tokens, generator, VOCAB, LENGTHS, noise_density=0.3)
            for _ in range(8000)
        )
    )
    assert sorted(draws) == list(range(8))
    assert all(880 < count < 1120 for count in draws.values())


# ------------------------------------------------------------------------------ language models


@given(st.integers(2, 64), SEEDS)
def test_prefix_lm(length, seed):
    tokens = text(length, seed)
    prefix, rest = objectives.prefix_lm(tokens, rng(seed), VOCAB, LENGTHS)
    assert [*prefix, *rest] == tokens.tolist()
    assert 1 <= len(prefix) < LENGTHS["inputs"]
    assert 1 <= len(rest) < LENGTHS["targets"]


def test_prefix_lm_split():
    generator = rng()
    draws = collections.Counter(
        len(objectives.prefix_lm(text(64), generator, VOCAB, LENGTHS)[1]) for _ in range(3900)
    )
    assert sorted(draws) == list(range(1, 40))
    assert all(60 < count < 140 for count in draws.values())
    prefix, rest = objectives.prefix_lm(text(20), rng(), VOCAB, LENGTHS, prefix_fraction=0.75)
    assert (len(prefix), len(rest)) == (15, 5)


def test_full_lm():
    inputs, targets = objectives.full_lm(text(9), rng(), VOCAB, LENGTHS)
    assert len(inputs) == 0
    np.testing.assert_array_equal(targets, text(9))


# ------------------------------------------------------------------------------ token by token


def test_iid_denoising():
    tokens = text(200_000)
    inputs, targets = objectives.iid_denoising(tokens, rng(), VOCAB, LENGTHS)
    np.testing.assert_array_equal(targets, tokens)
    masked = inputs == VOCAB.sentinel_id(0)
    random = (inputs != tokens) & ~masked
    assert masked.mean() == pytest.approx(0.15 * 0.8, abs=0.003)
    assert random.mean() == pytest.approx(0.15 * 0.1, abs=0.001)
    assert inputs[random].min() == 3, "pad, EOS and unknown are no noise"
    assert inputs[random].max() == VOCAB.words.stop - 1
    everything = objectives.iid_denoising(
        tokens, rng(), VOCAB, LENGTHS, noise_density=0.5, masked=0.0, randomised=0.0
    )[0]
    np.testing.assert_array_equal(everything, tokens)


@given(TEXT_LENGTHS, SEEDS)
def test_mass_denoising(length, seed):
    tokens = text(length, seed)
    inputs, targets = objectives.mass_denoising(
        tokens, rng(seed), VOCAB, LENGTHS, noise_density=0.4
    )
    np.testing.assert_array_equal(targets, tokens)
    kept = inputs != VOCAB.sentinel_id(0)
    np.testing.assert_array_equal(inputs[kept], tokens[kept])


def test_mass_denoising_masks_every_token_alike():
    inputs, _ = objectives.mass_denoising(text(200_000), rng(), VOCAB, LENGTHS)
    halves = np.split(inputs == VOCAB.sentinel_id(0), 2)
    assert [half.mean() for half in halves] == pytest.approx([0.15, 0.15], abs=0.004)


def test_every_order_is_equally_likely():
    generator, tokens = rng(), np.array([5, 6, 7], np.int32)
    draws = collections.Counter(
        tuple(objectives.deshuffling(tokens, generator, VOCAB, LENGTHS)[0].tolist())
        for _ in range(6000)
    )
    assert len(draws) == 6
    assert all(900 < count < 1100 for count in draws.values())


@given(TEXT_LENGTHS, SEEDS)
def test_deshuffling(length, seed):
    tokens = text(length, seed)
    inputs, targets = objectives.deshuffling(tokens, rng(seed), VOCAB, LENGTHS)
    np.testing.assert_array_equal(targets, tokens)
    np.testing.assert_array_equal(np.sort(inputs), np.sort(tokens))


# ------------------------------------------------------------------------------ UL2


def test_ul2_proportions_and_denoisers():
    tokens, generator = text(100), rng()
    modes = {mode: VOCAB.encode(mode) for mode in ("[NLU]", "[NLG]", "[S2S]")}
    noise_of = collections.defaultdict(collections.Counter)
    for _ in range(3500):
        inputs, targets = objectives.ul2(tokens, generator, VOCAB, LENGTHS)
        mode = next(m for m, ids in modes.items() if inputs[: len(ids)].tolist() == ids)
        body = inputs[len(modes[mode]) :]
        if mode == "[S2S]":
            assert [*body, *targets] == tokens.tolist()
            assert len(targets) == 25
        else:
            assert filled(body, targets) == tokens.tolist()
        spans = is_sentinel(targets).sum()
        noise_of[mode][(len(targets) - spans, spans)] += 1
    # (noise tokens, spans) of the rows in UL2's table for a text of 100 tokens; each of 7 rows ~
    # 500.
    assert set(noise_of["[NLU]"]) == {(15, 5), (15, 2)}
    assert set(noise_of["[NLG]"]) == {(50, 17), (50, 6), (50, 1), (15, 1)}
    for rows in noise_of.values():
        assert all(430 < count < 570 for count in rows.values())


# ------------------------------------------------------------------------------ body and tail

PAIRS = [
    # objective, body, inputs, targets
    ("lm", "birds fly", "birds fly", "south"),
    ("denoising", "birds fly", "birds fly <extra_id_0>", "<extra_id_0> south"),
    ("in_place_denoising", "birds fly", "birds fly <extra_id_0>", "<extra_id_0> south"),
    ("lm", "birds fly <extra_id_0> .", "birds fly", "south"),
    ("denoising", "birds fly <extra_id_0> now", "birds fly now <extra_id_0>", "<extra_id_0> south"),
    (
        "in_place_denoising",
        "birds fly <extra_id_0> now",
        "birds fly <extra_id_0> now",
        "<extra_id_0> south",
    ),
]


def pair(body: str, tail: str = "south", label: str = "") -> TextPair:
    return TextPair(*(np.asarray(VOCAB.encode(s), np.int32) for s in (body, tail)), label)


@pytest.mark.parametrize("name, body, inputs, targets", PAIRS)
def test_pairs(name, body, inputs, targets):
    made = OBJECTIVES[name].corrupt(pair(body), rng(), VOCAB, LENGTHS)
    assert [part.tolist() for part in made] == [VOCAB.encode(inputs), VOCAB.encode(targets)]


@given(st.integers(0, 80), st.integers(0, 80), st.integers(1, 80))
def test_long_pairs_keep_what_is_near_the_gap(left, right, tail):
    sentinel, tokens = VOCAB.sentinel_id(0), text(left + right)
    example = TextPair(np.insert(tokens, left, sentinel), text(tail))
    for name in ("denoising", "in_place_denoising"):
        inputs, targets = OBJECTIVES[name].corrupt(example, rng(), VOCAB, LENGTHS)
        assert len(inputs) == min(left + right + 1, LENGTHS["inputs"] - 1)
        assert len(targets) == min(tail + 1, LENGTHS["targets"] - 1)
        assert (inputs == sentinel).sum() == 1
        kept = inputs[inputs != sentinel]
        start = np.flatnonzero(tokens == kept[0])[0] if len(kept) else left
        assert start <= left <= start + len(kept)
        np.testing.assert_array_equal(kept, tokens[start : start + len(kept)])


def test_a_language_model_continues_the_end_of_a_sentence_only():
    for name in ("lm", "mixed"):
        inside = pair("birds fly <extra_id_0> now", label="Mapping")
        assert OBJECTIVES[name].corrupt(inside, rng(), VOCAB, LENGTHS) is None
    long = TextPair(text(80), text(80))
    inputs, targets = OBJECTIVES["lm"].corrupt(long, rng(), VOCAB, LENGTHS)
    assert inputs.tolist() == long.body[-(LENGTHS["inputs"] - 1) :].tolist()
    assert targets.tolist() == long.tail[: LENGTHS["targets"] - 1].tolist()


def test_mixed_chooses_by_label():
    for label, name in (("Filling", "denoising"), ("Mapping", "lm")):
        example = pair("birds fly", label=label)
        made = objectives.mixed(example, rng(), VOCAB, LENGTHS)
        expected = OBJECTIVES[name].corrupt(example, rng(), VOCAB, LENGTHS)
        assert [m.tolist() for m in made] == [e.tolist() for e in expected]
    with pytest.raises(UserError, match=r"'Fill'\. Did you mean 'Filling'"):
        objectives.mixed(pair("birds fly", label="Fill"), rng(), VOCAB, LENGTHS)


# ------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", TEXT_OBJECTIVES)
@given(
    st.fixed_dictionaries({"inputs": st.integers(12, 80), "targets": st.integers(12, 80)}), SEEDS
)
def test_every_text_up_to_the_raw_length_fits(name, lengths, seed):
    longest = raw_length(name, lengths, VOCAB)
    for length in (2, longest // 2 + 1, longest):
        made = OBJECTIVES[name].corrupt(text(length), rng(seed), VOCAB, lengths)
        assert len(made[0]) < lengths["inputs"]
        assert len(made[1]) < lengths["targets"]


@pytest.mark.parametrize("name", TEXT_OBJECTIVES)
def test_raw_length_is_the_greatest(name):
    """One token more, and for some seed a side is too long (or no split is left)."""
    length = raw_length(name, LENGTHS, VOCAB) + 1
    if name == "prefix_lm":
        assert length == max(LENGTHS.values()) + 1
        return
    made = [OBJECTIVES[name].corrupt(text(length), rng(s), VOCAB, LENGTHS) for s in range(50)]
    assert any(len(i) >= LENGTHS["inputs"] or len(t) >= LENGTHS["targets"] for i, t in made)


@pytest.mark.parametrize("name", TEXT_OBJECTIVES)
def test_deterministic_and_random(name):
    tokens = text(39)
    made = [
        [part.tolist() for part in OBJECTIVES[name].corrupt(tokens, rng(seed), VOCAB, LENGTHS)]
        for seed in (1, 1, *range(2, 20))
    ]
    assert made[0] == made[1]
    assert any(other != made[0] for other in made[2:]) or name == "full_lm"


def test_gin_sets_parameters():
    gin.parse_config("""
        span_corruption.noise_density = 0.5
        single_span_denoising.sentinel = "end"
        ul2.denoisers = (("[S2S]", 0.25, None),)
    """)
    expected = {"noise_density": 0.5, "mean_span_length": 3.0, "anywhere": False}
    assert parameters("span_corruption") == expected
    tokens = text(20)
    assert is_sentinel(objectives.span_corruption(tokens, rng(), VOCAB, LENGTHS)[0]).sum() == 3
    # n kept and noise tokens in halves, a sentinel for each 6 tokens: n (1/2 + 1/6) + 1 = 128.
    assert abs(raw_length("span_corruption", {"inputs": 128, "targets": 128}, VOCAB) - 190) < 3
    assert objectives.single_span_denoising(tokens, rng(), VOCAB, LENGTHS)[0][-1] == (
        VOCAB.sentinel_id(0)
    )
    assert len(objectives.ul2(tokens, rng(), VOCAB, LENGTHS)[1]) == 5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_lengths_too_short(name):
    with pytest.raises(UserError, match=f"too short for the objective '{name}'") as error:
        raw_length(name, {"inputs": 2, "targets": 2}, VOCAB)
    minimum = int(str(error.value).split("work with ")[1].split()[0])
    assert raw_length(name, {"inputs": minimum, "targets": minimum}, VOCAB) >= 3


@pytest.mark.parametrize(
    "binding, message",
    [
        ("span_corruption.noise_density = 1.5", "1.5, but must lie between 0 and 1"),
        ("span_corruption.mean_span_length = 0.5", "at least 1"),
        ("single_span_denoising.sentinel = 'in place'", "Did you mean 'in_place'"),
        ("prefix_lm.prefix_fraction = 0.0", "0.0, but must lie between 0 and 1"),
        ("iid_denoising.noise_density = 15", "15, but must lie between 0 and 1"),
    ],
)
def test_wrong_parameters(binding, message):
    gin.parse_config(binding)
    with pytest.raises(UserError, match=message):
        raw_length(binding.split(".")[0], LENGTHS, VOCAB)
