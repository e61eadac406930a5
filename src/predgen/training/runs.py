"""Folders of runs that can be resumed: the settings that a run was started with, and its finished figures."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from predgen.config import RunConfig, build_config, read_config_file, write_config
from predgen.errors import ConfigError, DataError, OutputExistsError
from predgen.files import folder_appears_whole, write_text

CONFIG_FILE = "config.yaml"
ROWS_FILE = "data.sha256"
UNFINISHED = ".unfinished"


def unfinished_folder(out: str | Path) -> Path:
    """Returns where a run keeps its settings and checkpoints until its output is there."""
    return Path(out).with_name(Path(out).name + UNFINISHED)


def check_settings(folder: Path, config: RunConfig, *, overwrite: bool, resume: bool) -> None:
    """Refuses to begin where something else was begun, and to go on with other settings.

    Raises:
        OutputExistsError: something was begun there, and it is neither to be gone on with nor to be overwritten; or
            what is there was not begun by this module.
        ConfigError: there is nothing to go on with, or it had other settings.
    """
    written = folder / CONFIG_FILE
    if resume:
        if not written.exists():
            raise ConfigError(f"Expected an unfinished run at '{folder}' to resume, found none. Leave --resume out.")
        if build_config(read_config_file(written)) != config:
            raise ConfigError(
                f"Expected the settings that the unfinished run was started with ({written}), found others. Use the "
                "same settings, or --overwrite to start over."
            )
    elif _holds_something_else(folder):
        raise OutputExistsError(
            f"Expected an unfinished run or nothing at '{folder}', found something else. Name another place."
        )
    elif written.exists() and not overwrite:
        raise OutputExistsError(
            f"Expected no unfinished run, found one at '{folder}'. Use --resume to go on with it, or --overwrite "
            "to start over."
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
