"""`predgen explain`."""

from typing import Annotated, Any

import typer

from predgen.cli.options import rows_of_texts
from predgen.cli.output import (
    Device,
    HtmlPath,
    MovedBackbone,
    PredictFrom,
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
from predgen.errors import ConfigError
from predgen.names import EXPLANATIONS

# Rows of DATA that are explained where none is named.
MOST_ROWS = 10


@fails_clearly
def explain(
    model_dir: Annotated[
        str, typer.Argument(metavar="DIR", help="A fitted model, or its name on the hub.", show_default=False)
    ],
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help=f"Rows to explain; the first {MOST_ROWS} if none is named.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="A text to explain, instead of DATA. With several input columns: column=text."),
    ] = None,
    row: Annotated[
        list[int] | None, typer.Option("--row", metavar="N", help="A row of DATA, counted from 1; several times.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help=f"{EXPLANATIONS.explained}.")] = "gradients",
    label: Annotated[
        str | None, typer.Option("--label", help="Explain this label instead of the one that is answered.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Points of the gradients' integral.")] = 32,
    max_words: Annotated[
        int,
        typer.Option("--max-words", help="Of words: the most forwards of a row; of more, runs go together."),
    ] = 256,
    predict_from: PredictFrom = None,
    revision: Revision = None,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    html: HtmlPath = None,
    json: Annotated[
        str | None, typer.Option("--json", "--out", metavar="FILE", help="Also write the result as JSON.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show which words drove an answer: what each adds to the log-odds of a label, or to a number.

    Gradients are integrated from the mean embedding of the vocabulary to the words' own; they add up to the score less
    the baseline's, and the gap is said. Words are left out one by one, a forward each. Neither says that a word is a
    cause in the world, or that the answer is right.

    [bold]Examples[/bold]

      predgen explain model --text "A funny, pretty film."

      predgen explain model new.csv --row 3 --row 7 --html words.html

      predgen explain model new.csv --method words --label good --out words.json
    """
    import predgen
    from predgen.explaining.explanation import json_of
    from predgen.files import write_text
    from predgen.report.explanations import explanation_lines

    show_notes(quiet)
    EXPLANATIONS.check(method)
    if (data is None) == (not text):
        raise ConfigError("Expected either DATA or --text, found both or none. Give one of them.")
    if row and text:
        raise ConfigError("Expected --row together with DATA, found it with --text. Leave one of them out.")
    check_results(json, html)
    check_pictures(html)
    model = predgen.load(
        model_dir,
        revision=revision,
        backbone=backbone,
        device=device,
        predict_from=predict_from,
        trust_remote_code=trust_remote_code,
    )
    rows = rows_of_texts(text, model.inputs) if text else _rows_of(str(data), row)
    with working(quiet) as say:
        say(f"explaining {len(rows)} rows")
        found = predgen.explain(model, rows, method=method, label=label, steps=steps, max_words=max_words)
    write_json(json, json_of(found))
    if html is not None:
        from predgen.report.explanations import explanation_page

        write_text(html, explanation_page(json_of(found)))
    for one in found:
        for line in explanation_lines(one.to_json()):
            print_line(line)


def _rows_of(data: str, numbers: list[int] | None) -> Any:
    """Returns the rows of a table that are asked for, or its first ones.

    Raises:
        DataError: a number is none of its rows.
    """
    from predgen.errors import DataError
    from predgen.tables.reading import read_table

    table = read_table(data)
    if not numbers:
        if len(table) > MOST_ROWS:
            print_line(f"The first {MOST_ROWS} of {len(table)} rows; --row N explains others.", err=True)
        return table.iloc[:MOST_ROWS]
    for number in numbers:
        if not 1 <= number <= len(table):
            raise DataError(
                f"Expected a row from 1 to {len(table)}, as '{data}' has, found --row {number}. Name another row."
            )
    return table.iloc[[number - 1 for number in dict.fromkeys(numbers)]]
