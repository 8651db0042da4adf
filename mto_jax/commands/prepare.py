# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Turn SeqIO tasks into tokenised ArrayRecord files and a manifest, which training reads.

`train`, `evaluate` and `infer` do this by themselves when data are missing or stale; this verb does
it beforehand, for instance on a machine without an accelerator.
"""

from collections.abc import Sequence

import gin

from mto_jax import checks, errors
from mto_jax.data.dataset import DatasetConfig


def add_flags(parser) -> None:
    parser.add_argument(
        "--preview", type=int, metavar="N", help="print N examples of each task and write nothing"
    )


@gin.configurable
def prepare(datasets: Sequence[DatasetConfig] = (), preview: checks.Natural = 0) -> None:
    """Prepare data sets, each unless a fresh copy exists.

    Args:
      datasets: what to prepare, e.g. prepare.datasets = [@train/DatasetConfig()].
      preview: print so many examples of each task (texts, ids, pieces) and write nothing.

    Raises:
      UserError: nothing to prepare, or see `mto_jax.data.prepare.prepare`.
    """
    checks.check(prepare, locals())
    if not datasets:
        raise errors.UserError(
            "Nothing to prepare: name the data in the gin file, for instance "
            "prepare.datasets = [@DatasetConfig()], or pass --gin_file=runs/pretrain.gin."
        )
    from mto_jax.data import prepare as writer  # Imports TensorFlow, which other verbs do without.

    for dataset in datasets:
        if preview:
            print(writer.preview(dataset, preview))
        else:
            print(f"prepared: {writer.prepare(dataset).path}")
