# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
# pyright: reportMissingImports=false
"""Work on the workers of Apache Beam: cores of this machine, or a cluster."""

import functools
import re
import shlex
from collections.abc import Callable, Sequence

from mto_jax.data.sharded import Run
from mto_jax.errors import UserError


def runner(name: str, options: str = "") -> Run:
    """Returns what calls a function on the workers of a Beam runner.

    Args:
      name: "DirectRunner", "FlinkRunner", ...
      options: flags of Beam and of the runner, as on a command line.

    Raises:
      UserError: Beam is not installed, or the options are not Beam's.
    """
    try:
        from apache_beam.options import pipeline_options
    except ModuleNotFoundError as error:
        raise UserError(
            f"--runner={name} needs Apache Beam, and {error.name} is not installed: pip install "
            "'mto-jax[beam]'."
        ) from error
    flags = [f"--runner={name}", "--default_sdk_harness_log_level=WARNING", *shlex.split(options)]
    return functools.partial(_run, pipeline_options.PipelineOptions(flags))


def _run(flags, function: Callable[[str], None], texts: Sequence[str]) -> None:
    import apache_beam as beam

    try:
        with beam.Pipeline(options=flags) as pipeline:
            created = pipeline | "work" >> beam.Create([*texts])
            _ = created | "to all workers" >> beam.Reshuffle() | "do" >> beam.Map(function)
    except UserError:
        raise
    except Exception as error:
        # What a worker raises comes as text, with its trace.
        own = re.search(
            r"UserError: (.+?)(?: \[while running|\n\s*\n|\nTraceback|\Z)", str(error), re.S
        )
        if own is None:
            raise
        raise UserError(own[1].strip()) from error
