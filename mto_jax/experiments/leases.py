# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Who computes what, when several processes or hosts share a folder.

A claim is a file NAME.N that its holder created exclusively and touches every now and then. It counts until
its holder removes it, dies or has not touched it for `expiry` seconds. A dead holder on the same host is
known at once, since the kernel drops its lock on the file; one on another host when the claim has expired.

Whoever finds an abandoned claim NAME.N takes over by creating NAME.(N+1), which only one process can do:
files of others are never removed while their name may still be wanted, so no claim can be taken from a holder
that came first. A holder that was merely suspended may then compute the same once more, which does no
harm: the result is the same and is written atomically. So a holder looks for the result *after* it has got the
claim.
"""

import contextlib
import fcntl
import os
import pathlib
import socket
import threading


class Claims:
    """The claims of this process, kept alive by a thread while the context is open.

    Args:
      folder: of the claim files, on a file system that all the processes share.
      expiry: seconds after which an untouched claim counts no more.
    """

    def __init__(self, folder: pathlib.Path, expiry: float = 300.0):
        self.folder, self.expiry = folder, expiry
        self._held: dict[str, tuple[pathlib.Path, int]] = {}  # name -> file and open descriptor
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._closed.set()
        self._thread.join()
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Claim `name`; False if another process holds it."""
        files = self._files(name)
        if files and not self._abandoned(files[-1]):
            return False
        number = int(files[-1].suffix[1:]) + 1 if files else 0
        path = self.folder / f"{name}.{number}"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:  # another process was faster
            return False
        # The lock comes before the content, so that no file with a content is unlocked while its
        # holder lives. A file system without locks leaves it at the expiry.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, f"{socket.gethostname()} {os.getpid()}\n".encode())
        self._held[name] = path, descriptor
        return True

    def release(self, name: str) -> None:
        """Give `name` back, and clear away the claims that it took over."""
        mine, descriptor = self._held.pop(name)
        for path in self._files(name):
            if int(path.suffix[1:]) <= int(mine.suffix[1:]):
                path.unlink(missing_ok=True)
        os.close(descriptor)

    def others(self) -> int:
        """How many claims other processes hold."""
        newest = {path.stem: path for path in self._files("*")}
        return sum(not self._abandoned(p) for name, p in newest.items() if name not in self._held)

    def _files(self, name: str) -> list[pathlib.Path]:
        found = [p for p in self.folder.glob(f"{name}.[0-9]*") if p.suffix[1:].isdigit()]
        return sorted(found, key=lambda path: int(path.suffix[1:]))

    def _abandoned(self, path: pathlib.Path) -> bool:
        """Whether the holder of a claim is dead, or has not been heard of for too long."""
        try:
            age = self._now() - path.stat().st_mtime
            holder = path.read_text()
        except FileNotFoundError:  # released meanwhile
            return True
        # A file that its holder has just created is still empty: of no known host.
        return age > self.expiry or (holder.split(" ")[0] == socket.gethostname() and _free(path))

    def _now(self) -> float:
        """The time by the clock that the claims' own times come from, which may be a file server's."""
        clock = self.folder / f"clock-{socket.gethostname()}-{os.getpid()}"
        clock.touch()
        try:
            return clock.stat().st_mtime
        finally:
            clock.unlink(missing_ok=True)

    def _keep_alive(self) -> None:
        while not self._closed.wait(self.expiry / 5):
            for path, _ in list(self._held.values()):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)


def _free(path: pathlib.Path) -> bool:
    """Whether nobody holds the lock of a file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held; or the file system has no locks, and the expiry decides
        return False
    finally:
        os.close(descriptor)
    return True
