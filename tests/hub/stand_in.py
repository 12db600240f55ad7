"""A stand-in for the Hugging Face hub on this machine: models and data sets of files, with the faults of a real one.

It answers what `huggingface_hub` and `datasets` ask: information on a repository and its revisions, the tree, paths,
and files with their commit, ETag and ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)/?(.*))?")
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Repository:
    """Files of a model or data set.

    Attributes:
        files: by path.
        kind: `models` or `datasets`.
        gated: refuse the files with 401 until somebody logs in.
    """

    files: Mapping[str, bytes]
    kind: str = "models"
    gated: bool = False

    @property
    def commit(self) -> str:
        """Of all content, as the hub names a state of a repository."""
        return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(self.files.items()))).hexdigest()


@dataclass
class Hub:
    """The server.

    Attributes:
        repositories: id -> repository.
        faults: asked for each request with its method and path; a status (429, 503) is answered in place of the file,
            and a negative number -n cuts the body after n bytes.
        seen: method and path of every request, and the range of bytes that it asked for.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: Callable[[str, str], int | None] = lambda method, path: None
    seen: list[str] = field(default_factory=list)

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size) if size else b""
                span = self.headers.get("Range")
                hub.seen.append(" ".join(filter(None, (self.command, self.path, span))))
                fault = hub.faults(self.command, self.path)
                if fault and fault > 0:
                    status, headers, data = fault, {"Retry-After": "1"}, b"later"
                else:
                    status, headers, data = hub.answer(self.path, body, span)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[:-fault] if fault and fault < 0 else data)
                    if fault and fault < 0:
                        self.close_connection = True

            do_GET = do_HEAD = do_POST = _serve

            def log_message(self, *_: Any) -> None:
                """Nothing: `seen` has it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, body: bytes, wanted: str | None) -> Answer:
        """Status, headers and body of an answer."""
        parts = urlsplit(path)
        place = unquote(parts.path)
        if place == "/":
            return 200, {}, b"hub"
        if api := API.fullmatch(place):
            kind, name, what, revision, below = api.groups()
            found = self.repositories.get(name)
            if found is None or found.kind != kind:
                return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}"
            if revision not in (None, "main", found.commit):
                return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b"{}"
            if what == "paths-info":
                asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
                return _json([_entry(file, data) for file, data in found.files.items() if file in asked])
            if what == "tree":
                return _tree(found, f"{below}/" if below else "", "recursive=true" in parts.query.lower())
            siblings = [{"rfilename": file, "size": len(data)} for file, data in found.files.items()]
            facts = {"id": name, "sha": found.commit, "private": False, "gated": found.gated, "disabled": False}
            return _json({**facts, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})
        if file := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", place):
            _, name, revision, wanted_file = file.groups()
            found = self.repositories.get(name)
            if found is None:
                return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
            if found.gated:
                return 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted"}, b""
            if wanted_file not in found.files:
                return 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b""
            return _file(found, found.files[wanted_file], wanted)
        return 404, {}, b"{}"


def _json(content: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _entry(file: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _tree(found: Repository, folder: str, recursive: bool) -> Answer:
    inside = {file: data for file, data in found.files.items() if file.startswith(folder)}
    if not inside:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b"{}"
    here = {file: data for file, data in inside.items() if recursive or "/" not in file.removeprefix(folder)}
    folders = {folder + file.removeprefix(folder).partition("/")[0] for file in inside.keys() - here.keys()}
    listed = [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(folders)]
    return _json([*listed, *(_entry(file, data) for file, data in here.items())])


def _file(found: Repository, data: bytes, wanted: str | None) -> Answer:
    headers = {"X-Repo-Commit": found.commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
    if span := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or ""):
        first, last = int(span[1]), int(span[2] or len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return 206, headers, data[first : last + 1]
    return 200, headers, data
