"""Where models are kept that had to be made readable once, such as the weights of a GGUF file.

The folder is PREDGEN_CACHE, or the user's cache folder. Each entry is a folder of its own that appears whole, made by
one process at a time, with the hash of each of its files.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from predgen.backbones.remembered import FOLDER_VARIABLE, cache_folder, hash_of
from predgen.errors import BackboneError
from predgen.files import folder_appears_whole, sha256_of, write_text

ENTRY_FILE = "entry.json"
MODELS, LOCKS = "models", "locks"


@dataclass(frozen=True)
class Entry:
    """A model in the cache.

    Attributes:
        folder: where its files are.
        facts: what it was made from, as `kept` was given it.
        num_bytes: of all its files.
    """

    folder: Path
    facts: dict[str, Any]
    num_bytes: int


def kept(name: str, facts: dict[str, Any], make: Callable[[Path], None]) -> Path:
    """Returns the folder of an entry, made now if it is not there or is damaged.

    Args:
        name: of the entry, a file name; another content must have another name.
        facts: what it is made from, for people; JSON holds them.
        make: writes its files into a folder.

    Raises:
        BackboneError: the cache cannot be written.
    """
    root = cache_folder()
    folder = root / MODELS / name
    if _is_whole(folder):
        return folder
    try:
        (root / LOCKS).mkdir(parents=True, exist_ok=True)
        with FileLock(root / LOCKS / f"{name}.lock"):
            if not _is_whole(folder):  # another process may have made it meanwhile
                with folder_appears_whole(folder) as new:
                    make(new)
                    _seal(new, facts)
    except OSError as error:
        raise BackboneError(
            f"Expected to write a model into the cache '{root}', found that it cannot be done ({error}). Make room "
            f"there, or set {FOLDER_VARIABLE} to another folder."
        ) from error
    return folder


def entries() -> list[Entry]:
    """Returns what the cache holds, damaged entries among them, by name."""
    folder = cache_folder() / MODELS
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [Entry(path, _facts(path), sum(file.stat().st_size for file in _files(path))) for path in found]


def clear(names: Sequence[str]) -> None:
    """Removes entries by their names."""
    for name in names:
        shutil.rmtree(cache_folder() / MODELS / name, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _seal(folder: Path, facts: dict[str, Any]) -> None:
    """Writes down what an entry holds; an entry without this file is not whole."""
    hashes = {str(path.relative_to(folder)): sha256_of(path) for path in _files(folder)}
    write_text(folder / ENTRY_FILE, json.dumps({"facts": facts, "files": hashes}, indent=1) + "\n")


def _is_whole(folder: Path) -> bool:
    """Returns whether an entry is there with the files that it was made with."""
    try:
        hashes = json.loads((folder / ENTRY_FILE).read_text(encoding="utf-8"))["files"]
        return all(hash_of(folder / name) == value for name, value in hashes.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _facts(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / ENTRY_FILE).read_text(encoding="utf-8"))["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
