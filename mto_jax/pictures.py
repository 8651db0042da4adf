# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The look of all figures: colours that colour-blind readers can tell apart, and files of them."""

import functools
import io
from collections.abc import Callable
from typing import Any

import cycler
import matplotlib
import matplotlib.figure

IMAGE_FORMATS = ("png", "svg", "pdf")

# Okabe and Ito's palette, and a grey.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000"),
    "#999999",
)
_STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler.cycler(color=COLOURS),
    "svg.hashsalt": "mto",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "legend.frameon": False,
}
# The same figure has the same bytes: no date, no random ids.
_METADATA = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def styled(
    draw: Callable[..., matplotlib.figure.Figure],
) -> Callable[..., matplotlib.figure.Figure]:
    """Returns `draw` in the style of all figures."""

    @functools.wraps(draw)
    def inner(*arguments, **options):
        with matplotlib.rc_context(_STYLE):
            return draw(*arguments, **options)

    return inner


def encode(figure: matplotlib.figure.Figure, suffix: str) -> bytes:
    """Returns the file of a figure, the same bytes for the same figure."""
    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format=suffix, dpi=150, metadata=_METADATA[suffix])
    return file.getvalue()
