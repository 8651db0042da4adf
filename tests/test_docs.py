# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every `mto` command in README and docs parses: verbs, flags, gin files, macros, parameters."""

import pathlib
import re
import shlex
from collections.abc import Iterator

import gin
import pytest

from mto_jax import cli, config, macros

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")})
# What a shell does with a command is no part of it.
_ENDS = re.compile(r"[|;&<>#]|&&|\d?>")


def commands(page: pathlib.Path) -> Iterator[list[str]]:
    """Yields the words of each command behind `mto`, of code blocks, indented lines and `code`.

    A word with an ellipsis is left out, N and I are numbers; of `code`, what names a verb without
    flags is no command.
    """
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^ {4}.*$", prose, re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose) if "=" in code]
    for line in lines:
        for piece in re.findall(r"(?:^|[\s|;$(])(mto [a-z].*)", line):
            try:
                words = shlex.split(re.sub(r" \[(--[^]]+)\]", r" \1", piece), comments=True)
            except ValueError:  # a sentence with an apostrophe in it
                words = piece.split()
            words = [re.sub("=[NI]$", "=1", word) for word in words if "..." not in word]
            end = next((i for i, word in enumerate(words) if _ENDS.match(word)), len(words))
            yield words[1:end]


def check(words: list[str]) -> None:
    """Parses a command as `cli.run` does, and reads its gin files and values; runs nothing.

    Raises:
      UserError: something in it does not exist.
      SystemExit: a flag has no value, or an argument is missing.
    """
    verb, *flags = words
    module, _ = cli._load(verb)
    known, rest = cli.parser(verb).parse_known_args(flags)
    if getattr(module, "PLAIN", False):
        cli._check_rest(verb, rest)
        return
    bindings = cli._bindings(verb, rest)
    # A file that an earlier command writes, or the reader, is not there.
    folders = {pathlib.PurePath(name).parent.as_posix() for name in config.bundled()}
    files = [f for f in known.gin_file if pathlib.PurePath(f).parent.as_posix() in folders]
    default = getattr(module, "GIN_FILE", None)
    gin.clear_config()
    config.load(
        files or ([default] if default and not known.gin_file else []),
        bindings if len(files) == len(known.gin_file) else [],
        optional=[*macros.MEANINGS],
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_parses(page, capsys):
    wrong = []
    for words in commands(page):
        if words[0] not in cli.VERBS:
            wrong.append(f"mto {shlex.join(words)}: no such verb")
            continue
        if len(words) == 1:  # a verb that is talked about
            continue
        try:
            check(words)
        except (Exception, SystemExit) as error:
            wrong.append(f"mto {shlex.join(words)}: {error} {capsys.readouterr().err[-200:]}")
    assert not wrong, "\n".join(wrong)


def test_commands_are_found_in_blocks_indented_lines_and_code(tmp_path):
    (tmp_path / "page.md").write_text(
        "Say `mto list` or `mto\ntry --z=1`:\n\n    mto infer --x=1 --a=... [--b=1]  # so\n\n"
        "```bash\necho a | mto train \\\n  --y='2 3' > log\n```\n"
    )
    assert [*commands(tmp_path / "page.md")] == [
        ["train", "--y=2 3"],
        ["infer", "--x=1", "--b=1"],
        ["try", "--z=1"],
    ]
