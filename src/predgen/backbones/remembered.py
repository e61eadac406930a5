"""What was found out once and is kept in the cache: JSON files of keys and values, and the hashes of large files."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from predgen.files import sha256_of, write_text

FOLDER_VARIABLE = "PREDGEN_CACHE"
HASHES_FILE = "hashes.json"
# Smaller files are hashed in less time than it takes to look their hash up.
LARGE = 2**20
# A file that was changed this short a time ago may be changed again without another time of its change.
SETTLED_SECONDS = 2.0


def cache_folder() -> Path:
    """Returns the folder of the cache, which need not be there yet."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else user_cache_path("predgen", appauthor=False)


def recall(file: str, key: str) -> Any:
    """Returns what is kept under a key of a file in the cache; None if nothing is, or the file is damaged."""
    return _kept(file).get(key)


def remember(file: str, key: str, value: Any) -> None:
    """Keeps a value under a key of a file in the cache, where that can be written; JSON holds it.

    Of two processes that write at once, one's value is lost. It is found out once more.
    """
    with suppress(OSError):  # without a cache it is found out each time
        write_text(cache_folder() / file, json.dumps({**_kept(file), key: value}, indent=1) + "\n")


def _kept(file: str) -> dict[str, Any]:
    try:
        return dict(json.loads((cache_folder() / file).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def hash_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes; a large file is read again only where it may have changed.

    What tells a change is the file's size, its number, and the times at which its bytes and its entry changed. Programs
    can set the first of these times back, but not the second.
    """
    path = path.resolve()
    stat = path.stat()
    if stat.st_size < LARGE:
        return sha256_of(path)
    stamp = [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
    known = recall(HASHES_FILE, str(path))
    if isinstance(known, dict) and known.get("stamp") == stamp and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    found = sha256_of(path)
    if time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED_SECONDS:
        remember(HASHES_FILE, str(path), {"stamp": stamp, "sha256": found})
    return found
