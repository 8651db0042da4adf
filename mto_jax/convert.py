# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint, or say what it is: Hugging Face, T5X, or one of our own runs.

  mto convert --inspect=hf://google/flan-t5-small
  mto convert --from=hf://google/t5-v1_1-base --to=native --output=t5_base
  mto convert --from=runs/a --to=hf --output=my-t5

`train`, `evaluate` and `infer` read foreign checkpoints themselves; converting once saves the download and
the check of every start.
"""

import pathlib
import sys

import gin

from mto_jax import cli, errors, interop
from mto_jax import vocabulary as vocabularies
from mto_jax.interop import huggingface, native

TARGETS = ("hf", "native")


def add_flags(parser) -> None:
    parser.add_argument(
        "--inspect", metavar="PATH", help="print what this checkpoint is, write nothing"
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        help="hf://org/name[@revision], a folder of Hugging Face or T5X, a run directory or step of one",
    )
    parser.add_argument("--to", metavar="|".join(TARGETS), help="what to write")
    parser.add_argument(
        "--output", metavar="DIR", help="folder to write; must not hold anything yet"
    )
    parser.add_argument(
        "--dtype", metavar="|".join(huggingface.DTYPES), help="of the tensors, for --to=hf"
    )
    parser.add_argument(
        "--allow_pickle",
        action="store_true",
        default=None,
        help="read pytorch_model.bin where there are no safetensors (needs PyTorch)",
    )


@gin.configurable
def convert(
    inspect: str | None = None,
    source: str | None = None,
    to: str | None = None,
    output: str | None = None,
    dtype: str = "float32",
    allow_pickle: bool = False,
) -> None:
    """Write the checkpoint `source` as `output`, or print what `inspect` is.

    Args:
      inspect: the checkpoint to describe.
      source: the checkpoint to convert.
      to: "hf" for a folder that Transformers loads, "native" for a run directory of ours.
      output: folder to write.
      dtype: of the tensors of a Hugging Face folder: "float32" or "bfloat16".
      allow_pickle: read `pytorch_model.bin`.

    Raises:
      UserError: nothing to do, or the checkpoint cannot be read or written.
    """
    if inspect is not None:
        print(interop.inspect(inspect, allow_pickle=allow_pickle))
        return
    if source is None or to is None or output is None:
        raise errors.UserError(
            "Say what to convert: --from=PATH --to=hf|native --output=DIR; or --inspect=PATH."
        )
    if to not in TARGETS:
        raise errors.unknown("target of a conversion called", to, TARGETS)
    folder = interop.resolve(source, allow_pickle=allow_pickle)
    checkpoint = interop.open_checkpoint(folder, allow_pickle=allow_pickle)
    config, tensors, report = checkpoint.assign()
    vocabulary, name = _vocabulary(source, folder, config.vocab_size)
    for line in (*checkpoint.file.notes, *report):
        print(f"{source}: {line}", file=sys.stderr)
    if to == "native":
        native.write(
            output,
            config,
            tensors,
            vocabulary=vocabulary,
            vocabulary_name=name,
            origin=source,
        )
        print(f"wrote {output}; start from it with INITIAL_CHECKPOINT_PATH = '{output}'")
        return
    interop.save(
        tensors,
        config,
        output,
        vocabulary=vocabulary,
        dtype=dtype,
        source=source,
        run_dir=_run_dir(pathlib.Path(checkpoint.file.path)),
    )
    print(f"wrote {output}")


def _vocabulary(
    source: str, folder: pathlib.Path, vocab_size: int
) -> tuple[vocabularies.Vocabulary | None, str]:
    """The vocabulary of a checkpoint and its `vocabulary.name`: its own file, its run's, or gin's if it fits."""
    if (own := interop.vocabulary_of(folder)) is not None:
        here = not source.startswith(interop.PREFIX)
        return own, str(folder.absolute()) if here else source.split("@")[0]
    name = native.vocabulary_name(folder) if native.is_checkpoint(folder) else None
    name = name or gin.get_bindings("vocabulary").get("name")
    if name is None and vocab_size == 32128:
        name = "t5"
    if name is None:
        print(f"{source}: no vocabulary goes along, none is known", file=sys.stderr)
        return None, ""
    try:
        vocabulary = vocabularies.vocabulary(name)
        if vocabulary.padded_size == vocab_size:
            return vocabulary, name
        reason = f"{name!r} has {vocabulary.size} ids, the model {vocab_size} rows"
    except errors.UserError as error:
        reason = str(error).splitlines()[0]
    print(f"{source}: no vocabulary goes along: {reason}", file=sys.stderr)
    return None, ""


def _run_dir(step_dir: pathlib.Path) -> pathlib.Path | None:
    """The run directory of a step folder RUN/checkpoints/STEP."""
    return step_dir.parent.parent if step_dir.parent.name == "checkpoints" else None


if __name__ == "__main__":
    cli.run("convert")
