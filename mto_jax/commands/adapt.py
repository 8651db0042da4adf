# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Make task-like pairs of unlabelled sentences, and train a model on them.

    mto adapt --gin_file=runs/adapt.gin --gin.CORPUS=wordnet_glosses --gin.OBJECTIVE=mixed \\
      --gin.INITIAL_CHECKPOINT_PATH=runs/base --gin.MODEL_DIR=runs/mixed

    mto adapt --gin_file=runs/adapt.gin --gin_file=mappings/expert.gin --gin.TASK=atomic_xIntent ...

adapts under the objective that the mapping has for a task; an OBJECTIVE beside it wins. The pairs
and a report of what was kept and dropped are in MODEL_DIR/adaptation; the training is that of
`mto train`. The same command, run again, resumes where it stopped.
"""

from mto_jax.adaptation.adapt import adapt

__all__ = ["adapt"]
