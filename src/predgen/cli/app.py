"""The commands, put together."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from predgen.cli.ablate import ablate
from predgen.cli.bench import bench
from predgen.cli.calibrate import calibrate
from predgen.cli.compare import compare
from predgen.cli.demo import demo
from predgen.cli.evaluate import evaluate
from predgen.cli.fit import fit
from predgen.cli.heatmap import heatmap
from predgen.cli.information import information
from predgen.cli.inspect import inspect
from predgen.cli.predict import predict
from predgen.cli.reproduce import reproduce
from predgen.cli.tasks import tasks
from predgen.config import SECTIONS
from predgen.version import __version__


class Command(TyperCommand):
    """A command that answers an unknown option with the closest one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments."""
        takes_settings = any("--set" in parameter.opts for parameter in self.params)
        with _suggestions([name for one in SECTIONS.values() for name in one.model_fields] if takes_settings else []):
            return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """All commands; an unknown option before them is answered in the same way."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments before the command."""
        with _suggestions([]):
            return super().parse_args(ctx, args)


@contextmanager
def _suggestions(settings: Sequence[str]) -> Iterator[None]:
    """Adds to the error for an unknown option the setting that it names, or the closest option."""
    try:
        yield
    except Exception as error:
        # Newer versions of typer bring their own copy of click, so the error is known by what it offers.
        name, known = getattr(error, "option_name", None), getattr(error, "possibilities", None)
        if name and known is not None:
            known = {option.lstrip("-"): option for option in known}
            bare = name.lstrip("-").replace("_", "-")
            setting = bare.replace("-", "_")
            close = difflib.get_close_matches(bare, known, n=1, cutoff=0.9 if setting in settings else 0.5)
            hint = f" Did you mean '{known[close[0]]}'?" if close else ""
            if setting in settings and not close:
                hint = f" It is a setting: --set {setting}=VALUE."
            setattr(error, "message", f"No such option '{name}'.{hint}")  # noqa: B010
            setattr(error, "possibilities", None)  # noqa: B010
        raise


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"predgen {__version__}")
        raise typer.Exit()
    return wanted


app = typer.Typer(
    name="predgen",
    cls=Commands,
    help="Predict labels and numbers from text by letting a language model write the answer.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Predict labels and numbers from text by letting a language model write the answer."""


COMMANDS = (
    demo,
    inspect,
    fit,
    predict,
    evaluate,
    calibrate,
    compare,
    ablate,
    information,
    heatmap,
    tasks,
    reproduce,
    bench,
)
for command in COMMANDS:
    app.command(command.__name__, cls=Command)(command)
