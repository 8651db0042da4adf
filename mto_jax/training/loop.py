# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The loop: feed batches, run the compiled step, report late, evaluate, save, stop on a signal."""

import collections
import contextlib
import dataclasses
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mto_jax.errors import UserError
from mto_jax.training.state import TrainState
from mto_jax.training.step import NO_BAD_STEP

# Steps that may be on their way to the devices while the host continues: enough to hide the host's
# work, few enough that a signal is obeyed immediately and batches do not pile up.
LOOKAHEAD = 2


class Diverged(UserError):
    """The loss or the gradient became NaN or infinite."""


class Feed:
    """Puts batches on the devices ahead of time, in a thread.

    Args:
      batches: iterator of numpy batches with `get_state()`, such as Grain's.
      place: numpy batch -> batch on the devices.

    `state` is the place in the data after the batch that `next` gave last, not after those that
    wait; `waited` counts the seconds that `next` had to wait.
    """

    def __init__(self, batches: Any, place: Callable[[Mapping[str, np.ndarray]], Any]):
        self.state = batches.get_state()
        self.waited = 0.0
        self._ready: queue.Queue = queue.Queue(maxsize=2)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(batches, place), daemon=True)
        self._thread.start()

    def _work(self, batches, place):
        try:
            while not self._closed.is_set():
                batch = place(next(batches))
                self._put((batch, batches.get_state()))
        except BaseException as error:  # the reader raises it
            self._put((error, None))

    def _put(self, item):
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return

    def __next__(self) -> Any:
        start = time.monotonic()
        batch, state = self._ready.get()
        self.waited += time.monotonic() - start
        if isinstance(batch, BaseException):
            raise batch
        self.state = state
        return batch

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives SIGTERM or SIGINT; the second one acts as it always does.

    Only in the main thread of a single-process run: on several hosts `jax.distributed` catches
    SIGTERM and `stop_requested` asks it, so that all hosts stop at the same step.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield received
        return

    def handle(number, frame):
        received.append(number)
        signal.signal(number, previous[number])

    previous = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_requested(received: list[int], step: int) -> int | None:
    """The signal after which to stop before the next step, the same on all hosts; None to go on."""
    if jax.process_count() == 1:
        return received[0] if received else None
    from jax.experimental import multihost_utils

    return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None


@dataclasses.dataclass
class LogWindow:
    """The steps since the last report."""

    step: int  # the last one
    totals: Any  # on the devices
    seconds: float = 0.0  # without evaluation and saving
    input_wait: float = 0.0  # seconds

    def as_dict(self) -> dict[str, Any]:
        """The form for JSON, totals fetched; `resumed` is its inverse."""
        totals = {name: value.tolist() for name, value in jax.device_get(self.totals).items()}
        return {"totals": totals, "seconds": self.seconds, "input_wait": self.input_wait}


def resumed(
    stored: Mapping[str, Any] | None, zeros: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], float, float]:
    """(totals, seconds, input wait) of a stored window; those of no steps if it does not fit.

    Args:
      stored: `LogWindow.as_dict`; None where a checkpoint has none.
      zeros: the totals of no steps.
    """
    stored = stored or {"totals": {}, "seconds": 0.0, "input_wait": 0.0}
    totals = {name: np.asarray(value) for name, value in stored["totals"].items()}
    if {n: v.shape for n, v in totals.items()} != {n: v.shape for n, v in zeros.items()}:
        return dict(zeros), 0.0, 0.0
    totals = {name: totals[name].astype(value.dtype) for name, value in zeros.items()}
    return totals, stored["seconds"], stored["input_wait"]


def run(
    program: Callable[[TrainState, Any, Any], tuple[TrainState, Any]],
    state: TrainState,
    feed: Feed,
    *,
    window: LogWindow,
    new_totals: Callable[[], Any],
    train_steps: int,
    log_period: int,
    evaluate_period: int | None,
    save_period: int | None,
    save_steps: Collection[int] = (),
    report: Callable[[LogWindow, Mapping[str, np.ndarray]], None],
    evaluate: Callable[[int, TrainState], Mapping[str, float]],
    save: Callable[[TrainState, Any, Mapping[str, float], LogWindow], None],
) -> tuple[TrainState, int | None]:
    """Train up to step `train_steps`; returns the state and the signal that stopped it, if any.

    Within the loop nothing moves between host and devices unless it is asked for by name
    (`transfer_guard`), and no step waits for its own result: a report is fetched while the next
    step runs. A step that was evaluated is also saved, so that the best one can be had. What is
    reported is the same whether a run was stopped in between or not: at the first step, every
    `log_period` steps and at the last one.

    Args:
      window: the steps before `state` that were not reported yet.
      new_totals: the totals of no steps, on the devices.
      save: gets the steps up to its own that were not reported.

    Raises:
      Diverged: a loss or gradient is not finite; no checkpoint was written since then.
    """
    step, totals = int(state.step), window.totals
    in_flight: collections.deque = collections.deque()
    late: LogWindow | None = None
    clock, waited = time.monotonic() - window.seconds, feed.waited - window.input_wait

    def deliver(interval):
        """Fetches the totals of an interval, whose steps are done or running, and reports them."""
        nonlocal clock, waited
        fetched = jax.device_get(interval.totals)
        interval.seconds, clock = time.monotonic() - clock, time.monotonic()
        interval.input_wait, waited = feed.waited - waited, feed.waited
        report(interval, fetched)
        _check_finite(int(fetched["bad_step"]), interval.step)

    with stop_signals() as received, jax.transfer_guard("disallow"):
        while step < train_steps:
            state, totals = program(state, totals, next(feed))
            step += 1
            in_flight.append(totals["steps"])
            if len(in_flight) > LOOKAHEAD:
                jax.block_until_ready(in_flight.popleft())
            if late is not None:
                deliver(late)
                late = None

            stop = stop_requested(received, step)
            last = stop is not None or step == train_steps
            evaluating = bool(evaluate_period) and (last or step % evaluate_period == 0)
            evaluating = evaluating and stop is None
            saving = last or evaluating or step in save_steps
            saving = saving or (bool(save_period) and step % save_period == 0)
            if step % log_period == 0 or step in (1, train_steps):
                late, totals = LogWindow(step, totals), new_totals()
            if saving:
                if late is not None:
                    deliver(late)
                    late = None
                _check_finite(int(jax.device_get(totals["bad_step"])), step)
                pause = time.monotonic()
                window = LogWindow(step, totals, pause - clock, feed.waited - waited)
                with jax.transfer_guard("allow"):
                    metrics = evaluate(step, state) if evaluating else {}
                    save(state, feed.state, metrics, window)
                clock += time.monotonic() - pause
            if stop is not None:
                return state, stop
    return state, None


def _check_finite(bad_step: int, step: int) -> None:
    if bad_step != NO_BAD_STEP:
        raise Diverged(
            f"The loss or gradient of step {bad_step} is NaN or infinite (seen after step {step}); "
            "nothing was saved from there on. Lower Optimizer.learning_rate, give it a warm-up "
            "(Optimizer.warmup), or set the model's dtype to 'float32'; the same command resumes "
            "from the last checkpoint."
        )
