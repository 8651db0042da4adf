# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""How XLA compiles in tests.

Programs run once or twice, so compiling them fast matters more than running them fast (without
fusion emitters: 2.5 x).
"""

FAST = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
EIGHT_DEVICES = f"{FAST} --xla_force_host_platform_device_count=8"
