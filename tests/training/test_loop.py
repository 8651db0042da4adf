# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The loop: late reports, evaluation, saving, divergence; and the feed that goes before it."""

import itertools
import json
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mto_jax.training import loop

from .common import batch, setup


class Batches:
    """Endless batches with a state, as Grain's iterators have."""

    def __init__(self, change=None):
        self.count, self.change = 0, change

    def __next__(self):
        rows = batch(self.count)
        self.count += 1
        if self.change is not None:
            self.change(self.count, rows)
        return rows

    def get_state(self):
        return {"count": self.count}


def run(change=None, steps=7, evaluate=None, **options):
    """What the loop reports, evaluates and saves: lists of what each was called with."""
    one = setup()
    reports, evaluations, saves = [], [], []
    feed = loop.Feed(Batches(change), one.place)
    try:
        state, stopped = loop.run(
            one.program,
            one.state,
            feed,
            window=loop.LogWindow(0, one.totals()),
            new_totals=one.totals,
            train_steps=steps,
            report=lambda interval, totals: reports.append((interval.step, totals)),
            evaluate=evaluate or (lambda step, state: evaluations.append(step) or {"x": step}),
            save=lambda state, place, metrics, _: saves.append((int(state.step), place, metrics)),
            **{"log_period": 3, "evaluate_period": None, "save_period": None, **options},
        )
    except loop.Diverged as error:
        return str(error), reports, saves
    finally:
        feed.close()
    return state, stopped, reports, evaluations, saves


def test_reports_cover_every_step_once():
    state, stopped, reports, _, saves = run()
    assert int(state.step) == 7
    assert stopped is None
    assert [step for step, _ in reports] == [1, 3, 6, 7]
    assert [int(totals["steps"]) for _, totals in reports] == [1, 2, 3, 1]
    assert saves == [(7, {"count": 7}, {})]
    one = setup()
    losses = one.train(3)
    summed = sum(float(reports[i][1]["loss"]) for i in (0, 1))
    weights = sum(batch(i)["decoder_loss_weights"].sum() for i in range(3))
    expected = sum(loss * batch(i)["decoder_loss_weights"].sum() for i, loss in enumerate(losses))
    np.testing.assert_allclose(summed / weights, expected / weights, rtol=1e-5)


def test_evaluated_steps_are_saved_with_their_metrics_and_the_place_in_the_data():
    *_, evaluations, saves = run(evaluate_period=3, save_period=2)
    assert evaluations == [3, 6, 7]
    metrics = {3: {"x": 3}, 6: {"x": 6}, 7: {"x": 7}}
    assert saves == [(n, {"count": n}, metrics.get(n, {})) for n in (2, 3, 4, 6, 7)]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 6])
def test_reports_of_a_resumed_run_are_those_of_an_undisturbed_one(cut):
    *_, undisturbed, _, _ = run()
    one = setup()
    reports, windows = [], []

    def part(state, window, batches, train_steps):
        feed = loop.Feed(batches, one.place)
        try:
            loop.run(
                one.program,
                state,
                feed,
                window=window,
                new_totals=one.totals,
                train_steps=train_steps,
                log_period=3,
                evaluate_period=None,
                save_period=cut,
                report=lambda interval, totals: reports.append((interval.step, totals)),
                evaluate=lambda *_: {},
                save=lambda state, place, metrics, window: windows.append(
                    (jax.tree.map(jnp.copy, state), json.dumps(window.as_dict()))
                ),
            )
        finally:
            feed.close()

    part(one.state, loop.LogWindow(0, one.totals()), Batches(), 7)
    state, stored = windows[0]
    reports[:] = [(step, totals) for step, totals in reports if step <= cut]
    zeros = jax.device_get(one.totals())
    totals, *times = loop.resumed(json.loads(stored), zeros)
    batches = Batches()
    batches.count = cut
    where = jax.tree.map(lambda x: x.sharding, one.totals())
    part(state, loop.LogWindow(cut, jax.device_put(totals, where), *times), batches, 7)
    assert [step for step, _ in reports] == [step for step, _ in undisturbed]
    for (_, ours), (_, theirs) in zip(reports, undisturbed, strict=True):
        for name, value in theirs.items():
            np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_a_stored_window_of_other_totals_is_not_taken_up():
    zeros = {"loss": np.zeros((), np.float32), "steps": np.int32(0)}
    stored = {"totals": {"loss": 2.5, "steps": 3}, "seconds": 1.5, "input_wait": 0.5}
    totals, *times = loop.resumed(stored, zeros)
    assert (totals["loss"], totals["steps"], times) == (2.5, 3, [1.5, 0.5])
    assert totals["loss"].dtype == np.float32
    for other in (None, stored | {"totals": {"loss": [2.5, 1.0], "steps": 3}}):
        assert loop.resumed(other, zeros) == (zeros, 0.0, 0.0)


def test_a_bad_loss_stops_the_run_names_its_step_and_saves_nothing_after():
    def change(count, rows):
        if count == 4:
            rows["decoder_loss_weights"][0, 0] = np.nan

    error, reports, saves = run(change, log_period=5, save_period=2)
    assert "loss or gradient of step 4 is NaN" in error
    assert "Optimizer.learning_rate" in error
    assert [step for step, *_ in saves] == [2]
    # Without a checkpoint in between it is seen at the report.
    error, reports, saves = run(change, log_period=5)
    assert "step 4 is NaN or infinite (seen after step 5)" in error
    assert [step for step, _ in reports] == [1, 5]
    assert saves == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(number):
    before = signal.getsignal(number)

    def change(count, rows):
        if count == 3:
            while signal.getsignal(number) is before:  # the feed runs ahead of the loop
                time.sleep(0.001)
            os.kill(os.getpid(), number)

    state, stopped, _, _, saves = run(change, steps=500)
    assert stopped == number
    assert int(state.step) < 20
    assert saves == [(int(state.step), {"count": int(state.step)}, {})]
    assert signal.getsignal(number) is before


def test_errors_of_the_data_come_out():
    def change(count, rows):
        if count == 3:
            raise ValueError("record 17 is bad")

    with pytest.raises(ValueError, match="record 17 is bad"):
        run(change)


def test_the_loop_refuses_hidden_transfers():
    def careless(state, totals, rows):
        return one.program(state, totals, {k: np.asarray(v) for k, v in rows.items()})

    one = setup()
    feed = loop.Feed(Batches(), lambda rows: rows)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        loop.run(
            careless,
            one.state,
            feed,
            window=loop.LogWindow(0, one.totals()),
            new_totals=one.totals,
            train_steps=2,
            log_period=1,
            evaluate_period=None,
            save_period=None,
            report=lambda *_: None,
            evaluate=lambda *_: {},
            save=lambda *_: None,
        )
    feed.close()


def test_the_feed_knows_the_place_of_what_was_taken_not_of_what_waits():
    feed = loop.Feed(Batches(), lambda rows: jax.device_put(rows))
    assert feed.state == {"count": 0}
    for count in itertools.islice(itertools.count(1), 4):
        rows = next(feed)
        np.testing.assert_array_equal(
            rows["decoder_target_tokens"], batch(count - 1)["decoder_target_tokens"]
        )
        assert feed.state == {"count": count}
    feed.close()
