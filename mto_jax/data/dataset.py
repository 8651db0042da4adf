# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The configuration of the data that a run reads: task, lengths, split."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import gin

from mto_jax import checks, errors, remote
from mto_jax.text2text import mapping, registry

LENGTHS = {"inputs": 400, "targets": 50}  # of tasks, where nothing says otherwise


@gin.configurable
@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """One SeqIO task or mixture, at given lengths.

    Attributes:
      mixture_or_task_name: name in SeqIO's registry, e.g. "demo_span_corruption"; or a data set's
        bare name, "atomic_xIntent", which `mapping.tasks` gives its template.
      task_feature_lengths: the most tokens of each feature, {"inputs": S, "targets": T}; longer
        examples are trimmed while preparing (and counted).
      split: split of the task.
      seed: seed of the objective's noise and of any other random preprocessing.
      passes: how many times the data are written, each with fresh noise (seed, seed + 1, ...).
        Epoch e of training reads pass e % passes.
      prepared_dir: folder of prepared data; None means $MTO_CACHE_DIR, else ~/.cache/mto_jax.
      module: module(s) that register the task, comma-separated; MTO-JAX's own tasks are always
        known.
      limit: at most so many examples of each pass; None means all.
      too_long: of an example whose template does not fit the lengths even after its free fields
        (head, tail, context, text) were shortened: "error", which says what lengths all would need,
        or "skip", which leaves it out and says of how many.

    Raises:
      UserError: a length, count or name that makes no sense.
    """

    mixture_or_task_name: checks.Name
    task_feature_lengths: Mapping[str, checks.Count]
    split: checks.Name = "train"
    seed: checks.Seed = 0
    passes: checks.Count = 1
    prepared_dir: checks.Place | None = None
    module: str | None = None
    limit: checks.Count | None = None
    too_long: str = "error"

    def __post_init__(self):
        if self.mixture_or_task_name is None:
            raise errors.UserError(
                "DatasetConfig.mixture_or_task_name has no value: pass --gin.MIXTURE_OR_TASK_NAME. "
                "(Only a run of mto train knows its own.)"
            )
        checks.check_fields(self)
        name = mapping.resolve_task(self.mixture_or_task_name)
        object.__setattr__(self, "mixture_or_task_name", name)
        lengths = dict(self.task_feature_lengths)
        if set(lengths) != {"inputs", "targets"}:
            raise errors.UserError(
                f"TASK_FEATURE_LENGTHS is {lengths}; expected a number of tokens for 'inputs' and "
                "for 'targets', such as {'inputs': 128, 'targets': 32}."
            )
        # One order of the keys, so that equal configurations have equal text.
        object.__setattr__(
            self, "task_feature_lengths", {k: lengths[k] for k in ("inputs", "targets")}
        )
        if self.too_long not in ("error", "skip"):
            raise errors.unknown("DatasetConfig.too_long", str(self.too_long), ("error", "skip"))

    @property
    def modules(self) -> list[str]:
        """Names of the user's modules."""
        return registry.module_names(self.module)

    @property
    def directory(self) -> pathlib.Path:
        """Folder under which prepared data sets lie."""
        folder = self.prepared_dir or os.environ.get("MTO_CACHE_DIR") or "~/.cache/mto_jax"
        return remote.local(folder).expanduser()
