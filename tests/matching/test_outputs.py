# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of `mto match`."""

import matplotlib.colors
import pytest

from mto_jax.matching import outputs
from mto_jax.matching.verdict import MAP_PHRASAL, MASK_FILLING, NO_WINNER, Verdict


def test_the_classifiers_table_ends_with_the_mean():
    classified = {"a": ("Mask-Filling", 0.25), "b": ("Map-Phrasal", 1.0)}
    assert outputs.classifier_rows(classified) == [
        ["task", "group", "pairs put there"],
        ["a", "Mask-Filling", "25%"],
        ["b", "Map-Phrasal", "100%"],
        ["mean", "", "62%"],
    ]


def test_decisions_look_different():
    looks = [*outputs._LOOKS.values(), outputs._GAIN]
    for part in zip(*looks, strict=True):
        assert len({*part}) == len(looks)


def test_the_figure_shows_every_value_with_its_interval():
    verdicts = [
        Verdict("a", "MI", 0.5, 0.2, 0.9, 0.0, MASK_FILLING),
        Verdict("b", "MI", -0.5, -0.6, -0.1, 0.0, MAP_PHRASAL),
        Verdict("b", "probe", 0.1, -0.3, 0.4, 0.0, NO_WINNER),
        Verdict("c", "expert", None, None, None, 0.0, MASK_FILLING),
    ]
    figure = outputs.figure(verdicts)
    assert [panel.get_title() for panel in figure.axes] == ["MI", "probe"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "b"]
    for panel, score in zip(figure.axes, ("MI", "probe"), strict=True):
        shown = [v for v in verdicts if v.score == score]
        for bar, verdict in zip(panel.containers, shown, strict=True):
            (x,), (y,) = bar.lines[0].get_data()
            assert (x, y) == (verdict.value, ["a", "b"].index(verdict.task))
            ((left, right),) = [segment[:, 0] for segment in bar.lines[2][0].get_segments()]
            assert (left, right) == pytest.approx((verdict.low, verdict.high))
            colour = outputs._LOOKS[verdict.decision][0]
            assert matplotlib.colors.same_color(bar.lines[0].get_color(), colour)
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        "Mask-Filling",
        "Map-Phrasal",
        "unclear",
    }
