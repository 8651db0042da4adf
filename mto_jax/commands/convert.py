# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint, or say what it is: Hugging Face, T5X, or one of our own runs.

  mto convert --inspect=hf://google/flan-t5-small
  mto convert --from=hf://google/t5-v1_1-base --to=native --output=t5_base
  mto convert --from=runs/a --to=hf --output=my-t5
  mto convert --from=runs/lora --to=peft --output=my-lora

A run or a folder with adapters becomes a plain T5 (hf, native: LoRA and (IA)^3 are merged into the
weights), or the adapter alone (peft). `train`, `evaluate` and `infer` read foreign checkpoints
themselves; converting once saves the download and the check of every start.
"""

import pathlib
import sys

import gin
import numpy as np

from mto_jax import checkpoints, checks, errors
from mto_jax.checkpoints import export, huggingface, peft
from mto_jax.checkpoints.checkpoint import Checkpoint, tensor_fingerprints
from mto_jax.checkpoints.merge import merge
from mto_jax.models.adapters import NONE, Adapters, fold, is_adapter
from mto_jax.text2text.vocabulary import Vocabulary

TARGETS = ("hf", "native", "peft")


def add_flags(parser) -> None:
    parser.add_argument(
        "--inspect", metavar="PATH", help="print what this checkpoint is, write nothing"
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        help="hf://org/name[@revision], a folder of Hugging Face or T5X, a run directory or step "
        "of one, a folder of an adapter",
    )
    parser.add_argument("--to", metavar="|".join(TARGETS), help="what to write")
    parser.add_argument(
        "--output", metavar="DIR", help="folder to write; must not hold anything yet"
    )
    parser.add_argument(
        "--dtype", metavar="|".join(huggingface.WRITTEN_DTYPES), help="of the tensors, for --to=hf"
    )
    parser.add_argument(
        "--allow_pickle",
        action="store_true",
        default=None,
        help="read pytorch_model.bin where there are no safetensors (needs PyTorch)",
    )


@gin.configurable
def convert(
    inspect: checks.Place | None = None,
    source: checks.Place | None = None,
    to: str | None = None,
    output: checks.Place | None = None,
    dtype: str = "float32",
    allow_pickle: bool = False,
) -> None:
    """Write the checkpoint `source` as `output`, or print what `inspect` is.

    Args:
      inspect: the checkpoint to describe.
      source: the checkpoint to convert.
      to: "hf" for a folder that Transformers loads (with a soft prompt in a folder prompt/ in it),
        "native" for a run directory of ours, "peft" for the adapter by itself.
      output: folder to write.
      dtype: of the tensors of a Hugging Face folder: "float32" or "bfloat16".
      allow_pickle: read `pytorch_model.bin`.

    Raises:
      UserError: nothing to do, or the checkpoint cannot be read or written.
    """
    checks.check(convert, locals())
    if allow_pickle:  # of all that is read, the base of an adapter too
        with gin.unlock_config():
            gin.bind_parameter("load_checkpoint.allow_pickle", True)
    if inspect is not None:
        print(checkpoints.open(inspect).describe())
        return
    if source is None or to is None or output is None:
        raise errors.UserError(
            "Say what to convert: --from=PATH --to=hf|native|peft --output=DIR; or --inspect=PATH."
        )
    if to not in TARGETS:
        raise errors.unknown("target of a conversion called", to, TARGETS)
    checkpoint = checkpoints.open(source)
    adapters = checkpoint.adapters.folded
    if to == "peft" and adapters == NONE:
        raise errors.UserError(f"{source} has no adapter; --to=hf or --to=native writes the model.")
    if to == "native" and adapters.prompt_rows:
        raise errors.UserError(
            f"{source} has a soft prompt, which --to=native has no place for: --to=hf writes it "
            "beside the model, --to=peft by itself."
        )
    everything = checkpoint.tensors()
    tensors = {name: tensor for name, tensor in everything.items() if not is_adapter(name)}
    own = {name: tensor.whole() for name, tensor in everything.items() if is_adapter(name)}
    parameters = {n: np.asarray(v) for n, v in fold(own, checkpoint.adapters).items()}
    if to == "peft":
        description = checkpoint.adapter_description()
        if "fingerprint" not in description["base"]:
            fingerprint = peft.one_fingerprint(tensor_fingerprints(tensors))
            description["base"] = {**description["base"], "fingerprint": fingerprint}
        peft.save_adapter(output, adapters, parameters, description)
        print(f"wrote {output}")
        return
    tensors = merge(tensors, adapters, parameters)
    name, vocabulary = _vocabulary(checkpoint)
    if to == "native":
        export.save_run(
            output,
            checkpoint.config,
            tensors,
            vocabulary=vocabulary,
            vocabulary_name=name,
            origin=source,
        )
        print(f"wrote {output}; start from it with INITIAL_CHECKPOINT_PATH = '{output}'")
        return
    export.save_huggingface(
        tensors,
        checkpoint.config,
        output,
        vocabulary=vocabulary,
        dtype=dtype,
        source=source,
        step_dir=checkpoint.step_dir,
    )
    print(f"wrote {output}")
    if adapters.prompt_rows:
        prompt = Adapters(tuple(method for method in adapters.methods if method.rows))
        rows = {n: v for n, v in parameters.items() if not n.startswith(("encoder.", "decoder."))}
        description = {**checkpoint.adapter_description(), "base": {"path": output}}
        peft.save_adapter(pathlib.Path(output) / "prompt", prompt, rows, description)
        print(f"wrote {output}/prompt, its soft prompt, for PeftModel.from_pretrained")


def _vocabulary(checkpoint: Checkpoint) -> tuple[str, Vocabulary | None]:
    """`vocabulary.name` and the vocabulary; ("", None), which is said, if it is unknown."""
    try:
        name, vocabulary = checkpoint.find_vocabulary()
    except checkpoints.UnknownVocabulary as error:
        print(f"no vocabulary goes along: {error}", file=sys.stderr)
        return "", None
    checkpoint.check_vocabulary(vocabulary)
    return name, vocabulary
