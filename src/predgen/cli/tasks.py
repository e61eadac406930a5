"""`predgen tasks`: the benchmark's tasks, one of them, and a user's own."""

from typing import Annotated

import typer

from predgen.cli.output import (
    JsonPath,
    MarkdownPath,
    Quiet,
    check_results,
    fails_clearly,
    print_table,
    show_notes,
    write_json,
)

DataFolder = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="The folder of its rows, or the one above; else PREDGEN_DATA_DIR."),
]

tasks = typer.Typer(rich_markup_mode="rich", add_completion=False)


@tasks.callback(invoke_without_command=True)
@fails_clearly
def catalogue(
    context: typer.Context,
    json: JsonPath = None,
    markdown: MarkdownPath = None,
    quiet: Quiet = False,
) -> None:
    """List the tasks of the paper's benchmark; show one; check one of your own.

    Rows are read from a folder (--data, or PREDGEN_DATA_DIR) or the hub; fit and compare take a task with --task.

    [bold]Examples[/bold]

      predgen tasks

      predgen tasks show boolq

      predgen tasks validate mine.yaml --data my-rows
    """
    if context.invoked_subcommand is not None:
        return
    from predgen.files import write_text
    from predgen.report.catalogue import catalogue_markdown, catalogue_table, listed_tasks

    show_notes(quiet)
    check_results(json, markdown)
    found = listed_tasks()
    write_json(json, found)
    if markdown is not None:
        write_text(markdown, catalogue_markdown())
    print_table(catalogue_table(found))


@tasks.command()
@fails_clearly
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A task, or a YAML file.", show_default=False)],
    data: DataFolder = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Show all of a task, and the first row as a model reads it if its data are here.

    Nothing is downloaded.

    [bold]Examples[/bold]

      predgen tasks show boolq

      predgen tasks show hellaswag --data my-data
    """
    from predgen.catalogue import check_task
    from predgen.errors import DataError
    from predgen.report.catalogue import checked_json, task_lines

    show_notes(quiet)
    check_results(json)
    found = check_task(name, data)
    write_json(json, checked_json(found))
    typer.echo("\n".join(task_lines(found)))
    if found.problems:
        raise DataError(" ".join(found.problems))


@tasks.command()
@fails_clearly
def validate(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The YAML file of a task.", show_default=False)],
    data: DataFolder = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Check a task of your own: its YAML, and that all its rows are what it says.

    What is not right is said with its place, and the exit code is 2.

    [bold]Examples[/bold]

      predgen tasks validate mine.yaml

      predgen tasks validate mine.yaml --data my-rows
    """
    from predgen.catalogue import check_task
    from predgen.errors import DataError
    from predgen.report.catalogue import checked_json, data_lines

    show_notes(quiet)
    check_results(json)
    found = check_task(file, data)
    write_json(json, checked_json(found))
    if found.problems:
        raise DataError(" ".join(found.problems))
    typer.echo("\n".join([f"{found.task.reference} is a task.", *data_lines(found)]))
