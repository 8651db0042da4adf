# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Say how to adapt a model to a task: as it is, with a prompt, a LoRA, in part or whole.

    mto advise --gin_file=runs/advise.gin --gin.TASK=atomic_xIntent \\
      --gin.TEMPLATE=MaskedPrompting --gin.INITIAL_CHECKPOINT_PATH=runs/base \\
      --gin.OUTPUT_DIR=runs/advice

Strategies are measured at growing numbers of heads, and the worse half leaves. OUTPUT_DIR gets
advice.md (one page), advice.json, advice.gin with the command that does it, and all that
`mto tables` writes. The same command resumes where it was interrupted.
"""

from mto_jax.commands.retrying import add_flags
from mto_jax.experiments.advice import advise

__all__ = ["add_flags", "advise"]
