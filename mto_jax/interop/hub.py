# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf://org/name[@revision]`: files of the Hugging Face hub, in its standard cache on this machine."""

import hashlib
import os
import pathlib
import re
import time

from mto_jax.errors import UserError

PREFIX = "hf://"
_SMALL = ("*.json", "spiece.model", "*.model", "operative_config.gin")
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
_PICKLES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")


def resolve(path: str | os.PathLike, *, allow_pickle: bool = False) -> pathlib.Path:
    """The local folder or file that `path` means; "hf://..." is downloaded unless it is in the cache.

    A broken download goes on where it stopped; new files are checked against the SHA-256 that the hub
    gives. With HF_HUB_OFFLINE=1 only the cache is asked.

    Args:
      allow_pickle: take `pytorch_model.bin` where a repository has no safetensors.

    Raises:
      UserError: nothing at `path`, or the hub does not give it.
    """
    name = os.fspath(path)
    if not name.startswith(PREFIX):
        local = pathlib.Path(name).expanduser()
        if not local.exists():
            raise UserError(
                f"There is no checkpoint {name}. Give a folder of Hugging Face or T5X, the directory of "
                "a run, or hf://org/name[@revision]."
            )
        return local
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(
            f"{name} does not name a repository: write hf://org/name or hf://org/name@revision."
        )
    folder = _download(name, repository, revision or None, [*_SMALL, *_WEIGHTS])
    if allow_pickle and not list(folder.glob("*.safetensors")):
        _download(name, repository, revision or None, list(_PICKLES))
    return folder


def _download(
    name: str, repository: str, revision: str | None, patterns: list[str]
) -> pathlib.Path:
    import huggingface_hub

    began = time.time()
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=patterns
        )
    except Exception as error:  # the hub client raises errors of several HTTP libraries
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"Cannot get {name} from the Hugging Face hub ({reason}). Check the name and the "
            "connection (a private or gated model needs HF_TOKEN), or copy the folder to this machine "
            "and give its path. What was downloaded is kept, and the same command goes on from there."
        ) from error
    for file in pathlib.Path(folder).iterdir():
        _verify(file.resolve(), began)
    return pathlib.Path(folder)


def _verify(blob: pathlib.Path, since: float) -> None:
    """Large files of the hub's cache are named by their SHA-256; those written since then are checked."""
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name) or blob.stat().st_mtime < since:
        return
    with blob.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != blob.name:
        blob.unlink()
        raise UserError(
            f"The download of {blob} is damaged (SHA-256 {digest[:12]}...) and was removed: run the same "
            "command again."
        )
