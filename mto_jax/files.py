# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A digest of the files of a folder: what was written is what is read, or the reader is told."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import socket

DIGEST = "digest.json"
# Orbax rewrites these two while it commits, after the digest; restoring needs neither.
_AFTER_DIGEST = ("_CHECKPOINT_METADATA", "commit_success.txt")


def write_digest(folder: pathlib.Path) -> None:
    """Write the SHA-256 of every file in `folder` to its `digest.json`."""
    skipped = {folder / name for name in (DIGEST, *_AFTER_DIGEST)}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in skipped)
    names = [path.relative_to(folder).as_posix() for path in files]
    digests = dict(zip(names, _sha256s(files), strict=True))
    write_atomically(folder / DIGEST, json.dumps({"sha256": digests}, indent=1))


def damage(folder: pathlib.Path) -> str | None:
    """What is wrong with a folder, in words; None if every file is as it was written."""
    try:
        digests = json.loads((folder / DIGEST).read_text())["sha256"]
        files = [folder / name for name in digests]
    except FileNotFoundError:
        return f"it has no {DIGEST}, so nothing vouches for its content"
    except (ValueError, KeyError, TypeError):
        return f"its {DIGEST} is damaged"
    for path in files:
        if not path.is_file():
            return f"{path.relative_to(folder)} is missing"
    for path, digest, found in zip(files, digests.values(), _sha256s(files), strict=True):
        if digest != found:
            return f"the content of {path.relative_to(folder)} has changed"
    return None


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Write a file that is either wholly there or, after a crash, as it was before."""
    # Hosts that share a folder may have processes of the same number.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sha256s(files: list[pathlib.Path]) -> list[str]:
    def sha256(path):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashing releases the GIL
        return list(pool.map(sha256, files))
