"""A small Hugging Face hub on this machine: one model whose main branch can move, over the hub's own HTTP routes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

REPO = "owner/tiny"


class Hub:
    """What the server holds: files by commit, and the commit that main is."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.main = ""
        self.url = ""
        self.asked: list[str] = []
        """The paths of the requests so far."""

    def push(self, files: dict[str, bytes]) -> str:
        """Add a commit, move main to it, and return its hash."""
        commit = hashlib.sha1(json.dumps({name: body.hex() for name, body in files.items()}).encode()).hexdigest()
        self.commits[commit] = files
        self.main = commit
        return commit

    def commit_of(self, revision: str) -> str:
        """The commit that a branch or a commit hash names; empty where there is none."""
        commit = self.main if revision == "main" else revision
        return commit if commit in self.commits else ""


class _Reply(NamedTuple):
    status: int
    body: bytes = b""
    headers: dict[str, str] = {}


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, *request: Any, hub: Hub) -> None:
        self.hub = hub
        super().__init__(*request)

    def do_GET(self) -> None:
        reply = self._send_head()
        self.wfile.write(reply.body)

    def do_HEAD(self) -> None:
        self._send_head()

    def _send_head(self) -> _Reply:
        path = self.path.partition("?")[0]
        self.hub.asked.append(path)
        reply = _reply(self.hub, path)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        return reply

    def log_message(self, *_: object) -> None:
        pass


def _reply(hub: Hub, path: str) -> _Reply:
    api, files = f"/api/models/{REPO}", f"/{REPO}/resolve/"
    if path.startswith(f"{api}/tree/"):
        return _tree(hub, path.removeprefix(f"{api}/tree/").partition("/")[0])
    if path.startswith(api):
        return _model(hub, path.partition("/revision/")[2] or "main")
    if path.startswith(files):
        revision, _, name = path.removeprefix(files).partition("/")
        return _file(hub, revision, name)
    return _Reply(404)


def _model(hub: Hub, revision: str) -> _Reply:
    commit = hub.commit_of(revision)
    if not commit:
        return _Reply(404, headers={"X-Error-Code": "RevisionNotFound"})
    siblings = [{"rfilename": name} for name in hub.commits[commit]]
    return _json({"id": REPO, "modelId": REPO, "sha": commit, "siblings": siblings, "private": False, "tags": []})


def _tree(hub: Hub, revision: str) -> _Reply:
    files = hub.commits[hub.commit_of(revision)]
    entries = [
        {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
        for name, body in files.items()
    ]
    return _json(entries)


def _file(hub: Hub, revision: str, name: str) -> _Reply:
    commit = hub.commit_of(revision)
    body = hub.commits.get(commit, {}).get(name)
    if body is None:
        return _Reply(404, headers={"X-Error-Code": "EntryNotFound"})
    return _Reply(200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": commit})


def _json(content: object) -> _Reply:
    return _Reply(200, json.dumps(content).encode(), {"Content-Type": "application/json"})


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve a hub until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub=hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
