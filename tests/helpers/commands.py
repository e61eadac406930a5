"""The command line run inside a test, and what it printed."""

import logging
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from predgen.cli.app import app


@dataclass(frozen=True)
class Done:
    """What a command left.

    Attributes:
        code: the exit code.
        stdout: standard output.
        stderr: standard error.
    """

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """Standard error in one line, without the frames that are drawn around messages."""
        return " ".join(re.sub(r"[│╭╮╰╯─]", " ", self.stderr).split())


def run(*arguments: str | Path) -> Done:
    """Runs a command in this process, and puts back what it sets for the whole process."""
    log = logging.getLogger("predgen")
    before = log.handlers, log.level, log.propagate, dict(os.environ)
    try:
        with warnings.catch_warnings():
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    finally:
        log.handlers, log.level, log.propagate = before[:3]
        os.environ.clear()
        os.environ.update(before[3])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def refused(*arguments: str | Path) -> str:
    """Returns the message of a command that must fail as people should see it: exit code 2 and one error."""
    done = run(*arguments)
    assert done.code == 2, done
    assert len(re.findall(r"^error: |─ Error ─", done.stderr, flags=re.MULTILINE)) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.error


def files_in(folder: Path) -> dict[str, bytes]:
    """Returns the content of every file below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
