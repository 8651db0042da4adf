# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A filled table as Markdown, LaTeX (booktabs), CSV, HTML, and for the terminal."""

import csv
import html
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import rich.table
import rich.text

from mto_jax.console import folding_table, markdown_table
from mto_jax.experiments.results import Entry, Results
from mto_jax.experiments.tables import Coordinates, Filled

BETTER, WORSE = "↑", "↓"

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{char: f"${char}$" for char in "<>"},
    "±": r"$\pm$",
}


class Parts(NamedTuple):
    """The parts of an entry, each as text without decoration; empty where there is nothing."""

    value: str
    deviation: str = ""  # over seeds
    interval: str = ""
    mark: str = ""  # BETTER, WORSE
    missing: str = ""  # "2 of 3 cells"
    published: str = ""  # "0.200, +0.031"


def parts(filled: Filled, row: Coordinates, column: Coordinates) -> Parts:
    """The parts of the entry of a row and a column."""
    entry = filled.entries.get((row, column))
    if entry is None:
        return Parts("")
    published = filled.published.get((row, column))
    beside = "" if published is None else f"{published:.3f}"
    missing = "" if entry.complete else f"{entry.present} of {entry.asked} cells"
    if entry.value is None:
        return Parts("-", missing=missing, published=beside)
    if filled.spec.differences and not filled.spec.contrast(row):
        if entry.versus is None:
            own = entry.complete and _is_baseline(filled, row, column)
            return Parts("baseline" if own else "-", missing=missing)
        d = entry.versus
        interval = f"[{d.low:+.3f}, {d.high:+.3f}]"
        return Parts(f"{d.difference:+.3f}", "", interval, _mark(filled, entry), missing)
    if filled.spec.contrast(row):
        interval = f"[{entry.low:+.3f}, {entry.high:+.3f}]"
        return Parts(f"{entry.value:+.3f}", "", interval, _mark(filled, entry), missing)
    return Parts(
        f"{entry.value:.3f}",
        "" if entry.deviation is None else f"{entry.deviation:.3f}",
        "" if entry.low is None else f"[{entry.low:.3f}, {entry.high:.3f}]",
        _mark(filled, entry),
        missing,
        "" if published is None else f"{beside}, {entry.value - published:+.3f}",
    )


def _is_baseline(filled: Filled, row: Coordinates, column: Coordinates) -> bool:
    """Returns whether the other entries of the column are compared with this one, by the axes."""
    if counterparts := filled.spec.row_counterparts:
        return row[0] in counterparts.values()
    axes = (*filled.spec.row_axes, *filled.spec.column_axes)
    place = dict(zip(axes, (*row, *column), strict=False))
    return all(place.get(axis, value) == value for axis, value in filled.baseline.items())


def _mark(filled: Filled, entry: Entry) -> str:
    if entry.versus is None or not entry.versus.significant:
        return ""
    return BETTER if (entry.versus.difference > 0) != filled.spec.lowest else WORSE


def notes(filled: Filled, intervals: bool) -> list[str]:
    """Notes for the reader, a sentence each, about what the table does show."""
    shown = [parts(filled, row, column) for row in filled.rows for column in filled.columns]
    label = filled.grid.label
    if counterparts := filled.spec.row_counterparts:
        rows = list(dict.fromkeys(counterparts.values()))
        against = f"in the row {rows[0]}"
        if len(rows) > 1:
            pairs = "; ".join(
                f"{label} with {counterpart}" for label, counterpart in counterparts.items()
            )
            against = f"in the row that is compared with it ({pairs})"
    else:
        place = ", ".join(f"{axis} {label(value)}" for axis, value in filled.baseline.items())
        against = f"with {place} and all else the same"
    says = [f"Differences to the value {against}."] if filled.spec.differences else []
    if any(p.deviation for p in shown):
        says.append("± is the standard deviation over seeds.")
    if intervals and any(p.interval for p in shown):
        says.append("Brackets hold the 95 % bootstrap interval over seeds and test examples.")
    if any(map(filled.spec.contrast, filled.rows)):
        says.append(
            "Contrasts: their intervals also cover tasks and, where a side has several models, "
            f"models; {BETTER} and {WORSE}: above or below zero (two-sided p < 0.05, each for "
            "itself)."
        )
    if (filled.baseline or counterparts) and any(
        entry.versus for (row, _), entry in filled.entries.items() if not filled.spec.contrast(row)
    ):
        says.append(
            f"{BETTER} and {WORSE}: better or worse than {against} (paired "
            "bootstrap over seeds and test examples, two-sided p < 0.05, each comparison for "
            "itself)."
        )
    if filled.best:
        within = f" within each {filled.spec.block}" if filled.spec.block else ""
        says.append(
            f"Bold: the {'lowest' if filled.spec.lowest else 'highest'} of a column{within}."
        )
    if any(p.missing for p in shown):
        says.append("Where cells are missing, their number is given, and the entry is never bold.")
    if any(p.published for p in shown):
        says.append("Braces hold the published number and ours less it.")
    return says


def head(filled: Filled) -> list[str]:
    """The names of the row axes, then of the columns."""
    columns = [" / ".join(map(filled.grid.label, column)) for column in filled.columns]
    return [*filled.spec.row_axes, *columns]


def _labelled(
    filled: Filled, rows: Sequence[Coordinates]
) -> Iterator[tuple[list[str], Coordinates]]:
    """Each row with its labels, of which those are left out that repeat the row above."""
    above: list[str] = []
    for row in rows:
        labels = [filled.grid.label(value) for value in row]
        same = next(
            (i for i, pair in enumerate(zip(labels, above, strict=False)) if len(set(pair)) > 1), 0
        )
        yield [""] * same + labels[same:], row
        above = labels


def markdown(filled: Filled) -> str:
    """A heading, the table and its notes."""
    rows = [head(filled)]
    for row in filled.rows:
        texts = [_markdown(filled, row, column) for column in filled.columns]
        rows.append([*(_plain(filled.grid.label(value)) for value in row), *texts])
    said = notes(filled, filled.spec.intervals)
    return f"## {filled.title}\n\n{markdown_table(rows)}\n\n{' '.join(said)}\n"


def _markdown(filled: Filled, row: Coordinates, column: Coordinates) -> str:
    p = parts(filled, row, column)
    bold = (row, column) in filled.best
    return _joined(
        f"**{p.value}**" if bold else p.value,
        f"± {p.deviation}" if p.deviation else "",
        p.interval if filled.spec.intervals else "",
        p.mark,
        f"({p.missing})" if p.missing else "",
        f"{{{p.published}}}" if p.published else "",
    )


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _joined(*texts: str) -> str:
    return " ".join(filter(None, texts))


def latex(filled: Filled) -> str:
    """A floating table of the packages booktabs and, for wide ones, graphicx."""
    texts = [_tex(name) for name in head(filled)]
    body = []
    for i, block in enumerate(filled.blocks()):
        body += [r"\midrule"] if i else []
        for labels, row in _labelled(filled, block):
            values = [_latex(filled, row, column) for column in filled.columns]
            body.append(" & ".join([*map(_tex, labels), *values]) + r" \\")
    sides = "l" * len(filled.spec.row_axes) + "c" * len(filled.columns)
    caption = _tex(" ".join([f"{filled.title}.", *notes(filled, filled.spec.intervals)]))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{_arrows(caption)}}}",
            f"\\label{{tab:{filled.spec.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            f"\\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            " & ".join(texts) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _latex(filled: Filled, row: Coordinates, column: Coordinates) -> str:
    p = parts(filled, row, column)
    bold = (row, column) in filled.best
    small = _joined(
        f"$\\pm$ {p.deviation}" if p.deviation else "",
        p.interval if filled.spec.intervals else "",
        f"({p.missing})" if p.missing else "",
        rf"\{{{p.published}\}}" if p.published else "",
    )
    value = f"\\textbf{{{p.value}}}" if bold else p.value
    return _joined(value + _arrows(p.mark), f"{{\\scriptsize {small}}}" if small else "")


def _tex(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in text)


def _arrows(text: str) -> str:
    return text.replace(BETTER, r"$^{\uparrow}$").replace(WORSE, r"$^{\downarrow}$")


def comma_separated(filled: Filled) -> str:
    """A line for every entry, with all that is known of it."""
    axes = [*filled.spec.row_axes, *filled.spec.column_axes]
    names = [
        "metric",
        "value",
        "deviation",
        "low",
        "high",
        "cells",
        "asked",
        "difference",
        "difference_low",
        "difference_high",
        "p",
        "published",
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*axes, *names])
    for row, column in itertools.product(filled.rows, filled.columns):
        if (entry := filled.entries.get((row, column))) is None:
            continue
        versus = entry.versus
        compared = (versus.difference, versus.low, versus.high, versus.p) if versus else [None] * 4
        numbers = (entry.value, entry.deviation, entry.low, entry.high)
        writer.writerow(
            [
                *map(filled.grid.label, (*row, *column)),
                *[""] * (len(filled.spec.column_axes) - len(column)),  # behind "average"
                filled.metric,
                *map(_number, numbers),
                entry.present,
                entry.asked,
                *map(_number, compared),
                _number(filled.published.get((row, column))),
            ]
        )
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def all_cells(results: Results) -> str:
    """CSV with a line for every cell that is done: its place and all its metrics."""
    # The same command gives the same file: how long a cell took stays in its own.
    names = {name for result in results.results.values() for name in result["values"]}
    metrics = sorted(names - {"seconds"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*results.cells[0].values, *metrics])
    for cell in results.cells:
        if cell in results.results:
            values = results.results[cell]["values"]
            writer.writerow(
                [*cell.values.values(), *(_number(values.get(name)) for name in metrics)]
            )
    return text.getvalue()


def html_table(filled: Filled) -> str:
    """A `<table>` and a paragraph of notes."""
    axes = len(filled.spec.row_axes)
    titles = "".join(
        f"<th{' class=axis' if i < axes else ''}>{html.escape(name)}</th>"
        for i, name in enumerate(head(filled))
    )
    lines = []
    for block in filled.blocks():
        lines.append("<tbody>")
        for labels, row in _labelled(filled, block):
            names = "".join(f"<th>{html.escape(label)}</th>" for label in labels)
            entries = "".join(_html(filled, row, column) for column in filled.columns)
            lines.append(f"<tr>{names}{entries}</tr>")
        lines.append("</tbody>")
    body = "\n".join(lines)
    said = html.escape(" ".join(notes(filled, True)))
    return (
        f"<div class=wide><table><thead><tr>{titles}</tr></thead>\n{body}</table></div>\n"
        f"<p class=note>{said}</p>"
    )


def _html(filled: Filled, row: Coordinates, column: Coordinates) -> str:
    p = parts(filled, row, column)
    value = f"<b>{p.value}</b>" if (row, column) in filled.best else p.value
    deviation = f"<span>± {p.deviation}</span>" if p.deviation else ""
    mark = {BETTER: "<i class=better>↑</i>", WORSE: "<i class=worse>↓</i>", "": ""}[p.mark]
    small = [p.interval, p.missing, f"{{{p.published}}}" if p.published else ""]
    below = "".join(f"<small>{html.escape(text)}</small>" for text in small if text)
    return f"<td>{_joined(value, deviation, mark)}{below}</td>"


def terminal(filled: Filled) -> rich.table.Table:
    """The table for the terminal, without intervals."""
    table = folding_table(head(filled), filled.title, caption=" ".join(notes(filled, False)))
    for block in filled.blocks():
        for labels, row in _labelled(filled, block):
            texts = [_text(filled, row, column) for column in filled.columns]
            table.add_row(*map(rich.text.Text, labels), *texts)
        table.add_section()
    return table


def _text(filled: Filled, row: Coordinates, column: Coordinates) -> rich.text.Text:
    p = parts(filled, row, column)
    text = rich.text.Text(p.value, style="bold" if (row, column) in filled.best else "")
    text.append(p.mark)
    for more in (f"±{p.deviation}" if p.deviation else "", p.missing):
        text.append(f" {more}" if more else "", style="dim")
    return text
