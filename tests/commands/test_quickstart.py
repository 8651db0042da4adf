# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The quickstart's rows by alignment (its stages are tested with the verbs they call)."""

import gin

from mto_jax import config
from mto_jax.commands import quickstart
from mto_jax.experiments.grid import matches
from mto_jax.text2text.templates import TEMPLATES

ALIGNED = {
    "demo_AtLocation": TEMPLATES["MaskedPrompting"],
    "demo_xIntent": TEMPLATES["Prompting"],
}


def test_the_counterpart_differs_in_what_is_asked_alone():
    for plain, masked in (("Prompting", "MaskedPrompting"), ("Mapping", "MaskedMapping")):
        assert quickstart.counterpart(TEMPLATES[plain], masked=True) == masked
        assert quickstart.counterpart(TEMPLATES[masked], masked=False) == plain
    assert quickstart.counterpart(TEMPLATES["Prompting"], soft="before") == "PrePT"


def test_every_cell_of_the_grid_is_in_one_row():
    config.load(["tables/quickstart.gin"], ["MODEL = 'm'", "OUTPUT_DIR = 'o'"])
    grid, runner = (gin.get_configurable(name)() for name in ("Grid", "FewShot"))
    shown = quickstart.tables(ALIGNED)
    for table in shown:
        table.check(grid, runner.known())
    rows = shown[0].rows
    for cell in grid.cells():
        if cell.method == "constant":
            continue
        (row,) = [
            label
            for label, places in rows.items()
            if any(matches(cell.values, place) for place in places)
        ]
        masked = TEMPLATES[cell.template].masked
        aligned = masked == ALIGNED[cell.task].masked
        assert row.endswith(", aligned" if aligned else ", misaligned")
    assert len(rows) == 2 * len(quickstart.STARTS) + 1
    assert set(shown[2].counterparts.items()) == {
        ("adapted, aligned", "pre-trained, aligned"),
        ("prompt-tuned, frozen, aligned", "frozen, aligned"),
    }
