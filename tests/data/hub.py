"""A hub on this machine: as much of the API as ``datasets`` asks for, serving one repository from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def local_hub(repository: str, folder: Path) -> Iterator[str]:
    """Serve ``folder`` as the files of ``repository``; yields the address for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, repository, folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, repository: str, folder: Path, *args: Any) -> None:
        self.repository, self.folder = repository, folder
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        api, files = f"/api/datasets/{self.repository}", f"/datasets/{self.repository}/resolve/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            self._answer({"id": self.repository, "sha": COMMIT, "private": False, "tags": [], "siblings": []})
        elif (
            path.startswith(f"{api}/tree/") and (below := self.folder / _after_revision(path, f"{api}/tree/")).is_dir()
        ):
            self._answer([self._entry(f) for f in sorted(below.iterdir())])
        elif path.startswith(files) and (file := self.folder / _after_revision(path, files)).is_file():
            self._send(200, file.read_bytes(), {"ETag": f'"{_sha1(file)}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound" if self.repository in path else "RepoNotFound"})

    do_HEAD = do_POST = do_GET  # noqa: N815 - names that the base class calls

    def _entry(self, file: Path) -> dict[str, Any]:
        name = str(file.relative_to(self.folder))
        if file.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        return {"type": "file", "path": name, "oid": _sha1(file), "size": file.stat().st_size}

    def _answer(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _after_revision(path: str, prefix: str) -> str:
    return path.removeprefix(prefix).partition("/")[2]


def _sha1(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
