# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The HTML report of a grid, one self-contained page: axes, tables, figures, failures."""

import base64
import html
from collections.abc import Mapping, Sequence

from mto_jax.experiments import formats
from mto_jax.experiments.grid import Cell, Grid
from mto_jax.experiments.results import Results
from mto_jax.experiments.tables import Filled

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2330; margin: 0 auto; max-width: 1200px;
  padding: 24px; }
h1 { margin: 0 0 4px; font-size: 26px; }
h2 { margin: 40px 0 10px; font-size: 19px; }
nav { margin: 14px 0 0; } nav a { margin-right: 16px; color: #1f5fa8; text-decoration: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 16px 0 0; }
dt { color: #667080; } dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; border: solid #1c2330; border-width: 2px 0; }
thead th { border-bottom: 1px solid #1c2330; }
tbody + tbody { border-top: 1px solid #9aa3b0; }
th, td { padding: 5px 12px; text-align: center; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; } tbody th, th.axis { text-align: left; } tbody th { font-weight: normal; }
td { font-variant-numeric: tabular-nums; } tbody tr:hover { background: #f3f6fa; }
td span { color: #667080; font-size: 12.5px; } td i { font-style: normal; }
small { display: block; color: #667080; font-size: 11.5px; line-height: 1.35; }
.note { color: #667080; font-size: 13px; max-width: 95ch; }
.better { color: #1b7f3b; } .worse { color: #b3261e; }
img { max-width: 100%; height: auto; display: block; }
pre { background: #fdf3f2; padding: 8px 12px; overflow-x: auto; white-space: pre-wrap; }
"""


def page(
    grid: Grid,
    results: Results,
    tables: Sequence[Filled],
    figures: Mapping[str, bytes],
    errors: Mapping[Cell, str],
) -> str:
    """The page as HTML; `figures` holds SVG by name, `errors` what the cells that failed said."""
    sections = [
        *((f"table: {t.spec.name}", t.title, formats.html_table(t)) for t in tables),
        *(
            (f"figure: {name}", f"Figure {name}", _image(name, svg))
            for name, svg in figures.items()
        ),
        *([("failed", "Cells that failed", _failures(errors))] if errors else []),
    ]
    links = "".join(f'<a href="#{_id(name)}">{html.escape(name)}</a>' for name, _, _ in sections)
    state = f"{len(results.results)} of {len(results.cells)} cells"
    state += f", {len(errors)} failed" if errors else ""
    axes = "".join(
        f"<dt>{html.escape(axis)}</dt><dd>{html.escape(', '.join(map(grid.label, values)))}</dd>"
        for axis, values in grid.axes.items()
    )
    body = "\n".join(
        f'<section id="{_id(name)}"><h2>{html.escape(title)}</h2>\n{content}\n</section>'
        for name, title, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(grid.name)}</title>\n"
        f"<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{html.escape(grid.name)}</h1><div>{state}</div><nav>{links}</nav><dl>{axes}</dl>\n"
        f"{body}\n</body></html>\n"
    )


def _id(name: str) -> str:
    return name.replace(": ", "-")


def _failures(errors: Mapping[Cell, str]) -> str:
    return "".join(
        f"<p>{html.escape(str(cell))}</p><pre>{html.escape(text)}</pre>"
        for cell, text in errors.items()
    )


def _image(name: str, svg: bytes) -> str:
    # As an image and not inline: the ids of two SVG texts would clash in one page.
    data = base64.b64encode(svg).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/svg+xml;base64,{data}">'
