"""Checkpoints that are known to be whole: sealed by the hashes of their files, and gone back from when damaged."""

import json
import logging
import shutil
from pathlib import Path

from predgen.files import sha256_of, write_text

log = logging.getLogger("predgen")

SEAL_FILE = "checkpoint.json"
STATE_FILE = "trainer_state.json"


def seal(folder: Path) -> None:
    """Writes the SHA-256 of every file of a checkpoint beside them, as its last file."""
    hashes = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != SEAL_FILE}
    write_text(folder / SEAL_FILE, json.dumps(hashes, indent=2) + "\n")


def is_whole(folder: Path) -> bool:
    """Returns whether a checkpoint was written to its end and has not changed since."""
    try:
        hashes = json.loads((folder / SEAL_FILE).read_text(encoding="utf-8"))
        return all(sha256_of(folder / name) == wanted for name, wanted in hashes.items())
    except (OSError, ValueError):
        return False


def checkpoints_in(folder: Path) -> list[Path]:
    """Returns all checkpoints, the newest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2]))


def newest_whole(folder: Path) -> Path | None:
    """Returns the newest checkpoint from which a run can go on to its end, and removes the newer ones.

    The best checkpoint so far, which the run loads at its end, must be whole too. Says so where it goes back.

    Args:
        folder: the checkpoints' folder.
    """
    checkpoints = checkpoints_in(folder)
    whole = next((path for path in checkpoints if _is_usable(path)), None)
    instead = "the beginning" if whole is None else f"'{whole.name}'"
    for path in checkpoints if whole is None else checkpoints[: checkpoints.index(whole)]:
        log.warning("The checkpoint '%s' is damaged or was not written to its end; going on from %s.", path, instead)
        shutil.rmtree(path)
    return whole


def what_is_kept(folder: Path) -> str:
    """Returns what a run that fails now leaves to go on with, as a sentence.

    Args:
        folder: the checkpoints' folder.
    """
    kept = next(filter(is_whole, checkpoints_in(folder)), None)
    if kept is None:
        return "No checkpoint was finished before, so nothing is kept."
    return f"'{kept.name}' was finished before; where the run has an output folder it is kept, and --resume goes on."


def _is_usable(folder: Path) -> bool:
    if not is_whole(folder):
        return False
    best = json.loads((folder / STATE_FILE).read_text(encoding="utf-8")).get("best_model_checkpoint")
    return best is None or Path(best).name == folder.name or is_whole(folder.parent / Path(best).name)


CHECKPOINTS = "checkpoints"
