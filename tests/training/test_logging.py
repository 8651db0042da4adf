# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What TensorBoard reads of a run: numbers, also of a resumed one, and tables of texts as they
are."""

import html
import importlib.util
import re

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.text import text_plugin

from mto_jax.errors import UserError
from mto_jax.training import logging
from mto_jax.training.logging import MetricsWriter

TEXTS = [
    "to have a *clean* home",
    "<extra_id_0> a cup <extra_id_1>",
    "<script>alert(1)</script> & so on",
    "a `b` ``` c",
    "`",
    "1. one # two | three\\",
    "",
]


@pytest.fixture
def read(tmp_path):
    """Returns a function that reads what a run wrote, after a run of 3 steps that was resumed at
    step 1."""
    for start, losses in ((0, {1: 3.0, 2: 2.0, 3: 9.0}), (1, {2: 2.5})):
        writer = MetricsWriter(tmp_path, start, 3)
        for step, loss in losses.items():
            writer.write(step, {"train/loss": loss, "note": "no number"})
            writer.write_tables(step, {"dev/texts": [["text", "n"], *([t, "1"] for t in TEXTS)]})
        writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    return events


def test_numbers_of_a_resumed_run(read):
    assert read.Tags()["scalars"] == ["train/loss"]
    values = [(event.step, event.value) for event in read.Scalars("train/loss")]
    assert values == [(1, 3.0), (2, 2.5)]


def test_texts_are_shown_as_they_are(read):
    """Markdown, HTML and the marks of a table in a cell."""
    [tag] = read.Tags()["tensors"]
    [text] = read.Tensors(tag)[-1].tensor_proto.string_val
    shown = text_plugin.text_array_to_html(np.array([text.decode()]), True)
    rows = re.findall("<tr>(.*?)</tr>", shown, re.DOTALL)[1:]
    cells = [re.findall("<td>(.*?)</td>", row, re.DOTALL) for row in rows]
    texts = [html.unescape(re.sub("</?code>", "", cell)) for cell, _ in cells]
    assert texts == TEXTS


def test_a_log_says_how_long_the_rest_takes(tmp_path, monkeypatch, capsys):
    """At the pace since the first report, which comes after compiling."""
    writer = MetricsWriter(tmp_path, 0, 11)
    for step, clock in ((1, 100.0), (3, 120.0), (7, 130.0)):
        monkeypatch.setattr(logging.time, "monotonic", lambda clock=clock: clock)
        writer.advance(step, "loss 2")
    monkeypatch.undo()
    writer.close()
    assert capsys.readouterr().out.splitlines() == [
        "step 1/11  loss 2",
        "step 3/11  loss 2  ETA 0:01:20",
        "step 7/11  loss 2  ETA 0:00:20",
    ]


def test_a_run_that_starts_again_has_no_line_twice(tmp_path):
    for _ in range(2):  # killed before its first checkpoint
        writer = MetricsWriter(tmp_path, 0, 3)
        writer.write(0, {"dev/loss": 2.0})
        writer.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0, "dev/loss": 2.0}\n'


def test_wandb_that_is_not_installed_is_told_before_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install wandb"):
        logging.check_wandb("project")
    logging.check_wandb(None)
