# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The direction of imports: each room imports rooms of lower ranks only, and no library imports a
verb."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From the foundations up; a room may import those before it. docs/architecture.md draws the same
# order.
ROOMS = (
    "top",  # the modules beside the rooms: errors, files, config, ...
    "metrics",
    "text2text",
    "data",
    "models",
    "training",
    "checkpoints",
    "decoding",
    "evaluation",
    "runs",
    "planning",
    "adaptation",
    "matching",
    "experiments",
    "api",  # the Python face: api.py, which __init__.py stands for
    "commands",
)

# Registrations are found by name, like a user's modules: a plug-in point, and the only one.
PLUG_INS = {("mto_jax/text2text/registry.py", "mto_jax.tasks")}


def _imports(path: pathlib.Path) -> set[str]:
    """Dotted names of what a file imports, also inside functions and by `importlib`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return {name for name in names if name.split(".")[0] == "mto_jax"}


def _room(name: str) -> str:
    """The room of a dotted name; "top" for the modules beside the rooms."""
    parts = name.split(".")
    second = parts[1] if len(parts) > 1 else ""
    if second == "api":
        return "api"
    return second if (ROOT / "mto_jax" / second).is_dir() and second else "top"


def _arrows() -> dict[tuple[str, str], list[str]]:
    """(importing room, imported room) -> the files that import."""
    arrows = collections.defaultdict(list)
    for path in sorted((ROOT / "mto_jax").rglob("*.py")):
        parts = path.relative_to(ROOT / "mto_jax").parts
        importing = parts[0] if len(parts) > 1 else "top"
        if parts in (("__init__.py",), ("api.py",)):
            importing = "api"
        if importing == "tasks":
            continue
        for name in _imports(path):
            imported = _room(name)
            place = str(path.relative_to(ROOT))
            if imported != importing and (place, name) not in PLUG_INS:
                arrows[importing, imported].append(f"{place} -> {name}")
    return arrows


def test_every_folder_is_a_room():
    folders = {p.parent.name for p in (ROOT / "mto_jax").glob("*/__init__.py")} - {"tasks"}
    assert folders == set(ROOMS) - {"top", "api"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room):
    allowed = ROOMS[: ROOMS.index(room)]
    wrong = [
        places
        for (importing, imported), places in _arrows().items()
        if importing == room and imported not in allowed
    ]
    assert not wrong
