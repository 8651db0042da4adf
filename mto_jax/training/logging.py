# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where numbers go: metrics.jsonl, TensorBoard, the console and, if asked, Weights & Biases.

TensorBoard's event files are written through its protocol buffers alone; its own writer class would
import TensorFlow where that is installed.
"""

import datetime
import json
import os
import pathlib
import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import rich.progress
from tensorboard.compat.proto import (
    event_pb2,
    summary_pb2,
    tensor_pb2,
    tensor_shape_pb2,
    types_pb2,
)
from tensorboard.summary.writer.record_writer import RecordWriter

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
        folder = pathlib.Path(model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._jsonl = _reopened(folder / "metrics.jsonl", start_step)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._events = RecordWriter((folder / name).open("wb"))
        self._event(file_version="brain.Event:2")
        # TensorBoard then hides what came from steps after this one.
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._event(step=start_step + 1, session_log=started)
        self._wandb = _wandb(folder, wandb_project, config) if wandb_project else None
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("[bold]{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(highlight=False, soft_wrap=True),
            disable=not sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("training", total=total_steps, completed=start_step)
        self._total = total_steps
        self._first: tuple[int, float] | None = None  # step and time of the first report
        self._progress.start()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record `metrics`, e.g. {"train/loss": 2.1}, at `step`."""
        self._jsonl.write(json.dumps({"step": step, **metrics}) + "\n")
        self._jsonl.flush()
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
            if isinstance(value, int | float)
        ]
        self._event(step=step, summary=summary_pb2.Summary(value=values))
        if self._wandb is not None:
            self._wandb.log(dict(metrics), step=step)

    def write_tables(self, step: int, tables: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """Show rows of texts, the head first, under TensorBoard's "Text"; all rows are equally long."""
        for name, rows in tables.items():
            # Cells are read as Markdown: as code, what a model says stays as it is.
            cells = [f"**{text}**" for text in rows[0]] + [
                _code(t) for row in rows[1:] for t in row
            ]
            sizes = [
                tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in (len(rows), len(rows[0]))
            ]
            tensor = tensor_pb2.TensorProto(
                dtype=types_pb2.DT_STRING,
                tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=sizes),
                string_val=[cell.encode() for cell in cells],
            )
            plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
            value = summary_pb2.Summary.Value(
                tag=name, tensor=tensor, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin)
            )
            self._event(step=step, summary=summary_pb2.Summary(value=[value]))

    def advance(self, step: int, text: str) -> None:
        """Move the progress bar and print a line about `step`; without a terminal, with the ETA."""
        self._progress.update(self._task, completed=step)
        if self._progress.disable:
            if self._first is None:  # The first step of a run tells nothing of the others' pace.
                self._first = step, time.monotonic()
            done = step - self._first[0]
            if done:
                left = (time.monotonic() - self._first[1]) / done * (self._total - step)
                text = f"{text}  ETA {datetime.timedelta(seconds=round(left))}"
        self.say(f"step {step}/{self._total}  {text}")

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._progress.console.print(text, markup=False)

    def close(self) -> None:
        """Flush and close everything."""
        self._progress.stop()
        self._jsonl.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _event(self, **fields: Any) -> None:
        event = event_pb2.Event(wall_time=time.time(), **fields)
        self._events.write(event.SerializeToString())
        self._events.flush()


class NoWriter:
    """What the processes other than the first write to: nothing."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def write_tables(self, step: int, tables: Mapping[str, Sequence[Sequence[str]]]) -> None: ...

    def advance(self, step: int, text: str) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


def _code(text: str) -> str:
    """Markdown that shows `text` as it is: between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {' '.join(text.split())} {fence}" if text.strip() else ""


def _reopened(path: pathlib.Path, start_step: int):
    """`path` open for appending, with the lines of steps after `start_step` dropped."""
    kept = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= start_step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # the last line of a killed process may be half written
    write_atomically(path, "".join(kept))
    return path.open("a")


def _wandb(folder: pathlib.Path, project: str, config: str):
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "train.wandb_project is set, but Weights & Biases is not installed: `pip install wandb`, "
            "or leave it unset (metrics.jsonl and TensorBoard files are always written)."
        ) from error
    # One id per run directory: a resumed run goes on in the same chart.
    return wandb.init(
        project=project,
        id=folder.absolute().as_posix().strip("/").replace("/", "-")[-64:],
        name=folder.name,
        dir=str(folder),
        resume="allow",
        config={"gin": config},
    )
