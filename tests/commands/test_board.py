# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The page of `mto board`, without a browser."""

import socket
import sys
import time
import urllib.request

import panel
import pytest

from mto_jax.commands import board
from mto_jax.errors import UserError
from tests.experiments.test_predictions import GRID, written

PAIRED = [
    {
        "task": task,
        "template": "Mapping",
        "source": f"{task}: {word}",
        "references": "x",
        "first": word,
        "second": "Other",
        "score of first": score,
    }
    for task, word, score in (("a", "red", 0.1), ("a", "blue", 0.9), ("b", "Green", None))
]


@pytest.mark.parametrize(
    "tasks, templates, scores, words, expected",
    [
        ([], [], (0, 1), "", ["red", "blue", "Green"]),
        (["a"], [], (0, 1), "", ["red", "blue"]),
        ([], ["Prompting"], (0, 1), "", []),
        ([], [], (0.5, 1), "", ["blue", "Green"]),
        ([], [], (0, 1), "gREEN", ["Green"]),
        (["b"], ["Mapping"], (0, 1), "other", ["Green"]),
    ],
)
def test_filters(tasks, templates, scores, words, expected):
    found = board.chosen(PAIRED, tasks, templates, scores, words)
    assert [row["first"] for row in found] == expected


def test_scores_of_the_cells_that_are_done(tmp_path):
    written(tmp_path, [])
    assert "No cell is done yet" in board.scores_html(tmp_path)
    written(tmp_path, GRID.cells()[:3])
    text = board.scores_html(tmp_path)
    assert "3 cells are done, 0 failed" in text
    assert "0.500" in text
    assert "<img" in text
    next((tmp_path / "cells").glob("*.json")).write_text("{")
    assert "<img" not in board.scores_html(tmp_path)


def test_what_cannot_be_served_is_refused_in_words(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is not there"):
        board.board(tmp_path / "absent")
    written(tmp_path / "grid", GRID.cells()[:1])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is in use.*--port="):
            board.board(tmp_path / "grid", port)
    monkeypatch.setitem(sys.modules, "panel", None)
    with pytest.raises(UserError, match=r"mto-jax\[board\]"):
        board.board(tmp_path / "grid", port)


def test_the_page_has_its_parts(tmp_path):
    written(tmp_path, GRID.cells())
    board._panel()
    (tabs,) = board.page(tmp_path).main
    assert tabs._names == ["Scores", "Predictions", "Try"]
    assert isinstance(tabs[1][-1], panel.widgets.Tabulator)


def test_a_visitor_gets_the_page(tmp_path):
    written(tmp_path, GRID.cells()[:3])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = panel.serve(
        lambda: board.page(tmp_path), port=port, threaded=True, show=False, verbose=False
    )
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                text = urllib.request.urlopen(address, timeout=60).read().decode()
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.1)
    finally:
        served.stop()
    assert f"MTO-JAX: {tmp_path.name}" in text
