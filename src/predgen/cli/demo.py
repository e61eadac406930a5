"""`predgen demo`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from predgen.cli.output import (
    JsonPath,
    Overwrite,
    Quiet,
    check_results,
    fails_clearly,
    print_comparison,
    show_notes,
    write_json,
)
from predgen.errors import unknown_name

QUESTIONS = {
    "docstrings": "Which library does a docstring's first sentence come from?",
    "diabetes": "How far has a patient's disease progressed (25 to 346)?",
}


@fails_clearly
def demo(
    task: Annotated[str, typer.Option("--task", help="docstrings, diabetes or all.")] = "all",
    save_data: Annotated[
        str | None, typer.Option("--save-data", metavar="DIR", help="Only write the two tables there, as CSV.")
    ] = None,
    overwrite: Overwrite = False,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Compare the three methods on two real tables that any installation has, offline, in under five minutes.

    docstrings: which library does a docstring's first sentence come from?

    diabetes: how far has a patient's disease progressed, by a sentence on them?

    [bold]Examples[/bold]

      predgen demo

      predgen demo --task diabetes --json demo.json

      predgen demo --save-data tables/
    """
    if task not in (*QUESTIONS, "all"):
        raise unknown_name("task", task, [*QUESTIONS, "all"])
    show_notes(quiet)
    check_results(json)
    if save_data is not None:
        _save(Path(save_data), overwrite)
        return
    results = {}
    for name in QUESTIONS if task == "all" else [task]:
        typer.echo(f"\n{QUESTIONS[name]}")
        results[name] = _compare(name, quiet)
        print_comparison(results[name])
    write_json(json, results)
    typer.echo(
        "\nNext:\n"
        "  predgen demo --save-data tables\n"
        "  predgen fit tables/diabetes.csv --target progression --out model\n"
        "  predgen predict model tables/diabetes.csv --out answers.csv"
    )


def _compare(task: str, quiet: bool) -> Any:
    """Returns the JSON of a task's comparison."""
    import predgen
    from predgen.cli.demo_tables import DIABETES_SETTINGS, DOCSTRINGS_SETTINGS, diabetes_patients, docstring_sentences

    if task == "docstrings":
        comparison = predgen.compare(docstring_sentences(), "library", quiet=quiet, **DOCSTRINGS_SETTINGS)
    else:
        comparison = predgen.compare(diabetes_patients(), "progression", quiet=quiet, **DIABETES_SETTINGS)
    return comparison.to_json()


def _save(folder: Path, overwrite: bool) -> None:
    from predgen.cli.demo_tables import diabetes_patients, docstring_sentences
    from predgen.tables.saving import TableWriter

    tables = {"docstrings": docstring_sentences, "diabetes": diabetes_patients}
    writers = {name: TableWriter(folder / f"{name}.csv", overwrite=overwrite) for name in tables}  # all may be written
    for name, writer in writers.items():
        table = tables[name]()
        with writer:
            writer.write(table)
        typer.echo(f"{len(table)} rows in '{writer.path}'")
