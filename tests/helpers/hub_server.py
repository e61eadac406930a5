"""A hub on this machine: what the hub's client asks of it when a model is pushed, looked up and downloaded."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_right"
REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
LFS_ENDS = (".safetensors", "tokenizer.json")


@dataclass
class Repository:
    """A repository: the files of each commit, and what names commits."""

    private: bool
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Mapping[str, bytes], message: str) -> str:
        """Adds a commit and returns its hash."""
        commit = hashlib.sha1(f"{branch} {len(self.commits)} {message}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        self.messages.append(message)
        return commit

    def resolve(self, revision: str) -> str | None:
        """Returns the commit that a branch, a tag or a commit's hash names."""
        named = {**self.tags, **self.branches}.get(revision, revision)
        return named if named in self.commits else None


@dataclass
class LocalHub:
    """What the hub holds, and what it was asked.

    Attributes:
        url: where it answers.
        repositories: by name.
        lfs: large files by their SHA-256.
        asked: method and path of each request.
        created: what was sent to make each repository.
        down: answer everything with 503.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """Returns a revision's files."""
        repository = self.repositories[name]
        return repository.commits[str(repository.resolve(revision))]


class RefusedError(Exception):
    """A request is refused with a status, the hub's code and its message."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    def log_message(self, format: str, *arguments: Any) -> None: ...

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.body = self._read()
        try:
            if self.hub.down:
                raise RefusedError(503)
            for pattern, name in ROUTES:
                method, _, rest = pattern.partition(" ")
                found = re.fullmatch(rest, path)
                if found and self.command in method.split("|"):
                    getattr(self, name)(**found.groupdict())
                    return
            raise RefusedError(404, message=f"no such route: {self.command} {path}")
        except RefusedError as refused:
            self._send(refused.status, b"{}", {"X-Error-Code": refused.code, "X-Error-Message": refused.message})

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    # ---- who may what

    def _is_known(self) -> bool:
        sent = self.headers.get("Authorization")
        if sent not in (None, f"Bearer {TOKEN}"):
            raise RefusedError(401, message="Invalid credentials in Authorization header")
        return sent is not None

    def _found(self, name: str, *, write: bool = False) -> Repository:
        known, repository = self._is_known(), self.hub.repositories.get(name)
        if write and not known:
            raise RefusedError(401)
        if repository is None or (repository.private and not known):
            raise RefusedError(404 if known else 401, "RepoNotFound", "Repository not found")
        if write and name.startswith("others/"):
            raise RefusedError(403, message="You don't have the rights to write there")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # ---- reading

    def info(self, repository: str, revision: str = "main") -> None:
        found = self._found(repository)
        commit = self._commit_of(found, revision) if found.commits else None
        files = [{"rfilename": name} for name in (found.commits[commit] if commit else ())]
        self._send_json({"id": repository, "sha": commit, "private": found.private, "siblings": files})

    def tree(self, repository: str, revision: str) -> None:
        found = self._found(repository)
        if found.gated:
            raise RefusedError(403, "GatedRepo", "Access is restricted")
        files = found.commits[self._commit_of(found, revision)]
        self._send_json([{"type": "file", "path": name, **_facts(name, content)} for name, content in files.items()])

    def refs(self, repository: str) -> None:
        found = self._found(repository)
        branches, tags = (
            [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit} for name, commit in named.items()]
            for kind, named in (("heads", found.branches), ("tags", found.tags))
        )
        self._send_json({"branches": branches, "tags": tags, "converts": []})

    def resolve(self, repository: str, revision: str, path: str) -> None:
        found = self._found(repository)
        if found.gated:
            raise RefusedError(403, "GatedRepo", "Access is restricted")
        commit = self._commit_of(found, revision)
        content = found.commits[commit].get(path)
        if content is None:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        facts = _facts(path, content)
        etag = facts["lfs"]["oid"] if "lfs" in facts else facts["oid"]
        self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    # ---- writing

    def create(self) -> None:
        if not self._is_known():
            raise RefusedError(401)
        sent = json.loads(self.body)
        name = f"{sent['organization']}/{sent['name']}"
        if sent["organization"] == "others":
            raise RefusedError(403, message="You don't have the rights to create a model there")
        if name in self.hub.repositories:
            raise RefusedError(409)
        self.hub.created.append(sent)
        private = sent.get("private", False) or sent.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private)
        self.hub.repositories[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs"}, "initial commit")
        self._send_json({"url": f"{self.hub.url}/{name}"})

    def validate(self) -> None:
        self._send_json({"errors": [], "warnings": []})

    def preupload(self, repository: str, revision: str) -> None:
        files = self._found(repository, write=True).commits[self._commit_of(self._found(repository), revision)]
        answer = []
        for sent in json.loads(self.body)["files"]:
            name = sent["path"]
            facts = _facts(name, files[name]) if name in files else {}
            oid = facts["lfs"]["oid"] if "lfs" in facts else facts.get("oid")
            mode = "lfs" if name.endswith(LFS_ENDS) else "regular"
            answer.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._send_json({"files": answer})

    def batch(self, repository: str) -> None:
        self._found(repository, write=True)
        objects = [
            {**sent, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{sent['oid']}"}}}
            for sent in json.loads(self.body)["objects"]
        ]
        self._send_json({"objects": objects, "transfer": "basic"})

    def upload(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.lfs[oid] = self.body
        self._send_json({})

    def commit(self, repository: str, revision: str) -> None:
        found = self._found(repository, write=True)
        files = dict(found.commits[self._commit_of(found, revision)])
        message = ""
        for line in self.body.splitlines():
            key, value = json.loads(line).values()
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = found.commit(revision, files, message)
        self._send_json({"commitUrl": f"{self.hub.url}/{repository}/commit/{commit}", "commitOid": commit})

    def branch(self, repository: str, branch: str) -> None:
        found = self._found(repository, write=True)
        if branch in found.branches:
            raise RefusedError(409)
        found.branches[branch] = found.branches["main"]
        self._send_json({})

    def tag(self, repository: str, revision: str) -> None:
        found = self._found(repository, write=True)
        name = json.loads(self.body)["tag"]
        if " " in name:
            raise RefusedError(400, message="Invalid tag name")
        found.tags[name] = self._commit_of(found, revision)
        self._send_json({})


ROUTES = (
    ("POST /api/repos/create", "create"),
    ("POST /api/validate-yaml", "validate"),
    (rf"GET /api/models/{REPOSITORY}", "info"),
    (rf"GET /api/models/{REPOSITORY}/revision/(?P<revision>.+)", "info"),
    (rf"GET /api/models/{REPOSITORY}/tree/(?P<revision>[^/]+)", "tree"),
    (rf"GET /api/models/{REPOSITORY}/refs", "refs"),
    (rf"POST /api/models/{REPOSITORY}/preupload/(?P<revision>.+)", "preupload"),
    (rf"POST /{REPOSITORY}\.git/info/lfs/objects/batch", "batch"),
    (r"PUT /lfs/(?P<oid>\w+)", "upload"),
    (rf"POST /api/models/{REPOSITORY}/commit/(?P<revision>.+)", "commit"),
    (rf"POST /api/models/{REPOSITORY}/branch/(?P<branch>.+)", "branch"),
    (rf"POST /api/models/{REPOSITORY}/tag/(?P<revision>.+)", "tag"),
    (rf"GET|HEAD /{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
)


def _facts(name: str, content: bytes) -> dict[str, Any]:
    """Returns what the hub says of a file: size and git's hash, and the SHA-256 of a large one."""
    facts = {"size": len(content), "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
    if not name.endswith(LFS_ENDS):
        return facts
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return {**facts, "lfs": large}


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """Gives a hub that answers on this machine until the end."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(hub: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch, token: str | None = TOKEN) -> None:
    """Points the hub's client, which reads its environment when it is imported, to a hub and to a cache of its own."""
    constants = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(cache / "no-token"),
    }
    for name, value in constants.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
