# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of texts in TensorBoard: what a model says is shown as it is."""

import html

import numpy as np
import pytest
from tensorboard.plugins.text import text_plugin

from mto_jax.training.logging import _code


@pytest.mark.parametrize(
    "text",
    [
        "to have a *clean* home",
        "<extra_id_0> a cup <extra_id_1>",
        "<script>alert(1)</script> & so on",
        "a `b` ``` c",
        "`",
        "1. one # two | three\\",
    ],
)
def test_markdown_in_a_cell_is_shown_as_it_is(text):
    shown = text_plugin.text_array_to_html(np.array([[_code(text)]]), True)
    cell = shown.partition("<code>")[2].partition("</code>")[0]
    assert html.unescape(cell) == text


def test_an_empty_cell_stays_empty():
    assert _code("  ") == ""
