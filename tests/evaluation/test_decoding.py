# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding against Hugging Face `generate` on the same random tiny model, and against itself."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.evaluation import decoding
from mto_jax.evaluation.decoding import Decoding, decode
from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state
from tests.evaluation import tiny

VOCABULARY = tiny.Numbers()
INPUTS = [
    [*np.random.default_rng(i).integers(2, 40, size).tolist(), 1]
    for i, size in enumerate((3, 14, 1, 8, 15, 12, 9))
]


def torch_outputs(twin, **options):
    """(tokens after the start token up to EOS, score or None) of every output of `generate`."""
    import torch

    tokens = torch.zeros(len(INPUTS), max(map(len, INPUTS)), dtype=torch.long)
    for row, ids in zip(tokens, INPUTS, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    found = twin.generate(
        input_ids=tokens,
        attention_mask=(tokens != 0).long(),
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    scores = getattr(found, "sequences_scores", None)
    outputs = []
    for i, row in enumerate(found.sequences.tolist()):
        row = row[1:]
        row = row[: row.index(1) + 1] if 1 in row else row
        outputs.append((row, None if scores is None else float(scores[i])))
    return outputs


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({}, {}),
        (
            {"prefix": "<extra_id_0>", "min_length": 6},
            {"decoder_input_ids": [[0, 47]] * len(INPUTS), "min_length": 7},
        ),
    ],
    ids=["plain", "prefix-min-length"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_equals_hugging_face(seed, ours, theirs):
    import torch

    model, twin = tiny.models(seed)
    outputs = decode(model, INPUTS, Decoding(max_length=12, **ours), VOCABULARY, batch_size=8)
    theirs = {k: torch.tensor(v) if k == "decoder_input_ids" else v for k, v in theirs.items()} | {
        "max_length": 13,
        "num_beams": 1,
    }
    expected = [tokens for tokens, _ in torch_outputs(twin, **theirs)]
    assert [found[0].tokens for found in outputs] == expected
    assert any(tokens[-1] == 1 for tokens in expected), "no row ends early: a weak test"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True},
        {"early_stopping": "never", "length_penalty": 2.0},
        {"length_penalty": -1.0},
        {"num_beams": 3, "num_outputs": 3, "min_length": 5, "prefix": "<extra_id_0>"},
    ],
    ids=str,
)
def test_beam_search_equals_hugging_face(options):
    import torch

    model, twin = tiny.models(0)
    ours = Decoding(method="beam", max_length=12, **options)
    outputs = decode(model, INPUTS, ours, VOCABULARY, batch_size=8)
    theirs = {
        "num_beams": ours.num_beams,
        "num_return_sequences": ours.num_outputs,
        "length_penalty": ours.length_penalty,
        "early_stopping": ours.early_stopping,
        "min_length": ours.min_length + 1 if ours.min_length else 0,
        "max_length": 13,
    }
    if ours.prefix:
        theirs["decoder_input_ids"] = torch.tensor([[0, 47]] * len(INPUTS))
    expected = torch_outputs(twin, **theirs)
    found = [output for outputs_of_input in outputs for output in outputs_of_input]
    assert [output.tokens for output in found] == [tokens for tokens, _ in expected]
    np.testing.assert_allclose(
        [output.score for output in found], [score for _, score in expected], rtol=1e-5
    )


def test_greedy_score_is_the_log_likelihood_of_its_tokens():
    model, _ = tiny.models(1)
    (output,) = decode(model, INPUTS, Decoding(max_length=12), VOCABULARY, batch_size=8)[0]
    tokens = np.array([output.tokens])
    batch = {
        "encoder_input_tokens": np.array(INPUTS[:1]),
        "encoder_segment_ids": np.ones((1, len(INPUTS[0])), int),
        "decoder_input_tokens": np.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
        "decoder_segment_ids": np.ones_like(tokens),
    }
    log_probs_TxV = jax.nn.log_softmax(nnx.jit(lambda m, b: m(b))(model, batch)[0])
    expected = sum(float(log_probs_TxV[t, token]) for t, token in enumerate(output.tokens))
    assert output.score == pytest.approx(expected, rel=1e-5)


def test_batching_and_order_do_not_matter():
    model, _ = tiny.models(0)
    how = Decoding(method="sample", max_length=8, num_outputs=2, seed=3)
    by_two = decode(model, INPUTS, how, VOCABULARY, batch_size=2)
    at_once = decode(model, INPUTS, how, VOCABULARY, batch_size=8)
    assert [[o.tokens for o in found] for found in by_two] == [
        [o.tokens for o in found] for found in at_once
    ]
    later = decode(model, INPUTS[3:], how, VOCABULARY, batch_size=2, first_index=3)
    assert [o[0].tokens for o in later] == [o[0].tokens for o in by_two[3:]]
    assert decode(model, [], how, VOCABULARY) == []


def test_one_program_for_each_bucket():
    model, _ = tiny.models(0)
    how = Decoding(max_length=7)
    before = decoding._program._cache_size()
    done = []
    inputs = [*INPUTS * 3, [5] * 20 + [1]]
    decode(model, inputs, how, VOCABULARY, batch_size=4, progress=done.append)
    assert sum(done) == len(inputs)
    decode(model, INPUTS[:6], how, VOCABULARY, batch_size=4)
    assert decoding._program._cache_size() - before == 2  # inputs of up to 16 and up to 32 tokens


def test_finished_batches_stop(monkeypatch):
    model, _ = tiny.models(0)
    steps = []
    original = type(model).decode_step

    def counted(self, token_R, cache):
        jax.debug.callback(lambda: steps.append(1))
        return original(self, token_R, cache)

    free = decode(model, INPUTS, Decoding(max_length=12), VOCABULARY, batch_size=8)
    early = [i for i, found in enumerate(free) if found[0].tokens[-1] == 1][:3]
    monkeypatch.setattr(type(model), "decode_step", counted)
    how = Decoding(max_length=50)
    outputs = decode(model, [INPUTS[i] for i in early], how, VOCABULARY, batch_size=4)
    jax.effects_barrier()
    assert [found[0].tokens for found in outputs] == [free[i][0].tokens for i in early]
    # The batch has a row of padding, which must not keep it going either.
    assert len(early) == 3
    assert len(steps) == max(len(found[0].tokens) for found in outputs)


def test_stop_at_the_next_sentinel():
    model, _ = tiny.models(0)
    free, stopped = (
        decode(
            model,
            INPUTS,
            Decoding(max_length=12, stop_at_sentinel=stop),
            VOCABULARY,
            batch_size=8,
        )
        for stop in (False, True)
    )
    ends = {1, *range(40, 47)}  # EOS and all sentinels but <extra_id_0>
    cut = 0
    for (whole,), (part,) in zip(free, stopped, strict=True):
        first = next(
            (i for i, token in enumerate(whole.tokens) if token in ends), len(whole.tokens)
        )
        assert part.tokens == whole.tokens[: first + 1]
        cut += len(part.tokens) < len(whole.tokens)
    assert cut, "no output holds a sentinel: a weak test"


def test_padding_of_the_embedding_is_never_chosen():
    class Smaller(tiny.Numbers):
        size = 20

    model, _ = tiny.models(0)
    how = Decoding(method="sample", max_length=8, temperature=5.0)
    outputs = decode(model, INPUTS, how, Smaller())
    assert max(max(found[0].tokens) for found in outputs) < 20


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"temperature": 1.5, "top_k": 5},
        {"top_p": 0.8},
        {"temperature": 1.3, "top_k": 12, "top_p": 0.6},
    ],
    ids=str,
)
def test_what_may_be_drawn_equals_hugging_face(options):
    import torch
    from transformers import generation

    logits_RxV = np.random.default_rng(0).normal(size=(6, 48)).astype(np.float32) * 2
    expected = torch.tensor(logits_RxV)
    for name, processor in (
        ("temperature", generation.TemperatureLogitsWarper),
        ("top_k", generation.TopKLogitsWarper),
        ("top_p", generation.TopPLogitsWarper),
    ):
        if name in options:
            expected = processor(options[name])(None, expected)
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | options
    found_RxK, ids_RxK = decoding.candidates(jax.numpy.asarray(logits_RxV), **options)
    found_RxV = np.full_like(logits_RxV, -np.inf)
    np.put_along_axis(found_RxV, np.asarray(ids_RxK), np.asarray(found_RxK), axis=-1)
    np.testing.assert_allclose(found_RxV, expected.numpy(), rtol=1e-6)


def test_samples_follow_the_distribution():
    """Chi-square of 4000 first tokens against the exact truncated softmax (PyTorch's logits)."""
    import scipy.stats
    import torch

    model, twin = tiny.models(1)
    how = Decoding(
        method="sample", max_length=1, num_outputs=4000, temperature=2.0, top_k=8, top_p=0.95
    )
    (outputs,) = decode(model, INPUTS[1:2], how, VOCABULARY)
    with torch.no_grad():
        logits = twin(
            input_ids=torch.tensor(INPUTS[1:2]),
            decoder_input_ids=torch.zeros(1, 1, dtype=torch.long),
        ).logits[0, 0]
    order = torch.argsort(logits, descending=True)[:8]
    probabilities = torch.softmax(logits[order].double() / 2.0, dim=-1).numpy()
    kept = int(np.searchsorted(np.cumsum(probabilities), 0.95)) + 1
    expected = probabilities[:kept] / probabilities[:kept].sum()
    drawn = [output.tokens[0] for output in outputs]
    counts = [drawn.count(int(token)) for token in order[:kept]]
    assert sum(counts) == 4000
    assert scipy.stats.chisquare(counts, 4000 * expected).pvalue > 0.001
    scores = [output.score for output in outputs]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "beams"}, "Did you mean 'beam'"),
        ({"max_length": 0}, "at least 1"),
        ({"min_length": 64}, "between 0 and max_length - 1"),
        ({"num_outputs": 2}, "1 to 1 with 'greedy'"),
        ({"method": "beam", "num_beams": 2, "num_outputs": 3}, "1 to 2"),
        ({"method": "sample", "temperature": 0.0}, "above 0"),
        ({"top_p": 0.0}, "above 0 and at most 1"),
        ({"early_stopping": "soon"}, "'never'"),
    ],
)
def test_senseless_options(options, message):
    with pytest.raises(UserError, match=message):
        Decoding(**options)


def test_prefix_that_fills_the_output():
    model, _ = tiny.models(0)
    with pytest.raises(UserError, match="Raise max_length"):
        decode(model, INPUTS, Decoding(max_length=2, prefix="5 6"), VOCABULARY)


def test_sharded_parameters_decode_alike():
    """Training evaluates with its parameters where they are: cut over the devices of a mesh."""
    plan = state.blueprint(functools.partial(T5, tiny.CONFIG))
    model, _ = tiny.models(0)
    mesh = sharding.mesh(1, 2, 2, devices=jax.devices()[:4])
    placed = jax.device_put(plan.split(model), plan.shardings(mesh))
    how = Decoding(max_length=12)
    expected = decode(model, INPUTS, how, VOCABULARY, batch_size=8)
    found = decode(plan.merge(placed), INPUTS, how, VOCABULARY, batch_size=8)
    assert [o[0].tokens for o in found] == [o[0].tokens for o in expected]
