# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks, before any work, that the processes of a run on several hosts have one folder, the same
data and the same settings."""

import pathlib
import secrets
import time
from collections.abc import Mapping

import jax
import numpy as np

from mto_jax.errors import UserError
from mto_jax.files import digest, write_atomically

_SECONDS = 10.0  # a network disk may show a new file so late


def check_shared(folder: pathlib.Path) -> None:
    """Checks that all processes see one `folder`, which is there for the first.

    Raises:
      UserError: on every process, if they do not.
    """
    if jax.process_count() == 1:
        return
    token = folder / ".processes"
    if jax.process_index() == 0:
        write_atomically(token, secrets.token_hex(8))
    _gather(["written"])
    end = time.monotonic() + _SECONDS
    while not token.exists() and time.monotonic() < end:
        time.sleep(0.1)
    try:
        compare(
            {f"the folder MODEL_DIR ({folder})": token.read_text() if token.exists() else ""},
            "All processes must see one folder, on a network disk or in a mounted bucket.",
        )
    finally:
        if jax.process_index() == 0:
            token.unlink(missing_ok=True)


def compare(values: Mapping[str, object], advice: str) -> None:
    """Checks that each value is the same on all processes.

    Args:
      values: JSON by what it is, in words; the same keys on all processes.
      advice: the end of the message.

    Raises:
      UserError: on every process, if one differs from that of process 0; names both.
    """
    if jax.process_count() == 1:
        return
    digests_PxVx8 = _gather([digest(value) for value in values.values()])
    for name, digests_Px8 in zip(values, digests_PxVx8.swapaxes(0, 1), strict=True):
        other = np.flatnonzero((digests_Px8 != digests_Px8[0]).any(-1))
        if other.size:
            numbers = ", ".join(map(str, other))
            raise UserError(
                f"On several hosts, {name} must be the same, but that of process {numbers} is not "
                f"that of process 0. {advice}"
            )


def _gather(texts: list[str]) -> np.ndarray:
    """Returns the first 8 bytes of the digests of all processes' texts, uint8 [P, V, 8]."""
    from jax.experimental import multihost_utils

    rows = [list(bytes.fromhex(digest(text)[:16])) for text in texts]
    return np.asarray(multihost_utils.process_allgather(np.array(rows, np.uint8)))
