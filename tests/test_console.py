# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Progress in a log: lines every now and then, and none after `be_quiet`."""

import time

from mto_jax import console


def test_a_log_has_a_line_every_half_minute_and_one_at_the_end(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with console.progress_bar("infer", 200) as advance:
        for _ in range(10):
            now[0] += 8
            advance(20)
    assert capsys.readouterr().err.splitlines() == [
        "infer 80/200, 0.8 min left",
        "infer 160/200, 0.3 min left",
        "infer 200/200 in 80.0 s",
    ]


def test_a_total_may_be_unknown_and_names_are_no_markup(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with console.progress_bar("[bold]a" + "b" * 300, None) as advance:
        now[0] += 31
        advance(2)
    name = "[bold]a" + "b" * 300
    assert capsys.readouterr().err.splitlines() == [f"{name} 2", f"{name} 2 in 31.0 s"]


def test_quiet_shows_nothing(monkeypatch, capsys):
    monkeypatch.setenv("MTO_QUIET", "")  # restored afterwards
    console.be_quiet()
    with console.progress_bar("infer", 2) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_tables_in_a_log_cut_nothing(capsys):
    path = "/".join(["a_long_folder_of_runs"] * 20)
    table = console.folding_table(["[run]", "score"], "[title]")
    table.add_row(path, "0.5")
    console.wide().print(table)
    shown = capsys.readouterr().out
    joined = "".join(line.split("│")[1].strip() for line in shown.splitlines() if "│" in line)
    assert joined == path
    assert "[title]" in shown
    assert "[run]" in shown
