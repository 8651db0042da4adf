# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The records of registered tasks, read in a process of its own so that this one stays free of TensorFlow.

`python -m mto_jax.text2text.record_sets REQUEST.json REPLY.json` is that process.
"""

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import gin

from mto_jax import errors
from mto_jax.data import manifest
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError, unknown
from mto_jax.text2text import records
from mto_jax.text2text.templates import Wording


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Records to read: so many heads (None: all) with so many references each, of a split of a task.

    Of "train", records have one reference each; of other splits, one record holds all of a head's.
    """

    task: str
    split: str
    heads: int | None
    references: int = 3


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """Records of a task, without any template."""

    task: str
    kind: str
    wording: Wording
    records: tuple[records.Record, ...]


def read(wanted: Sequence[Wanted], module: str | None = None) -> list[RecordSet]:
    """The record sets that are wanted, in order; drawn with the seeds that gin binds.

    Args:
      module: the user's module(s) that register tasks, comma-separated.

    Raises:
      UserError: an unknown task (the nearest is named) or split, or what the task's reader found wrong.
    """
    lengths = {"inputs": 1, "targets": 1}
    config = DatasetConfig(wanted[0].task, lengths, module=module)
    with tempfile.TemporaryDirectory() as folder:
        request, reply = pathlib.Path(folder, "request.json"), pathlib.Path(folder, "reply.json")
        content = {
            "wanted": [dataclasses.asdict(one) for one in wanted],
            "dataset": dataclasses.asdict(config),
            "gin": manifest.bindings(config),
        }
        request.write_text(json.dumps(content))
        command = [sys.executable, "-m", "mto_jax.text2text.record_sets", str(request), str(reply)]
        done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            _, told, reason = f"\n{done.stderr}".rpartition("\nerror: ")
            if not told:
                print(done.stderr, file=sys.stderr)
                reason = "The records of the tasks could not be read (the process's own words are above)."
            raise UserError(reason.strip())
        found = json.loads(reply.read_text())
    return [
        RecordSet(
            one.task,
            there["kind"],
            Wording(
                **{k: tuple(v) if isinstance(v, list) else v for k, v in there["wording"].items()}
            ),
            tuple(map(records.from_json, there["records"])),
        )
        for one, there in zip(wanted, found, strict=True)
    ]


def _main(request: str, reply: str) -> None:
    content = json.loads(pathlib.Path(request).read_text())
    from mto_jax.data import prepare  # imports TensorFlow

    try:
        for statement in content["gin"]:
            name = statement.partition(" = ")[0].rpartition("/")[2]
            importlib.import_module(name.rsplit(".", 2)[0])  # Makes the configurable known.
            gin.parse_config(statement)
        prepare.register(DatasetConfig(**content["dataset"]))
        found = [_export(Wanted(**one)) for one in content["wanted"]]
    except UserError as error:
        errors.fail(error)
    pathlib.Path(reply).write_text(json.dumps(found))


def _export(wanted: Wanted) -> dict:
    known = importlib.import_module("mto_jax.text2text.registration").RECORD_SETS
    if wanted.task not in known:
        raise unknown("task (a data set without a template)", wanted.task, known)
    record_set = known[wanted.task]
    train = wanted.split == "train"
    sampler, heads, references = (
        ("few_shot", "shots", "tails_per_head")
        if train
        else ("evaluation_sample", "heads", "references")
    )
    with gin.unlock_config():
        gin.bind_parameter(f"{sampler}.{heads}", wanted.heads)
        gin.bind_parameter(f"{sampler}.{references}", wanted.references)
    kept = record_set.source.records_of(wanted.split)
    if not kept:
        raise UserError(
            f"The task {wanted.task} has no records in the split '{wanted.split}': "
            f"{record_set.source.report[wanted.split]}."
        )
    return {
        "kind": record_set.kind,
        "wording": dataclasses.asdict(record_set.wording()),
        "records": [records.to_json(record) for record in kept],
    }


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
