# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding against Hugging Face `generate` on the same random tiny model, and against itself."""

import dataclasses
import functools

import gin
import jax
import numpy as np
import pytest

from mto_jax import cores
from mto_jax.decoding import search
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.errors import UserError
from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state
from tests.decoding import tiny
from tests.models.torch_reference import our_model

VOCABULARY = tiny.Numbers()
INPUTS = [
    [*np.random.default_rng(i).integers(2, 40, size).tolist(), 1]
    for i, size in enumerate((3, 14, 1, 8, 15, 12, 9))
]


def test_the_pieces_of_a_source_are_encoded_apart_and_read_together():
    """As fusion-in-decoder: PyTorch encodes each piece in a batch of its own, and its decoder reads
    what it made of them, one behind the other."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    model, twin = tiny.models(1)
    source = [token for piece in INPUTS[:3] for token in piece]
    (output,) = decode(model, [source], Decoding(max_length=8), VOCABULARY)[0]
    with torch.no_grad():
        encoded = [twin.encoder(torch.tensor([piece])).last_hidden_state for piece in INPUTS[:3]]
        tokens = [0]
        while len(tokens) < 9 and tokens[1:][-1:] != [1]:
            logits = twin(
                encoder_outputs=BaseModelOutput(torch.cat(encoded, dim=1)),
                decoder_input_ids=torch.tensor([tokens]),
            ).logits
            tokens.append(int(logits[0, -1].argmax()))
    assert output.tokens == tokens[1:]
    whole = twin.generate(input_ids=torch.tensor([source]), max_length=9, do_sample=False)
    assert whole[0, 1:].tolist()[: len(output.tokens)] != output.tokens  # it makes a difference


def test_the_end_token_of_the_model_becomes_that_of_the_vocabulary():
    """And no other token, where an output has no end token or another."""

    class Other(tiny.Numbers):
        eos_id = 38

    how = Decoding(max_length=4, prefix="5")
    ours, others = (
        [output.tokens for (output,) in decode(tiny.models(1)[0], INPUTS, how, vocabulary)]
        for vocabulary in (VOCABULARY, Other())
    )
    ends = {tokens[-1] for tokens in ours}
    assert 1 in ends
    assert len(ends) > 1
    assert others == [[*tokens[:-1], 38] if tokens[-1] == 1 else tokens for tokens in ours]


def torch_outputs(twin, how: Decoding, **options):
    """[(tokens after the start token up to the end, score or None)] of what `generate` gives for
    `how`."""
    import torch

    tokens = torch.zeros(len(INPUTS), max(map(len, INPUTS)), dtype=torch.long)
    for row, ids in zip(tokens, INPUTS, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    names = ("num_beams", "repetition_penalty", "no_repeat_ngram_size")
    options |= {name: getattr(how, name) for name in names}
    if how.method == "beam":
        options |= {"length_penalty": how.length_penalty, "early_stopping": how.early_stopping}
    # Hugging Face counts the start token.
    options |= {"max_length": how.max_length + 1, "num_return_sequences": how.num_outputs}
    options["min_length"] = how.min_length + 1 if how.min_length else 0
    prefix = [0, *VOCABULARY.encode(how.prefix)]
    stops = [1, *range(40, 47)] if how.stop_at_sentinel else [1]
    found = twin.generate(
        input_ids=tokens,
        attention_mask=(tokens != 0).long(),
        decoder_input_ids=torch.tensor([prefix] * len(INPUTS)),
        eos_token_id=stops,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    scores = getattr(found, "sequences_scores", None)
    outputs = []
    for i, row in enumerate(found.sequences.tolist()):
        end = next((t for t in range(len(prefix), len(row)) if row[t] in stops), len(row))
        outputs.append((row[1 : end + 1], None if scores is None else float(scores[i])))
    return outputs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prefix": "<extra_id_0> 5", "min_length": 6},
        {"stop_at_sentinel": True, "min_length": 2},
        {"repetition_penalty": 1.8},
        {"repetition_penalty": 0.6, "no_repeat_ngram_size": 2},
        {
            "prefix": "<extra_id_0> 5",
            "min_length": 6,
            "repetition_penalty": 5.5,
            "no_repeat_ngram_size": 1,
        },
    ],
    ids=str,
)
def test_greedy_equals_hugging_face(options):
    how = Decoding(max_length=12, **options)
    ends = 0
    for seed in (0, 1):
        model, twin = tiny.models(seed)
        # Three places for seven inputs: they are refilled.
        outputs = decode(model, INPUTS, how, VOCABULARY, batch_size=3)
        expected = [tokens for tokens, _ in torch_outputs(twin, how)]
        assert [found[0].tokens for found in outputs] == expected
        ends += sum(len(tokens) < 12 for tokens in expected)
    assert ends, "no row ends early: a weak test"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True, "num_outputs": 2},
        {"early_stopping": "never", "length_penalty": 2.0},
        {"early_stopping": "never", "length_penalty": -1.0, "num_beams": 3},
        {"length_penalty": 0.0, "num_beams": 1},
        {"repetition_penalty": 1.8, "num_outputs": 5},
        {"no_repeat_ngram_size": 2, "early_stopping": True, "length_penalty": 0.5},
        {"stop_at_sentinel": True, "num_beams": 4, "min_length": 2},
        {
            "num_beams": 3,
            "num_outputs": 3,
            "min_length": 5,
            "prefix": "<extra_id_0> 5",
            "repetition_penalty": 0.7,
            "no_repeat_ngram_size": 3,
        },
    ],
    ids=str,
)
def test_beam_search_equals_hugging_face(options):
    model, twin = tiny.models(0)
    how = Decoding(preset="beam", max_length=12, **options)
    outputs = decode(model, INPUTS, how, VOCABULARY, batch_size=3)
    expected = torch_outputs(twin, how)
    found = [output for outputs_of_input in outputs for output in outputs_of_input]
    assert [output.tokens for output in found] == [tokens for tokens, _ in expected]
    if how.num_beams > 1:  # with one beam `generate` is greedy and gives no scores
        scores = [score for _, score in expected]
        np.testing.assert_allclose([output.score for output in found], scores, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "<extra_id_0> 5", "min_length": 6},
        {"repetition_penalty": 1.8},
        {"preset": "beam", "repetition_penalty": 1.8, "num_outputs": 5},
        {"preset": "authors", "num_outputs": 2, "temperature": 3.0},
        {"method": "sample", "num_outputs": 2, "temperature": 2.0, "top_k": 7},
    ],
    ids=str,
)
def test_log_likelihood_is_that_of_the_chosen_tokens(options):
    """Whatever the penalties, "log_likelihood" is the model's own (PyTorch's), the prefix not
    counted."""
    import torch

    model, twin = tiny.models(1)
    how = Decoding(max_length=12, **options)
    outputs = decode(model, INPUTS, how, VOCABULARY, batch_size=3)
    start = len(VOCABULARY.encode(how.prefix))
    for ids, answers in zip(INPUTS, outputs, strict=True):
        assert len(answers) == how.num_outputs
        assert [a.score for a in answers] == sorted([a.score for a in answers], reverse=True)
        for answer in answers:
            labels = torch.tensor([answer.tokens])
            with torch.no_grad():
                logits_TxV = twin(input_ids=torch.tensor([ids]), labels=labels).logits[0]
            gains_T = logits_TxV.log_softmax(-1).gather(1, labels.T)[:, 0]
            assert answer.log_likelihood == pytest.approx(float(gains_T[start:].sum()), rel=1e-4)
            if how.method in ("greedy", "sample"):
                assert answer.score == answer.log_likelihood


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "authors", "num_outputs": 2, "temperature": 3.0},
        {"method": "sample", "num_outputs": 2, "temperature": 2.0, "top_k": 7},
    ],
    ids=str,
)
def test_batching_and_order_do_not_matter(options):
    model, _ = tiny.models(0)
    how = Decoding(max_length=12, seed=3, **options)
    inputs = [*INPUTS, *INPUTS]
    by_three = decode(model, inputs, how, VOCABULARY, batch_size=3)
    one_by_one = decode(model, inputs, how, VOCABULARY, batch_size=1)  # two calls of 8
    assert [[o.tokens for o in found] for found in one_by_one] == [
        [o.tokens for o in found] for found in by_three
    ]
    later = decode(model, inputs[3:], how, VOCABULARY, batch_size=1, first_index=3)
    assert [o[0].tokens for o in later] == [o[0].tokens for o in by_three[3:]]
    assert decode(model, [], how, VOCABULARY) == []
    # The second half has the same inputs with other numbers, so it draws anew.
    assert [o[0].tokens for o in by_three[:7]] != [o[0].tokens for o in by_three[7:]]


def test_every_seed_input_sample_and_token_has_a_draw_of_its_own():
    """At this temperature all tokens are about equally likely: equal ones come of one draw."""
    model, _ = tiny.models(0)
    how = Decoding(method="sample", max_length=8, min_length=7, num_outputs=3, temperature=1e6)
    drawn = [
        tuple(output.tokens)
        for seed in (0, 1)
        for outputs in decode(
            model, INPUTS[:1] * 2, dataclasses.replace(how, seed=seed), VOCABULARY
        )
        for output in outputs
    ]
    assert len(set(drawn)) == len(drawn) == 2 * 2 * 3
    assert min(len(set(tokens)) for tokens in drawn) > 4


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_soft_tokens_of_the_decoder(method):
    """The decoder reads them before the forced text; they are in no output, length or
    likelihood."""
    model = tiny.prompted(rows=3)
    soft = [VOCABULARY.soft_id(2), VOCABULARY.soft_id(0)]
    how = Decoding(method=method, max_length=5, min_length=3, prefix="<extra_id_0>")
    found = decode(model, INPUTS, how, VOCABULARY, soft_prefix=soft)
    plain = decode(model, INPUTS, how, VOCABULARY)
    assert [one[0].tokens for one in found] != [one[0].tokens for one in plain]
    for source, (output,) in zip(INPUTS, found, strict=True):
        assert output.tokens[0] == VOCABULARY.sentinel_id(0)
        assert 3 <= len(output.tokens) <= 5
        read = [0, *soft, *output.tokens]
        ones = np.ones((1, 32), np.int32)
        logits = model(
            {
                "encoder_input_tokens": np.array([source]),
                "encoder_segment_ids": ones[:, : len(source)],
                "decoder_input_tokens": np.array([read]),
                "decoder_segment_ids": ones[:, : len(read)],
            }
        )[0]
        log_probs = np.asarray(jax.nn.log_softmax(logits))[range(3, len(read) - 1), read[4:]]
        np.testing.assert_allclose(output.log_likelihood, log_probs.sum(), atol=1e-4)
        if method == "greedy":
            allowed = np.array(logits)[3 : len(read) - 1]
            allowed[:1, 1] = -np.inf  # the second token is no end
            assert np.argmax(allowed, axis=-1).tolist() == read[4:]


def test_one_program_for_each_bucket():
    model, _ = tiny.models(0)
    how = Decoding(max_length=7)
    before = search.program._cache_size()
    done = []
    inputs = [*INPUTS * 3, [5] * 20 + [1]]
    decode(model, inputs, how, VOCABULARY, batch_size=4, progress=done.append)
    assert sum(done) == len(inputs)
    decode(model, INPUTS[:6], how, VOCABULARY, batch_size=4)
    assert search.program._cache_size() - before == 2  # inputs of up to 16 and up to 32 tokens


def test_finished_rows_stop_costing(monkeypatch):
    monkeypatch.setattr(cores, "for_rows", lambda size: jax.local_devices()[:1])
    model, _ = tiny.models(0)
    steps = []
    original = type(model).decode_step

    def counted(self, *arguments):
        jax.debug.callback(lambda: steps.append(1))
        return original(self, *arguments)

    free = decode(model, INPUTS, Decoding(max_length=12), VOCABULARY, batch_size=3)
    lengths = [len(found[0].tokens) for found in free]
    early = [i for i, found in enumerate(free) if found[0].tokens[-1] == 1][:3]
    assert len(early) == 3
    monkeypatch.setattr(type(model), "decode_step", counted)
    how = Decoding(max_length=50)
    outputs = decode(model, [INPUTS[i] for i in early], how, VOCABULARY, batch_size=4)
    jax.effects_barrier()
    assert [found[0].tokens for found in outputs] == [free[i][0].tokens for i in early]
    # The batch has a row of padding, which must not keep it going either.
    assert len(steps) == max(lengths[i] for i in early)

    # A short output leaves its place to the next input: one place does what takes the other all its
    # steps.
    long = max((i for i, n in enumerate(lengths) if n == 12), key=lambda i: len(INPUTS[i]))
    short = min((i for i in early if len(INPUTS[i]) < len(INPUTS[long])), key=lambda i: lengths[i])
    mixed = [long, *[short] * (12 // lengths[short])]
    assert len(mixed) >= 4
    steps.clear()
    outputs = decode(
        model, [INPUTS[i] for i in mixed], Decoding(max_length=12), VOCABULARY, batch_size=2
    )
    jax.effects_barrier()
    assert [o[0].tokens for o in outputs] == [free[i][0].tokens for i in mixed]
    assert len(steps) == 12


def test_padding_of_the_embedding_is_never_chosen():
    class Smaller(tiny.Numbers):
        size = 20

    model, _ = tiny.models(0)
    how = Decoding(method="sample", max_length=8, temperature=5.0)
    outputs = decode(model, INPUTS, how, Smaller())
    assert max(max(found[0].tokens) for found in outputs) < 20


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "beams"}, "Did you mean 'beam'"),
        ({"max_length": 0}, "1 or more"),
        ({"min_length": 64}, "between 0 and max_length - 1"),
        ({"preset": "author"}, "no decoding preset 'author'. Did you mean 'authors'"),
        ({"repetition_penalty": 0.0}, "above 0"),
        ({"no_repeat_ngram_size": -1}, "0 \\(none\\) or more"),
        ({"top_k": 5}, "top_k=5 has no effect with method 'greedy'"),
        ({"preset": "authors", "method": "beam"}, "top_k=10 has no effect with method 'beam'"),
        ({"method": "sample", "num_beams": 3}, "Decoding.method to beam or beam_sample"),
        ({"num_outputs": 2}, "1 to 1 with 'greedy'"),
        ({"method": "beam", "num_beams": 2, "num_outputs": 3}, "1 to 2"),
        ({"method": "sample", "temperature": 0.0}, "above 0"),
        ({"method": "sample", "top_p": 0.0}, "above 0 and at most 1"),
        ({"early_stopping": "soon"}, "'never'"),
    ],
)
def test_senseless_options(options, message):
    with pytest.raises(UserError, match=message):
        Decoding(**options)


def test_presets():
    authors = Decoding(preset="authors", max_length=50, num_outputs=3)
    assert (authors.method, authors.num_beams, authors.rows) == ("beam_sample", 5, 5)
    assert (authors.top_k, authors.top_p, authors.repetition_penalty) == (10, 0.9, 5.5)
    assert Decoding(preset="authors", top_k=0).top_k == 0, (
        "what is given counts, the preset's or not"
    )
    assert Decoding(preset="beam").num_beams == Decoding(method="beam").num_beams == 5
    assert (Decoding().method, Decoding().rows) == ("greedy", 1)
    assert Decoding.from_dict(dataclasses.asdict(authors)) == authors
    assert str(Decoding()) == "method='greedy', max_length=64"
    assert str(authors) == (
        "method='beam_sample', max_length=50, num_outputs=3, repetition_penalty=5.5, num_beams=5, "
        "top_k=10, top_p=0.9"
    )


def test_preset_in_gin():
    gin.parse_config("Decoding.preset = 'authors'\nDecoding.top_p = 0.5")
    assert (Decoding().top_k, Decoding().top_p) == (10, 0.5)
    assert Decoding.from_dict({"max_length": 3}).method == "greedy"
    with pytest.raises(UserError, match="Did you mean 'max_length'"):
        Decoding.from_dict({"max_lenght": 3})


def test_scores_that_are_not_finite():
    _, twin = tiny.models(0)
    broken = our_model(tiny.CONFIG, twin)
    broken.lm_head[...] = broken.lm_head[...] * np.nan
    with pytest.raises(UserError, match="input 4 are not finite"):
        decode(broken, INPUTS, Decoding(max_length=12), VOCABULARY, batch_size=3)


def test_prefix_that_fills_the_output():
    model, _ = tiny.models(0)
    with pytest.raises(UserError, match="Raise max_length"):
        decode(model, INPUTS, Decoding(max_length=2, prefix="5 6"), VOCABULARY)


def test_sharded_parameters_decode_alike():
    """Training evaluates with its parameters where they are: cut over the devices of a mesh."""
    spec = state.abstract_model(functools.partial(T5, tiny.CONFIG))
    model, _ = tiny.models(0)
    mesh = sharding.mesh(1, 2, 2, devices=jax.devices()[:4])
    placed = jax.device_put(spec.split(model), spec.shardings(mesh))
    how = Decoding(max_length=12)
    expected = decode(model, INPUTS, how, VOCABULARY, batch_size=3)
    found = decode(spec.merge(placed), INPUTS, how, VOCABULARY, batch_size=3)
    assert [o[0].tokens for o in found] == [o[0].tokens for o in expected]
