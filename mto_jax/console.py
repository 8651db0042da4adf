# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Progress and the width of tables, by rich; tables in Markdown."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich.console
import rich.progress
import rich.table
import rich.text

EVERY = 30.0  # seconds between lines of progress in a log
FILE_WIDTH = 200  # columns of a table that goes to a file or a pipe


def wide(**options: Any) -> rich.console.Console:
    """Returns the console of tables: as wide as the terminal, or COLUMNS; in a log `FILE_WIDTH`."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return rich.console.Console(width=None if known else FILE_WIDTH, **options)


def folding_table(
    names: Sequence[str], title: str | None = None, **options: Any
) -> rich.table.Table:
    """Returns a table with these columns, which break what is too long: rich would cut it."""
    columns = [rich.table.Column(rich.text.Text(name), overflow="fold") for name in names]
    return rich.table.Table(*columns, title=title and rich.text.Text(title), **options)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table, a line for each row; the first row is the head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def size_text(count: float) -> str:
    """Returns bytes in words.

    >>> size_text(524), size_text(98304), size_text(2.5e9)
    ('524 B', '98.3 kB', '2.5 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def be_quiet() -> None:
    """Shows no progress from here on, in this process and in those that it starts."""
    os.environ["MTO_QUIET"] = "1"


def progress_console(*, stderr: bool = True, **options: Any) -> rich.console.Console:
    """Returns the console of progress, silent after `be_quiet`; on standard error by default."""
    quiet = bool(os.environ.get("MTO_QUIET"))
    return rich.console.Console(stderr=stderr, quiet=quiet, **options)


class Lines:
    """Progress in a log: a line every `EVERY` seconds, and one at the end.

    >>> lines = Lines("infer", 200)
    >>> lines(100)  # after half a minute: "infer 100/200, 0.5 min left"
    """

    def __init__(self, description: str, total: int | None):
        self._description, self._total, self._done = description, total, 0
        self._start = self._shown = time.monotonic()

    def __call__(self, count: int) -> None:
        """Counts what is done."""
        self._done += count
        now = time.monotonic()
        if now - self._shown < EVERY:
            return
        self._shown = now
        left = ""
        if self._total and self._done:
            minutes = (now - self._start) / self._done * (self._total - self._done) / 60
            left = f", {minutes:.1f} min left"
        self._say(left)

    def end(self) -> None:
        """Says how much was done in which time."""
        self._say(f" in {time.monotonic() - self._start:.1f} s")

    def _say(self, text: str) -> None:
        total = "" if self._total is None else f"/{self._total}"
        line = f"{self._description} {self._done}{total}{text}"
        progress_console(soft_wrap=True).print(line, markup=False, highlight=False)


@contextlib.contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows progress on standard error; yields the function that advances it by a count.

    It is a bar on a terminal and in a notebook, and `Lines` elsewhere.
    """
    console = progress_console()
    if not (console.is_terminal or console.is_jupyter):
        lines = Lines(description, total)
        yield lines
        lines.end()
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
