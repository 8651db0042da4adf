# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which edits of code make a stored result stale."""

import functools

import pytest

from mto_jax import sources
from mto_jax.data.manifest import PACKAGES

MODULES = {
    "__init__": "",
    "objectives": '''
"""Objectives."""
from dataclasses import dataclass

LENGTH = 3

def spans(x):
    """Masks spans."""
    return helper(x)[:LENGTH]

def helper(x):
    return x

def unused(x):
    return x

def order(x, by="reverse"):
    return OBJECTIVES[by](x)

def reverse(x): return x[::-1]

OBJECTIVES = {
    "spans": spans,
    "order": order,
    "reverse": reverse,
}
''',
    "corpora": """
from house import objectives
from house.tables import PHRASES as words

def register():
    from .late import size
    return objectives.OBJECTIVES, words, size()
""",
    "tables": "PHRASES = {}\nPHRASES['a'] = 'b'\n",
    "late": "def size(): return 1\n",
    "qa": "from house import corpora\nA = 1\n",
}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A package; returns a function that replaces text in one of its modules."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "house").mkdir()
    for name, text in MODULES.items():
        (tmp_path / f"house/{name}.py").write_text(text)

    def edit(module, old, new):
        path = tmp_path / f"house/{module}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        sources._read.cache_clear()  # two edits may have one time stamp

    return edit


def digests():
    return sources.definitions(["house.corpora", "house.objectives:spans"], ["house"])


def test_definitions_are_followed_by_name(house):
    assert [*digests()] == [
        "house.corpora:register",
        "house.late:size",
        "house.objectives:LENGTH",
        "house.objectives:helper",
        "house.objectives:spans",
        "house.tables:PHRASES",
    ]
    assert sources.definitions(["house.corpora"], ["house.late"]) == {}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("qa", "A = 1", "A = 2  # another module"),
        ("objectives", "LENGTH = 3", "# A comment.\nLENGTH = (3)"),
        ("objectives", "Masks spans", "Another docstring"),
        ("objectives", "def unused(x):", "def unused(x, y):"),
        ("objectives", "x[::-1]", "x  # another objective"),
        ("objectives", "OBJECTIVES = {", "def new(x): pass\n\nOBJECTIVES = {\n 'new': new,"),
    ],
)
def test_what_does_not_count(house, module, old, new):
    before = digests()
    house(module, old, new)
    assert sources.changed(before) == []


@pytest.mark.parametrize(
    ("module", "old", "new", "changed"),
    [
        ("objectives", "return helper(x)", "return -helper(x)", "objectives:spans"),
        ("objectives", "def helper(x):", "def helper(x, y=1):", "objectives:helper"),
        ("objectives", "LENGTH = 3", "LENGTH = 3.0", "objectives:LENGTH"),
        ("objectives", "def helper(x):\n", "def other(x):\n", "objectives:helper"),
        ("tables", "'b'", "'c'", "tables:PHRASES"),
        ("late", "return 1", "return 2", "late:size"),
    ],
)
def test_what_counts(house, module, old, new, changed):
    before = digests()
    house(module, old, new)
    assert sources.changed(before) == [f"house.{changed}"]


def test_a_module_that_is_gone_counts(house, tmp_path):
    before = digests()
    (tmp_path / "house/late.py").unlink()
    assert sources.changed(before) == ["house.late:size"]


def test_an_objective_that_is_named_in_a_string_counts(house):
    names = sources.definitions(["house.objectives:order"], ["house"])
    assert [*names] == ["house.objectives:order", "house.objectives:reverse"]


def test_the_packages_own_tasks():
    corpora = sources.definitions(["mto_jax.tasks.corpora"], PACKAGES)
    assert "mto_jax.text2text.preprocessing:preprocessor" in corpora
    others = ("templates", "tasks.qa", "demo", "span_corruption")
    assert not [name for name in corpora if any(other in name for other in others)]
    mixed = sources.definitions(["mto_jax.text2text.objectives:mixed"], PACKAGES)
    assert {f"mto_jax.text2text.objectives:{name}" for name in ("lm", "denoising")} <= mixed.keys()
    questions = sources.definitions(["mto_jax.tasks.qa"], PACKAGES)
    assert {"mto_jax.text2text.templates:render", "mto_jax.tasks.qa:SETS"} <= questions.keys()


def test_functions_inside_of_values_are_known():
    from mto_jax.text2text import objectives, preprocessing

    names = set(sources.references([preprocessing.preprocessor("span_corruption")]))
    module = objectives.__name__
    known = {f"{module}:{name}" for name in ("Objective", "span_corruption")}
    assert {f"{preprocessing.__name__}:preprocessor", *known} <= names
    partial = functools.partial(sources.find_module, objectives.Objective(print, digests))
    assert set(sources.references({"a": (partial,)})) == {
        "mto_jax.sources:find_module",
        f"{module}:Objective",
        f"{__name__}:digests",
    }
