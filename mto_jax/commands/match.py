# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Find the pre-training objective, and with it the template, that each task wants from a model.

    mto match --gin_file=runs/match.gin --gin.TASKS="['atomic_xIntent', 'atomic_xAttr']" \\
      --gin.INITIAL_CHECKPOINT_PATH=runs/base --gin.OUTPUT_DIR=runs/match

Prints a table of scores by task and writes it (table.md), its figure (figure.png), everything as
JSON (match.json) and the mapping (mapping.gin), which every other verb takes with --gin_file.
Scores that are there already are not computed again.
"""

import functools

from mto_jax.console import wide
from mto_jax.matching import match as library
from mto_jax.training.performance import use_compilation_cache


@functools.wraps(library.match)  # its name, parameters and documentation are those of the verb
def match(**given) -> None:
    use_compilation_cache()
    matching = library.match(**given)
    wide().print(*matching.tables(), sep="\n")
    print(f"mapping, table, figure and JSON are in {matching.folder}")
