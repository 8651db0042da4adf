# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which pre-training objective, and so which template, a task wants: scores, their verdicts, mappings."""
