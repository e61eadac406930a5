"""`predgen reproduce`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from predgen.cli.options import parse_assignments
from predgen.cli.output import (
    JsonPath,
    Overwrite,
    Quiet,
    check_results,
    fails_clearly,
    print_line,
    says_what_is_kept,
    show_notes,
    write_json,
)
from predgen.errors import ConfigError, TrainingError, UnknownNameError

GRID = "Grid"


def _names(name: str, what: str) -> Any:
    return typer.Option(f"--{name}", metavar="A,B", help=f"{what} in the place of the preset's.", rich_help_panel=GRID)


@fails_clearly
def reproduce(
    context: typer.Context,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Keep each finished cell and the tables there.")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="small (two cores), default, or paper (its hyperparameters).")
    ] = "small",
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DIR", help="A folder with a folder for each task; else PREDGEN_DATA_DIR or the hub."
        ),
    ] = None,
    tasks: Annotated[str | None, _names("tasks", "Tasks")] = None,
    methods: Annotated[str | None, _names("methods", "Methods")] = None,
    pefts: Annotated[str | None, _names("pefts", "PEFT methods, over all tasks,")] = None,
    backbones: Annotated[str | None, _names("backbones", "Backbones")] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Training seeds, from 0; the preset's if 0.", rich_help_panel=GRID)
    ] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting by name, for all cells.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what the grid would take; nothing is run.")] = False,
    gpu: Annotated[str, typer.Option("--gpu", help="The GPU that --plan is for.")] = "A100",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --out holds.")] = False,
    overwrite: Overwrite = False,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Run the paper's benchmark: tasks × methods × PEFT methods × backbones × seeds, and write its tables.

    Each finished cell is a file below --out and is never run again. The tables are there as tables.md and tables.html,
    and are written anew after each cell.

    [bold]Examples[/bold]

      predgen reproduce --preset small --out small

      predgen reproduce --preset small --out small --resume

      predgen reproduce --tasks stsb,sst2 --pefts lora,rocoft --out two

      predgen reproduce --preset paper --plan --gpu H100
    """
    from predgen.config import split_names

    show_notes(quiet)
    check_results(json)
    grid: dict[str, Any] = {
        "backbones": split_names(backbones or ""),
        "methods": split_names(methods or ""),
        "pefts": split_names(pefts or ""),
        "tasks": split_names(tasks or ""),
        "seeds": seeds,
        "data": data,
    }
    settings = _settings_in(set_ or [], [parameter.name for parameter in context.command.params])
    if plan:
        _plan(preset, gpu, out, grid, settings, json)
        return
    if out is None:
        raise ConfigError("Expected --out DIR, the folder that keeps what is finished, found none. Name one.")
    _run(preset, Path(out), {"resume": resume, "overwrite": overwrite, "quiet": quiet, **grid}, settings, json)


def _settings_in(assignments: list[str], options: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that `--set` gives, by their whole names, none of which is an argument of `reproduce`.

    Args:
        assignments: the texts.
        options: the names of the command's own options.

    Raises:
        ConfigError: an option of the command is named.
        UnknownNameError: a name is neither.
    """
    from predgen.config import merged_layers

    settings: dict[str, Any] = {}
    for name, value in parse_assignments(assignments).items():
        try:
            settings |= merged_layers({name: value})
        except UnknownNameError as error:
            if name not in options:
                raise
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"Expected settings of a run with --set, found '{name}', which is an option of reproduce. Use {option}."
            ) from error
    return settings


def _plan(
    preset: str, gpu: str, out: str | None, grid: dict[str, Any], settings: dict[str, Any], json: str | None
) -> None:
    """Says what the grid would take."""
    import predgen
    from predgen.report.reproduction import plan_markdown

    planned = predgen.plan_reproduction(preset, gpu=gpu, out=out, **grid, **settings)
    write_json(json, planned)
    print_line(plan_markdown(planned))


def _run(preset: str, out: Path, arguments: dict[str, Any], settings: dict[str, Any], json: str | None) -> None:
    """Runs the grid, and writes its tables.

    Raises:
        TrainingError: a cell could not be fitted.
    """
    import predgen
    from predgen.report.reproduction import reproduction_markdown, write_tables

    with says_what_is_kept(out):
        figures = predgen.reproduce(
            preset, out=str(out), report=lambda figures: write_tables(figures, out), **arguments, **settings
        )
    write_json(json, figures)
    print_line(reproduction_markdown(figures))
    print_line(f"The tables are in '{out / 'tables.md'}' and '{out / 'tables.html'}'.")
    if figures["failed"]:
        raise TrainingError(
            f"Expected all cells to be fitted, found {len(figures['failed'])} that failed (see the notes of the "
            "tables). Change what they need, and go on with --resume."
        )
