# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""List what there is by name: tasks, templates, objectives, metrics, models, runs, gin files.

  mto list tasks intent
  mto list tasks --module=my_tasks
  mto list runs --folder=/data/runs

A WORD keeps the rows that have it in their name or description.
"""

import argparse
import importlib
import inspect
import os
import pathlib
import pkgutil
from collections.abc import Callable, Iterator

from mto_jax import config, errors

PLAIN = True  # needs neither gin nor JAX
Row = tuple[str, str]  # a name, and what it is


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="|".join(KINDS), help="what to list")
    parser.add_argument("word", metavar="WORD", nargs="?", default="", help="keep rows with it")
    parser.add_argument(
        "--module", metavar="NAME", help="module(s) that register your own tasks, comma-separated"
    )
    parser.add_argument(
        "--folder", metavar="DIR", default=".", help="where runs are looked for; here by default"
    )


def listing(kind: str, word: str, module: str | None, folder: str) -> None:
    """Print a line for each thing of a kind: its name and what it is.

    Raises:
      UserError: no such kind, or nothing of it has the word.
    """
    if kind not in KINDS:
        raise errors.unknown("list of", kind, KINDS)
    options = {"tasks": {"module": module}, "runs": {"folder": folder}}
    rows = sorted(KINDS[kind](**options.get(kind, {})))
    kept = [row for row in rows if word.lower() in " ".join(row).lower()]
    if not kept:
        raise errors.unknown(f"name among the {kind} with", word, [name for name, _ in rows])
    width = max(len(name) for name, _ in kept)
    for name, text in kept:
        print(f"{name:<{width}}  {text}".rstrip())


def _tasks(module: str | None) -> Iterator[Row]:
    from mto_jax.text2text import registration, registry

    registry.register_all(registry.module_names(module))
    for data in registration.DATA_SETS.values():
        yield data.name, f"{data.kind}; {data.name}_TEMPLATE under {len(data.tasks)} templates"
    for corpus in registry.CORPORA:
        yield corpus, f"text; {corpus}_OBJECTIVE, and the mixture {corpus}_pretrain"


def _templates() -> Iterator[Row]:
    from mto_jax.text2text.templates import TEMPLATES

    for template in TEMPLATES.values():
        traits = [", ".join(template.kinds).replace("_", " ")]
        traits += ["a sentinel marks the gap" if template.masked else "no sentinel"]
        traits += ["phrase or choices written out"] if template.verbalised else []
        traits += [f"soft prompt: {template.soft}"] if template.soft != "none" else []
        traits += ["two answers"] if template.slots == 2 else []
        traits += ["the gap stands in the text"] if template.in_place else []
        yield template.name, f"TASK_{template.snake_name}; {'; '.join(traits)}"


def _objectives() -> Iterator[Row]:
    from mto_jax.text2text.objectives import OBJECTIVES

    for name, row in OBJECTIVES.items():
        yield name, f"of {' and '.join(row.fields)}; {_first_line(row.corrupt)}"


def _metrics() -> Iterator[Row]:
    import mto_jax.metrics as room

    for module in pkgutil.iter_modules(room.__path__):
        members = vars(importlib.import_module(f"{room.__name__}.{module.name}"))
        for name, member in members.items():
            here = getattr(member, "__module__", "") == f"{room.__name__}.{module.name}"
            if here and hasattr(member, "statistics"):
                yield f"{module.name}:{name}", _first_line(member)


def _gin_files() -> Iterator[Row]:
    for name in config.bundled():
        yield name, _header(config.gin_directory() / name)


def _models() -> Iterator[Row]:
    return (row for row in _gin_files() if row[0].startswith("models/"))


def _runs(folder: str) -> Iterator[Row]:
    if not pathlib.Path(folder).is_dir():
        raise errors.UserError(f"There is no folder {folder}.")
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if "model.json" not in files or "checkpoints" not in folders:
            continue
        folders.clear()
        run = pathlib.Path(path)
        steps = [int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdigit()]
        task = ""
        if "config.gin" in files:
            values = config.recorded(run / "config.gin")
            general = values.get("DatasetConfig.mixture_or_task_name", "")
            task = values.get("train/DatasetConfig.mixture_or_task_name", general)
        reached = f"step {max(steps)}" if steps else "no checkpoint yet"
        yield str(run.relative_to(folder)), f"{reached}  {task}".rstrip()


def _first_line(function: Callable) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _header(path: pathlib.Path) -> str:
    """Returns the first sentence of the comment at the top of a gin file."""
    comment = []
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        comment.append(line.removeprefix("# "))
    return " ".join(comment).partition(". ")[0].removesuffix(".")


KINDS: dict[str, Callable[..., Iterator[Row]]] = {
    "tasks": _tasks,
    "templates": _templates,
    "objectives": _objectives,
    "metrics": _metrics,
    "models": _models,
    "runs": _runs,
    "gin": _gin_files,
}
