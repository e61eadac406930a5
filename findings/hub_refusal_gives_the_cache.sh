#!/usr/bin/env bash
# huggingface_hub 2.4.0: a repository that was downloaded once is "downloaded" again when the hub refuses it: after the hub
# says 401 (made private, the token withdrawn) or 404 (deleted, renamed), `snapshot_download` and `hf_hub_download` return the
# copy in the cache, without an error and without a warning. One would expect that of a hub that cannot be reached alone: a
# service goes on with weights that were taken back. Without a copy the same answers raise RepositoryNotFoundError. Who
# wants to know asks first: `HfApi().model_info(name, revision=…)` raises in both cases.
# Seen, for 401 and for 404: both functions return the cached path; model_info raises.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cat > "$folder/seen.py" <<'PY'
import json
import os
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"first"
status = 200


class Hub(BaseHTTPRequestHandler):
    """A hub with one repository of one file, that answers with `status` otherwise."""

    def do_GET(self):
        names_file = "/resolve/" in self.path
        info = {"id": "org/model", "sha": COMMIT, "siblings": [{"rfilename": "a.txt"}], "tags": [], "downloads": 0}
        files = [{"type": "file", "path": "a.txt", "size": len(CONTENT), "oid": "aaaa"}]
        said = json.dumps(files if "/tree/" in self.path else info).encode()
        body = b"{}" if status != 200 else CONTENT if names_file else said
        self.send_response(status)
        if status != 200:
            self.send_header("X-Error-Code", "RepoNotFound")
        elif names_file:
            self.send_header("ETag", '"aaaa"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": sys.argv[1]}
os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import huggingface_hub
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

print(f"huggingface_hub {huggingface_hub.__version__}")
first = snapshot_download("org/model")
for status in (401, 404):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert snapshot_download("org/model") == first
        assert hf_hub_download("org/model", "a.txt") == f"{first}/a.txt"
    print(f"{status}: snapshot_download and hf_hub_download return the cached copy")
    for ask in (lambda: HfApi().model_info("org/model"), lambda: snapshot_download("org/other")):
        try:
            ask()
        except RepositoryNotFoundError:
            continue
        raise AssertionError("expected RepositoryNotFoundError")
    print(f"{status}: model_info raises, and so does a download without a copy")
PY
"$folder/env/bin/python" "$folder/seen.py" "$folder/home" 2>"$folder/said" || { cat "$folder/said"; exit 1; }
sed 's/^/said: /' "$folder/said"
