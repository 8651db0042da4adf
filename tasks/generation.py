# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Free generation: CommonGen, a sentence from a set of concepts.

Files, in MTO_DATA_DIR: commongen/commongen.{train,dev}.src_alpha.txt and .tgt.txt, which belong together line
by line. The test sentences are hidden: "test" is the dev set.
"""

from mto_jax.readers import GenerationRow, RecordFile
from mto_jax.tasks import register as tasks


def _split(part: str) -> RecordFile:
    return RecordFile(
        (f"commongen/commongen.{part}.src_alpha.txt",),
        GenerationRow("commongen"),
        columns=("source",),
        beside=("target", (f"commongen/commongen.{part}.tgt.txt",)),
    )


def register() -> None:
    """Registers CommonGen under all templates for generation; reads no file."""
    tasks.register_records(
        "commongen",
        kind="generation",
        splits={"train": _split("train"), "validation": _split("dev"), "test": _split("dev")},
        phrase="concepts: H",
    )
