"""What a command prints and how it fails."""

import functools
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from predgen.cli import INTERRUPTED
from predgen.errors import EXIT_CODE, ConfigError, PredGenError, printable
from predgen.names import ANSWER_SOURCES, DEVICES
from predgen.warning_kinds import PredGenWarning

# As shells say it of a process that SIGPIPE ended.
READER_LEFT = 141
# Characters of a line where no terminal sets them.
WIDE = 200

JsonPath = Annotated[str | None, typer.Option("--json", metavar="PATH", help="Also write the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes, only results and warnings.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Warnings about tables and answers are errors: nothing is written then.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
# Of the commands that fit several models.
Seeds = Annotated[int, typer.Option("--seeds", help="Training seeds, counted from --seed.")]
RunsPath = Annotated[
    str | None, typer.Option("--runs", metavar="DIR", help="Keep what is finished there, to go on after a stop.")
]
TaskName = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="DATA has rows as this task's source has them; also a YAML file."),
]
Interval = Annotated[
    float | None,
    typer.Option("--interval", metavar="LEVEL", help="Intervals or label sets of a level such as 0.9."),
]
AbstainRisk = Annotated[
    float | None,
    typer.Option("--abstain-risk", metavar="SHARE", help="Answer only rows of which at most this share is wrong."),
]
AbstainDelta = Annotated[float, typer.Option("--abstain-delta", help="The chance that more are wrong.")]
AbstainError = Annotated[
    float | None, typer.Option("--abstain-error", help="Of a number: the largest error that is not wrong.")
]
NoThreshold = Annotated[
    bool, typer.Option("--no-threshold", help="Of two labels: answer the likeliest one, whatever threshold was chosen.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code of the base model's repository, if it was fitted so.")
]
MovedBackbone = Annotated[
    str | None,
    typer.Option("--backbone", metavar="PATH", help="Where the model's base is now, if its folder or file has moved."),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="NAME", help="Of a model of the hub: a branch, a tag or a commit."),
]
Device = Annotated[str, typer.Option("--device", help=f"{DEVICES.listed}.")]
HtmlPath = Annotated[str | None, typer.Option("--html", metavar="FILE", help="Also write a page that needs no other.")]
ReportPath = Annotated[
    str | None, typer.Option("--report", metavar="FILE", help="Also write a page about the result that needs no other.")
]
FittedOn = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DATA", help="What the models were fitted on; where their settings say if not given."
    ),
]
PredictFrom = Annotated[
    str | None,
    typer.Option(
        "--predict-from", metavar="SOURCE", help=f"{ANSWER_SOURCES.listed}, which must be fitted; of predgen."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what --runs holds.")]
MarkdownPath = Annotated[str | None, typer.Option("--markdown", metavar="PATH", help="Also write Markdown.")]
# How to go on where nothing is kept.
NAME_RUNS = "With --runs DIR what is finished is kept, and --resume goes on with it."
PlotPath = Annotated[str | None, typer.Option("--plot", metavar="PNG", help="Also draw the intervals.")]


def print_line(text: str, *, err: bool = False) -> None:
    """Prints a line, its control characters written out.

    Args:
        text: the line.
        err: on standard error.
    """
    typer.echo(printable(text), err=err)


class Stopped(KeyboardInterrupt):
    """The process is to end: what an interruption cleans up is cleaned up.

    Attributes:
        signal: what asked for it.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


@contextmanager
def _stops_cleanly() -> Iterator[None]:
    """Turns the signals that end a process into an exception; those that are ignored stay so (nohup)."""

    def stop(number: int, _: Any) -> None:
        raise Stopped(number)

    in_main = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if in_main else ()  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    caught = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def is_first() -> bool:
    """Returns whether this process is the first of those that a launcher started, which prints and writes results."""
    return os.environ.get("RANK", "0") == "0"  # as `predgen.parallel.processes` says it, which imports torch


@contextmanager
def _first_speaks() -> Iterator[None]:
    """Lets the first of several processes print results; the others print errors alone."""
    if is_first():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def fails_clearly(command: Callable[..., None]) -> Callable[..., None]:
    """Turns the errors that people can mend into one line on standard error and exit code 2."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            with _stops_cleanly(), _first_speaks():
                command(*args, **kwargs)
        except PredGenError as error:
            print_line(f"error: {error}", err=True)
            raise typer.Exit(EXIT_CODE) from error
        except PredGenWarning as warning:
            print_line(f"error: {warning} (a warning, which --strict makes an error)", err=True)
            raise typer.Exit(EXIT_CODE) from warning
        except BrokenPipeError as error:
            # Who read the output has left: there is nobody to tell, and nothing may be flushed at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(READER_LEFT) from error
        except OSError as error:
            where = f" '{error.filename}'" if error.filename else ""
            print_line(f"error: {error.strerror or error}{where}. Nothing was left half written.", err=True)
            raise typer.Exit(EXIT_CODE) from error
        except Stopped as error:
            print_line(f"Stopped by {error.signal.name}. Nothing was left half written.", err=True)
            raise typer.Exit(128 + error.signal) from error
        except KeyboardInterrupt as error:
            print_line("Interrupted. Nothing was left half written.", err=True)
            raise typer.Exit(INTERRUPTED) from error

    return wrapper


@contextmanager
def says_what_is_kept(folder: str | Path | None, else_: str = "") -> Iterator[None]:
    """Says after an interruption how to go on.

    Args:
        folder: what keeps the finished work; None for nothing.
        else_: what to say where nothing is kept.
    """
    try:
        yield
    except KeyboardInterrupt:
        kept = folder is not None and Path(folder).exists()
        going_on = f"'{folder}' is kept. The same command with --resume goes on with it." if kept else else_
        if going_on:
            print_line(going_on, err=True)
        raise


class _Lines(logging.Handler):
    """Prints notes as they are, and warnings as such, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(printable(prefix + record.getMessage()), file=sys.stderr)


def show_notes(quiet: bool, *, strict: bool = False) -> None:
    """Shows what the library notes and warns of; only warnings when quiet. Other libraries keep to themselves.

    Args:
        quiet: show no notes.
        strict: a warning about a table or an answer is an error.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if quiet or not sys.stderr.isatty():  # read when the hub's client is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:  # what `python -W` or PYTHONWARNINGS ask for is shown
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PredGenWarning)
    if strict:
        warnings.simplefilter("error", PredGenWarning)
    _show_warnings()
    log = logging.getLogger("predgen")
    log.handlers = [_Lines()]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    if not is_first():
        log.setLevel(logging.ERROR)
    log.propagate = False


def _show_warnings() -> None:
    """Shows the package's warnings as the log's are shown, each once."""
    show_others, said = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, PredGenWarning):
            show_others(message, category, *place)
        elif str(message) not in said:
            said.add(str(message))
            logging.getLogger("predgen").warning("%s", message)

    warnings.showwarning = show  # type: ignore[assignment]


@contextmanager
def working(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows on a terminal what is worked on, as the function that it gives is told; the line goes at the end."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(TextColumn("{task.description}"), console=console, disable=hidden, transient=True) as progress:
        line = progress.add_task("", total=None)
        yield lambda text: progress.update(line, description=text)


def line_width() -> int:
    """Returns the characters of a line on standard output; many where that is no terminal."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else WIDE


def print_table(table: Any) -> None:
    """Prints a rich table, or a line of text, on standard output; names are no markup, and no control characters."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console(width=line_width(), markup=False, emoji=False)
    lines = console.render(table)
    console.print(Segments([Segment(printable(text), style, control) for text, style, control in lines]), end="")


def print_comparison(comparison: Any) -> None:
    """Prints the tables of a comparison.

    Args:
        comparison: the JSON of a `Comparison`.
    """
    from predgen.report.tables import comparison_tables, tests_table

    for table in comparison_tables(comparison, line_width()):
        print_table(table)
    if comparison["tests"]:  # one method alone is tested against none
        print_table(tests_table(comparison))


def show_comparison(comparison: Any, *, json: str | None, markdown: str | None, plot: str | None) -> None:
    """Writes a comparison to the files that were named, and prints its tables.

    Args:
        comparison: the JSON of a `Comparison`.
        json: where it goes as JSON.
        markdown: where its tables go as Markdown.
        plot: where its picture goes.
    """
    from predgen.files import write_text
    from predgen.report.tables import comparison_markdown

    write_json(json, comparison)
    if markdown is not None:
        write_text(markdown, comparison_markdown(comparison))
    if plot is not None:
        from predgen.report.plots import save_comparison

        save_comparison(comparison, plot)
    print_comparison(comparison)


def save_comparison_page(path: str, comparison: Any, config: Any, command: str, options: Sequence[str]) -> None:
    """Writes a comparison as a page that needs no other file.

    Args:
        path: the HTML file.
        comparison: the JSON of a `Comparison`.
        config: the settings that all methods share.
        command: what made it.
        options: the command's that are no settings.
    """
    from predgen.config import changed_settings, command_of
    from predgen.experiments.describing import versions
    from predgen.files import write_text
    from predgen.report.comparison_page import comparisons_page

    page = comparisons_page(
        f"{', '.join(config.data.target)}: a comparison",
        {"Methods": comparison},
        settings=changed_settings(config),
        command=command_of(config, command, options),
        versions=versions(),
    )
    write_text(path, page)


def check_results(*paths: str | None) -> None:
    """Refuses files for results that could not be written, before the work is done.

    Raises:
        ConfigError: a path is a folder, or stands below something that is none or that refuses files.
    """
    for path in map(Path, filter(None, paths)):
        above = next((folder for folder in path.absolute().parents if folder.exists()), path)
        if path.is_dir() or not above.is_dir() or not _takes_files(above):
            fault = "is a folder" if path.is_dir() else f"cannot be written below '{above}'"
            raise ConfigError(f"Expected a file to write the result to, found '{path}', which {fault}. Name another.")


def check_pictures(*paths: str | None) -> None:
    """Refuses pictures where matplotlib is missing, before the work is done.

    Raises:
        MissingPackageError: with the line that installs it.
    """
    from predgen.errors import require

    if any(path is not None for path in paths):
        require("matplotlib", extra="plots", what="a picture (--plot, --html, --report, report)")


def _takes_files(folder: Path) -> bool:
    """Returns whether a file can be written in a folder; permissions alone do not tell (a read-only disk, the root)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def write_json(path: str | None, result: Any) -> None:
    """Writes a result as JSON, whole or not at all."""
    if path is not None and is_first():
        from predgen.files import write_text

        write_text(path, json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
