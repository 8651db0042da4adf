# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading gin files and `--gin.NAME=VALUE` flags, with errors that say what to change.

gin 0.5 has no public list of what is bound (`_CONFIG`), may be (`_REGISTRY`) or was imported
(`_IMPORTS`), nor a way to remove a reader of files (`_FILE_READERS`): its private names are used
here and nowhere else.
"""

import ast
import contextlib
import copy
import graphlib
import importlib
import inspect
import os
import pathlib
import re
import sys
import tokenize
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import gin
import gin.config
from gin import config_parser

from mto_jax import errors, sources


def gin_directory() -> pathlib.Path:
    """Returns the folder of the gin files that come along."""
    return pathlib.Path(__file__).parent / "gin"


def configurable_modules() -> list[str]:
    """Returns the modules with gin configurables: imported, any gin file works with any verb."""
    package = pathlib.Path(__file__).parent
    return sorted(
        ".".join(("mto_jax", *path.relative_to(package).with_suffix("").parts))
        for path in package.rglob("*.py")
        if re.search(r"\n@(gin\.configurable|register_objective)", path.read_text())
    )


def bundled(folder: str = "") -> list[str]:
    """Returns the gin files that come along, as `--gin_file` takes them: `runs/pretrain.gin`."""
    root = gin_directory()
    return sorted(p.relative_to(root).as_posix() for p in (root / folder).rglob("*.gin"))


def binding(name: str, value: str) -> str:
    """Returns a `--gin.NAME=VALUE` flag as a gin statement; a bare word is taken as a string.

    >>> binding("MODEL_DIR", "runs/a"), binding("BATCH_SIZE", "16"), binding("model", "@T5Config()")
    ("MODEL_DIR = 'runs/a'", 'BATCH_SIZE = 16', 'model = @T5Config()')
    """
    value = value.strip()
    if not value.startswith(("@", "%", "[", "(", "{", "'", '"')):
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = repr(value)
    return f"{name} = {value}"


def bound() -> list[tuple[str, str]]:
    """Returns (scope, selector) of the configurables that have a parameter bound, in any order."""
    return [*gin.config._CONFIG]


def values() -> Iterator[tuple[str, Any]]:
    """Yields the name and the value of each parameter and macro that is bound."""
    for (scope, selector), parameters in gin.config._CONFIG.items():
        for parameter, value in parameters.items():
            macro = selector == "gin.macro"
            yield (scope if macro else f"{selector.rpartition('.')[2]}.{parameter}"), value


def value(name: str) -> Any:
    """Returns the value that a parameter is bound to, references called as gin calls them.

    Raises:
      ValueError: it is not bound.
    """
    return copy.deepcopy(gin.query_parameter(name))


def load(
    files: Sequence[str],
    bindings: Sequence[str] = (),
    search_paths: str = "",
    allow_code: bool = False,
    optional: Sequence[str] = (),
) -> None:
    """Parses gin `files` in order, then `bindings`; fills gin's global configuration.

    Args:
      files: gin files; looked up in the working directory, `search_paths` (comma-separated folders)
        and the files that come along.
      bindings: gin statements that override the files.
      allow_code: whether files from outside the working directory may import modules, which is to
        run them.
      optional: REQUIRED macros that may stay without a value: they become their own names.

    Raises:
      UserError: a file, configurable, parameter or macro that does not exist (the nearest one is
        named), a syntax error, files or macros that go in a circle, a module that does not import
        or may not be imported, or a REQUIRED macro without a value.
    """
    for module in configurable_modules():
        importlib.import_module(module)
    if os.getcwd() not in sys.path:  # gin files may import modules of the user's
        sys.path.append(os.getcwd())
    # Only files: gin would also look for Python packages called like a path's folder, and fail on a
    # folder of that name without __init__.py, such as the user's runs/.
    gin.config._FILE_READERS[1:] = []
    places = [path for path in (*search_paths.split(","), str(gin_directory())) if path]
    macros = {name for file in files for name in _check_file(file, ["", *places], allow_code)}
    for text in bindings:
        _statements(text.encode, f"The flag --gin.{text}")
    for path in places:
        gin.add_config_file_search_path(path)
    try:
        gin.parse_config_files_and_bindings(list(files), list(bindings), finalize_config=False)
    except (ValueError, OSError, SyntaxError, ImportError, tokenize.TokenError) as error:
        raise _explain(error) from error
    _register_imported()
    for name in {*optional}.intersection(_required()):
        gin.parse_config(f"{name} = {name!r}")
    _check_macros(bindings if files else (), macros)
    gin.finalize()


@contextlib.contextmanager
def temporary(files: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Iterator[None]:
    """A context in which gin files and values are bound; afterwards gin is as it was before.

    Args:
      files: as `load` takes them.
      values: of parameters and macros, in the form of gin's literals.
    """
    before = {key: dict(parameters) for key, parameters in gin.config._CONFIG.items()}
    try:
        with gin.unlock_config():
            load(files, [f"{name} = {value!r}" for name, value in (values or {}).items()])
            yield
    finally:
        locked = gin.config_is_locked()
        gin.clear_config()
        gin.config._CONFIG.update(before)
        if locked:
            gin.finalize()


def recorded(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a gin file binds, without running it: {macro or "scope/Name.parameter": value}.

    A macro's value stands in its place; a reference to a configurable is a text, "@Name()".

    Raises:
      UserError: it does not parse.
    """
    values = {
        "/".join(filter(None, (s.scope, ".".join(filter(None, (s.selector, s.arg_name)))))): s.value
        for s in _statements(path.read_bytes, f"The gin file {path}")
        if isinstance(s, config_parser.BindingStatement)
    }
    macros = {f"%{name}": value for name, value in values.items()}

    def resolved(value: Any) -> Any:
        return resolved(macros[value]) if isinstance(value, str) and value in macros else value

    return {name: resolved(value) for name, value in values.items()}


def _register_imported() -> None:
    """Adds the imports of gin files that may register tasks to the macro MIXTURE_OR_TASK_MODULE.

    Data are prepared in a process of their own, and a run is evaluated in a later one: the macro is
    what both are told.
    """
    bound = dict(values())
    if "MIXTURE_OR_TASK_MODULE" not in bound:  # a verb without tasks
        return
    listed = bound["MIXTURE_OR_TASK_MODULE"] or ""
    imported = sorted({statement.module for statement in gin.config._IMPORTS})
    users = [m for m in imported if m.partition(".")[0] not in ("mto_jax", "seqio")]
    new = [m for m in users if sources.registers(m)]
    if new and isinstance(listed, str):
        names = [name.strip() for name in listed.split(",") if name.strip()]
        text = ", ".join(dict.fromkeys([*names, *new]))
        gin.parse_config(f"MIXTURE_OR_TASK_MODULE = {text!r}")


class _References(config_parser.ParserDelegate):
    """References in the values of a file, as they are written."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        return f"@{scoped_configurable_name}"

    def macro(self, macro_name):
        return f"%{macro_name}"


def _check_file(
    name: str, places: Sequence[str], allow_code: bool, outer: Sequence = ()
) -> set[str]:
    """Checks a gin file, and those that it includes, before gin reads them; returns their macros.

    Raises:
      UserError: it is not there, does not parse, includes itself, imports a module that fails, or
        one that a stranger's file may not import.
    """
    path = next((p for p in (pathlib.Path(place, name) for place in places) if p.is_file()), None)
    if path is None:
        raise errors.unknown("gin file", name, bundled())
    path = path.resolve()
    if path in outer:
        circle = " -> ".join(map(str, [*outer[outer.index(path) :], path]))
        raise errors.UserError(f"These gin files include each other in a circle: {circle}.")
    trusted = allow_code or any(
        path.is_relative_to(place.resolve()) for place in (pathlib.Path.cwd(), gin_directory())
    )
    macros = set()
    for statement in _statements(path.read_bytes, f"The gin file {name}"):
        if isinstance(statement, config_parser.BindingStatement) and not statement.arg_name:
            macros.add(statement.selector)
        if isinstance(statement, config_parser.IncludeStatement):
            macros |= _check_file(statement.filename, places, allow_code, [*outer, path])
        elif not trusted and _runs_code(statement):
            raise errors.UserError(
                f"{path}, line {statement.location.line_num}: this file imports code, and it is "
                "not in the working directory. A gin file is a program: if you trust this one, "
                "pass --allow_code."
            )
        elif isinstance(statement, config_parser.ImportStatement):
            errors.importing(statement.module, f"{name}, line {statement.location.line_num}")
    return macros


def _statements(read: Callable[[], bytes], name: str) -> list[Any]:
    """Returns the statements of a gin text; raises a `UserError` if it does not parse."""
    try:
        return list(config_parser.ConfigParser(read().decode(), _References()))
    except (ValueError, SyntaxError, tokenize.TokenError, RecursionError, OSError) as error:
        raise errors.UserError(f"{name} does not parse: {error}") from error


def _runs_code(statement: Any) -> bool:
    """Returns whether a statement makes modules run: an import, or the name of a user's module."""
    if not isinstance(statement, config_parser.BindingStatement):
        return isinstance(statement, config_parser.ImportStatement)
    names_module = statement.arg_name == "module" or statement.selector.endswith("_MODULE")
    return names_module and statement.value not in (None, "%MIXTURE_OR_TASK_MODULE")


def _config_text() -> str:
    """Returns what is bound, a line for each parameter and macro."""
    return re.sub(r"\\\n\s*", "", gin.config_str())


def _required() -> list[str]:
    """Returns the parameters and macros that still need a value."""
    return re.findall(r"^(\S+) = %gin\.REQUIRED$", _config_text(), re.MULTILINE)


def _check_macros(bindings: Sequence[str], known: Collection[str]) -> None:
    """Checks that macros have values and mean something.

    Args:
      bindings: gin statements; a macro that they bind is one that something refers to, or `known`.
      known: macros of the files.

    Raises:
      UserError: a macro without a value, REQUIRED ones included; macros in a circle; one that
        means nothing.
    """
    text = _config_text()
    bound = set(re.findall(r"^([A-Za-z_]\w*) = ", text, re.MULTILINE))
    used = set(re.findall(r"%([A-Za-z_]\w*)(?![\w.])", re.sub(r"'[^'\n]*'", "", text)))
    required = []
    for name in _required():
        if "." in name or name in used:
            required.append(name)
        else:  # what needed the macro is bound otherwise; gin would refuse it all the same
            gin.config._CONFIG.pop((name, "gin.macro"), None)
    if required:
        flags = " ".join(f"--gin.{name}=..." for name in required)
        raise errors.UserError(
            f"The configuration needs {', '.join(required)}: pass {flags} (the header of the gin "
            "file says what each one is)."
        )
    for name in used:
        if name not in bound:
            raise errors.unknown("macro", name, bound)
    for name in (match[1] for text in bindings if (match := re.match(r"([A-Za-z_]\w*) = ", text))):
        if name not in {*used, *known}:
            raise errors.unknown("macro (--gin flag) called", name, {*used, *known})
    values = dict(re.findall(r"^([A-Za-z_]\w*) = (.+)$", text, re.MULTILINE))
    uses = {name: set(re.findall(r"%([A-Za-z_]\w*)", value)) for name, value in values.items()}
    try:
        graphlib.TopologicalSorter(uses).prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise errors.UserError(
            f"These macros stand for each other in a circle: {circle}."
        ) from error


def _explain(error: Exception) -> errors.UserError:
    """Returns a gin error in words, with the nearest name that exists."""
    text = str(error).strip()
    where = re.search(r'In (?:file "(.+)"|bindings string)[ ,]*line (\d+)', text)
    place = f" ({where[1] or 'a --gin flag'}, line {where[2]})" if where else ""
    if match := re.search(r"No configurable matching (?:reference )?'@?([\w./]+)(?:\(\))?'", text):
        name = match[1].rsplit("/", 1)[-1]
        known = {selector.rsplit(".", 1)[-1] for selector, _ in gin.config._REGISTRY.items()}
        return errors.UserError(f"{errors.unknown('gin configurable', name, known)}{place}")
    if match := re.search(r"Configurable '(.+)' doesn't have a parameter named '(.+)'", text):
        names = inspect.signature(gin.get_configurable(match[1])).parameters
        return errors.UserError(
            f"{errors.unknown(f'parameter of {match[1]!r} called', match[2], names)}{place}"
        )
    if match := re.search(r"Unable to open file: (.+)\. Searched", text):
        return errors.unknown("gin file", match[1].removeprefix(f"{gin_directory()}/"), bundled())
    return errors.UserError(f"The gin configuration does not parse: {text}")


def missing_value(error: TypeError) -> errors.UserError:
    """Returns the error in words where a configurable was called without a required parameter.

    Raises:
      TypeError: the error itself, if it is another.
    """
    missing = re.search(r"No values supplied by Gin or caller for arguments: \['(\w+)'", str(error))
    name = re.search(r"In call to configurable '(\w+)'", str(error))
    if not missing or not name:
        raise error
    parameter = f"{name[1]}.{missing[1]}"
    return errors.UserError(
        f"{parameter} has no value: bind it in a gin file, or pass --gin.{parameter}=..."
    )
