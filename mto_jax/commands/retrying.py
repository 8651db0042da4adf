# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The flag of verbs that compute a grid of cells."""


def add_flags(parser) -> None:
    """Adds --retry_failed."""
    parser.add_argument(
        "--retry_failed",
        action="store_true",
        default=None,
        help="compute once more what failed before",
    )
