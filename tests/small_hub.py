# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A hub on this machine that takes what is pushed and gives it again."""

import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import threading
from collections.abc import Iterator

import huggingface_hub

COMMIT = "fedcba9876" * 4
LARGE = (".safetensors", ".npy")


class SmallHub(http.server.BaseHTTPRequestHandler):
    """The files of each repository are under `folder`; `token` may write."""

    folder: pathlib.Path
    token = "hf_right"
    made: dict[str, dict]

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {self.token}":
            self.answer({"error": "Invalid user token."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            self.made[f"{asked['organization']}/{asked['name']}"] = asked
            self.answer({"url": f"{self.address}/{asked['organization']}/{asked['name']}"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in names}
            files = [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]
            self.answer({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{self.address}/objects/{item['oid']}"}}
            self.answer({"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            for line in body.splitlines():
                self.put(self.folder / match[1], json.loads(line))
            url = f"{self.address}/{match[1]}/commit/{COMMIT}"
            self.answer({"commitUrl": url, "commitOid": COMMIT})
        else:
            self.answer({"error": f"no {self.path}"}, 404)

    def put(self, repository, entry):
        value = entry["value"]
        target = repository / str(value.get("path"))
        if entry["key"] in ("file", "lfsFile"):
            target.parent.mkdir(parents=True, exist_ok=True)
        if entry["key"] == "file":
            target.write_bytes(base64.b64decode(value["content"]))
        elif entry["key"] == "lfsFile":
            target.write_bytes((self.folder / value["oid"]).read_bytes())

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        (self.folder / hashlib.sha256(content).hexdigest()).write_bytes(content)
        self.answer({})

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.path == "/api/whoami-v2":
            known = self.headers["Authorization"] == f"Bearer {self.token}"
            self.answer({"name": "someone"} if known else {"error": "no"}, 200 if known else 401)
        elif match := re.fullmatch(r"/(.+?/.+?)/resolve/[^/]+/(.+)", self.path):
            file = self.folder / match[1] / match[2]
            if file.is_file():
                self.answer(file.read_bytes())
            else:
                self.answer({}, 404, {"X-Error-Code": "EntryNotFound"})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/?]+).*", self.path):
            root = self.folder / match[1]
            names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
            entries = [
                {"type": "file", "path": n, "rfilename": n, "size": 1, "oid": "0"} for n in names
            ]
            info = {"id": match[1], "sha": COMMIT, "siblings": entries}
            self.answer(entries if "/tree/" in self.path else info)
        else:
            self.answer({}, 404)

    @property
    def address(self):
        return f"http://{self.headers['Host']}"

    def answer(self, content, status=200, headers=()):
        etag = {}
        if isinstance(content, bytes):
            etag = {"ETag": hashlib.sha256(content).hexdigest(), "X-Repo-Commit": COMMIT}
        else:
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**dict(headers), **etag, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[tuple[type[SmallHub], str]]:
    """A context with a hub that keeps its files in `folder`: its class, and its address."""

    class OneHub(SmallHub):
        made: dict = {}  # noqa: RUF012

    OneHub.folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield OneHub, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextlib.contextmanager
def running(folder: pathlib.Path, monkeypatch) -> Iterator[type[SmallHub]]:
    """A context in which the hub client of this process speaks to a hub of its own."""
    with serving(folder) as (hub, endpoint):
        (folder / "cache").mkdir()
        for name, value in {
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        yield hub
