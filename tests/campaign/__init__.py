# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
