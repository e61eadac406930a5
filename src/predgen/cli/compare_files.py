"""`predgen compare-files`."""

import shlex
from typing import Annotated

import typer

from predgen.cli.output import (
    JsonPath,
    MarkdownPath,
    PlotPath,
    Quiet,
    ReportPath,
    Strict,
    check_pictures,
    check_results,
    fails_clearly,
    show_comparison,
    show_notes,
)
from predgen.names import KINDS, NUMBER_FORMATS, TARGET_COLUMNS


@fails_clearly
def compare_files(
    truth: Annotated[str, typer.Argument(metavar="TRUTH", help="A table with the true answers.", show_default=False)],
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Tables with the answers of a tool each.", show_default=False)
    ],
    target: Annotated[str, typer.Option("--target", help="The column of the true answers.", show_default=False)],
    id: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The column that rows are matched by.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="NAME", help="Test all others against this file alone.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help=f"What is predicted: {KINDS.listed}.")] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", help=f"What several columns A,B of --target are: {TARGET_COLUMNS.listed}."),
    ] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="All labels A,B, in their order.")] = None,
    number_format: Annotated[
        str | None,
        typer.Option("--number-format", help=f"How TRUTH writes numbers: {NUMBER_FORMATS.listed}."),
    ] = None,
    date_format: Annotated[
        str | None, typer.Option("--date-format", help="How TRUTH writes dates, such as %d.%m.%Y; files write ISO.")
    ] = None,
    markdown: MarkdownPath = None,
    plot: PlotPath = None,
    report: ReportPath = None,
    json: JsonPath = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Compare files of predictions, of any tool, on the same rows: intervals and paired tests.

    Answers stand in a column `prediction`, or in one of the target's name; probabilities of labels in columns
    `probability_<label>`. Without --id rows are in the order of TRUTH.

    [bold]Examples[/bold]

      predgen compare-files test.csv ours.csv theirs.csv --target stars

      predgen compare-files test.csv a.csv b.csv c.csv --target mood --id key --against a
    """
    import predgen

    show_notes(quiet, strict=strict)
    check_results(json, markdown, plot, report)
    check_pictures(plot, report)
    given_target = {
        "kind": kind,
        "columns": columns,
        "labels": labels,
        "number_format": number_format,
        "date_format": date_format,
    }
    declared = {name: value for name, value in given_target.items() if value is not None}
    comparison = predgen.compare_files(truth, files, target, id=id, against=against, **declared).to_json()
    show_comparison(comparison, json=json, markdown=markdown, plot=plot)
    if report is not None:
        from predgen.experiments.describing import versions
        from predgen.files import write_text
        from predgen.report.comparison_page import comparisons_page

        options = {"target": target, "id": id, "against": against, "kind": kind, "columns": columns, "labels": labels}
        options |= {"number-format": number_format, "date-format": date_format}
        given = [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]
        command = shlex.join(["predgen", "compare-files", truth, *files, *given])
        page = comparisons_page(f"{target}: a comparison", {"Files": comparison}, command=command, versions=versions())
        write_text(report, page)
