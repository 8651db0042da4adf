# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Convert a checkpoint, or say what it is: Hugging Face, T5X, or one of our own runs.

  mto convert --inspect=hf://google/flan-t5-small
  mto convert --from=hf://google/t5-v1_1-base --to=native --output=t5_base
  mto convert --from=runs/a --to=hf --output=my-t5
  mto convert --from=runs/lora --to=peft --output=my-lora
  mto convert --from=runs/a --to=hf --output=my-t5 --push=org/my-t5 --license=apache-2.0
  mto convert --from=hf://google/gemma-2-2b --to=encoder_decoder --output=runs/2b_2b

A run or a folder with adapters becomes a plain T5 (hf, native: LoRA and (IA)^3 are merged into the
weights), or the adapter alone (peft). `train`, `evaluate` and `infer` read foreign checkpoints
themselves; converting once saves the download and the check of every start. Of a Gemma 2, a decoder
alone, encoder_decoder makes a T5Gemma to train on, after the recipe of Zhang et al. 2025.
"""

import pathlib
import sys

import gin
import numpy as np

from mto_jax import checkpoints, checks, errors, hub, remote
from mto_jax.checkpoints import export, huggingface, peft, peft_form
from mto_jax.checkpoints.checkpoint import Checkpoint, tensor_fingerprints
from mto_jax.checkpoints.gemma2 import CROSS_ATTENTION, Gemma2Pair
from mto_jax.checkpoints.merge import merge
from mto_jax.models.adapters import NONE, Adapters, fold, is_adapter
from mto_jax.text2text.vocabulary import Vocabulary

TARGETS = ("hf", "native", "peft", "encoder_decoder")
_AFTERWARDS = """\
Train its cross-attention alone at first, then all of it, on PrefixLM or UL2 (c4_ul2):
  mto train --gin_file=runs/pretrain.gin --gin.MIXTURE_OR_TASK_NAME=c4_prefix_lm \\
    --gin.INITIAL_CHECKPOINT_PATH={start} --gin.MODEL_DIR={start}_warm \\
    --gin.TRAIN_STEPS=1000 --gin.train.trainable="'{trainable}'"
  mto train --gin_file=runs/pretrain.gin --gin.MIXTURE_OR_TASK_NAME=c4_prefix_lm \\
    --gin.INITIAL_CHECKPOINT_PATH={start}_warm --gin.MODEL_DIR={start}_adapted"""


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
        "--encoder",
        metavar="PATH",
        help="for --to=encoder_decoder: a Gemma 2 to take the encoder from, if not from the same",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder to write; must not hold anything yet"
    )
    parser.add_argument(
        "--dtype", metavar="|".join(huggingface.WRITTEN_DTYPES), help="of the tensors, for --to=hf"
    )
    parser.add_argument(
        "--push",
        metavar="ORG/NAME",
        help="put what --to=hf or --to=peft writes into this repository of the Hugging Face hub "
        "(HF_TOKEN or `hf auth login`)",
    )
    parser.add_argument(
        "--private", action="store_true", default=None, help="make that repository a private one"
    )
    parser.add_argument(
        "--license", metavar="NAME", help="for the card, such as apache-2.0; default: the base's"
    )
    parser.add_argument(
        "--language", metavar="CODE[,CODE]", help="for the card, such as en; default: the base's"
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
    encoder: checks.Place | None = None,
    output: checks.Place | None = None,
    dtype: str = "float32",
    push: checks.Name | None = None,
    private: bool = False,
    license: checks.Name | None = None,
    language: checks.Name | None = None,
    allow_pickle: bool = False,
) -> None:
    """Write the checkpoint `source` as `output`, or print what `inspect` is.

    Args:
      inspect: the checkpoint to describe.
      source: the checkpoint to convert.
      to: "hf" for a folder that Transformers loads (with a soft prompt in a folder prompt/ in it),
        "native" for a run directory of ours, "peft" for the adapter by itself, "encoder_decoder"
        for a run directory with the T5Gemma that is made of a Gemma 2.
      encoder: a Gemma 2 that gives the encoder of "encoder_decoder"; None means `source`.
      output: folder to write.
      dtype: of the tensors of a Hugging Face folder: "float32" or "bfloat16".
      push: repository of the Hugging Face hub, "org/name", that gets the folder as well.
      private: make that repository a private one, if it is not there.
      license, language: of the card ("apache-2.0", "en,de"); None means those of the base model.
      allow_pickle: read `pytorch_model.bin`.

    Raises:
      UserError: nothing to do, the checkpoint cannot be read or written, or the hub does not take
        it.
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
            f"Say what to convert: --from=PATH --to={'|'.join(TARGETS)} --output=DIR; or "
            "--inspect=PATH."
        )
    if to not in TARGETS:
        raise errors.unknown("target of a conversion called", to, TARGETS)
    if encoder is not None and to != "encoder_decoder":
        raise errors.UserError("--encoder is for --to=encoder_decoder.")
    if push is None and private:
        raise errors.UserError("--private is about a repository: add --push=org/name.")
    if push is not None:
        if to in ("native", "encoder_decoder"):
            raise errors.UserError(
                "--push is for folders that others load: take --to=hf, or --to=peft for an adapter."
            )
        hub.check_push(push)
    languages = language.split(",") if language else None
    stated = {k: v for k, v in {"license": license, "language": languages}.items() if v}
    card = {"name": push, "stated": stated}
    folder = remote.local(output)
    if to == "encoder_decoder":
        checkpoint = _pair(source, encoder, allow_pickle)
    else:
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
        peft.save_adapter(folder, adapters, parameters, description, **card)
        print(f"wrote {output}", *peft_form.differences(adapters, description), sep="\n")
        _push(folder, push, private)
        return
    tensors = merge(tensors, adapters, parameters)
    name, vocabulary = _vocabulary(checkpoint)
    if to in ("native", "encoder_decoder"):
        export.save_run(
            folder,
            checkpoint.config,
            tensors,
            vocabulary=vocabulary,
            vocabulary_name=name,
            origin=source,
        )
        print(f"wrote {output}; start from it with INITIAL_CHECKPOINT_PATH = '{output}'")
        if isinstance(checkpoint, Gemma2Pair):
            print(checkpoint.origin_of_cross_attention)
            print(_AFTERWARDS.format(start=output.rstrip("/"), trainable=CROSS_ATTENTION))
        return
    export.save_huggingface(
        tensors,
        checkpoint.config,
        folder,
        vocabulary=vocabulary,
        dtype=dtype,
        source=source,
        step_dir=checkpoint.step_dir,
        **card,
    )
    print(f"wrote {output}")
    if adapters.prompt_rows:
        prompt = Adapters(tuple(method for method in adapters.methods if method.rows))
        rows = {n: v for n, v in parameters.items() if not n.startswith(("encoder.", "decoder."))}
        path = f"{hub.PREFIX}{push}" if push else output
        base = {"path": path, "family": checkpoint.config.family}
        description = {**checkpoint.adapter_description(), "base": base}
        peft.save_adapter(folder / "prompt", prompt, rows, description)
        print(
            f"wrote {output}/prompt, its soft prompt, for PeftModel.from_pretrained",
            *peft_form.differences(prompt, description),
            sep="\n",
        )
    _push(folder, push, private)


def _pair(source: str, encoder: str | None, allow_pickle: bool) -> Gemma2Pair:
    """The T5Gemma of one Gemma 2, or of two."""

    def place(path: str) -> pathlib.Path:
        local = path if path.startswith(hub.PREFIX) else remote.local(path)
        remote.fetch(local)
        return hub.resolve(local, allow_pickle=allow_pickle)

    options = checkpoints.Options(allow_pickle=allow_pickle)
    return Gemma2Pair(place(source), options, encoder=place(encoder) if encoder else None)


def _push(folder: pathlib.Path, repository: str | None, private: bool) -> None:
    if repository is not None:
        url = hub.push(folder, repository, private=private)
        print(f"pushed {folder} to {url}")


def _vocabulary(checkpoint: Checkpoint) -> tuple[str, Vocabulary | None]:
    """`vocabulary.name` and the vocabulary; ("", None), which is said, if it is unknown."""
    try:
        name, vocabulary = checkpoint.find_vocabulary()
    except checkpoints.UnknownVocabulary as error:
        print(f"no vocabulary goes along: {error}", file=sys.stderr)
        return "", None
    checkpoint.check_vocabulary(vocabulary)
    return name, vocabulary
