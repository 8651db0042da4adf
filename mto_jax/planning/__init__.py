# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a training step costs on accelerators that are not here: `mto plan`."""
