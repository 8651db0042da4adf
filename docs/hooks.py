# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the site is made of besides the pages: the gin reference, out of the code."""

import importlib
import inspect
import re

import gin
import griffe
from mkdocs.structure.files import File

from mto_jax import config

_HEAD = """# Gin reference

Made of the code when the site is built. Bind a parameter in a gin file (`train.batch_size = 8`) or
on the command line (`--gin.train.batch_size=8`); a macro is a name in capitals that a gin file
refers to (`--gin.BATCH_SIZE=8`).

## Files that come along

What follows a name in capitals is its default; REQUIRED ones must be given.
"""


class Doctests(griffe.Extension):
    """Examples of docstrings (">>> ...") as code."""

    def on_instance(self, *, obj, **_) -> None:
        """Puts a fence around each."""
        if obj.docstring:
            fenced = r"```pycon\n\g<0>\n```"
            pattern = r"^>>> .*(?:\n(?!$).*)*"
            text = re.sub(pattern, fenced, obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = text


def on_files(files, config):
    """Adds the page gin.md."""
    files.append(File.generated(config, "gin.md", content=_page()))
    return files


def _page() -> str:
    parts = [_HEAD]
    for name in [*config.bundled("runs"), *config.bundled("tables")]:
        text = (config.gin_directory() / name).read_text()
        comment = re.match(r"(?:#.*\n)*", text)[0]
        macros = re.findall(r"^([A-Z][A-Z0-9_]*) = (.+)$", text, re.MULTILINE)
        rows = [(f"`{macro}`", _code(value)) for macro, value in macros]
        parts.append(f"### {name}\n\n```text\n{re.sub('^# ?', '', comment, flags=re.MULTILINE)}```")
        parts += [_table(("macro", "default"), rows)] if rows else []
    parts.append("## Configurables")
    for name, value in sorted(_configurables().items(), key=lambda item: item[0].lower()):
        meanings = _meanings(value)
        rows = []
        for parameter in inspect.signature(value).parameters.values():
            bare = parameter.default is parameter.empty
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            factory = repr(parameter.default) == "<factory>"
            default = "" if bare else "made anew" if factory else _code(repr(parameter.default))
            rows.append((f"`{parameter.name}`", default, meanings.get(parameter.name, "")))
        first = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
        parts.append(f"### {name}\n\n{first}")
        parts += [_table(("parameter", "default", "meaning"), rows)] if rows else []
    return "\n\n".join(parts) + "\n"


def _configurables() -> dict[str, object]:
    """The configurables of the package by name."""
    for module in config.configurable_modules():
        importlib.import_module(module)
    registry = gin.config._REGISTRY
    found = {selector: configurable.wrapped for selector, configurable in registry.items()}
    return {
        selector.rpartition(".")[2]: value
        for selector, value in found.items()
        if value.__module__.startswith("mto_jax")
    }


def _meanings(value: object) -> dict[str, str]:
    """The sentences of a docstring by parameter."""
    docstring = griffe.Docstring(inspect.getdoc(value) or "")
    kinds = (griffe.DocstringSectionParameters, griffe.DocstringSectionAttributes)
    meanings = {}
    for section in docstring.parse("google", warnings=False):
        for item in section.value if isinstance(section, kinds) else ():
            text = " ".join(item.description.split())
            meanings |= dict.fromkeys(re.split(r",\s*", item.name), text)
    return meanings


def _code(value: str) -> str:
    return f"`{value}`" if value else ""


def _table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |" for r in lines)
