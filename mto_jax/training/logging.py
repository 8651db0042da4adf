# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writers of metrics: metrics.jsonl, TensorBoard, the console and, if asked, Weights & Biases."""

import datetime
import importlib.util
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping, Sequence

import rich.progress

from mto_jax.console import markdown_table, progress_console
from mto_jax.errors import UserError
from mto_jax.files import write_atomically


class MetricsWriter:
    """Writes the metrics of a run; a step that is trained again after a crash appears once.

    Args:
      model_dir: metrics.jsonl and the TensorBoard event file go here.
      start_step: steps done already; later ones of an earlier, killed process are dropped.
      total_steps: for the progress bar.
      wandb_project: also log to this Weights & Biases project (needs `pip install wandb`).
    """

    def __init__(
        self,
        model_dir: str | os.PathLike,
        start_step: int,
        total_steps: int,
        *,
        wandb_project: str | None = None,
        config: str = "",
    ):
        from tensorboardX import SummaryWriter  # it imports PyTorch where that is installed

        folder = pathlib.Path(model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._jsonl = _reopened(folder / "metrics.jsonl", start_step)
        # TensorBoard then hides what came from steps after this one. The files are named by the
        # second.
        self._events = SummaryWriter(
            str(folder), purge_step=start_step + 1, flush_secs=1, filename_suffix=f".{start_step}"
        )
        self._wandb = _wandb(folder, wandb_project, config) if wandb_project else None
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("[bold]{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=progress_console(stderr=False, highlight=False, soft_wrap=True),
            disable=not sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("training", total=total_steps, completed=start_step)
        self._total = total_steps
        self._first: tuple[int, float] | None = None  # step and time of the first report
        self._progress.start()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records `metrics`, e.g. {"train/loss": 2.1}, at `step`."""
        self._jsonl.write(json.dumps({"step": step, **metrics}) + "\n")
        self._jsonl.flush()
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(metrics), step=step)

    def write_tables(self, step: int, tables: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """Shows tables, the head first, under TensorBoard's "Text"; rows are equally long."""
        for name, rows in tables.items():
            self._events.add_text(name, _table(rows), step)

    def advance(self, step: int, text: str) -> None:
        """Moves the progress bar and prints a line about `step`; in a log with the ETA."""
        self._progress.update(self._task, completed=step)
        if self._progress.disable:
            if self._first is None:  # The first step of a run is slower than the others.
                self._first = step, time.monotonic()
            done = step - self._first[0]
            if done:
                left = (time.monotonic() - self._first[1]) / done * (self._total - step)
                text = f"{text}  ETA {datetime.timedelta(seconds=round(left))}"
        self.say(f"step {step}/{self._total}  {text}")

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._progress.console.print(text, markup=False)

    def close(self) -> None:
        """Flushes and closes everything."""
        self._progress.stop()
        self._jsonl.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()


class NoWriter:
    """The writer of all processes but the first, which discards everything."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def write_tables(self, step: int, tables: Mapping[str, Sequence[Sequence[str]]]) -> None: ...

    def advance(self, step: int, text: str) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table; its cells are code, so that what a model says stays as it is."""
    head, *body = rows
    return markdown_table([head, *([_code(text) for text in row] for row in body)])


def _code(text: str) -> str:
    """Returns Markdown that shows `text` as it is: between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {' '.join(text.split())} {fence}" if text.strip() else ""


def _reopened(path: pathlib.Path, start_step: int):
    """Returns `path` open for appending, with the lines of steps after `start_step` dropped.

    A run that starts at 0 drops all: it is evaluated before its first step once more.
    """
    kept = []
    if path.exists() and start_step:
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= start_step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # the last line of a killed process may be half written
    write_atomically(path, "".join(kept))
    return path.open("a")


def check_wandb(project: str | None) -> None:
    """Raises a `UserError` if a project of Weights & Biases is named that cannot be logged to."""
    if project is not None and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "train.wandb_project is set, but Weights & Biases is not installed: `pip install "
            "wandb`, or leave it unset (metrics.jsonl and TensorBoard files are always written)."
        )


def _wandb(folder: pathlib.Path, project: str, config: str):
    import wandb  # pyright: ignore[reportMissingImports]

    # One id per run directory: a resumed run continues the same chart.
    return wandb.init(
        project=project,
        id=folder.absolute().as_posix().strip("/").replace("/", "-")[-64:],
        name=folder.name,
        dir=str(folder),
        resume="allow",
        config={"gin": config},
    )
