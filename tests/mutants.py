# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many small faults the tests notice: `make mutants` tries a sample of Cosmic Ray's mutants.

A mutant is a source file with one operator, number, comparison or decorator changed. It runs
against the test files that mirror its source file, those tests first that execute the changed line,
up to the first failure. Libraries are imported once, in a server that forks a process for each
mutant; no file on disk changes.
"""

import argparse
import ast
import collections
import concurrent.futures
import dataclasses
import difflib
import importlib.abc
import importlib.util
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("models", "training", "text2text/objectives.py", "text2text/preprocessing.py")
ROOMS += ("decoding", "metrics", "matching")
# Imported once for all mutants: nothing of our own but the settings of the tests.
PRELOAD = "cosmic_ray.mutating tests.conftest flax.nnx optax orbax.checkpoint grain.python seqio"
PRELOAD += " tensorflow tensorflow_text torch transformers sacrebleu rouge_score.rouge_scorer"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A source file with the change at `line`."""

    path: pathlib.Path
    line: int
    source: str

    def __str__(self) -> str:
        """Return the file, the line and what changed."""
        texts = (text.splitlines() for text in (self.path.read_text(), self.source))
        _, _, _, *changed = difflib.unified_diff(*texts, n=0, lineterm="")
        return "\n    ".join([f"{self.path.relative_to(ROOT)}:{self.line}", *changed])


def sample(paths: list[pathlib.Path], count: int, seed: int) -> list[Mutant]:
    """Return `count` mutants at different places of these files, every place equally likely.

    Left out are annotations of types, `strict` of zip and `frozen` of dataclasses, which correct
    code never meets, and changes that do not compile.
    """
    from cosmic_ray import mutating, plugins
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB, use_db

    with use_db(":memory:", WorkDB.Mode.create) as database:
        init(paths, database, {})
        mutations = [m for item in database.work_items for m in item.mutations]
    without_effect = {path: list(_without_effect(path)) for path in paths}
    places = collections.defaultdict(list)
    for m in mutations:
        if not any(start <= m.start_pos < end for start, end in without_effect[m.module_path]):
            places[str(m.module_path), m.start_pos, m.end_pos].append(m)
    rng, mutants = random.Random(seed), []
    for place in rng.sample(sorted(places), len(places)):
        m = rng.choice(places[place])
        operator = plugins.get_operator(m.operator_name)()
        text = mutating.mutate_code(m.module_path.read_text(), operator, m.occurrence)
        try:
            compile(text, str(m.module_path), "exec")
        except SyntaxError:
            continue
        mutants.append(Mutant(m.module_path, m.start_pos[0], text))
        if len(mutants) == count:
            break
    return mutants


def _without_effect(path: pathlib.Path):
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("annotation", "returns"):
            if (a := getattr(node, field, None)) is not None:
                yield (a.lineno, a.col_offset), (a.end_lineno, a.end_col_offset)
        if isinstance(node, ast.keyword) and node.arg in ("strict", "frozen"):
            yield (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def mirrors(path: pathlib.Path) -> list[str]:
    """Return the test files of a source file: those of its name, then those that import it.

    All are of the folder that mirrors the file's; where none has the name, all of that folder.
    """
    stem, folder = path.stem, ROOT / "tests" / path.parent.relative_to(ROOT / "mto_jax")
    package = ".".join(path.parent.relative_to(ROOT).parts)
    module = f"{package}.{stem}"
    exported = _imported(path.parent / "__init__.py").get(module, set())

    def rank(file):
        name, imported = file.stem.removeprefix("test_"), _imported(file)
        related = name.startswith(stem) or stem.startswith(name)
        imports = module in imported or imported[package] & {stem, *exported}
        return 0 if name == stem else 1 if related else 2 if imports else 3

    ranks = {file: rank(file) for file in sorted(folder.glob("test_*.py"))}
    last = 2 if min(ranks.values()) < 2 else 3
    return [str(file) for file in sorted(ranks, key=ranks.get) if ranks[file] <= last]


def _imported(path: pathlib.Path) -> dict[str, set[str]]:
    imported = collections.defaultdict(set)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            imported[node.module] |= {alias.name for alias in node.names}
    return imported


class _Recording:
    """A plugin of pytest that writes which tests execute a line of a file: {line: [test, ...]}."""

    def __init__(self, path: pathlib.Path, into: pathlib.Path):
        import coverage

        self._path, self._into = path, into
        self._coverage = coverage.Coverage(data_file=None, include=[str(path)])
        self._coverage.start()

    def pytest_runtest_logstart(self, nodeid):
        self._coverage.switch_context(nodeid)

    def pytest_sessionfinish(self):
        self._coverage.stop()
        lines = self._coverage.get_data().contexts_by_lineno(str(self._path))
        self._into.write_text(json.dumps(lines))


class _First:
    """A plugin of pytest that lets some tests run before the others."""

    def __init__(self, tests: list[str]):
        self._tests = set(tests)

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: item.nodeid not in self._tests)


def _test(path: pathlib.Path, source: str, tests: list[str], plugin: Callable, given: Any) -> None:
    """Exit with pytest's status for `tests` while the module of `path` is read as `source`."""
    import pytest

    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname):
            return compile(source, str(path), "exec")

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, where, target=None):
            if name == module:
                loader = Loader(name, str(path))
                return importlib.util.spec_from_file_location(name, str(path), loader=loader)

    assert module not in sys.modules, f"{module} was imported before it could be replaced"
    sys.meta_path.insert(0, Finder())
    os.setpgrp()  # with what the tests start
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    arguments = ["-x", "-q", "-p", "no:cacheprovider", *tests]
    os._exit(pytest.main(arguments, plugins=[plugin(*given)]))


def run(
    path: pathlib.Path,
    source: str,
    tests: list[str],
    plugin: Callable,
    given: Any,
    seconds: float | None = None,
) -> str:
    """Return "survived", "failed" or "timed out": what `tests` say of `path` with this source."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_test, args=(path, source, tests, plugin, given))
    process.start()
    process.join(seconds)
    if process.is_alive():
        os.killpg(process.pid, 9)
        process.join()
        return "timed out"
    return "failed" if process.exitcode else "survived"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="mutants to sample")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("rooms", nargs="*", default=ROOMS, help="folders or files of mto_jax")
    options = parser.parse_args()
    found = [ROOT / "mto_jax" / room for room in options.rooms]
    paths = [p for room in found for p in (sorted(room.rglob("*.py")) if room.is_dir() else [room])]
    mutants = sorted(sample(paths, options.count, options.seed), key=lambda mutant: mutant.path)
    files = {
        path: (list(group), mirrors(path))
        for path, group in itertools.groupby(mutants, lambda mutant: mutant.path)
    }

    def outcomes_of(path):
        """Of the mutants of one file, whose unchanged tests say how long they may take."""
        start, (group, tests) = time.monotonic(), files[path]
        record = pathlib.Path(cache, f"{'.'.join(path.relative_to(ROOT).parts)}.json")
        if run(path, path.read_text(), tests, _Recording, (path, record)) != "survived":
            raise SystemExit(f"The tests of {path.relative_to(ROOT)} fail without any change.")
        seconds = 30 + 3 * (time.monotonic() - start)
        outcomes, executing = [], json.loads(record.read_text())
        for mutant in group:
            first = executing.get(str(mutant.line), [])
            outcomes.append(run(path, mutant.source, tests, _First, (first,), seconds))
            print(f"{outcomes[-1]:9} {mutant}", flush=True)
        return outcomes

    with tempfile.TemporaryDirectory() as cache:  # programs of mutants are not kept
        if (known := ROOT / ".pytest_cache" / "jax").exists():
            shutil.copytree(known, cache, dirs_exist_ok=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        os.chdir(ROOT)
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD.split())
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(itertools.chain(*pool.map(outcomes_of, files)))

    print(f"\n{'':26}mutants  caught (timed out)  survived")
    for room in (*options.rooms, "all"):
        inside = ROOT / "mto_jax" / ("" if room == "all" else room)
        own = [o for m, o in zip(mutants, outcomes, strict=True) if m.path.is_relative_to(inside)]
        late, alive = own.count("timed out"), own.count("survived")
        print(f"{room:26}{len(own):7}{len(own) - alive:8} ({late:9}){alive:10}")
    for mutant, outcome in zip(mutants, outcomes, strict=True):
        if outcome == "survived":
            print(mutant)


if __name__ == "__main__":
    main()
