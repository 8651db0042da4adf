# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Progress bars and the width of tables, by rich; tables in Markdown."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

import rich.console
import rich.progress

FILE_WIDTH = 200  # columns of a table that goes to a file or a pipe


def wide() -> rich.console.Console:
    """Returns the console of tables: as wide as the terminal, in a log `FILE_WIDTH`."""
    return rich.console.Console(width=None if sys.stdout.isatty() else FILE_WIDTH)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table, a line for each row; the first row is the head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@contextlib.contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on standard error; yields the function that advances it by a count."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
