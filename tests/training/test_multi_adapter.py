# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Many adapters at once: each as if alone, each as plain gradients say, and resumable."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mto_jax import cores
from mto_jax.errors import UserError
from mto_jax.models.adapters import IA3, Adapters, LoRA, PrefixTuning, PromptTuning
from mto_jax.models.t5 import T5
from mto_jax.training import multi_adapter, sharding, state
from mto_jax.training.multi_adapter import Candidate, MultiAdapterTuning, tune_adapters
from mto_jax.training.optimizers import Optimizer

from .common import TINY

PROMPT = Adapters.of(PromptTuning(3))
SOFT = [64, 65, 66]


def examples(seed: int, count: int) -> list:
    rng = np.random.default_rng(seed)

    def ids(longest):
        return [*rng.integers(5, 60, rng.integers(2, longest)).tolist(), 1]

    return [([*ids(4), *SOFT, *ids(4)], ids(5)) for _ in range(count)]


@pytest.fixture(scope="module")
def model():
    return T5(TINY, nnx.Rngs(0))


LENGTHS = {"inputs": 16, "targets": 8}


def candidates(dev: bool = False) -> list[Candidate]:
    return [
        Candidate("a", examples(0, 7), examples(9, 3) if dev else (), 0.1, seed=0),
        Candidate("b", examples(1, 4), examples(8, 5) if dev else (), 0.3, seed=1),
        Candidate("c", examples(2, 9), (), 0.01, seed=2),
    ]


@pytest.mark.parametrize(
    ("adapters", "optimizer"),
    [
        (PROMPT, Optimizer("adafactor", 0.3)),
        (
            Adapters.of(PromptTuning(3, encoder="residual", width=8, anchor=0.1)),
            Optimizer("adafactor", schedule="linear"),
        ),
        (
            Adapters((PromptTuning(3), LoRA(2), IA3(), PrefixTuning(2))),
            Optimizer("adamw", options={"weight_decay": 0.1, "eps": 1e-3}),
        ),
    ],
    ids=["prompt", "residual", "all"],
)
def test_each_trains_as_if_it_were_alone(model, adapters, optimizer):
    # Some finish between two evaluations.
    tuning = MultiAdapterTuning(epochs=3, batch_size=3, optimizer=optimizer, evaluations=2)
    # High rates would blow differences of rounding up.
    chosen = [dataclasses.replace(c, learning_rate=c.learning_rate / 10) for c in candidates()]
    together = tune_adapters(model, adapters, chosen, tuning, lengths=LENGTHS)
    for candidate, found in zip(chosen, together, strict=True):
        (alone,) = tune_adapters(model, adapters, [candidate], tuning, lengths=LENGTHS)
        assert found.step == alone.step == tuning.steps(len(candidate.examples))
        for name, value in alone.parameters.items():
            np.testing.assert_allclose(found.parameters[name], value, atol=1e-5, err_msg=name)


def test_the_loss_that_is_shown_is_the_mean_of_all_tokens():
    sums = {"loss": jnp.array([3.0, 4.0]), "weight": jnp.array([1.0, 3.0])}
    assert multi_adapter._mean_loss(sums) == 7 / 4


def test_groups_of_candidates_give_the_same(model, monkeypatch):
    chosen = [
        Candidate(str(seed), examples(seed, 2), examples(seed + 50, 1), 0.01 * seed, seed=seed)
        for seed in range(32)
    ]
    tuning = MultiAdapterTuning(epochs=2, batch_size=2, optimizer=Optimizer("adafactor"))
    monkeypatch.setattr(cores, "count", lambda: 1)
    shapes = []
    for tokens in (2 * 2 * (16 + 8), 10**6):  # two candidates of each device at a time, and all
        monkeypatch.setattr(multi_adapter.multi_adapter_step, "CORE_TOKENS", tokens)
        multi_adapter.multi_adapter_step.program.cache_clear()
        shapes.append(tune_adapters(model, PROMPT, chosen, tuning, lengths=LENGTHS))
    for one, other in zip(*shapes, strict=True):
        np.testing.assert_allclose(one.dev_losses, other.dev_losses, rtol=1e-5)
        table, other_table = (tuned.parameters["prompt.table"] for tuned in (one, other))
        np.testing.assert_allclose(table, other_table, atol=1e-5)


def test_devices_that_are_left_over_share_the_examples(model, monkeypatch):
    (candidate, *_), everything = candidates(dev=True), jax.local_devices()
    tuning = MultiAdapterTuning(epochs=2, batch_size=4, optimizer=Optimizer("adafactor", 0.01))
    found = []
    for devices in (everything, everything[:1]):
        monkeypatch.setattr(cores, "for_rows", lambda size, devices=devices: devices)
        multi_adapter.multi_adapter_step.program.cache_clear()
        found += tune_adapters(model, PROMPT, [candidate], tuning, lengths=LENGTHS)
        shape = multi_adapter.multi_adapter_step.Shape(TINY, PROMPT, 1, 4, 16, 8, tuning.optimizer)
        assert multi_adapter.multi_adapter_step.program(shape).tokens.mesh.size == min(
            4, len(devices)
        )
    np.testing.assert_allclose(found[0].dev_losses, found[1].dev_losses, rtol=1e-5)
    tables = [tuned.parameters["prompt.table"] for tuned in found]
    np.testing.assert_allclose(*tables, atol=1e-5)


@pytest.mark.parametrize("rounded", [False, True])
def test_adapters_train_on_a_model_that_is_cut(model, rounded):
    """Alike in float32; on matrices in bfloat16 as on their values in float32."""
    spec = state.abstract_model(functools.partial(T5, TINY))
    values = spec.split(model)
    if rounded:
        matrices = [name for name, axes in spec.axes.items() if "embed" in axes]
        values |= {name: values[name].astype(jnp.bfloat16) for name in matrices}
    shardings = spec.shardings(sharding.mesh(2, 2, 2))
    tuning = MultiAdapterTuning(epochs=2, batch_size=4, optimizer=Optimizer("adafactor", 0.01))
    chosen = candidates(dev=True)[:2]
    whole, parts = (
        tune_adapters(spec.merge(parameters), PROMPT, chosen, tuning, lengths=LENGTHS)
        for parameters in (
            {name: value.astype(jnp.float32) for name, value in values.items()},
            jax.device_put(values, shardings),
        )
    )
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other.dev_losses, one.dev_losses, rtol=1e-4)
        tables = [tuned.parameters["prompt.table"] for tuned in (one, other)]
        np.testing.assert_allclose(*tables, atol=1e-4)


def test_two_steps_are_those_of_plain_gradients(model):
    (candidate,) = candidates()[:1]
    candidate = dataclasses.replace(candidate, examples=candidate.examples[:2], learning_rate=0.2)
    sgd = Optimizer("sgd", clip_norm=None)
    tuning = MultiAdapterTuning(epochs=2, batch_size=2, optimizer=sgd)
    (found,) = tune_adapters(model, PROMPT, [candidate], tuning)

    embedding = np.asarray(model.embedding[...])

    def loss(table):
        widened = nnx.clone(model)
        widened.embedding = nnx.Param(jnp.concatenate([embedding, table]))
        losses = []
        for inputs, targets in candidate.examples:
            batch = {
                "encoder_input_tokens": jnp.array([inputs]),
                "encoder_segment_ids": jnp.ones((1, len(inputs)), jnp.int32),
                "decoder_input_tokens": jnp.array([[0, *targets[:-1]]]),
                "decoder_segment_ids": jnp.ones((1, len(targets)), jnp.int32),
            }
            logits = widened(batch)
            losses.append(
                optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([targets]))[0]
            )
        return jnp.mean(jnp.concatenate(losses))

    spec = state.abstract_model(lambda rngs: T5(TINY, rngs, PROMPT))
    table = spec.split(spec.build(nnx.Rngs(jax.random.key(candidate.seed))))["prompt.table"]
    gradient = jax.jit(jax.grad(loss))
    for _ in range(2):
        table = table - 0.2 * gradient(table)
    np.testing.assert_allclose(found.parameters["prompt.table"], table, atol=1e-5)


def test_dropout_depends_on_the_seed_of_the_candidate_and_on_the_step(model):
    initial = {"prompt.table": np.ones((3, TINY.d_model), np.float32)}
    same = examples(0, 1)
    chosen = [Candidate(f"{s}{n}", same, (), 0.0, s, initial) for n, s in enumerate((0, 1, 0))]
    options = {"batch_size": 1, "optimizer": Optimizer("sgd"), "dropout_rate": 0.5}
    losses = []
    tune_adapters(
        model,
        PROMPT,
        chosen,
        MultiAdapterTuning(epochs=2, **options),
        progress=lambda n, loss: losses.append(loss.args[0]["loss"].tolist()),
    )
    first, second = losses
    assert first[0] == first[2] != first[1]
    assert second[0] == second[2] != second[1]
    assert not set(first) & set(second)


def test_every_seed_and_epoch_has_an_order_of_its_own():
    chosen = [Candidate(str(s), examples(0, 8), seed=s) for s in (0, 1)]
    orders = multi_adapter._orders(chosen, np.array([6, 6]), 4)
    epochs = orders.transpose(1, 0, 2).reshape(6, 8)  # three of each candidate
    assert (np.sort(epochs) == np.arange(8)).all()
    assert len(np.unique(epochs, axis=0)) == 6


def test_the_model_itself_stays_and_attach_gives_the_tuned_one(model):
    before = jax.device_get(state.by_name(model))
    adapters = Adapters.of(PromptTuning(3, encoder="lstm", width=4))
    tuning = MultiAdapterTuning(epochs=4, batch_size=4, optimizer=Optimizer("adamw", 0.05))
    found = tune_adapters(model, adapters, candidates(dev=True), tuning)
    for name, value in state.by_name(model).items():
        np.testing.assert_array_equal(value, before[name])
    for candidate, one in zip(candidates(dev=True)[:2], found, strict=False):
        # The dev loss of the model with the adapter on is the one that training saw.
        tuned = multi_adapter.attach(model, adapters, one.parameters)
        total = weight = 0.0
        for inputs, targets in candidate.dev:
            batch = {
                "encoder_input_tokens": jnp.array([inputs]),
                "encoder_segment_ids": jnp.ones((1, len(inputs)), jnp.int32),
                "decoder_input_tokens": jnp.array([[0, *targets[:-1]]]),
                "decoder_segment_ids": jnp.ones((1, len(targets)), jnp.int32),
            }
            losses = optax.softmax_cross_entropy_with_integer_labels(
                tuned(batch), jnp.array([targets])
            )
            total, weight = total + float(losses.sum()), weight + len(targets)
        assert one.step == min(one.dev_losses, key=lambda point: point[1])[0]
        np.testing.assert_allclose(min(d for _, d in one.dev_losses), total / weight, rtol=1e-4)


def test_goes_on_bit_for_bit_where_it_was_interrupted(model, tmp_path):
    tuning = MultiAdapterTuning(
        epochs=4, batch_size=3, optimizer=Optimizer("adamw", 0.05), evaluations=4
    )
    whole = tune_adapters(model, PROMPT, candidates(dev=True), tuning)
    count = 0

    def interrupt(steps, loss):
        nonlocal count
        count += steps
        if count == 8:
            raise KeyboardInterrupt

    path = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        tune_adapters(
            model, PROMPT, candidates(dev=True), tuning, state_file=path, progress=interrupt
        )
    steps = []
    again = tune_adapters(
        model,
        PROMPT,
        candidates(dev=True),
        tuning,
        state_file=path,
        progress=lambda n, loss: steps.append(loss()),
    )
    assert 0 < len(steps) < 12
    assert np.all(np.isfinite(steps))
    for one, other in zip(whole, again, strict=True):
        assert one.dev_losses == other.dev_losses
        np.testing.assert_array_equal(
            one.parameters["prompt.table"], other.parameters["prompt.table"]
        )
    # Finished: nothing is computed again.
    tune_adapters(
        model, PROMPT, candidates(dev=True), tuning, state_file=path, progress=lambda n, loss: 1 / 0
    )
    with pytest.raises(UserError, match="state of another run"):
        tune_adapters(model, PROMPT, candidates(), tuning, state_file=path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        tune_adapters(model, PROMPT, candidates(dev=True), tuning, state_file=path)


def test_the_last_steps_of_a_short_training_count(model):
    """Candidate b ends between two evaluations; alone in the end, it is judged then."""
    tuning = MultiAdapterTuning(
        epochs=5, batch_size=3, optimizer=Optimizer("sgd", 0.1), evaluations=1
    )
    found = tune_adapters(model, PROMPT, candidates(dev=True), tuning)
    steps = [tuning.steps(len(candidate.examples)) for candidate in candidates()]
    assert len(set(steps)) > 1
    assert [one.step for one in found] == steps
    # The third has no dev examples.
    assert [[step for step, _ in one.dev_losses] for one in found] == [[steps[0]], [steps[1]], []]


def test_one_that_has_ended_is_not_evaluated_again(model):
    tuning = MultiAdapterTuning(
        epochs=6, batch_size=3, optimizer=Optimizer("sgd", 0.1), evaluations=6
    )
    found = tune_adapters(model, PROMPT, candidates(dev=True)[:2], tuning)
    for one, candidate in zip(found, candidates(), strict=False):
        steps = [step for step, _ in one.dev_losses]
        assert steps == sorted(set(steps))
        assert steps[-1] == tuning.steps(len(candidate.examples))


@pytest.mark.parametrize("field", ["epochs", "batch_size", "evaluations"])
def test_settings_out_of_range(field):
    with pytest.raises(UserError, match=rf"MultiAdapterTuning\.{field} is 0"):
        MultiAdapterTuning(**{field: 0})


def test_patience_stops_one_and_a_rate_that_is_too_high_ends_another(model):
    chosen = [
        dataclasses.replace(candidates(dev=True)[0], learning_rate=0.0),
        dataclasses.replace(candidates()[1], learning_rate=0.5, dev=candidates()[1].examples),
        dataclasses.replace(candidates(dev=True)[2], learning_rate=float("inf")),
    ]
    sgd = Optimizer("sgd", clip_norm=None)
    tuning = MultiAdapterTuning(epochs=6, batch_size=3, optimizer=sgd, evaluations=9, patience=2)
    idle, learning, lost = tune_adapters(model, PROMPT, chosen, tuning)
    assert len(idle.dev_losses) == 3  # the first is the best, two are not better
    assert learning.dev_losses[-1][1] < learning.dev_losses[0][1]
    assert (lost.diverged, lost.step) == (2, 0)
    assert np.isfinite(lost.parameters["prompt.table"]).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"examples": ()}, "'a' has no examples"),
        ({"examples": [([67, 1], [5, 1])]}, "token 67.*3 rows"),
        ({"initial": {"prompt.table": np.zeros((2, 16))}}, r"shape \(2, 16\).*\(3, 16\)"),
        ({"name": "b"}, "Two candidates are called 'b'"),
    ],
)
def test_bad_candidates_are_told_before_anything_is_trained(model, changed, message):
    first, *rest = candidates()
    with pytest.raises(UserError, match=message):
        tune_adapters(
            model, PROMPT, [dataclasses.replace(first, **changed), *rest], MultiAdapterTuning()
        )


def test_too_many_for_the_memory_says_how_many_fit(model, monkeypatch):
    monkeypatch.setattr(
        multi_adapter.multi_adapter_step.performance, "available_memory", lambda device: 400_000
    )
    tuning = MultiAdapterTuning(batch_size=5, optimizer=Optimizer("adamw"))
    with pytest.raises(UserError, match="3 adapters at once need .* about [0-2] fit"):
        tune_adapters(model, PROMPT, candidates(), tuning)
