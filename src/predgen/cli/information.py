"""`predgen information`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    Device,
    FittedOn,
    HtmlPath,
    JsonPath,
    MarkdownPath,
    Quiet,
    TrustRemoteCode,
    check_pictures,
    check_results,
    fails_clearly,
    print_line,
    show_notes,
    working,
    write_json,
)


@fails_clearly
def information(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Fitted models.", show_default=False)],
    data: FittedOn = None,
    estimators: Annotated[
        str, typer.Option("--estimators", help="Some of mine, infonce, smile, nwj, neighbours.")
    ] = "mine,infonce,smile,neighbours",
    sources: Annotated[
        str, typer.Option("--sources", help="Some of pooled, written, written_mean, prompt.")
    ] = "pooled,written,written_mean",
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds of the estimators.")] = 3,
    rows: Annotated[int, typer.Option("--rows", help="The most rows to learn from, and to estimate on.")] = 5000,
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="Also each layer, by InfoNCE.")] = True,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    markdown: MarkdownPath = None,
    plot: Annotated[str | None, typer.Option("--plot", metavar="PNG", help="Also draw it.")] = None,
    html: HtmlPath = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Measure how much of the answer is in the states of fitted models: mutual information, in nats.

    The models were fitted on the same rows, as those that compare --models keeps. Critics learn from training rows that
    no model saw (--max-train-rows leaves them), else from half of the test rows; models write by themselves.
    Each estimate stands beside its control, with the answers of other rows.

    [bold]Examples[/bold]

      predgen information models/predictor-seed0 models/predgen-seed0

      predgen information models/* --plot a.png --html a.html

      predgen information models/* --estimators infonce --no-layers
    """
    import predgen
    from predgen.config import split_names
    from predgen.files import write_text
    from predgen.report.information import information_markdown

    show_notes(quiet)
    check_results(json, markdown, plot, html)
    check_pictures(plot, html)
    with working(quiet) as progress:
        measured = predgen.measure_information(
            runs,
            data,
            estimators=split_names(estimators) or (),
            sources=split_names(sources) or (),
            seeds=seeds,
            rows=rows,
            layers=layers,
            device=device,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    write_json(json, measured)
    text = information_markdown(measured)
    if markdown is not None:
        write_text(markdown, text)
    if plot is not None:
        from predgen.report.information_pictures import save_information

        save_information(measured, plot)
    if html is not None:
        from predgen.report.information_pictures import information_page

        write_text(html, information_page(measured))
    print_line(text)
