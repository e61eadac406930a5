"""`predgen heatmap`."""

from typing import Annotated

import typer

from predgen.cli.options import rows_of_texts
from predgen.cli.output import (
    Device,
    FittedOn,
    HtmlPath,
    JsonPath,
    MovedBackbone,
    Quiet,
    Revision,
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
def heatmap(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A fitted model, or its name on the hub.", show_default=False)
    ],
    text: Annotated[
        list[str], typer.Option("--text", help="A text. With several input columns: column=text for each.")
    ],
    data: FittedOn = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds of the critic.")] = 3,
    rows: Annotated[int, typer.Option("--rows", help="The most rows that critics learn from.")] = 3000,
    revision: Revision = None,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    plot: Annotated[str | None, typer.Option("--plot", metavar="PNG", help="Also draw it.")] = None,
    html: HtmlPath = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Show which words of a text say something about what a model answers: pointwise information, in nats.

    A critic learns from the states of the input tokens and what the model writes, over the rows that `information`
    uses. A word's value is the sum of those of its tokens; the control learned from the answers of other rows.

    [bold]Examples[/bold]

      predgen heatmap model --text "A funny, pretty film."

      predgen heatmap model --text a="A dog." --text b="A cat." --html a.html
    """
    import predgen
    from predgen.files import write_text

    show_notes(quiet)
    check_results(json, plot, html)
    check_pictures(plot, html)
    model = predgen.load(run, revision=revision, backbone=backbone, device=device, trust_remote_code=trust_remote_code)
    with working(quiet) as progress:
        measured = predgen.token_information(
            model, rows_of_texts(text, model.inputs), data, seeds=seeds, rows=rows, progress=progress
        )
    write_json(json, measured)
    if plot is not None:
        from predgen.report.information_pictures import save_heat_map

        save_heat_map(measured, plot)
    if html is not None:
        from predgen.report.information_pictures import heat_map_page

        write_text(html, heat_map_page(measured))
    for measured_text in measured["texts"]:
        print_line(f"answer: {measured_text['answer']}")
        for word in measured_text["words"]:
            print_line(f"  {word['value']:+z.3f}  (control {word['control']:+z.3f})  {word['text']}")
    print_line(
        f"All tokens: {measured['information']['value']:z.3f} nats, control {measured['control']['value']:z.3f}; "
        f"{measured['rows']['learn']} rows, {measured['seeds']} seeds."
    )
