# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Results as data frames; pandas is imported when a frame is asked for and is no dependency."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from mto_jax.errors import UserError


def frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Returns a `pandas.DataFrame` with a column for each key of the rows.

    Raises:
      UserError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError as error:
        raise UserError("to_pandas() needs pandas: pip install pandas.") from error
    return pandas.DataFrame(list(rows))
