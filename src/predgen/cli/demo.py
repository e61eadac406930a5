"""`predgen demo`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predgen.cli.output import (
    JsonPath,
    Overwrite,
    Quiet,
    check_results,
    fails_clearly,
    print_comparison,
    print_line,
    show_notes,
    write_json,
)
from predgen.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd

QUESTIONS = {
    "continent": "On which continent is a city?",
    "latitude": "How far north is a city (degrees of latitude)?",
    "north": "Which of two cities lies farther north?",
    "pairs": "Does a sentence say what the function beside it does?",
    "docstrings": "Which library does a docstring's first sentence come from?",
    "colors": "How light is the color that a name says (0 to 100)?",
    "diabetes": "How far has a patient's disease progressed (25 to 346)?",
}
ALL = ("continent", "latitude", "north")

# What each row of the tables is.
ROWS = {
    "mean_or_majority": "the best answer that is the same for every row, which any model must beat.",
    "tfidf_linear": "a linear model over counted words, without a language model.",
    "zero_shot": "the language model as it is, asked with the same prompts, nothing trained.",
    "predictor": "the usual way to fine-tune: a pooled head on the states of the prompt.",
    "generator": "the model is trained to write the answer, and answers by what it would write.",
    "predgen": "the model writes the answer, and a head reads the states of what it wrote.",
}


@fails_clearly
def demo(
    task: Annotated[
        str,
        typer.Option(
            "--task", help="continent, latitude, north, all (these three), pairs, docstrings, colors, diabetes."
        ),
    ] = "all",
    save_data: Annotated[
        str | None, typer.Option("--save-data", metavar="DIR", help="Only write the six tables there, as CSV.")
    ] = None,
    overwrite: Overwrite = False,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Also write the tables as a page.")] = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Compare the three methods on three real questions, over data that any installation has, in about five minutes.

    continent: on which continent is a city?

    latitude: how far north is a city?

    north: which of two cities lies farther north?

    By themselves: pairs (does a sentence say what the function beside it does?), docstrings (which library is a
    sentence from?), colors (how light is the color that a name says?), diabetes (how far has a patient's disease
    progressed, by a sentence on them?).

    The model is SmolLM2 where it is installed, else the small one inside the package; PREDGEN_BACKBONE in the
    environment names another.

    [bold]Examples[/bold]

      predgen demo

      predgen demo --task colors --json demo.json

      predgen demo --html demo.html

      predgen demo --save-data tables/
    """
    if task not in (*QUESTIONS, "all"):
        raise unknown_name("task", task, [*QUESTIONS, "all"])
    show_notes(quiet)
    check_results(json, html)
    if save_data is not None:
        _save(Path(save_data), overwrite)
        return
    results = {}
    for name in ALL if task == "all" else [task]:
        print_line(f"\n{QUESTIONS[name]}")
        results[name] = _compare(name, quiet)
        print_comparison(results[name])
    write_json(json, results)
    _explain(results)
    if html is not None:
        from predgen.files import write_text
        from predgen.report.comparison_page import comparisons_page

        write_text(html, comparisons_page("PredGen: demo", {QUESTIONS[name]: one for name, one in results.items()}))
        print_line(f"\nThe same tables are a page: {Path(html).resolve()}")
    print_line(
        "\nNext:\n"
        "  predgen demo --save-data tables\n"
        "  predgen fit tables/cities.csv --target latitude --inputs city,country --out model\n"
        "  predgen predict model tables/cities.csv --out answers.csv"
    )


def _explain(results: Mapping[str, Any]) -> None:
    """Prints what each row of the tables is, a sentence each."""
    print_line("\nThe rows:")
    for name in dict.fromkeys(name for comparison in results.values() for name in comparison["methods"]):
        print_line(f"  {name}: {ROWS[name]}")


def _compare(task: str, quiet: bool) -> Any:
    """Returns the JSON of a task's comparison."""
    import predgen
    from predgen.backbones import is_for_trying
    from predgen.cli import demo_tables
    from predgen.names import default_backbone

    target, settings = {
        "docstrings": ("library", demo_tables.DOCSTRINGS_SETTINGS),
        "continent": ("continent", demo_tables.CONTINENT_SETTINGS),
        "latitude": ("latitude", demo_tables.LATITUDE_SETTINGS),
        "north": ("north", demo_tables.NORTH_SETTINGS),
        "colors": ("lightness", demo_tables.COLORS_SETTINGS),
        "pairs": ("match", demo_tables.PAIRS_SETTINGS),
        "diabetes": ("progression", demo_tables.DIABETES_SETTINGS),
    }[task]
    layers = None if is_for_trying(default_backbone()) else demo_tables.TRAINED_LAYERS
    table = _tables()["cities" if task in ("continent", "latitude") else task]()
    return predgen.compare(table, target, quiet=quiet, trained_layers=layers, **settings).to_json()


def _save(folder: Path, overwrite: bool) -> None:
    from predgen.tables.saving import TableWriter

    tables: dict[str, Any] = {}
    for name, made in _tables().items():
        table = made()
        tables |= {f"{name}/{part}": rows for part, rows in table.items()} if isinstance(table, dict) else {name: table}
    writers = {name: TableWriter(folder / f"{name}.csv", overwrite=overwrite) for name in tables}  # all may be written
    for name, writer in writers.items():
        table = tables[name]
        with writer:
            writer.write(table)
        print_line(f"{len(table)} rows in '{writer.path}'")


def _tables() -> dict[str, Callable[[], "pd.DataFrame | dict[str, pd.DataFrame]"]]:
    """Returns what makes each table, or the parts of one."""
    from predgen.cli import demo_tables

    return {
        "docstrings": demo_tables.docstring_sentences,
        "cities": demo_tables.cities,
        "north": demo_tables.city_pairs,
        "colors": demo_tables.color_names,
        "pairs": demo_tables.docstring_pairs,
        "diabetes": demo_tables.diabetes_patients,
    }
