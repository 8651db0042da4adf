# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A page of a grid or of a run in the browser: scores as cells finish, predictions of two models
side by side, and a field to ask a model.

  mto board runs/tables
  mto board runs/uses --port=5007

It reads the folder anew every few seconds and writes nothing. Only this machine can open it unless
--address names another. Needs the extra `board`: pip install 'mto-jax[board]'.
"""

import base64
import errno
import functools
import html
import os
import pathlib
import socket
import threading
from typing import Annotated, Any

import gin

from mto_jax import checks, errors
from mto_jax.checkpoints import peft
from mto_jax.errors import UserError
from mto_jax.experiments import formats, predictions
from mto_jax.experiments.run import default_figures, default_tables
from mto_jax.experiments.tables import fill
from mto_jax.pictures import encode

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_COMPUTING = threading.Lock()
_SECONDS = 5  # between looks at the folder
_ROWS = 25  # of predictions on a page


def add_flags(parser) -> None:
    parser.add_argument("folder", metavar="RUN_OR_GRID_DIR", help="what to show")
    parser.add_argument("--port", type=int, metavar="N", help="default: 5006")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="default: 127.0.0.1, which others cannot reach"
    )
    parser.add_argument(
        "--show", action="store_true", default=None, help="open the page in a browser"
    )


@gin.configurable
def board(
    folder: checks.Place,
    port: Annotated[int, checks.Rule(lambda n: 0 < n < 65536, "from 1 to 65535")] = 5006,
    address: checks.Name = "127.0.0.1",
    show: bool = False,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
      folder: of a grid (`mto tables`, `mto tune`), a run directory, or a folder with several.
      port: of the page.
      address: of this machine at which it can be reached; others than 127.0.0.1 let others in.
      show: open it in a browser.

    Raises:
      UserError: nothing to show there, Panel is not installed, or the port is taken.
    """
    checks.check(board, locals())
    predictions.check_folder(folder)
    _check_port(address, port)
    panel = _panel()
    if address not in _LOOPBACK:
        print(f"{address} is not this machine alone: whoever reaches it can read this folder.")
    origins = [f"{name}:{port}" for name in {address, "localhost"}]
    server = panel.serve(
        lambda: page(folder),
        address=address,
        port=port,
        websocket_origin="*" if address in ("0.0.0.0", "::") else origins,
        show=show,
        title="MTO-JAX",
        verbose=False,
        start=False,
    )
    server.start()
    print(f"http://{address}:{port} shows {folder}; Ctrl-C ends", flush=True)
    server.io_loop.start()


def _check_port(address: str, port: int) -> None:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} of {address} is in use, by another board perhaps: take another one, "
                f"--port={port + 1 if port < 65535 else port - 1}."
            ) from error
        raise UserError(f"--address={address} --port={port}: {errors.message(error)}.") from error


def _panel() -> Any:
    try:
        import panel
    except ModuleNotFoundError as error:
        raise UserError("mto board needs Panel: pip install 'mto-jax[board]'.") from error
    # Threads: what takes long for a visitor, or for one part of the page, keeps no other waiting.
    panel.extension("tabulator", nthreads=4)
    return panel


# ---- The page ---------------------------------------------------------------------------------


def page(folder: str | os.PathLike) -> Any:
    """Returns the page of a visitor, a Panel template."""
    import panel as pn

    parts = ("Predictions", _predictions(folder)), ("Try", _trial(folder))
    tabs = pn.Tabs(*parts, dynamic=True, sizing_mode="stretch_width")
    if predictions.is_grid(folder):
        tabs.insert(0, ("Scores", _scores(folder)))
    name = pathlib.Path(folder).resolve().name
    return pn.template.BootstrapTemplate(title=f"MTO-JAX: {name}", main=[tabs])


def _scores(folder: str | os.PathLike) -> Any:
    """Tables and figures of the cells that are done."""
    import panel as pn

    shown = pn.pane.HTML("<p>Cells are read ...</p>", sizing_mode="stretch_width")

    def look() -> None:
        with _COMPUTING:  # one visitor computes, the others take what came out
            shown.object = _scores_html(folder, _state(folder))

    pn.state.onload(look)
    pn.state.add_periodic_callback(look, period=_SECONDS * 1000)
    return shown


@functools.lru_cache(maxsize=2)
def _scores_html(folder: str | os.PathLike, state: Any) -> str:
    """`scores_html` of the folder in this state."""
    del state
    return scores_html(folder)


@functools.lru_cache(maxsize=2)
def _rows(folder: str | os.PathLike, state: Any) -> list[predictions.Row]:
    """The predictions of the folder in this state."""
    del state
    return predictions.predictions(folder)


def scores_html(folder: str | os.PathLike) -> str:
    """Tables and figures of a grid's cells that are done, as HTML; what is wrong in words."""
    failed = len([*pathlib.Path(folder, "errors").glob("*.json")])
    try:
        done = predictions.finished(folder)
    except UserError as error:
        return f"<p>{html.escape(str(error))}</p>"
    if done is None:
        return f"<p>No cell is done yet, {failed} failed. This page looks again by itself.</p>"
    grid, results = done
    parts = [f"<p>{len(results.cells)} cells are done, {failed} failed.</p>"]
    for table in default_tables(grid):
        parts.append(formats.html_table(fill(table, grid, results)))
    for figure in default_figures(grid):
        svg = base64.b64encode(encode(figure.draw(grid, results), "svg")).decode()
        source = f"data:image/svg+xml;base64,{svg}"
        parts.append(f'<img alt="{figure.name}" style="max-width: 100%" src="{source}">')
    return f'<div style="overflow-x: auto">{"".join(parts)}</div>'


def _state(folder: str | os.PathLike) -> tuple[tuple[str, int], ...]:
    """The files of predictions and cells, and when they were written."""
    place = pathlib.Path(folder)
    files = [*place.glob("cells/*.json"), *place.glob("errors/*.json")]
    files += [] if predictions.is_grid(place) else place.rglob("predictions-*.jsonl")
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in files))


def _predictions(folder: str | os.PathLike) -> Any:
    """Predictions of two models, filtered by task, template, score and words."""
    import pandas
    import panel as pn

    rows: list[predictions.Row] = []
    seen: list[Any] = [None]
    first, second = pn.widgets.Select(name="First model"), pn.widgets.Select(name="Second model")
    tasks = pn.widgets.MultiSelect(name="Tasks (none: all)", size=4)
    templates = pn.widgets.MultiSelect(name="Templates (none: all)", size=4)
    scores = pn.widgets.RangeSlider(name="Score of the first", start=0, end=1, step=0.01)
    words = pn.widgets.TextInput(name="Words", placeholder="in source, reference or prediction")
    count = pn.pane.Str("Predictions are read ...")
    table = pn.widgets.Tabulator(
        pandas.DataFrame(),
        pagination="remote",
        page_size=_ROWS,
        show_index=False,
        disabled=True,
        layout="fit_data_table",
        sizing_mode="stretch_width",
    )

    def choose(*_: Any) -> None:
        paired = predictions.side_by_side(rows, first.value, second.value)
        kept = chosen(paired, tasks.value, templates.value, scores.value, words.value)
        if rows:
            count.object = f"{len(kept)} of {len(paired)} examples"
        table.value = pandas.DataFrame(kept).round(3)

    def look() -> None:
        state = _state(folder)
        if state == seen[0]:
            return
        seen[0] = state
        try:
            rows[:] = _rows(folder, state)
        except UserError as error:
            count.object = str(error)
            return
        if not rows:
            count.object = "There are no predictions yet: mto evaluate, or a grid, makes some."
        models = [*dict.fromkeys(row["model"] for row in rows)]
        for widget, key in ((tasks, "task"), (templates, "template")):
            widget.options = [*dict.fromkeys(row[key] for row in rows)]
        for widget, default in ((first, models[:1]), (second, models[-1:])):
            widget.options = models
            widget.value = widget.value if widget.value in models else next(iter(default), None)
        known = [row["score"] for row in rows if row["score"] is not None] or [0, 1]
        low, high = min(0, *known), max(1, *known)
        if (scores.start, scores.end) != (low, high):
            scores.param.update(start=low, end=high, value=(low, high))
        choose()

    pn.state.onload(look)
    for widget in (first, second, tasks, templates, words):
        widget.param.watch(choose, "value")
    scores.param.watch(choose, "value_throttled")
    pn.state.add_periodic_callback(look, period=_SECONDS * 1000)
    for widget in (first, second, tasks, templates, scores, words):
        widget.width = 300
    controls = pn.FlexBox(first, second, tasks, templates, scores, words)
    return pn.Column(controls, count, table, sizing_mode="stretch_width")


def chosen(
    paired: list[predictions.Row],
    tasks: list[str],
    templates: list[str],
    scores: tuple[float, float],
    words: str,
) -> list[predictions.Row]:
    """Returns the rows of these tasks and templates (none: all) and scores that have the words.

    A row without a score counts for every range.
    """
    low, high = scores
    wanted = words.casefold()
    return [
        row
        for row in paired
        if (not tasks or row["task"] in tasks)
        and (not templates or row["template"] in templates)
        and (row["score of first"] is None or low <= row["score of first"] <= high)
        and (
            not wanted
            or any(
                wanted in row[key].casefold() for key in ("source", "references", "first", "second")
            )
        )
    ]


# ---- Asking a model ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def _model(path: str) -> Any:
    from mto_jax import api

    return api.load(path)


def _trial(folder: str | os.PathLike) -> Any:
    """A field for a source, and the answer of a model."""
    import panel as pn

    place = pathlib.Path(folder)
    found = [place] if (place / "checkpoints").is_dir() else []
    found += sorted(path.parent for path in place.rglob(peft.OWN))
    found += sorted(path.parent for path in place.rglob("checkpoints") if path.parent != place)
    path = pn.widgets.AutocompleteInput(
        name="Model: a run, an adapter, a folder, hf://org/name",
        options=[str(each) for each in found],
        value=str(found[0]) if found else "",
        restrict=False,
        min_characters=0,
    )
    source = pn.widgets.TextAreaInput(
        name="Source, as the model reads it",
        placeholder="uses: a cup is used for <extra_id_0>",
        max_length=20000,
    )
    path.sizing_mode = source.sizing_mode = "stretch_width"
    ask = pn.widgets.Button(name="Ask", button_type="primary", width=120)
    answer = pn.pane.Str()

    def respond(_: Any) -> None:
        answer.object = "..."
        try:
            if not source.value.strip():
                raise UserError("Write a source first.")
            outputs = _model(path.value).predict([source.value], num_outputs=1).outputs[0]
            best = outputs[0]
            answer.object = f"{best.text}\nlog-likelihood {best.log_likelihood:.2f}"
        except (UserError, OSError) as error:
            answer.object = f"{errors.message(error)}"

    ask.on_click(respond)
    return pn.Column(path, source, ask, answer, max_width=900, sizing_mode="stretch_width")
