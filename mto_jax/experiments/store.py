# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The results folder of a grid: one small JSON for every cell that is done or has failed.

    grid.json          whose folder it is
    cells/KEY.json     values, settings and result of a cell, and a digest of all that
    errors/KEY.json    the error of a cell that failed
    leases/KEY         the process that computes a cell just now (files.Leases)

Files are written whole or not at all, and a file that has changed since is refused.
"""

import json
import math
import pathlib
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mto_jax.errors import UserError
from mto_jax.experiments.grid import Cell, Grid
from mto_jax.files import canonical, read_record, write_record

# {"scores": {metric: a number per example}, "values": {metric: number}, "info": {...}}
Result = Mapping[str, Any]

_ABANDONED_SECONDS = 3600.0


class CellStore:
    """Results by cell, in a folder that several processes may share."""

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)
        self._cells, self._errors = self.folder / "cells", self.folder / "errors"

    def check(self, grid: Grid, cells: Sequence[Cell]) -> None:
        """Check that the folder is new or this grid's, and that nothing in it is damaged.

        A grid may grow and shrink on any axis: what was computed stays, and counts as soon as a
        cell asks for it. Its name and its set of axes stay, and so do the settings of cells that
        are there already.

        Raises:
          UserError: another grid's folder, or one with results of other settings (the fields that
            differ are named); files that are damaged (all are named).
        """
        if not self.folder.exists():
            return
        self._check_identity(grid)
        wanted = {canonical(cell.values): cell for cell in cells}
        damaged = {}
        for path in [*sorted(self._cells.glob("*.json")), *sorted(self._errors.glob("*.json"))]:
            try:
                content = _read(path)
            except UserError as error:
                damaged[str(path)] = str(error)
                continue
            cell = wanted.get(canonical(content["values"]))
            if cell and cell.key != content["key"] and "result" in content:
                changed = differences(content["settings"], json.loads(cell.settings))
                raise UserError(
                    f"{self.folder} holds results of other settings: {changed} (cell {cell}; "
                    f"{path}). Choose another OUTPUT_DIR, or go back to the settings of the folder."
                )
        if damaged:
            listed = "\n  ".join(damaged.values())
            raise UserError(
                f"The results folder is damaged:\n  {listed}\nDelete what is damaged, and these "
                f"cells are computed again: rm {shlex.join(damaged)}"
            )

    def create(self, grid: Grid) -> None:
        """Make the folder, unless it is there."""
        # First of all what says whose it is: another process may look in at any moment.
        self.folder.mkdir(parents=True, exist_ok=True)
        write_record(self.folder / "grid.json", _identity(grid))
        for folder in (self._cells, self._errors):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob(".*"):  # what a killed process was about to write
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink(missing_ok=True)

    def done(self, cell: Cell) -> bool:
        """Returns whether the cell has a result."""
        return self._path(cell).exists()

    def failed(self, cell: Cell) -> bool:
        """Returns whether the cell has an error and no result."""
        return self._error(cell).exists() and not self.done(cell)

    def settled(self) -> tuple[set[str], set[str]]:
        """The keys of all cells that are done, and of those that failed."""
        done = {path.stem for path in self._cells.glob("*.json")}
        return done, {path.stem for path in self._errors.glob("*.json")} - done

    def read(self, cell: Cell) -> Result:
        """The result of a cell that is done.

        Raises:
          UserError: its file is damaged.
        """
        return _read(self._path(cell))["result"]

    def seconds(self, cells: Sequence[Cell]) -> list[float]:
        """The seconds that each of the cells took that are done."""
        return [_read(self._path(cell))["seconds"] for cell in cells if self.done(cell)]

    def write(self, cell: Cell, result: Result, seconds: float) -> None:
        """Keep a result.

        Raises:
          ValueError: it is not of the form that tables can use, or holds a number that is not
            finite.
        """
        check_result(result)
        _write(self._path(cell), cell, {"result": result, "seconds": round(seconds, 3)})
        self._error(cell).unlink(missing_ok=True)

    def write_error(self, cell: Cell, error: str, trace: str) -> None:
        """Keep the error of a cell that failed: its text and its trace."""
        _write(self._error(cell), cell, {"error": error, "traceback": trace.splitlines()})

    def errors(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        """The text of the error of every cell that failed."""
        return {cell: _read(self._error(cell))["error"] for cell in cells if self.failed(cell)}

    def forget_errors(self, cells: Sequence[Cell]) -> None:
        """Count the failed ones among the cells as never tried."""
        for cell in cells:
            self._error(cell).unlink(missing_ok=True)

    def _path(self, cell: Cell) -> pathlib.Path:
        return self._cells / f"{cell.key}.json"

    def _error(self, cell: Cell) -> pathlib.Path:
        return self._errors / f"{cell.key}.json"

    def _check_identity(self, grid: Grid) -> None:
        path = self.folder / "grid.json"
        if not path.exists():
            # What is about to be written has a hidden name.
            if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                raise UserError(
                    f"{self.folder} is no results folder: it is not empty and has no grid.json. "
                    "Choose another OUTPUT_DIR."
                )
            return
        try:
            stored = read_record(path, unsigned=True)
        except UserError as error:
            raise UserError(
                f"{error}. If the folder belongs to the grid {grid.name!r}, delete that file and "
                f"it is written again: rm {path}"
            ) from error
        if stored != _identity(grid):
            changed = differences(stored, _identity(grid))
            raise UserError(
                f"{self.folder} holds the results of another grid: {changed} (grid.json). Choose "
                "another OUTPUT_DIR."
            )


def check_result(result: Result) -> None:
    """Check that a result can be stored and shown.

    Raises:
      ValueError: it cannot; scores of single examples must have the metric's value as their mean.
    """
    if set(result) != {"scores", "values", "info"}:
        raise ValueError(
            f"A result has scores, values and info, but this one has {sorted(result)}."
        )
    for metric, value in result["values"].items():
        if not math.isfinite(value):
            raise ValueError(f"The metric {metric!r} is {value}.")
    if len({len(scores) for scores in result["scores"].values()}) > 1:
        raise ValueError("The metrics have scores of unlike numbers of examples.")
    for metric, scores in result["scores"].items():
        mean, value = math.fsum(scores) / len(scores), result["values"][metric]
        if not math.isclose(mean, value, rel_tol=1e-4, abs_tol=1e-6):
            raise ValueError(f"The mean of the scores of {metric!r} is {mean}, its value {value}.")


def _write(path: pathlib.Path, cell: Cell, outcome: Mapping[str, Any]) -> None:
    content = {
        "key": cell.key,
        "values": cell.values,
        "settings": json.loads(cell.settings),
        **outcome,
        "host": socket.gethostname(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_record(path, content)


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The content of a cell file; a `UserError` that begins with the path if it is damaged."""
    content = read_record(path)
    if content["key"] != path.stem:
        raise UserError(f"{path} belongs to the cell {content['key']}")
    return content


def _identity(grid: Grid) -> dict[str, Any]:
    return {"grid": grid.name, "axes": sorted(grid.axes)}


def differences(stored: Any, wanted: Any) -> str:
    """The fields in which two settings differ, with both values."""
    old, new = dict(_flat("", stored)), dict(_flat("", wanted))
    names = [name for name in {**old, **new} if old.get(name, "-") != new.get(name, "-")]
    return "; ".join(
        f"{n} is {old.get(n, 'absent')} there, {new.get(n, 'absent')} here" for n in names
    )


def _flat(name: str, content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping) and content:
        for field, value in content.items():
            yield from _flat(f"{name}.{field}" if name else field, value)
    else:
        yield name, json.dumps(content)
