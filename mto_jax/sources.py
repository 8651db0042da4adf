# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The code that a stored result depends on: definitions, followed by name through modules.

A result on disk is stale when code that it depends on has changed. A definition is compared as a
syntax tree without docstrings, so comments and layout do not count, nor do definitions that it
never names. Nothing is imported: modules are read as files.
"""

import ast
import dataclasses
import functools
import importlib.machinery
import os
import pathlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mto_jax.errors import UserError
from mto_jax.files import digest as digest_of

# Tables of what is registered: whoever uses a row holds it, or names it in a string.
REGISTRIES = ("OBJECTIVES",)
# What a module imports that may register tasks, apart from `mto_jax` itself.
REGISTERING = ("mto_jax.text2text.", "seqio.")


def definitions(roots: Iterable[str], packages: Sequence[str]) -> dict[str, str]:
    """Return digests of the definitions that `roots` name, directly or through others.

    Args:
      roots: "module:name" of top-level functions, classes or variables, or "module" for all it
        holds.
      packages: dotted names; only modules in them are read.

    Returns:
      {"module:name": 16 hexadecimal digits}, sorted; "module:" stands for the statements of a
      module that define nothing.
    """
    digests, seen, pending = {}, set(), list(roots)
    source_of = functools.cache(_source)
    while pending:
        reference = pending.pop()
        module, colon, name = reference.partition(":")
        if reference in seen or not any(f"{module}.".startswith(f"{p}.") for p in packages):
            continue
        seen.add(reference)
        source = source_of(module)
        if not colon:
            pending += [f"{module}:{name}" for name in source.statements]
        elif name in source.imports:
            pending.append(source.imports[name])
        elif name in source.statements and name not in REGISTRIES:
            digests[reference] = source.digest(name)
            pending += [f"{module}:", *source.references(name)]
    return dict(sorted(digests.items()))


def references(*values) -> Iterator[str]:
    """Yield "module:name" of the functions and classes that values consist of.

    Looks into partial functions, closures, bound methods, dataclasses, tuples, lists and dicts.
    """
    seen, pending = set(), list(values)
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, functools.partial):
            pending += [value.func, value.args, value.keywords]
        elif isinstance(value, types.MethodType):
            pending += [value.__func__, value.__self__]
        elif isinstance(value, types.FunctionType):
            yield f"{value.__module__}:{value.__qualname__.partition('.')[0]}"
            pending += [cell.cell_contents for cell in value.__closure__ or ()]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield f"{type(value).__module__}:{type(value).__qualname__}"
            pending += [getattr(value, field.name) for field in dataclasses.fields(value)]


def changed(digests: Mapping[str, str]) -> list[str]:
    """Return the definitions that are no longer as `definitions` found them, or no longer there."""

    source_of = functools.cache(_source)

    def digest(reference: str) -> str | None:
        module, _, name = reference.partition(":")
        source = source_of(module)
        return source.digest(name) if name in source.statements else None

    return [reference for reference, old in digests.items() if digest(reference) != old]


def find_module(name: str) -> pathlib.Path:
    """Return the source file of a module, found without importing it or its packages.

    Raises:
      UserError: there is no such module on the Python path or in the working directory.
    """
    package = pathlib.Path(__file__).parent
    ours = name.split(".")[0] == package.name  # this tree's, whatever the working directory holds
    places: Sequence[str] | None = [str(package.parent)] if ours else [os.getcwd(), *sys.path]
    spec, parts = None, name.split(".")
    for i in range(len(parts)):
        qualified = ".".join(parts[: i + 1])
        spec = importlib.machinery.PathFinder.find_spec(qualified, places) if places else None
        places = spec.submodule_search_locations if spec else None
    if spec is None or not spec.origin:
        raise UserError(
            f"There is no Python module {name!r} (DatasetConfig.module): it is neither in the "
            f"working directory {os.getcwd()} nor installed. Give the name as in 'import {name}'."
        )
    return pathlib.Path(spec.origin)


def registers(name: str) -> bool:
    """Returns whether a module imports what tasks, objectives and templates are registered with."""
    imported = {reference.partition(":")[0] for reference in _source(name).imports.values()}
    return any(m == "mto_jax" or f"{m}.".startswith(REGISTERING) for m in imported)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A module as text.

    Attributes:
      name: its dotted name.
      statements: top-level name -> the statements that define it; "" -> those that define nothing.
      imports: name in this module -> "module" or "module:name" that it stands for.
    """

    name: str
    statements: dict[str, list[ast.AST]]
    imports: dict[str, str]

    def digest(self, name: str) -> str:
        form = repr(_form(self.statements[name]))
        return digest_of(form)[:16]

    def references(self, name: str) -> Iterator[str]:
        """The definitions that the statements name; those of this module also in a string."""
        for node in (node for statement in self.statements[name] for node in ast.walk(statement)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = self.imports.get(node.value.id, ":")
                if ":" not in module:
                    yield f"{module}:{node.attr}"
            elif isinstance(node, ast.Name):
                reference = self.imports.get(node.id, f"{self.name}:{node.id}")
                if ":" in reference:
                    yield reference
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{self.name}:{node.value}"


def _source(name: str) -> _Source:
    """The module of that name; empty where there is none, or none in Python."""
    try:
        path = find_module(name)
    except UserError:
        return _Source(name, {}, {})
    return _read(name, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _read(name: str, path: pathlib.Path, modified: int) -> _Source:
    tree = ast.parse(path.read_bytes() if path.suffix == ".py" else b"")
    statements: dict[str, list[ast.AST]] = {}
    for statement in (s for s in tree.body if not _is_docstring(s)):
        for defined, part in _defined(statement):
            statements.setdefault(defined, []).append(part)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = {
        alias: reference
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias, reference in _imported(node, package)
    }
    return _Source(name, statements, imports)


def _defined(statement: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    """Names that a top-level statement defines, each with the code that does it."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name, statement
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else statement.targets
        names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        yield from ((name, statement) for name in names)
    elif not isinstance(statement, ast.Import | ast.ImportFrom):
        yield "", statement


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """Names that an import binds, each with what it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name, alias.name
        return
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    module = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        yield alias.asname or alias.name, _member(module, alias.name)


def _member(module: str, name: str) -> str:
    """Returns what `from module import name` imports: a module, or a definition in it."""
    try:
        find_module(f"{module}.{name}")
    except UserError:
        return f"{module}:{name}"
    return f"{module}.{name}"


def _form(node):
    """A syntax tree as nested lists: without docstrings, and alike in all versions of Python."""
    if isinstance(node, list):
        return [_form(n) for n in node if not _is_docstring(n)]
    if isinstance(node, ast.AST):
        fields = [(k, v) for k, v in ast.iter_fields(node) if v is not None and v != []]
        return [type(node).__name__, *((k, _form(v)) for k, v in fields)]
    return node


def _is_docstring(node) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
