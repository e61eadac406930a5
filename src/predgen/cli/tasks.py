"""`predgen tasks`: the benchmark's tasks, one of them, and a user's own."""

from typing import Annotated

import typer

from predgen.cli.output import (
    JsonPath,
    MarkdownPath,
    Quiet,
    check_results,
    fails_clearly,
    print_line,
    print_table,
    show_notes,
    write_json,
)
from predgen.errors import ConfigError, DataError, unknown_name

ACTIONS = ("show", "validate")


@fails_clearly
def tasks(
    action: Annotated[
        str | None, typer.Argument(metavar="show|validate", help="All tasks are listed if not given.")
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A task, or the YAML file of one.")] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DIR", help="The folder of its rows, or the one above; else PREDGEN_DATA_DIR."),
    ] = None,
    markdown: MarkdownPath = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """List the tasks of the paper's benchmark, show one of them, or check one of your own.

    A task is shown with its first row as a model reads it, if its data are here; nothing is downloaded. A YAML file is
    validated with all of its rows; what is not right is said with its place, and the exit code is 2. The commands fit,
    compare and ablate take a task with --task.

    [bold]Examples[/bold]

      predgen tasks

      predgen tasks show boolq

      predgen tasks show hellaswag --data my-data

      predgen tasks validate mine.yaml --data my-rows
    """
    if action is not None and action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    if (action is None) != (name is None):
        raise ConfigError(f"Expected predgen tasks {action} NAME, found no name. Give a task or a YAML file.")
    if action is not None and markdown is not None:
        raise ConfigError(f"Expected --markdown with the list alone, found it with {action}. Leave it out.")
    from predgen.catalogue import check_task
    from predgen.report.tasks import checked_json, data_lines, task_lines

    show_notes(quiet)
    check_results(json, markdown)
    if name is None:
        _list(data, markdown, json)
        return
    checked = check_task(name, data)
    write_json(json, checked_json(checked))
    if action == "show":
        print_line("\n".join(task_lines(checked)))
    if checked.problems:
        raise DataError(" ".join(checked.problems))
    if action == "validate":
        print_line("\n".join([f"{checked.task.reference} is a task.", *data_lines(checked)]))


def _list(data: str | None, markdown: str | None, json: str | None) -> None:
    """Prints all tasks, and writes them to the files that were named."""
    from predgen.files import write_text
    from predgen.report.tasks import catalogue_markdown, catalogue_table, listed_tasks

    listed = listed_tasks(data)
    write_json(json, listed)
    if markdown is not None:
        write_text(markdown, catalogue_markdown())
    print_table(catalogue_table(listed))
