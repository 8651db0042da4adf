# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of object stores, gs:// and s3://: each is mirrored by a folder of this machine.

`local(path)` is the mirror of an address, brought up to date, and any other path as it is: the rest
of the program reads and writes that as it does any folder. What changes there is uploaded in the
background and by `publish`, what is removed there is removed in the store. Objects appear whole;
files that vouch for others in their folder (digest.json, manifest.json) go last, and a checkpoint
without its digest does not exist for who reads. Large files of such folders are downloaded by
`fetch`, when they are asked for.

The store is the truth: what a killed process had not uploaded yet is gone, and the run goes on from
the newest checkpoint in the store. The mirrors lie in $MTO_CACHE_DIR/remote (else
~/.cache/mto_jax/remote), with a list of what is known to be the same on both sides (`_Known`).
"""

import concurrent.futures
import contextlib
import fcntl
import functools
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mto_jax.errors import UserError

PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}
SECONDS = 15.0  # between two uploads in the background
WRITER = ".writer"  # the object that names who writes a folder

_VOUCH = ("digest.json", "manifest.json")
_STEP = re.compile(r"(.*/checkpoints/\d+)/.")
_OWN = re.compile(r"(^|/)(\.|leases/)|\.(tmp|partial)(/|$)|\.orbax-checkpoint-tmp")
_LARGE = 1 << 20  # bytes; smaller files of a folder that is vouched for are always there
_GIGABYTES = 100.0


def is_address(path: Any) -> bool:
    """Returns whether a path is a folder or file of an object store that is supported."""
    return isinstance(path, str) and path.partition("://")[0] in PACKAGES and "://" in path


def local(path: str | os.PathLike) -> pathlib.Path:
    """Returns the mirror of an address, up to date; the path itself if it is none.

    Raises:
      UserError: a package is missing, there is no such bucket, or it may not be read; names it.
    """
    if not is_address(path):
        return pathlib.Path(path)
    scheme, _, rest = os.fspath(path).partition("://")
    rest = rest.strip("/")
    if not rest or "//" in rest or {".", ".."} & {*rest.split("/")}:
        raise UserError(f"{path} is no address: expected {scheme}://BUCKET/FOLDER.")
    place = _root() / scheme / rest
    if _mount_of(place) is None:
        _mount(f"{scheme}://{rest}", place)
    return place


def name_of(path: str | os.PathLike) -> str:
    """Returns the address that a path mirrors; the path as a text if it mirrors none."""
    place = pathlib.Path(path)
    if not place.is_absolute() or not place.is_relative_to(_root()):
        return str(path)
    scheme, *parts = place.relative_to(_root()).parts
    return f"{scheme}://{'/'.join(parts)}"


def fetch(folder: str | os.PathLike) -> None:
    """Downloads what a folder of a mirror lacks; other folders are left as they are.

    Mirrors together keep at most MTO_REMOTE_CACHE_GB (100) of what `fetch` brought: what was
    fetched longest ago and is not in use goes first.

    Raises:
      UserError: it does not fit into that, or on the disk; or the store does not give it.
    """
    place = pathlib.Path(folder).resolve()
    if (mount := _mount_of(place)) is not None:
        mount.fetch(place)


def publish() -> None:
    """Uploads everything that has changed in the mirrors that this process uses.

    Raises:
      UserError: the store does not take it, or another process has begun to write there.
    """
    failures = []
    for mount in _MOUNTS:
        try:
            mount.push()
        except UserError as error:
            failures.append(error)
    if failures:
        raise failures[0]


@contextlib.contextmanager
def alone(folder: str | os.PathLike) -> Iterator[None]:
    """A context in which this machine alone writes a mirrored folder; for others, no condition.

    Object stores have no locks. An object names the writer and is renewed with every upload; one
    that is not renewed for three times as long was left by a writer that died. Of several processes
    of a machine none is refused: locks of its kernel are between them.

    Raises:
      UserError: another machine writes there; names it.
    """
    place = pathlib.Path(folder).resolve()
    mount = _mount_of(place)
    file = not place.is_dir()  # it is written whole, by whoever is last
    if mount is None or file or place in mount.claims:
        yield
        return
    mount.claim(place)
    try:
        yield
    finally:
        mount.release(place)


# ------------------------------------------------------------------------------------ one folder


class _File(NamedTuple):
    """What is known of an object; `size` and `mtime` are those of its copy, if there is one."""

    tag: str
    size: int | None = None
    mtime: int | None = None


class _Known:
    """What is the same in the store and on this machine, by address: a table in SQLite."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        with self._open() as table:
            table.execute("create table if not exists files (name primary key, tag, size, mtime)")

    def all(self) -> dict[str, _File]:
        with self._open() as table:
            return {n: _File(*values) for n, *values in table.execute("select * from files")}

    def under(self, address: str) -> dict[str, _File]:
        """Returns what is known of a folder or file."""
        with self._open() as table:
            # "0" follows "/" in the order of characters.
            rows = table.execute(
                "select * from files where name = ? or (name > ? and name < ?)",
                (address, f"{address}/", f"{address}0"),
            )
            return {name: _File(*values) for name, *values in rows}

    def set(self, files: Mapping[str, _File]) -> None:
        rows = [(name, *file) for name, file in files.items()]
        with self._open() as table:
            table.executemany("insert or replace into files values (?, ?, ?, ?)", rows)

    def forget(self, names: Iterable[str]) -> None:
        with self._open() as table:
            table.executemany("delete from files where name = ?", [(name,) for name in names])

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as table, table:
            yield table


class _Mount:
    """A folder or file of a store, `address`, and its mirror, `place`."""

    def __init__(self, address: str, place: pathlib.Path):
        self.address, self.place = address, place
        self.scheme, _, rest = address.partition("://")
        self._bucket = rest.partition("/")[0]
        self._pushing = threading.RLock()
        self.claims: set[pathlib.Path] = set()
        self.known = _Known(_root() / "known.sqlite")
        with self._explained("read"):
            self.store = _store(self.scheme)

    # ---- From the store

    def pull(self, first: bool) -> None:
        """Makes the mirror what the store holds.

        Args:
          first: no other process uses this bucket's mirrors; else what is newer here stays.
        """
        with self._explained("read"):
            objects = self._list()
        known = self.known.under(self.address)
        vouched = {name.rpartition("/")[0] for name in objects if name.endswith(_VOUCH)}
        later, now = {}, {}
        for name, (tag, size) in objects.items():
            path, row = self._path(name), known.get(name)
            large = size > _LARGE and _within(name, vouched)
            if row is not None and _stat(path) == row[1:]:  # both are None where there is no copy
                wanted = row.tag != tag or not (row.mtime or large)
            else:
                wanted = first or (row is None and not path.exists())
            if wanted:
                (later if large else now)[name] = (tag, size)
        for name in later:
            self._path(name).unlink(missing_ok=True)
        self.known.set({name: _File(tag) for name, (tag, _) in later.items()})
        self._download(now)
        gone = known.keys() - objects.keys()
        stray = self._files().keys() - objects.keys() if first else set()
        for name in gone | stray:
            if first or _stat(self._path(name)) == known[name][1:]:
                self._path(name).unlink(missing_ok=True)
        self.known.forget(gone)

    def _list(self) -> dict[str, tuple[str, int]]:
        """Returns (tag, size) of the objects by address, without checkpoints that are not whole."""
        self.store.invalidate_cache()
        listed = self.store.find(self.address, detail=True)
        if not listed:  # of a bucket that is not there, some stores list nothing
            self.store.ls(self._bucket)
        found = {f"{self.scheme}://{name}": entry for name, entry in listed.items()}
        found = {n: (_tag(e), e["size"]) for n, e in found.items() if not self._own(n)}
        whole = {n.rpartition("/")[0] for n in found if n.endswith("/digest.json")}
        return {
            n: entry
            for n, entry in found.items()
            if not (step := _STEP.match(n))
            or step[1] in whole
            or self.address.startswith(f"{step[1]}/")  # a part alone, which says nothing of it
        }

    def fetch(self, place: pathlib.Path) -> None:
        address = self._name(place)
        _FETCHED.add(address)
        lacking = [n for n, file in self.known.under(address).items() if not file.mtime]
        if lacking:
            with self._explained("read"):
                objects = self._list()
            if gone := set(lacking) - objects.keys():
                raise UserError(f"{min(gone)} has been removed meanwhile. Start again.")
            objects = {name: objects[name] for name in lacking}
            _make_room(sum(size for _, size in objects.values()), address)
            self._download(objects)

    def _download(self, objects: Mapping[str, tuple[str, int]]) -> None:
        def get(name: str) -> None:
            path = self._path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            try:
                self.store.get_file(name, str(part))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            self.known.set({name: _File(objects[name][0], *_stat(path))})

        with self._explained("read"):
            _at_once(get, objects)

    # ---- To the store

    def push(self) -> None:
        """Uploads what has changed, what vouches last; removes what was removed."""
        with self._pushing:
            if not self.place.exists() and not self.known.under(self.address):
                return
            with self._explained("written"):
                self._renew_claims()
            known, files = self.known.under(self.address), self._files()
            changed = {n: s for n, s in files.items() if n not in known or known[n][1:] != s}
            gone = {n for n, f in known.items() if f.mtime and not self._path(n).exists()}
            left = {name.rpartition("/")[0] for name in gone if name.endswith(_VOUCH)}
            removed = gone | {n for n, f in known.items() if not f.mtime and _within(n, left)}
            if removed and not self.place.exists():
                raise UserError(
                    f"The mirror {self.place} of {self.address} was removed while it was in use. "
                    "Nothing was removed from the store. Start again."
                )

            missed = set()

            def put(name: str) -> None:
                try:
                    self.store.put_file(str(self._path(name)), name)
                except FileNotFoundError:
                    if self._path(name).exists():
                        raise
                    missed.add(name)  # of a step that gave way to newer ones meanwhile

            vouching = {name for name in changed if name.endswith(_VOUCH)}
            with self._explained("written"):
                for last in (*sorted(vouching), None):
                    folder = f"{last.rpartition('/')[0]}/" if last else ""
                    these = {name for name in changed if name.startswith(folder)} - vouching
                    _at_once(put, these)
                    if last and not these & missed:
                        put(last)
                        these.add(last)
                    self._remember({name: changed.pop(name) for name in these - missed})
                if missed:  # what was to replace others is not whole: next time
                    return
                # Who reads meanwhile sees a folder without what vouches for it: not there.
                first = {name for name in removed if name.endswith(_VOUCH)}
                for names in (first, removed - first):
                    if names:
                        self.store.rm(sorted(names))
                self.known.forget(removed)

    def _remember(self, files: Mapping[str, tuple[int | None, int | None]]) -> None:
        """Notes that these files, of this size and time, are in the store as they were here."""
        if files:
            listed = self.store.find(self.address, detail=True)
            tags = {f"{self.scheme}://{name}": _tag(entry) for name, entry in listed.items()}
            self.known.set({n: _File(tags[n], *s) for n, s in files.items() if n in tags})

    # ---- Writers

    def claim(self, place: pathlib.Path) -> None:
        """Writes who writes here, once nobody else does."""
        with self._explained("read"):
            before = self._writer(place)
            if before and before["renewed"] and before["mirror"] != self._mirror(place):
                said = f"{self._name(place)} was written by {before['who']}"
                print(f"{said}: waiting to see whether it still is", file=sys.stderr, flush=True)
                time.sleep(3 * SECONDS)
                if self._writer(place) != before:
                    raise UserError(
                        f"{self._name(place)} is being written by {before['who']}. Wait until it "
                        "has ended or stop it, or choose another place to write to."
                    )
                self.pull(first=False)  # what it wrote last
        with self._pushing, self._explained("written"):
            self._sign(place)
            self.claims.add(place)

    def release(self, place: pathlib.Path) -> None:
        self.push()
        with self._pushing, self._explained("written"):
            self.claims.remove(place)
            self._sign(place, ended=True)

    def _renew_claims(self) -> None:
        """Says again that this process writes here, unless another machine does now."""
        for place in self.claims:
            writer = self._writer(place)
            if writer and writer["mirror"] != self._mirror(place):
                raise UserError(
                    f"{self._name(place)} was taken over by {writer['who']}, which saw no sign of "
                    "this process for some time. Nothing more is uploaded from here: stop one of "
                    "both."
                )
            self._sign(place)

    def _sign(self, place: pathlib.Path, ended: bool = False) -> None:
        content = {
            "who": f"process {os.getpid()} on host {socket.gethostname()}",
            "mirror": self._mirror(place),
            "renewed": "" if ended else secrets.token_hex(8),
        }
        self.store.pipe_file(f"{self._name(place)}/{WRITER}", json.dumps(content).encode())

    def _writer(self, place: pathlib.Path) -> dict[str, str] | None:
        try:
            return json.loads(self.store.cat_file(f"{self._name(place)}/{WRITER}"))
        except FileNotFoundError:  # or no such bucket, which writing says
            return None

    def _mirror(self, place: pathlib.Path) -> str:
        # The processes of a machine have locks between them.
        return f"{socket.gethostname()}:{place}"

    # ---- Names

    def _path(self, name: str) -> pathlib.Path:
        return self.place / name.removeprefix(self.address).lstrip("/")

    def _name(self, place: pathlib.Path) -> str:
        inside = place.relative_to(self.place).as_posix()
        return self.address if inside == "." else f"{self.address}/{inside}"

    def _own(self, name: str) -> bool:
        """Whether a name is that of a lock, or of something unfinished."""
        return bool(_OWN.search(name.removeprefix(self.address).lstrip("/")))

    def _files(self) -> dict[str, tuple[int | None, int | None]]:
        """Returns size and time of the files in the mirror by the address that they have."""
        if self.place.is_file():
            return {self.address: _stat(self.place)}
        files = {}
        for folder, _, names in os.walk(self.place):
            for file in names:
                path = pathlib.Path(folder, file)
                address = self._name(path)
                if not self._own(address) and (stat := _stat(path)) != (None, None):
                    files[address] = stat
        return files

    @contextlib.contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Says in a paragraph why the store cannot be `done`: "read" or "written"."""
        try:
            yield
        except (UserError, KeyboardInterrupt):
            raise
        except ImportError as error:
            raise UserError(
                f"{self.address}: paths of the kind {self.scheme}:// need "
                f"{PACKAGES[self.scheme]}: pip install 'mto-jax[cloud]' installs it."
            ) from error
        except Exception as error:  # of the libraries of each store
            kind, said = type(error).__name__, " ".join(str(error).split())[:300]
            if "Credential" in kind or isinstance(error, PermissionError):
                reason = (
                    f"the credentials of this machine do not allow it ({said}). Amazon's are those "
                    "of `aws configure` or AWS_ACCESS_KEY_ID, Google's those of `gcloud auth "
                    "application-default login`"
                )
            elif isinstance(error, FileNotFoundError):
                reason = f"it is not there ({said})"
            else:
                reason = f"{kind}: {said}"
            raise UserError(f"{self.address} cannot be {done}: {reason}.") from error


_MOUNTS: list[_Mount] = []
_FETCHED: set[str] = set()  # addresses of folders that this process reads


def _mount_of(place: pathlib.Path) -> _Mount | None:
    return next((mount for mount in _MOUNTS if place.is_relative_to(mount.place)), None)


def _mount(address: str, place: pathlib.Path) -> None:
    publish()  # an address around one that is in use: nothing of that is to be lost
    place.parent.mkdir(parents=True, exist_ok=True)
    mount = _Mount(address, place)
    scheme, _, rest = address.partition("://")
    lock = _bucket_lock(_root() / f".{scheme}-{rest.partition('/')[0]}.lock")
    first = _only_user(lock)
    try:
        if not first:
            fcntl.flock(lock, fcntl.LOCK_SH)
        mount.pull(first)
    finally:
        fcntl.flock(lock, fcntl.LOCK_SH)
    _MOUNTS.append(mount)
    _start_publishing()


@functools.cache
def _bucket_lock(path: pathlib.Path) -> int:
    """Returns a file that the processes of this machine share while they use a bucket's mirrors."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def _only_user(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@functools.cache
def _start_publishing() -> None:
    threading.Thread(target=_publish_always, daemon=True).start()
    # A name that is not public: what `atexit` calls comes too late to start a thread.
    threading._register_atexit(_publish_at_exit)  # pyright: ignore[reportAttributeAccessIssue]


def _publish_always() -> None:
    said = set()
    while True:
        time.sleep(SECONDS)
        try:
            publish()
        except UserError as error:  # the next upload may succeed; the last one must
            if str(error) not in said:
                said.add(str(error))
                print(f"warning: {error}", file=sys.stderr, flush=True)


def _publish_at_exit() -> None:
    try:
        publish()
    except UserError as error:  # where a verb runs, it has been raised
        print(f"error: {error}", file=sys.stderr, flush=True)


# ----------------------------------------------------------------------------------------- parts


def _root() -> pathlib.Path:
    home = os.environ.get("MTO_CACHE_DIR") or "~/.cache/mto_jax"
    return pathlib.Path(home).expanduser().resolve() / "remote"


def _store(scheme: str) -> Any:
    import fsspec

    return fsspec.filesystem(scheme, use_listings_cache=False)


def _tag(entry: Mapping[str, Any]) -> str:
    """Returns what changes when the content of an object does."""
    return str(entry.get("ETag") or entry.get("etag") or entry.get("generation"))


def _stat(path: pathlib.Path) -> tuple[int | None, int | None]:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    return status.st_size, status.st_mtime_ns


def _within(name: str, folders: set[str]) -> bool:
    return any(name[:i] in folders for i, letter in enumerate(name) if letter == "/")


def _at_once(function: Callable[[str], None], names: Iterable[str]) -> None:
    """Calls a function of each name in threads; raises the first error."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in pool.map(function, sorted(names)):
            pass


def _make_room(need: int, address: str) -> None:
    """Removes what was fetched longest ago, until `need` more bytes fit.

    Raises:
      UserError: they do not, because of the bound or of the disk.
    """
    bound = float(os.environ.get("MTO_REMOTE_CACHE_GB", _GIGABYTES)) * 1e9
    known = _Known(_root() / "known.sqlite")
    large = {n: f for n, f in known.all().items() if f.mtime and (f.size or 0) > _LARGE}
    excess = sum(file.size or 0 for file in large.values()) + need - bound
    for name, file in sorted(large.items(), key=lambda item: item[1].mtime or 0):
        if excess <= 0:
            break
        if not _within(f"{name}/", _FETCHED) and _evict(known, name, file):
            excess -= file.size or 0
    free = shutil.disk_usage(_root()).free
    if excess > 0 or need > free:
        raise UserError(
            f"{address} takes {need / 1e9:.2f} GB on this machine, which do not fit: the disk of "
            f"{_root()} has {free / 1e9:.2f} GB free, and all that is in use of object stores may "
            f"take {bound / 1e9:g} GB (the environment variable MTO_REMOTE_CACHE_GB). Make room, "
            "raise that, or choose another disk with MTO_CACHE_DIR."
        )


def _evict(known: _Known, name: str, file: _File) -> bool:
    """Removes the copy of an object unless a process may use it; returns whether it did."""
    scheme, _, rest = name.partition("://")
    lock = _bucket_lock(_root() / f".{scheme}-{rest.partition('/')[0]}.lock")
    if not _only_user(lock):
        return False
    try:
        path = _root() / scheme / rest
        unchanged = _stat(path) == file[1:]
        if unchanged:
            path.unlink()
            known.set({name: _File(file.tag)})
        return unchanged
    finally:
        bucket = _root() / scheme / rest.partition("/")[0]
        ours = any(mount.place.is_relative_to(bucket) for mount in _MOUNTS)
        fcntl.flock(lock, fcntl.LOCK_SH if ours else fcntl.LOCK_UN)
