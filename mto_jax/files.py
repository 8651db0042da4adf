# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files: atomic writes, digests, locks and leases between processes, and a store of finished
work."""

import concurrent.futures
import contextlib
import hashlib
import json
import math
import os
import pathlib
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock

from mto_jax import remote
from mto_jax.errors import UserError

DIGEST = "digest.json"
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://\S*")
# Flags, parameters and macros whose paths may be addresses of an object store (`remote`).
_REMOTE = (
    *("model_dir", "initial_checkpoint_path", "output_dir", "prepared_dir", "models", "run"),
    *("inspect", "source", "output", "input_file", "output_file"),
)
# Orbax rewrites these two while it commits, after the digest; restoring needs neither.
_AFTER_DIGEST = ("_CHECKPOINT_METADATA", "commit_success.txt")


def check_local(value: Any, name: str) -> None:
    """Checks that no path in `value` is an address, such as http://host/folder; hf:// may be.

    Those of object stores that `name` may have are brought to this machine.

    Args:
      value: a path, anything else, or lists and mappings of such.
      name: of the flag or parameter, for the message.

    Raises:
      UserError: one is, or cannot be read; names it.
    """
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            check_local(item, name)
    if not isinstance(value, str | os.PathLike):
        return
    text = os.fspath(value)
    if remote.is_address(text) and re.split(r"[.-]", name.lower())[-1] in _REMOTE:
        remote.local(text)
    elif (scheme := _SCHEME.fullmatch(text)) and not (
        scheme[1] == "hf" or (scheme[1] == "ray" and name.endswith("engine"))
    ):
        raise UserError(
            f"{name} is {text}: paths of the kind {scheme[1]}:// are neither read nor written. "
            "Give a folder or file of this machine, which may be a mounted bucket (Cloud Storage "
            "FUSE, for example)."
        )


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Write a file that is either wholly there or, after a crash, as it was before."""
    # Hosts that share a folder may have processes of the same number.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        with writing(path), temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """A context whose OSErrors name `path` where they name no file: a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_json(path: pathlib.Path, content: Any) -> None:
    """Write readable JSON atomically."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


# ---- Digests ----------------------------------------------------------------------------------


def canonical(content: Any) -> str:
    """JSON that is the same text for the same content; NaN and infinity are refused."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(content: Any) -> str:
    """The SHA-256, in 64 hexadecimal digits, of bytes, a text, or canonical JSON of all else."""
    if not isinstance(content, bytes | memoryview | str):
        content = canonical(content)
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, as `digest` has it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(text: str, size: int = 16) -> bytes:
    """`size` bytes of BLAKE2b: a random draw that is a pure function of the text."""
    return hashlib.blake2b(text.encode(), digest_size=size).digest()


def write_digest(folder: pathlib.Path) -> None:
    """Write the SHA-256 of every file in `folder` to its `digest.json`."""
    skipped = {folder / name for name in (DIGEST, *_AFTER_DIGEST)}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in skipped)
    names = [path.relative_to(folder).as_posix() for path in files]
    digests = dict(zip(names, _file_digests(files), strict=True))
    write_json(folder / DIGEST, {"sha256": digests})


def damage(folder: pathlib.Path) -> str | None:
    """The damage of a folder, in words; None if every file is as it was written."""
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
    for path, written, present in zip(files, digests.values(), _file_digests(files), strict=True):
        if written != present:
            return f"the content of {path.relative_to(folder)} has changed"
    return None


def _file_digests(files: list[pathlib.Path]) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashing releases the GIL
        return list(pool.map(file_digest, files))


# ---- Locks ------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(path: str | os.PathLike) -> Iterator[None]:
    """A context that one process of a host has at a time; says for whom it waits, if it does.

    The kernel drops the lock when its holder dies; the file stays. PATH.holder names the holder.
    """
    file = pathlib.Path(path)
    try:
        held = filelock.FileLock(file).acquire(timeout=0)
    except filelock.Timeout:
        _say_waiting(_holder(file), file.parent)
        held = filelock.FileLock(file).acquire()
    with held, _signed(file):
        yield


@contextlib.contextmanager
def _signed(file: pathlib.Path) -> Iterator[None]:
    """A context in which a file beside a lock names this process."""
    holder = file.with_name(f"{file.name}.holder")
    write_atomically(holder, f"process {os.getpid()} on host {socket.gethostname()}")
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)


def _holder(file: pathlib.Path) -> str:
    holder = file.with_name(f"{file.name}.holder")
    return holder.read_text() if holder.exists() else "another process"


def _say_waiting(holder: str, folder: pathlib.Path) -> None:
    print(f"waiting for {holder}, which works in {folder}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def only_writer(path: str | os.PathLike, *, make_folder: bool = False) -> Iterator[None]:
    """A context in which this process alone writes `path`; it does not wait.

    The kernel drops the lock when its holder dies, however that happens. Two hidden files hold it
    and the holder's name: `.lock` and `.lock.holder` in a folder, `.NAME.lock` and
    `.NAME.lock.holder` beside a file NAME.

    Args:
      path: a folder, which exists, or a file, which need not.
      make_folder: make the folder, and remove it in the end if nothing was written to it.

    Raises:
      UserError: another process writes it; names its number and its host.
    """
    place = pathlib.Path(path).resolve()  # a link stands for what it leads to
    new = make_folder and not place.exists()
    if make_folder:
        place.mkdir(parents=True, exist_ok=True)
    file = place / ".lock" if place.is_dir() else place.with_name(f".{place.name}.lock")
    try:
        held = filelock.FileLock(file).acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"{path} is being written by {_holder(file)}. Wait until it has ended or stop it, or "
            "choose another place to write to."
        ) from None
    with held:
        try:
            with _signed(file), remote.alone(place):
                yield
        finally:
            if new and os.listdir(place) == [file.name]:
                file.unlink()
                place.rmdir()


_UNWRITTEN_SECONDS = 10.0


class Leases:
    """Leases of names in a folder that processes on several hosts share.

    A lease is a file that its holder renews from a thread. It ends when it is released, at once
    when the holder dies on the host of who asks, and elsewhere after `duration` seconds without
    renewal. A holder that was only suspended may then compute what its successor computes too,
    which does no harm where results are written atomically; look for a result after having got the
    lease.
    """

    def __init__(self, folder: str | os.PathLike, duration: float = 300.0):
        self.folder, self.duration = pathlib.Path(folder), duration
        self._leases: dict[str, Any] = {}
        self._held: set[str] = set()
        self._waited_for: set[str] = set()

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error):
        for name in list(self._held):
            self.release(name)

    def take(self, name: str, timeout: float = 0) -> bool:
        """Lease `name`, waiting at most `timeout` seconds (-1: for ever), and saying for whom.

        Returns False if another process has it.
        """
        if name in self._held:
            return False
        # The same object asks again and again: it sees for how long a lease was not renewed.
        if name not in self._leases:
            self._leases[name] = filelock.SoftFileLease(
                self.folder / name, lease_duration=self.duration
            )
        deadline = time.monotonic() + (math.inf if timeout < 0 else timeout)
        while not self._acquire(name, min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
            self.say_waiting(name)
        self._held.add(name)
        return True

    def _acquire(self, name: str, timeout: float) -> bool:
        # A process killed between making its file and writing who it is leaves it empty, which
        # filelock takes, for ever, for a live holder of an earlier version.
        with contextlib.suppress(FileNotFoundError):
            state = (path := self.folder / name).stat()
            if not state.st_size and time.time() - state.st_mtime > _UNWRITTEN_SECONDS:
                path.unlink()
        try:
            self._leases[name].acquire(timeout=timeout, poll_interval=0.2)
        except filelock.Timeout:
            return False
        return True

    def release(self, name: str) -> None:
        """Give `name` back."""
        self._held.remove(name)
        self._leases.pop(name).release()

    def say_waiting(self, name: str) -> None:
        """Say on standard error which process has leased `name`, once for each process."""
        try:
            fields = dict(
                re.findall(r"^(pid|host)=([^?\n]*)", (self.folder / name).read_text(), re.M)
            )
            holder = f"process {fields['pid']} on host {fields['host']}"
        except (OSError, KeyError):  # it has just been released
            return
        if holder not in self._waited_for:
            self._waited_for.add(holder)
            _say_waiting(holder, self.folder.parent)

    def others(self) -> int:
        """The number of names that other processes have leased, or had when they died."""
        return len({path.name for path in self.folder.iterdir()} - self._held)


# ---- Finished work ----------------------------------------------------------------------------


def write_record(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Write JSON together with the digest of its content, atomically."""
    record = json.loads(json.dumps(content))  # as it will be read: no tuples, no numbers as keys
    write_json(path, {**record, "digest": _record_digest(record)})


def _record_digest(record: Mapping[str, Any]) -> str:
    # As `canonical`, but measurements may be NaN.
    return digest(json.dumps(record, sort_keys=True, separators=(",", ":")))


def read_record(path: pathlib.Path, *, unsigned: bool = False) -> dict[str, Any]:
    """The content that `write_record` wrote.

    Args:
      unsigned: also take content without a digest, as earlier versions wrote it.

    Raises:
      UserError: it is damaged; the message begins with the path.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} does not read as JSON: {error}") from error
    if unsigned and isinstance(content, dict) and "digest" not in content:
        return content
    if not isinstance(content, dict) or "digest" not in content:
        raise UserError(f"{path} was not written by this program: it has no digest")
    if content.pop("digest") != _record_digest(content):
        raise UserError(
            f"{path} has changed since it was written: its digest does not fit its content"
        )
    return content


class Store:
    """Finished work in a folder that processes share: each piece is computed once and kept."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder)

    def get(self, identity: Any, compute: Callable[[], Any], name: str = "result") -> Any:
        """The value of `compute`, read from its file if that is there, else computed and written.

        Where the file is damaged, this is said on standard error, and the value computed again.

        Args:
          identity: all that the value depends on, as JSON; the file is named by its digest.
          compute: returns the value, as JSON.
          name: begins the file's name, for readers of the folder.
        """
        path = self.folder / f"{name}-{digest(identity)[:16]}.json"
        if (known := _value(path)) is not None:
            return known["value"]
        with Leases(self.folder / "leases") as leases:
            leases.take(path.name, timeout=-1)
            if (known := _value(path)) is None:  # not written by another process meanwhile
                known = {"identity": identity, "value": compute()}
                write_record(path, known)
        return json.loads(canonical(known["value"]))

    def fill(self, name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
        """The folder NAME as `make(path)` filled it, by this process or another, now or before.

        Waits while another process fills it. What was interrupted is made again in the same folder,
        so `make` may go on where it stopped.

        Args:
          name: of the folder; holds all that decides its content, as a digest for example.
          make: fills the folder, which exists when it is called.
        """
        path, finished = self.folder / name, self.folder / f"{name}.done"
        if finished.exists():
            return path
        with Leases(self.folder / "leases") as leases:
            leases.take(name, timeout=-1)
            if not finished.exists():
                path.mkdir(parents=True, exist_ok=True)
                make(path)
                write_atomically(finished, "")
        return path


def _value(path: pathlib.Path) -> dict[str, Any] | None:
    """The record of a value; None if there is none, or if it is damaged, which is said."""
    if not path.exists():
        return None
    try:
        return read_record(path)
    except UserError as error:
        print(f"{error}. It is computed again.", file=sys.stderr)
        return None
