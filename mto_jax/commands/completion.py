# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Print what makes a shell complete verbs, flags, gin files and macros.

mto completion bash > ~/.local/share/bash-completion/completions/mto
mto completion zsh > ~/.zfunc/_mto          (a folder of $fpath)
"""

import argparse

from mto_jax import cli, config, errors, macros

PLAIN = True  # needs neither gin nor JAX
SHELLS = ("bash", "zsh", "tcsh")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="|".join(SHELLS), help="whose script to print")


def completion(shell: str) -> None:
    """Print the script of a shell, which shtab writes.

    Raises:
      UserError: no such shell, or shtab is not installed.
    """
    if shell not in SHELLS:
        raise errors.unknown("shell", shell, SHELLS)
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise errors.UserError(
            "This needs shtab, which is not installed here: pip install 'mto-jax[completion]'."
        ) from error
    whole = argparse.ArgumentParser(prog="mto")
    verbs = whole.add_subparsers()
    for verb, text in cli.VERBS.items():
        flags = cli.parser(verb)
        for name, meaning in macros.of(verb).items():
            flags.add_argument(f"--gin.{name}", help=meaning)
        for action in flags._actions:
            if "--gin_file" in action.option_strings:
                action.choices = config.bundled()
            elif action.metavar in ("FILE", "DIR"):
                kind = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}[action.metavar]
                vars(action)["complete"] = kind
        verbs.add_parser(verb, parents=[flags], add_help=False, help=text)
    print(shtab.complete(whole, shell))
