# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Turn SeqIO tasks into tokenised ArrayRecord files and a manifest, which training reads.

`train`, `evaluate` and `infer` do this by themselves when data are missing or stale; this verb does
it beforehand, for instance on a machine without an accelerator.
"""

from collections.abc import Sequence

import gin

from mto_jax import checkpoints, checks, errors
from mto_jax.checkpoints.trained import adopt
from mto_jax.data.dataset import DatasetConfig


def add_flags(parser) -> None:
    parser.add_argument(
        "--preview", type=int, metavar="N", help="print N examples of each task and write nothing"
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="prepare shard by shard on a runner of Apache Beam: DirectRunner (this machine), "
        "FlinkRunner, ...",
    )
    parser.add_argument(
        "--beam_options",
        metavar="FLAGS",
        help="Beam's own: '--direct_num_workers=8 --direct_running_mode=multi_processing'",
    )


@gin.configurable
def prepare(
    datasets: Sequence[DatasetConfig] = (),
    checkpoint: checks.Place | None = None,
    preview: checks.Natural = 0,
    runner: str | None = None,
    beam_options: str = "",
) -> None:
    """Prepare data sets, each unless a fresh copy exists.

    Args:
      datasets: what to prepare, e.g. prepare.datasets = [@train/DatasetConfig()]; with a
        checkpoint, by default `DatasetConfig()` as gin binds it and the checkpoint's training.
      checkpoint: whose vocabulary the ids are of, unless gin binds one.
      preview: print so many examples of each task (texts, ids, pieces) and write nothing.
      runner: of Apache Beam, whose workers prepare the shards of a source, such as the files of a
        corpus; they see the folder of prepared data. The command goes on where it was stopped.
      beam_options: flags of Beam and of its runner.

    Raises:
      UserError: nothing to prepare, or see `mto_jax.data.prepare.prepare`.
    """
    checks.check(prepare, locals())
    unknown = gin.get_bindings("vocabulary").get("name") is None
    if checkpoint is not None and (unknown or not datasets):
        opened = checkpoints.open(checkpoint)
        opened.adopt_vocabulary()
        if not datasets:
            adopt(opened)
            datasets = [gin.get_configurable(DatasetConfig)()]
    if not datasets:
        raise errors.UserError(
            "Nothing to prepare: name the data in the gin file, for instance "
            "prepare.datasets = [@DatasetConfig()], or pass --gin_file=runs/pretrain.gin."
        )
    from mto_jax.data import beam, sharded  # Import TensorFlow, which other verbs do without.
    from mto_jax.data import prepare as writer

    write = sharded.writer(beam.runner(runner, beam_options)) if runner else None
    for dataset in datasets:
        if preview:
            print(writer.preview(dataset, preview))
        else:
            print(f"prepared: {writer.prepare(dataset, write).path}")
