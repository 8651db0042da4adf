# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Free generation: CommonGen (a sentence of concepts), DialogSum (a summary of a dialogue).

Files, in MTO_DATA_DIR, as their authors have them:
    commongen/commongen.{train,dev}.src_alpha.txt and .tgt.txt   matched line by line
    dialogsum/dialogsum.{train,dev,test}.jsonl                   dialogue, summary or summary1, 2, 3

The test sentences of CommonGen are hidden: its "test" is the dev set.
"""

from mto_jax.metrics import captions
from mto_jax.metrics import text as text_metrics
from mto_jax.text2text import registration as tasks
from mto_jax.text2text.readers import GenerationRow, RecordFile, Row, cell
from mto_jax.text2text.records import Generation


def _commongen(part: str) -> RecordFile:
    return RecordFile(
        (f"commongen/commongen.{part}.src_alpha.txt",),
        GenerationRow("commongen"),
        columns=("source",),
        beside=("target", (f"commongen/commongen.{part}.tgt.txt",)),
    )


def dialogsum(row: Row) -> Generation:
    """A dialogue with its summary; test dialogues have three."""
    columns = [column for column in ("summary1", "summary2", "summary3") if column in row]
    summaries = [cell(row, "target", column) for column in columns or ["summary"]]
    return Generation("dialogsum", cell(row, "source", "dialogue"), tuple(dict.fromkeys(summaries)))


def _dialogsum(part: str) -> RecordFile:
    return RecordFile((f"dialogsum/dialogsum.{part}.jsonl",), dialogsum)


def register() -> None:
    """Registers both sets under all templates for generation; reads no file."""
    tasks.register_records(
        "commongen",
        kind="generation",
        splits={
            "train": _commongen("train"),
            "validation": _commongen("dev"),
            "test": _commongen("dev"),
        },
        phrase="concepts: H",
        metric_fns=(text_metrics.rouge, text_metrics.bleu, captions.meteor_stem, captions.cider),
        metric="cider",
    )
    tasks.register_records(
        "dialogsum",
        kind="generation",
        splits={
            "train": _dialogsum("train"),
            "validation": _dialogsum("dev"),
            "test": _dialogsum("test"),
        },
        phrase="dialogue: H summary:",
    )
