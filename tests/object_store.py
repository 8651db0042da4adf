# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A server of Amazon's S3 on loopback (moto), and machines without a common disk that use it."""

import contextlib
import logging
import os
import pathlib
from collections.abc import Iterator

import pytest

from mto_jax import remote


@contextlib.contextmanager
def serving() -> Iterator[dict[str, str]]:
    """The environment variables with which processes find the server, set here meanwhile."""
    server_lib = pytest.importorskip("moto.server", reason="moto[s3], flask and flask-cors serve")
    s3fs = pytest.importorskip("s3fs", reason="the extra cloud is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_lib.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # of an earlier server
        try:
            yield environment
        finally:
            leave()
            server.stop()


def bucket(name: str):
    """The file system of the server (fsspec), with an empty bucket of this name."""
    import fsspec

    store = fsspec.filesystem("s3", use_listings_cache=False)
    with contextlib.suppress(FileNotFoundError):
        store.rm(name, recursive=True)
    store.mkdir(name)
    return store


def leave() -> None:
    """This process uses no mirror any more, as if it had been killed."""
    remote._MOUNTS.clear()
    remote._FETCHED.clear()
    for lock in _locks():
        os.close(lock)
    remote._bucket_lock.cache_clear()


def _locks() -> Iterator[int]:
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{number}")
            if pathlib.Path(target).parent.name == "remote" and target.endswith(".lock"):
                yield int(number)


def move_to(machine: pathlib.Path) -> None:
    """This process leaves its machine for another one, whose mirrors lie in `machine`."""
    leave()
    os.environ["MTO_CACHE_DIR"] = str(machine)
