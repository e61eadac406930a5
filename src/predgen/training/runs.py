"""Folders of runs that can be resumed: the settings that a run was started with, and its finished figures."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from predgen.config import RunConfig, build_config, read_config_file, write_config
from predgen.errors import ConfigError, DataError, OutputExistsError
from predgen.files import folder_appears_whole, named, write_text

CONFIG_FILE = "config.yaml"
ROWS_FILE = "data.sha256"
UNFINISHED = ".unfinished"


def unfinished_folder(out: str | Path) -> Path:
    """Returns where a run keeps its settings and checkpoints until its output is there."""
    path = named(Path(out))
    return path.with_name(path.name + UNFINISHED)


def check_folder(folder: Path, what: str, *, is_begun: bool, holds_other: bool, overwrite: bool, resume: bool) -> None:
    """Refuses to begin where something stands, and to go on where nothing was begun.

    Args:
        folder: where work is begun or gone on with.
        what: what stands there if it was begun.
        is_begun: whether it was.
        holds_other: whether something stands there that was not begun by this program.
        overwrite: what was begun is to be replaced.
        resume: what was begun is to be gone on with.

    Raises:
        ConfigError: there is nothing to go on with.
        OutputExistsError: something stands there, and it is neither to be gone on with nor to be replaced.
    """
    if holds_other:
        raise OutputExistsError(f"Expected {what} or nothing at '{folder}', found something else. Name another place.")
    if resume and not is_begun:
        raise ConfigError(f"Expected {what} at '{folder}' to resume, found none. Leave --resume out.")
    if is_begun and not (resume or overwrite):
        raise OutputExistsError(
            f"Expected nothing at '{folder}', found {what}. Use --resume to go on with it, or --overwrite to start "
            "over."
        )


def check_one_of(*, overwrite: bool, resume: bool) -> None:
    """Refuses to replace and to go on with the same work.

    Raises:
        ConfigError: both are asked for.
    """
    if resume and overwrite:
        raise ConfigError("Expected either --resume or --overwrite, found both. Leave one out.")


def check_settings(folder: Path, config: RunConfig, *, overwrite: bool, resume: bool) -> None:
    """Refuses to begin where something else was begun, and to go on with other settings.

    Raises:
        OutputExistsError: something was begun there, and it is neither to be gone on with nor to be overwritten; or
            what is there was not begun by this module.
        ConfigError: there is nothing to go on with, or it had other settings.
    """
    written = folder / CONFIG_FILE
    check_folder(
        folder,
        "an unfinished run",
        is_begun=written.exists(),
        holds_other=not resume and _holds_something_else(folder),
        overwrite=overwrite,
        resume=resume,
    )
    if resume and build_config(read_config_file(written)) != config:
        raise ConfigError(
            f"Expected the settings that the unfinished run was started with ({written}), found others. Use the same "
            "settings, or --overwrite to start over."
        )


def _holds_something_else(folder: Path) -> bool:
    """Returns whether there is a file, or a folder with content that was not begun here: it must not be replaced."""
    if not folder.is_dir():
        return folder.exists()
    return any(folder.iterdir()) and not all((folder / name).is_file() for name in (CONFIG_FILE, ROWS_FILE))


def check_rows(folder: Path, fingerprint: str) -> None:
    """Refuses to go on with other rows than the work began with.

    Raises:
        ConfigError: the rows, the target or the template are others.
    """
    file = folder / ROWS_FILE
    if not file.exists() or file.read_text(encoding="utf-8").strip() != fingerprint:
        raise ConfigError(
            f"Expected the rows that the unfinished run in '{folder}' was started with, found others. Restore the "
            "table, or use --overwrite to start over."
        )


def begin(folder: Path, config: RunConfig, fingerprint: str) -> None:
    """Makes the folder anew, with the settings that a resumed run must have; a killed process leaves all or nothing."""
    with folder_appears_whole(folder) as new:
        write_config(config, new / CONFIG_FILE)
        write_text(new / ROWS_FILE, fingerprint + "\n")


class Finished:
    """Figures by name, each in a JSON file of its own that appears whole.

    Args:
        folder: where the files are; None keeps the figures in memory alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def holds(self, name: str) -> bool:
        """Returns whether what stands under a name is finished."""
        return self.folder is not None and (self.folder / f"{name}.json").exists()

    def figures(self, name: str, make: Callable[[Path | None], dict[str, Any]]) -> dict[str, Any]:
        """Returns what stands under a name, made now if it is not finished yet.

        Args:
            name: a file name without its ending.
            make: gets a folder to keep checkpoints in, which is there already if the work was interrupted; None
                where nothing is kept.
        """
        if self.folder is None:
            return make(None)
        file = self.folder / f"{name}.json"
        if not self.holds(name):
            unfinished = unfinished_folder(self.folder / name)
            write_text(file, json.dumps(make(unfinished), allow_nan=False) + "\n")
            shutil.rmtree(unfinished, ignore_errors=True)
        try:
            saved: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(saved, dict):
                raise ValueError("not a JSON object")
        except ValueError as error:
            raise DataError(
                f"Expected the figures of a finished run in '{file}', found damage ({error}). Remove the file; the "
                "same command with --resume runs it again."
            ) from error
        return saved
