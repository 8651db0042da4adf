# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many small faults the tests notice: `make mutants` tries a sample of Cosmic Ray's mutants.

A mutant is a source file with one operator, number, comparison or decorator changed. First all
tests run once, so that it is known which of them execute which line; a mutant then runs against
those that execute its line, quick ones first, and those of the file that mirrors its source, up to
the first failure. Libraries are imported once, in a server that forks a process for each mutant; no
file on disk changes.
"""

import argparse
import ast
import collections
import concurrent.futures
import dataclasses
import difflib
import importlib.abc
import importlib.util
import multiprocessing
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("models", "training", "text2text/objectives.py", "text2text/preprocessing.py")
ROOMS += ("decoding", "metrics", "matching")
# Imported once for all mutants: nothing of our own but the settings of the tests.
PRELOAD = "cosmic_ray.mutating tests.conftest flax.nnx optax orbax.checkpoint grain.python seqio"
PRELOAD += " tensorflow tensorflow_text torch transformers sacrebleu rouge_score.rouge_scorer"
RECORD = (
    ROOT / ".pytest_cache" / "executed"
)  # which tests execute which line, and how long they take
SECONDS = 200  # of the tests of a mutant; the quick ones run


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


# ---- Which tests a mutant runs against ----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Tests:
    """What a run of all tests told.

    Attributes:
      executing: source file -> its lines -> the tests that execute the line.
      seconds: of every test.
    """

    executing: dict[str, dict[int, set[str]]]
    seconds: dict[str, float]

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests of a mutant, in order, `SECONDS` long together."""
        lines = self.executing.get(str(mutant.path), {})
        executing = next(filter(None, (_union(lines, s) for s in _around(mutant))), set())
        mirror = pathlib.Path("tests", mutant.path.relative_to(ROOT / "mto_jax"))
        prefix = f"{mirror.with_name(f'test_{mirror.name}')}::"
        mirrored = {test for test in self.seconds if test.startswith(prefix)} - executing
        chosen, seconds = [], 0.0
        for tests in (executing, mirrored):
            for test in sorted(tests, key=self.seconds.__getitem__):
                seconds += self.seconds[test]
                if not chosen or seconds < SECONDS:
                    chosen.append(test)
        return chosen


def _union(lines: dict[int, set[str]], span: range) -> set[str]:
    return set().union(*(tests for line, tests in lines.items() if line in span))


def _around(mutant: Mutant) -> Iterator[range]:
    """Yield lines around a mutant: its own, the statements that hold it, the file."""
    yield range(mutant.line, mutant.line + 1)
    statements = []
    for node in ast.walk(ast.parse(mutant.path.read_text())):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            statements.append(range(first, node.end_lineno + 1))
    yield from sorted((s for s in statements if mutant.line in s), key=len)
    yield range(1 << 30)


def run_all(jobs: int) -> Tests:
    """Return what a run of all tests tells; the last one's record serves while no file changes.

    Raises:
      SystemExit: a test fails without any change.
    """
    import coverage

    data, times = RECORD.with_suffix(".coverage"), RECORD.with_suffix(".xml")
    files = [path for room in ("mto_jax", "tests") for path in (ROOT / room).rglob("*.py")]
    if not times.exists() or times.stat().st_mtime < max(p.stat().st_mtime for p in files):
        RECORD.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pytest", "tests", "-n", str(jobs), "--dist", "worksteal"]
        command += ["-q", "--cov=mto_jax", "--cov-context=test", "--cov-report="]
        command += [f"--junitxml={times}.new", "-o", "junit_family=xunit1"]
        environment = os.environ | {"COVERAGE_FILE": str(data)}
        if subprocess.run(command, cwd=ROOT, env=environment).returncode:
            raise SystemExit("Tests fail without any change.")
        os.replace(f"{times}.new", times)
    seconds = {}
    for case in ElementTree.parse(times).iter("testcase"):
        inside = case.get("classname", "").removeprefix(case.get("file", "")[:-3].replace("/", "."))
        name = "::".join(filter(None, [case.get("file"), *inside.split("."), case.get("name")]))
        seconds[name] = float(case.get("time", 0))
    found = coverage.CoverageData(str(data))
    found.read()
    executing = {
        path: {
            line: {c.rpartition("|")[0] for c in contexts} & seconds.keys()
            for line, contexts in found.contexts_by_lineno(path).items()
        }
        for path in found.measured_files()
    }
    return Tests(executing, seconds)


# ---- Running them -------------------------------------------------------------------------------


def _test(path: pathlib.Path, source: str, tests: list[str]) -> None:
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

    if module in sys.modules:
        os._exit(_NOT_REPLACED)
    sys.meta_path.insert(0, Finder())
    os.setpgrp()  # with what the tests start
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))


_NOT_REPLACED = 99


def run(mutant: Mutant, tests: list[str], seconds: float) -> str:
    """Return "survived", "failed", "timed out" or "untested": what `tests` say of a mutant."""
    if not tests:
        return "untested"
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_test, args=(mutant.path, mutant.source, tests))
    process.start()
    process.join(seconds)
    if process.is_alive():
        os.killpg(process.pid, 9)
        process.join()
        return "timed out"
    assert process.exitcode != _NOT_REPLACED, f"{mutant.path} was imported before it is replaced"
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
    known = run_all(options.jobs)
    every = sorted({test for mutant in mutants for test in known.of(mutant)})
    check = [sys.executable, "-m", "pytest", "--collect-only", "-qq", *every]
    subprocess.run(check, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)  # they go by these names

    def outcome(mutant):
        tests = known.of(mutant)
        limit = 60 + 5 * sum(map(known.seconds.__getitem__, tests))
        result = run(mutant, tests, limit)
        print(f"{result:9} {mutant}", flush=True)
        return result

    with tempfile.TemporaryDirectory() as cache:  # programs of mutants are not kept
        if (compiled := ROOT / ".pytest_cache" / "jax").exists():
            shutil.copytree(compiled, cache, dirs_exist_ok=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        os.chdir(ROOT)
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD.split())
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(outcome, mutants))

    print(f"\n{'':26}mutants  caught (timed out)  survived")
    for room in (*options.rooms, "all"):
        inside = ROOT / "mto_jax" / ("" if room == "all" else room)
        own = [o for m, o in zip(mutants, outcomes, strict=True) if m.path.is_relative_to(inside)]
        late, alive = own.count("timed out"), own.count("survived") + own.count("untested")
        print(f"{room:26}{len(own):7}{len(own) - alive:8} ({late:9}){alive:10}")
    for mutant, result in zip(mutants, outcomes, strict=True):
        if result in ("survived", "untested"):
            print(mutant)


if __name__ == "__main__":
    main()
