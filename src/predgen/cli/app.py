"""The commands, put together."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from predgen.cli.options import OPTIONS_OF
from predgen.config import SECTIONS
from predgen.names import load
from predgen.version import __version__

# Each command's function; it is imported when it is called, or shown in help.
COMMANDS = {
    "demo": "predgen.cli.demo:demo",
    "inspect": "predgen.cli.inspect:inspect",
    "fit": "predgen.cli.fit:fit",
    "predict": "predgen.cli.predict:predict",
    "serve": "predgen.cli.serve:serve",
    "explain": "predgen.cli.explain:explain",
    "evaluate": "predgen.cli.evaluate:evaluate",
    "report": "predgen.cli.report:report",
    "card": "predgen.cli.card:card",
    "calibrate": "predgen.cli.calibrate:calibrate",
    "push": "predgen.cli.push:push",
    "export": "predgen.cli.export:export",
    "compare": "predgen.cli.compare:compare",
    "compare-files": "predgen.cli.compare_files:compare_files",
    "tune": "predgen.cli.tune:tune",
    "ablate": "predgen.cli.ablate:ablate",
    "information": "predgen.cli.information:information",
    "heatmap": "predgen.cli.heatmap:heatmap",
    "tasks": "predgen.cli.tasks:tasks",
    "cache": "predgen.cli.cache:cache",
    "reproduce": "predgen.cli.reproduce:reproduce",
    "bench": "predgen.cli.bench:bench",
}


class Command(TyperCommand):
    """A command that may have options as a list, and answers an unknown option with the closest one."""

    context_class = typer.Context

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.listed = OPTIONS_OF.get(str(self.name), [])
        for option in self.listed:
            self.params.append(option.parameter)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; what was given to its listed options is `context.obj`, by their names."""
        ctx.obj = {option.name: ctx.params.pop(option.name) for option in self.listed}
        return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments."""
        takes_settings = any("--set" in parameter.opts for parameter in self.params)
        settings = [name for section in SECTIONS.values() for name in section.model_fields] if takes_settings else []
        with _suggestions(settings):
            return super().parse_args(ctx, args)


class LoadedWhenUsed(Mapping[str, Any]):
    """The commands by name; a command's module is imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        function = load(COMMANDS[name])
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name, cls=Command)(function)
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Commands(TyperGroup):
    """All commands; an unknown option before them is answered in the same way."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = LoadedWhenUsed()

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names, without a look at the commands themselves."""
        return list(COMMANDS)

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
