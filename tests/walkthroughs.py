# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs what the pages tell four users to do: `make walkthroughs`, after `make quickstart`.

Every `mto` command of a section, in its order, in an empty folder with the files that the section
shows. Names of the hub's models lead to a hub on this machine, which has the quickstart's model
under each of them, and takes what is pushed.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import rich.console
import rich.table

from mto_jax import cli
from mto_jax.text2text import demo
from tests import small_hub

ROOT = pathlib.Path(__file__).parents[1]
WALKS = {
    "a student with a table": ("docs/index.md", "Your own table of examples"),
    "a user of T5X": ("docs/from_t5x.md", "A mixture of your own"),
    "a user of Hugging Face": ("docs/from_hugging_face.md", "A model in, an adapter out"),
    "a reader of a paper": ("docs/experiments.md", "A table again"),
}
MODELS = ("google/flan-t5-small", "google/t5-v1_1-small")


def steps(page: pathlib.Path, heading: str) -> list[tuple[str, str]]:
    """Returns the files and commands of a section: (name, content) and ("", command) in order.

    A block of Python or gin is the file that the text before it names last; commands are the lines
    of bash blocks that begin with `mto` or feed it.
    """
    text = page.read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M)
    if not found:
        raise SystemExit(f"{page} has no section {heading!r}.")
    result, before = [], ""
    for prose, kind, block in re.findall(r"(.*?)^```(\w+)\n(.*?)^```", found[1], re.DOTALL | re.M):
        before += prose
        if kind == "bash":
            lines = re.sub(r" *\\\n *", " ", block).splitlines()
            result += [("", line) for line in lines if re.search(r"(^|\| )mto ", line)]
        else:
            result.append((re.findall(r"`([\w.]+\.\w+)`", before)[-1], block))
    return result


def data(folder: pathlib.Path) -> None:
    """Writes uses.tsv, train.tsv and dev.tsv without a header, new_things.csv without answers."""
    rows = [f"{r.head}\t{t}\n" for r in demo.triples("ObjectUse", "train") for t in r.references]
    (folder / "uses.tsv").write_text("".join(["thing\tuse\n", *rows]))
    (folder / "train.tsv").write_text("".join(rows[10:]))
    (folder / "dev.tsv").write_text("".join(rows[:10]))
    things = [f"{i},{r.head}" for i, r in enumerate(demo.triples("ObjectUse", "test")[:20])]
    (folder / "new_things.csv").write_text("\n".join(["number,thing", *things]) + "\n")


def walk(page: str, heading: str, folder: pathlib.Path, environment: dict[str, str]):
    """Yields (command, seconds, status, output) of each command; ends at the first that fails."""
    data(folder)
    for name, content in steps(ROOT / page, heading):
        if name:
            (folder / name).write_text(content)
            continue
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", content],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        yield content, time.monotonic() - start, done.returncode, done.stdout
        if done.returncode:
            return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=ROOT / "runs/quickstart/pretrain", type=pathlib.Path)
    parser.add_argument("--only", default="", help="users whose description holds this")
    parser.add_argument("--folder", type=pathlib.Path, help="keep what is made here")
    options = parser.parse_args()
    if not options.model.is_dir():
        sys.exit(f"{options.model} is not there: run `make quickstart` first, or give --model.")
    folder = options.folder or pathlib.Path(tempfile.mkdtemp())
    table = rich.table.Table("user", "command", "seconds")
    failed = False
    with small_hub.serving(folder / "hub") as (hub, endpoint):
        exported = ["--from", str(options.model.resolve()), "--to", "hf", "--output"]
        first, *others = (hub.folder / name for name in MODELS)
        cli.run("convert", [*exported, str(first)])
        for other in others:
            shutil.copytree(first, other)
        environment = os.environ | {
            "HF_ENDPOINT": endpoint,
            "HF_TOKEN": hub.token,
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for user, (page, heading) in WALKS.items():
            if options.only not in user:
                continue
            here = folder / user.replace(" ", "_")
            (here / "runs/quickstart").mkdir(parents=True)
            (here / "runs/quickstart/pretrain").symlink_to(options.model.resolve())
            for command, seconds, status, output in walk(page, heading, here, environment):
                print(f"$ {command}\n{output}", flush=True)
                table.add_row(user, command, f"{seconds:.0f}")
                failed |= bool(status)
    rich.console.Console(width=120).print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
