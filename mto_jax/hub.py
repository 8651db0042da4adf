# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf://org/name[@revision]`: files of the Hugging Face hub, in its cache on this machine.

`push` puts a folder there.
"""

import fnmatch
import os
import pathlib
import re

from mto_jax.errors import UserError, first_line
from mto_jax.files import file_digest, lock

PREFIX = "hf://"
_SMALL = ("*.json", "*.model", "README.md")
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "adapter_model.safetensors", "*.npy")
_PICKLES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")


def resolve(path: str | os.PathLike, *, allow_pickle: bool = False) -> pathlib.Path:
    """Returns the local folder or file of `path`; "hf://..." is downloaded unless in the cache.

    A broken download resumes where it stopped, and large files are checked against the SHA-256 that
    the hub gives. With HF_HUB_OFFLINE=1 only the cache is asked.

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
                f"There is no checkpoint {name}. Give a folder of Hugging Face or T5X, the "
                "directory of a run, or hf://org/name[@revision]."
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


def name_in_hub(path: pathlib.Path) -> str | None:
    """Returns hf://org/name@revision of a folder in the cache; None for any other path."""
    match = re.search(r"models--([\w.-]+?)--([\w.-]+)/snapshots/(\w+)$", path.as_posix())
    return f"{PREFIX}{match[1]}/{match[2]}@{match[3]}" if match else None


def check_push(repository: str) -> None:
    """Checks that folders can be pushed to `repository`, before the work of making one.

    Raises:
      UserError: no name of a repository, no token, or the hub does not take it.
    """
    import huggingface_hub

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"--push={repository} does not name a repository: write --push=org/name.")
    if huggingface_hub.get_token() is None:
        raise UserError(
            f"--push={repository} needs a token of the Hugging Face hub that may write: set "
            "HF_TOKEN, or log in once with `hf auth login`. Without --push the folder is written "
            "alone."
        )
    try:
        huggingface_hub.HfApi().whoami()
    except Exception as error:  # the hub client raises errors of several HTTP libraries
        raise _not_pushed(repository, error) from error


def push(folder: pathlib.Path, repository: str, *, private: bool = False) -> str:
    """Puts the files of a folder into a repository, made if it is not there; returns its address.

    Raises:
      UserError: the hub does not take them.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Written by MTO-JAX"
        )
    except Exception as error:  # as above
        raise _not_pushed(repository, error, folder) from error
    return str(url)


def _not_pushed(repository: str, error: Exception, folder: pathlib.Path | None = None) -> UserError:
    kept = f" What was to be pushed is in {folder}." if folder else ""
    reason = first_line(error)
    return UserError(
        f"The Hugging Face hub does not take {repository} ({reason}). Check the name, the "
        f"connection and that the token may write there.{kept}"
    )


def is_here(path: str) -> bool:
    """Returns whether a checkpoint is on this machine: a path, or hf:// in the cache."""
    if path.startswith(PREFIX):
        return cached(path, "config.json") is not None
    return pathlib.Path(path).expanduser().exists()


def cached(path: str, file: str) -> pathlib.Path | None:
    """Returns a file of a local folder, or of "hf://..." in the cache; None if it is not there."""
    import huggingface_hub

    if path.startswith(PREFIX):
        repository, _, revision = path.removeprefix(PREFIX).partition("@")
        local = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
        return pathlib.Path(local) if isinstance(local, str) else None
    local = pathlib.Path(path).expanduser() / file
    return local if local.is_file() else None


def gated(repository: str) -> UserError:
    """The error of a repository whose files this machine does not get."""
    import huggingface_hub

    return UserError(
        f"{PREFIX}{repository} is gated: its files are given to those who accepted its terms. Log "
        f"in to {huggingface_hub.constants.ENDPOINT}/{repository} and accept them; then give this "
        "machine a token of that account (hf auth login, or the variable HF_TOKEN) and run the "
        "same command again."
    )


def _download(
    name: str, repository: str, revision: str | None, patterns: list[str]
) -> pathlib.Path:
    import huggingface_hub

    try:
        commit, files = _large_files(repository, revision)
        for file in files:
            if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in patterns):
                _fetch(repository, commit, file)
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=patterns
        )
    except UserError:
        raise
    except huggingface_hub.errors.GatedRepoError as error:
        raise gated(repository) from error
    except Exception as error:  # the hub client raises errors of several HTTP libraries
        reason = first_line(error)
        raise UserError(
            f"Cannot get {name} from the Hugging Face hub ({reason}). Check the name and the "
            "connection (a private or gated model needs HF_TOKEN), or copy the folder to this "
            "machine and give its path. What was downloaded is kept, and the same command resumes "
            "from there."
        ) from error
    return pathlib.Path(folder)


def _large_files(repository: str, revision: str | None) -> tuple[str, list]:
    """Returns the commit and its files that have a SHA-256; ("", []) without the hub."""
    import huggingface_hub

    try:
        info = huggingface_hub.HfApi().model_info(
            repository, revision=revision, files_metadata=True
        )
    except Exception:  # the download that follows takes what the cache has, or says what is wrong
        return "", []
    return info.sha or "", [file for file in info.siblings or () if file.lfs]


def _fetch(repository: str, commit: str, file) -> None:
    """Put a large file into the cache, resuming a download that broke off, and check its SHA-256.

    The public functions of the client (2.4) remove what a broken download left and trust what came.
    So this uses names that are not public: `file_download.http_get`, the limit beyond which the
    client has other ways, and the layout of the cache. tests/test_hub.py says when they move.
    """
    import huggingface_hub
    from huggingface_hub import constants, file_download, utils

    if file.lfs.size > constants.MAX_HTTP_DOWNLOAD_SIZE:  # then the client has other ways
        return
    # The content of a file lies in the cache under its SHA-256.
    cache, folder = pathlib.Path(constants.HF_HUB_CACHE), f"models--{repository.replace('/', '--')}"
    blob = cache / folder / "blobs" / file.lfs.sha256
    partial = blob.with_name(f"{blob.name}.incomplete")
    lock_file = cache / ".locks" / folder / f"{blob.name}.lock"  # the client's own
    for parent in (blob.parent, lock_file.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with lock(lock_file):
        if blob.exists():
            return
        with partial.open("ab") as stream:
            file_download.http_get(
                huggingface_hub.hf_hub_url(repository, file.rfilename, revision=commit),
                stream,
                resume_size=stream.tell(),
                headers=utils.build_hf_headers(),
                expected_size=file.lfs.size,
                displayed_filename=file.rfilename,
            )
        digest = file_digest(partial)
        if digest != blob.name:
            partial.unlink()
            raise UserError(
                f"The download of {file.rfilename} of {repository} is damaged (SHA-256 "
                f"{digest[:12]}... in place of {blob.name[:12]}...) and was removed: run the same "
                "command again."
            )
        partial.rename(blob)
