# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters as files: folders that Hugging Face PEFT reads too, and bare prompts.

An adapter folder of ours holds

  mto.json                    adapters, base model, and SHA-256 of the other files
  adapter_config.json,        one method that PEFT has a form for, as PEFT writes it
  adapter_model.safetensors
  parameters.safetensors      in place of these two: several methods, or one unknown to PEFT
  prompt.npy                  rows [P, D] of a prompt, in the form of google-research/prompt-tuning
  README.md                   the card, for readers

`load_adapter` also reads PEFT's own folders and .npy files.
"""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from mto_jax import errors, fields, hub
from mto_jax.checkpoints import model_card, parameter_names, peft_form, pickles, safetensors
from mto_jax.checkpoints.contents import columns
from mto_jax.checkpoints.foreign_fields import read_object
from mto_jax.checkpoints.lazy import in_memory
from mto_jax.errors import UserError
from mto_jax.files import (
    canonical,
    digest,
    file_digest,
    read_record,
    write_atomically,
    write_json,
    write_record,
    writing,
)
from mto_jax.models import adapters as adapters_lib
from mto_jax.models.adapters import Adapters, PromptTuning
from mto_jax.models.config import ModelConfig

OWN = "mto.json"
OWN_WEIGHTS = "parameters.safetensors"
PROMPT = "prompt.npy"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
# What a description may tell besides the adapter itself.
DESCRIPTION = ("task", "template", "vocabulary", "base", "info")


def is_adapter(path: str | os.PathLike) -> bool:
    """Returns whether `path` is an adapter folder, of ours or of PEFT's."""
    folder = pathlib.Path(path)
    return (folder / OWN).is_file() or (folder / CONFIG).is_file()


def one_fingerprint(fingerprints: Mapping[str, str]) -> str:
    """32 hexadecimal digits of a T5 from `state.fingerprints`, those of adapters left out."""
    base = {name: v for name, v in fingerprints.items() if not adapters_lib.is_adapter(name)}
    return digest(json.dumps(base, sort_keys=True))[:32]


# ---- Writing ----------------------------------------------------------------------------------


def save_adapter(
    folder: str | os.PathLike,
    adapters: Adapters,
    parameters: Mapping[str, Any],
    description: Mapping[str, Any],
    *,
    name: str | None = None,
    stated: Mapping[str, Any] | None = None,
) -> None:
    """Writes an adapter folder, wholly or not at all, in place of a former one of ours.

    Args:
      adapters: what the adapter is; its prompt encoder is folded away.
      parameters: by name; those that are not an adapter's are left out.
      description: any of "task" and "template" (names), "vocabulary" (digest), "base" ({"path",
        "fingerprint", "family"}, see `one_fingerprint`) and "info" (what else is worth knowing), as
        JSON has it.
      name, stated: for the card, see `model_card.of_adapter`; the name is that of the folder unless
        another is given.

    Raises:
      UserError: nothing to write, values that are not finite, or something else is in `folder`.
    """
    folder = pathlib.Path(folder)
    for key in description:
        if key not in DESCRIPTION:
            raise errors.unknown("field of an adapter's description called", key, DESCRIPTION)
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and not (folder / OWN).is_file():
        raise UserError(f"{folder} exists and is no adapter folder of ours: name another one.")
    own = {key: v for key, v in parameters.items() if adapters_lib.is_adapter(key)}
    folded = adapters_lib.fold(own, adapters)
    arrays = {key: np.asarray(value, np.float32) for key, value in folded.items()}
    if not arrays:
        raise UserError(f"There is no adapter to write to {folder}: the model has none.")
    _check_finite(arrays, folder)
    content = {"adapters": adapters.folded.as_dict(), **description}
    canonical(content)  # raises before anything is written

    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    family = (description.get("base") or {}).get("family", "t5")
    if form := peft_form.encode(adapters.folded, arrays, family):
        write_json(partial / CONFIG, {**form[0], **peft_form.base_fields(description)})
        _write_tensors(partial / WEIGHTS, form[1])
    else:
        _write_tensors(partial / OWN_WEIGHTS, arrays)
    if (table_PxD := adapters.prompt_table(arrays)) is not None:
        with writing(partial / PROMPT):
            np.save(partial / PROMPT, table_PxD)
    digests = {path.name: file_digest(path) for path in sorted(partial.iterdir())}
    write_record(partial / OWN, {**content, "sha256": digests})
    _write_card(partial, name or folder.name, content, stated)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def add_info(folder: str | os.PathLike, info: Mapping[str, Any]) -> None:
    """Add to the "info", and to the card, of an adapter folder that `save_adapter` wrote."""
    path = pathlib.Path(folder) / OWN
    content = read_record(path, unsigned=True)
    content["info"] = {**(content.get("info") or {}), **info}
    write_record(path, content)
    _write_card(path.parent, path.parent.name, content)


def _write_card(
    folder: pathlib.Path,
    name: str,
    content: Mapping[str, Any],
    stated: Mapping[str, Any] | None = None,
) -> None:
    adapters = Adapters.from_dict(content["adapters"])
    in_peft = (folder / CONFIG).is_file()
    card = model_card.of_adapter(name, adapters, content, in_peft, stated)
    write_atomically(folder / "README.md", card)


def _write_tensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    safetensors.write(path, {n: in_memory(v) for n, v in arrays.items()}, np.float32)


# ---- Reading ----------------------------------------------------------------------------------


def load_adapter(
    path: str | os.PathLike, *, allow_pickle: bool = False
) -> tuple[Adapters, dict[str, np.ndarray], dict[str, Any]]:
    """(adapters, float32 parameters by name, description) of a folder or a .npy file.

    An adapter of PEFT may lack the parameters of a stack or a weight, see `completed`. The
    description of foreign files says {"base": {"path": ...}} at most; see `save_adapter`.

    Args:
      allow_pickle: read adapter_model.bin of PEFT where there are no safetensors.

    Raises:
      UserError: no adapter, damaged, changed since it was written, or what `Adapters` cannot
        express.
    """
    place = pathlib.Path(path).expanduser()
    if place.is_file():
        table = _read_array(place)
        method = fields.from_dict(PromptTuning, {"rows": len(table)})
        return Adapters.of(method), {"prompt.table": table}, {}
    if not is_adapter(place):
        what = f"holds neither {OWN} nor {CONFIG}" if place.is_dir() else "is not there"
        raise UserError(
            f"{place} {what}. Give a folder that tuning wrote, a folder of Hugging Face PEFT, or "
            "the .npy file of a prompt."
        )
    if not (place / OWN).is_file():
        return _read_peft(place, allow_pickle)
    adapters, description = _read_own(place)
    if (place / CONFIG).is_file():
        return adapters, _read_peft(place)[1], description
    return adapters, _read_tensors(place / OWN_WEIGHTS), description


def prompt_rows(path: str | os.PathLike) -> np.ndarray:
    """The rows [P, D] of the soft prompt in an adapter folder or a .npy file.

    Raises:
      UserError: see `load_adapter`; an adapter without a prompt.
    """
    adapters, parameters, _ = load_adapter(path)
    table_PxD = adapters.prompt_table(parameters)
    if table_PxD is None:
        raise UserError(f"{path} is an adapter without a prompt ({adapters.label}).")
    return table_PxD


def _read_own(folder: pathlib.Path) -> tuple[Adapters, dict[str, Any]]:
    content = read_record(folder / OWN, unsigned=True)
    try:
        adapters, digests = Adapters.from_dict(content["adapters"]), dict(content["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / OWN} does not describe an adapter: {error!r}.") from error
    for name, written in digests.items():
        if not (folder / name).is_file():
            raise UserError(f"The adapter {folder} is damaged: {name} is missing.")
        if file_digest(folder / name) != written:
            raise UserError(
                f"The adapter {folder} is damaged: the content of {name} is not what was written. "
                f"If another program wrote it on purpose, remove {OWN} to have the folder read as "
                "PEFT's."
            )
    return adapters, {key: content[key] for key in DESCRIPTION if key in content}


def _read_peft(
    folder: pathlib.Path, allow_pickle: bool = False
) -> tuple[Adapters, dict[str, np.ndarray], dict[str, Any]]:
    config = read_object(folder / CONFIG)
    pickled = not (folder / WEIGHTS).is_file() and (folder / PICKLE).is_file()
    if pickled and not allow_pickle:
        raise UserError(
            f"{folder} holds its weights as a pickle ({PICKLE}), a format that can carry programs. "
            "If you trust its author, allow it: load_checkpoint.allow_pickle = True in gin, or mto "
            "convert --allow_pickle."
        )
    if not pickled and not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has an {CONFIG} and no weights: expected {WEIGHTS}.")
    tensors = _read_tensors(folder / (PICKLE if pickled else WEIGHTS))
    adapters, parameters = peft_form.decode(config, tensors, str(folder))
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not base:
        return adapters, parameters, {}
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) and not pathlib.Path(base).exists():
        # The hub has the first T5s, whose names have no organisation, under google-t5.
        base = base if "/" in base else f"google-t5/{base}"
        base = f"{hub.PREFIX}{base}" + (f"@{revision}" if revision else "")
    return adapters, parameters, {"base": {"path": base}}


def _read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    tensors = pickles.read(path) if path.name == PICKLE else safetensors.read(path)
    arrays = {name: np.array(tensor.whole(), np.float32) for name, tensor in tensors.items()}
    _check_finite(arrays, path)
    return arrays


def _read_array(path: pathlib.Path) -> np.ndarray:
    """The rows of a prompt out of a .npy file."""
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} does not read as an array of NumPy (.npy): {error}.") from error
    if (
        not isinstance(table, np.ndarray)
        or table.dtype.kind != "f"
        or table.ndim != 2
        or not table.size
    ):
        content = (
            f"{table.dtype} {list(table.shape)}" if isinstance(table, np.ndarray) else "an archive"
        )
        raise UserError(
            f"{path} holds {content}; a prompt is an array [rows, width] of floating-point numbers."
        )
    table = table.astype(np.float32)
    _check_finite({"prompt.table": table}, path)
    return table


def inspect(path: str | os.PathLike) -> str:
    """Returns a description of an adapter as readable text.

    Raises:
      UserError: see `load_adapter`.
    """
    adapters, parameters, description = load_adapter(path)
    base, info = description.get("base") or {}, description.get("info") or {}
    lines = [("path", os.fspath(path)), ("adapter", adapters.label)]
    if (table_PxD := adapters.prompt_table(parameters)) is not None:
        norms, width = np.linalg.norm(table_PxD, axis=1), table_PxD.shape[1]
        text = f"width {width}, norms of the rows {norms.min():.3g} to {norms.max():.3g}"
        lines.append(("prompt", text))
    lines += [
        (key, description[key])
        for key in ("task", "template", "vocabulary")
        if description.get(key)
    ]
    lines += [("base", f"{key} {value}") for key, value in base.items()]
    lines += [("info", f"{key} {value}") for key, value in info.items()]
    lines += [("holds", f"{name} {list(value.shape)}") for name, value in parameters.items()]
    forms = [name for name in (OWN, CONFIG, PROMPT) if (pathlib.Path(path) / name).is_file()]
    lines += [("files", ", ".join(forms))] if forms else []
    return columns(lines)


# ---- Checking ---------------------------------------------------------------------------------


def _check_finite(arrays: Mapping[str, np.ndarray], place: pathlib.Path) -> None:
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise UserError(f"{place}: {name} has values that are not finite numbers.")


def completed(
    adapters: Adapters, parameters: Mapping[str, Any], config: ModelConfig, where: str | os.PathLike
) -> tuple[dict[str, Any], list[str]]:
    """(the parameters of a folded adapter for a model, a report of those that it lacks).

    What is absent, in PEFT's adapters of some weights or of a single stack, has no effect.

    Raises:
      UserError: the parameters do not fit the model; `where` is what the message calls the adapter.
    """
    shapes = parameter_names.shapes(config, adapters)
    shapes = {name: shape for name, shape in shapes.items() if adapters_lib.is_adapter(name)}
    whole, absent = dict(parameters), []
    for method in adapters.methods:
        own = adapters_lib.own_parameters(shapes, method)
        absent += [name for name in own if name not in whole and method.absent is not None]
        whole |= {n: np.full(own[n], method.absent, np.float32) for n in absent if n in own}
    wanted = {name: list(shape) for name, shape in shapes.items()}
    present = {name: list(np.shape(value)) for name, value in whole.items()}
    wrong = [
        f"{name} is {present.get(name, 'missing')}, expected {wanted.get(name, 'none')}"
        for name in sorted({*wanted, *present})
        if wanted.get(name) != present.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(
            f"The adapter {where} does not fit the model (d_model {config.d_model}, "
            f"{config.num_encoder_layers} + {config.num_decoder_layers} layers): "
            f"{'; '.join(wrong[:5])}{more}. Take the model that it was trained on, or an adapter "
            "of this one."
        )
    places = sorted({name.rpartition(".")[0] for name in absent})
    report = [f"the adapter has nothing for {', '.join(places)}"] if places else []
    return whole, report
