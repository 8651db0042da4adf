# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pre-train, adapt or fine-tune a T5 on a SeqIO task or mixture; resumes where it stopped.

MODEL_DIR receives config.gin, model.json, model-info.txt (the parameter table), metrics.jsonl, the
TensorBoard events and checkpoints/. The same command, run again, resumes from the newest good
checkpoint: after the end of the run, a signal, a crash or a power cut.
"""

from mto_jax.runs.train import train

__all__ = ["train"]
