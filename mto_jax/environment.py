# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Environment variables that JAX reads when it starts its devices, as gin has them."""

import os
from collections.abc import Mapping

import gin

from mto_jax import checks, errors

# A gin file may set what concerns accelerators, and nothing else of the process.
PREFIXES = ("JAX_", "LIBTPU_", "NCCL_", "NVTE_", "TPU_", "XLA_")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # lists of flags, of which the last ones count


@gin.configurable
def environment(variables: Mapping[str, str] | None = None) -> None:
    """Set variables that the shell has not set; flags of both are joined, the shell's last.

    Call it before JAX has looked for devices.

    Args:
      variables: by name, such as {"XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=true"}.

    Raises:
      UserError: a name that does not begin with one of `PREFIXES`.
    """
    checks.check(environment, locals())
    for name, value in (variables or {}).items():
        if not name.startswith(PREFIXES):
            raise errors.UserError(
                f"environment.variables holds {name!r}; its names begin with "
                f"{', '.join(PREFIXES[:-1])} or {PREFIXES[-1]}."
            )
        present = os.environ.get(name)
        if present is not None and name in _FLAGS:
            os.environ[name] = f"{value} {present}"
        elif present is None:
            os.environ[name] = value
