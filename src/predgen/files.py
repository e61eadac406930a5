"""Files and folders that appear whole or not at all."""

import ctypes
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from predgen.errors import OutputExistsError

# Of renameat2: names are relative to the working folder; both names stay, each with the other's folder.
_HERE, _RENAME_EXCHANGE = -100, 2


def new_beside(path: Path) -> Path:
    """Returns a new empty file beside a file, hidden, that only those can read who can read that file.

    Its mode is the file's own where that is there; else the umask decides.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unused_beside(path)
    mode = path.stat().st_mode & 0o777 if path.is_file() else None
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode))
    if mode is not None:
        temporary.chmod(mode)  # whatever the umask says
    return temporary


def put(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Gives a finished file its name.

    Args:
        temporary: the file.
        path: its name.
        replace: whether what has that name now is replaced.

    Raises:
        OutputExistsError: it is not to be replaced, and something has come there meanwhile.
    """
    if replace:
        os.replace(temporary, path)
        return
    try:
        _link(temporary, path)
    except FileExistsError as error:
        raise came_meanwhile(path) from error


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken first, then what it names
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(temporary, path)


def came_meanwhile(path: Path) -> OutputExistsError:
    """Returns the error for an output that was not there when the work began."""
    return OutputExistsError(
        f"Expected '{path}' to be still free at the end, found that something came there meanwhile, which is kept. "
        "Name another, or use --overwrite."
    )


@contextmanager
def appears_whole(path: str | Path) -> Iterator[Path]:
    """Gives a temporary name in the file's folder, and renames it to the file's when all is written."""
    path = Path(path)
    temporary = new_beside(path)
    try:
        yield temporary
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with appears_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def folder_appears_whole(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Gives a temporary directory that becomes `path` when all went well, and vanishes otherwise.

    Args:
        path: the directory.
        replace: whether one that is there is replaced; files and folders keep their modes then.

    Raises:
        OutputExistsError: it is not to be replaced, and something has come there meanwhile.
    """
    path = named(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = _unused_beside(path)
    folder.mkdir()
    try:
        yield folder
        if replace and path.exists():
            _replace_folder(folder, path)
            return
        try:
            os.rename(folder, path)
        except OSError as error:
            if path.exists():
                raise came_meanwhile(path) from error
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace_folder(folder: Path, path: Path) -> None:
    for new in [folder, *folder.rglob("*")]:
        before = path / new.relative_to(folder)
        if before.exists():
            new.chmod(before.stat().st_mode & 0o777)
    if not _exchange(folder, path):  # for a moment neither of the two has the name
        old = _unused_beside(path)
        os.rename(path, old)
        os.rename(folder, path)
        folder = old
    shutil.rmtree(folder)


def _exchange(first: Path, second: Path) -> bool:
    """Gives each of two folders the other's name in one step; returns whether the system can (Linux mostly).

    Python has no call for it (renameat2 with RENAME_EXCHANGE).
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _RENAME_EXCHANGE) == 0


def named(path: Path) -> Path:
    """Returns a folder's path whose last part is its own name: `.` and `..` are none, and a link's is another's."""
    return path.resolve() if path.name in ("", "..") or path.is_symlink() else path


def _unused_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


@contextmanager
def alone_at(path: Path | None) -> Iterator[None]:
    """Keeps other processes from working on a folder meanwhile; of one that dies the system takes the lock back.

    Args:
        path: the folder, whether it is there or not; None for none.

    Raises:
        OutputExistsError: another process works on it.
    """
    if path is None:
        yield
        return
    path = named(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o666))  # a folder that takes no files is another fault
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputExistsError(
            f"Expected nobody else to work on '{path}', found that another process does. Wait for its end, or name "
            "another place."
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # some systems remove no file that is open
            file.unlink()  # while it is held: who gets it now sees that it is gone, and makes another
        lock.release()


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
