# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Print a gin file: one in the working directory, or one that comes along (`mto list gin`).

mto show runs/finetune.gin
mto show runs/finetune.gin > mine.gin
"""

import argparse
import pathlib

from mto_jax import config, errors

PLAIN = True  # needs neither gin nor JAX


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="as --gin_file takes it: runs/finetune.gin")


def show(file: str) -> None:
    """Print a gin file.

    Raises:
      UserError: there is none of that name.
    """
    places = (pathlib.Path(file), config.gin_directory() / file)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise errors.unknown("gin file", file, config.bundled())
    print(path.read_text(), end="")
