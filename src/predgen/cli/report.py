"""`predgen report`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    Device,
    JsonPath,
    MovedBackbone,
    NoThreshold,
    PredictFrom,
    Quiet,
    Revision,
    TrustRemoteCode,
    check_pictures,
    check_results,
    fails_clearly,
    print_line,
    show_notes,
    write_json,
)


@fails_clearly
def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A fitted model, or its name on the hub.", show_default=False)
    ],
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="Rows whose answers are known; those of the fit if not given."),
    ] = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="The page.")] = "report.html",
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="COLUMN", help="Also the errors by this column's values; several times."),
    ] = None,
    predict_from: PredictFrom = None,
    no_threshold: NoThreshold = False,
    revision: Revision = None,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Write a page about a fitted model: its result, its errors, its data, its training, its worst rows.

    The page needs no other file and no network. Without DATA it is of the held-out part of what the model was fitted
    on. Errors are shown by length, and by columns that have few values.

    [bold]Examples[/bold]

      predgen report stars-model --out report.html

      predgen report stars-model new.csv --group country --group shop
    """
    show_notes(quiet)
    import predgen
    from predgen.report.run_page import write_report

    check_results(out, json)
    check_pictures(out)
    facts = predgen.describe(
        run,
        data,
        groups=group,
        revision=revision,
        backbone=backbone,
        device=device,
        predict_from=predict_from,
        threshold=not no_threshold,
        trust_remote_code=trust_remote_code,
    )
    write_report(facts, out)
    write_json(json, facts)
    print_line(f"The report is in '{out}'.")
