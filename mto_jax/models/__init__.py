# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5 models in Flax NNX. Nothing here knows of data, training or evaluation."""
