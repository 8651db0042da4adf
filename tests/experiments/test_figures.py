# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What stands in the figures, against the results."""

import json

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.experiments.correlation import GainFigure
from mto_jax.experiments.figures import Figure
from mto_jax.experiments.html import page
from mto_jax.experiments.results import Results
from mto_jax.pictures import IMAGE_FORMATS, encode
from tests.experiments import fake

GRID = fake.grid(model=["a", "b"], shots=[3, 30, None], seed=[0, 1], labels={"none": "---"})
CELLS = GRID.cells()
RESULTS = Results(CELLS, {cell: fake.result(cell) for cell in CELLS})
KNOWN = fake.FakeRunner().known()


def draw(figure, results=RESULTS):
    figure.check(GRID, KNOWN)
    return figure.draw(GRID, results)


def entry(**where):
    return RESULTS.entry(RESULTS.where(where), "rougeL")


def test_bars_stand_by_objective_and_template_in_a_panel_for_each_model():
    figure = draw(Figure("f", "bars", "objective", "template", "model", {"shots": 3}))
    assert [axes.get_title() for axes in figure.axes] == ["model: a", "model: b"]
    for model, axes in zip("ab", figure.axes, strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["---", "denoising"]
        expected = [
            entry(model=model, objective=o, template=t, shots=3).value
            for t in fake.TEMPLATES
            for o in ("none", "denoising")
        ]
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(expected)
        places = sorted(bar.get_x() for bar in axes.patches)
        assert np.min(np.diff(places)) >= axes.patches[0].get_width()  # none hides another
        segments = axes.collections[0].get_segments()
        first = entry(model=model, objective="none", template="Mapping", shots=3)
        assert segments[0][:, 1] == pytest.approx([first.low, first.high])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(fake.TEMPLATES)


def test_curves_rise_with_shots_on_a_log_axis_with_bands():
    figure = draw(Figure("f", "curve", "shots", "template", "task"))
    axes = figure.axes[1]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "30", "all"]
    line = axes.lines[2]  # Prompting
    expected = [entry(task="xIntent", template="Prompting", shots=s) for s in (3, 30, None)]
    assert line.get_xdata() == pytest.approx([3, 30, 60])
    assert line.get_ydata() == pytest.approx([e.value for e in expected])
    band = axes.collections[2].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx(
        (min(e.low for e in expected), max(e.high for e in expected))
    )


def test_a_heat_map_has_a_field_for_each_task_and_template():
    partial = Results(CELLS, {c: r for c, r in RESULTS.results.items() if c.task != "xNeed"})
    figure = draw(Figure("f", "heat_map", "template", "task", where={"shots": 30}), partial)
    (image,) = figure.axes[0].images
    expected = [
        [entry(task=task, template=t, shots=30).value for t in fake.TEMPLATES]
        for task in ("AtLocation", "xIntent")
    ]
    np.testing.assert_allclose(image.get_array()[:2], expected)
    assert np.ma.getmaskarray(image.get_array())[2].all()
    assert len(figure.axes[0].texts) == 8


SCORES = {"AtLocation": 0.38, "xIntent": -0.66, "xNeed": 0.04}


def test_gain_against_a_score_has_a_point_for_each_task_and_the_correlation():
    spec = GainFigure("f", ("template", "MaskedPrompting", "Prompting"), SCORES, "Maskability")
    figure = draw(spec)
    (axes,) = figure.axes
    gains = [
        entry(task=t, template="MaskedPrompting").value - entry(task=t, template="Prompting").value
        for t in SCORES
    ]
    points = [container.lines[0] for container in axes.containers]
    assert [float(p.get_xdata()[0]) for p in points] == list(SCORES.values())
    assert [float(p.get_ydata()[0]) for p in points] == pytest.approx(gains)
    pearson = np.corrcoef(list(SCORES.values()), gains)[0, 1]
    assert f"Pearson {pearson:+.2f}" in axes.get_title()
    assert {text.get_text() for text in axes.texts} == set(SCORES)


def test_scores_come_from_match_json(tmp_path):
    verdicts = [
        {"task": task, "score": "MI(5)", "value": value, "low": value - 0.1, "high": value + 0.2}
        for task, value in SCORES.items()
    ]
    path = tmp_path / "match.json"
    path.write_text(json.dumps({"verdicts": verdicts}))
    gain = ("template", "MaskedPrompting", "Prompting")
    (axes,) = draw(GainFigure("f", gain, str(path))).axes
    spans = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert spans == pytest.approx([0.28, 0.58])
    with pytest.raises(UserError, match=r"Did you mean 'MI\(5\)'"):
        draw(GainFigure("f", gain, str(path), "MI(0)"))
    with pytest.raises(UserError, match="no match.json"):
        draw(GainFigure("f", gain, str(tmp_path / "absent.json")))


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (Figure("f", "bar", "objective", "template"), "Did you mean 'bars'"),
        (Figure("f", "bars", "objectiv", "template"), "Did you mean 'objective'"),
        (Figure("f", "bars", "objective", "objective"), "an axis twice"),
        (Figure("f", "curve", "objective", "template"), "no numbers"),
        (Figure("f", "bars", "objective", "template", where={"task": "x"}), "no value of the axis"),
        (Figure("f", "bars", "objective", "template", metric="rouge"), "Did you mean 'rougeL'"),
        (GainFigure("f", ("template", "Prompting"), SCORES), "expected"),
        (GainFigure("f", ("template", "Prompting", "Maping"), SCORES), "Did you mean"),
        (GainFigure("f", ("template", "Prompting", "Mapping"), {"a": 1.0}), "three tasks"),
    ],
)
def test_what_a_figure_refuses(figure, message):
    with pytest.raises(UserError, match=message):
        figure.check(GRID, KNOWN)


def test_the_same_figure_has_the_same_bytes_without_a_date():
    spec = Figure("f", "bars", "objective", "template")
    for suffix, magic in zip(IMAGE_FORMATS, (b"\x89PNG", b"<?xml", b"%PDF"), strict=True):
        one, other = (encode(draw(spec), suffix) for _ in range(2))
        assert one == other
        assert one.startswith(magic)
        assert b"CreationDate" not in one
        assert b"<dc:date>" not in one


def test_the_page_holds_figures_and_failures_and_loads_nothing():
    svg = encode(draw(Figure("f", "bars", "objective", "template")), "svg")
    text = page(GRID, RESULTS, [], {"f": svg}, {CELLS[0]: "ValueError: a < b"})
    assert "ValueError: a &lt; b" in text
    assert 'src="data:image/svg+xml;base64,' in text
    assert "288 of 288 cells, 1 failed" in text
    assert "http" not in text
    assert "<script" not in text


def test_series_may_be_cells_at_several_places():
    places = {
        "matched": [
            {"task": "AtLocation", "template": "MaskedPrompting"},
            {"task": ["xIntent", "xNeed"], "template": "Prompting"},
        ],
        "conventional": [{"template": "Mapping"}],
    }
    figure = draw(Figure("f", "bars", "task", places))
    matched = {"AtLocation": "MaskedPrompting", "xIntent": "Prompting", "xNeed": "Prompting"}
    cells = [*matched.items(), *((task, "Mapping") for task in matched)]
    expected = [entry(task=task, template=template).value for task, template in cells]
    assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx(expected)
    with pytest.raises(UserError, match="Did you mean 'Mapping'"):
        draw(Figure("f", "bars", "task", {"a": [{"template": "Maping"}]}))
