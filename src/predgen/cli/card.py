"""`predgen card`."""

from pathlib import Path
from typing import Annotated

import typer

from predgen.cli.output import (
    Device,
    Interval,
    MovedBackbone,
    Quiet,
    Revision,
    TrustRemoteCode,
    check_results,
    fails_clearly,
    print_line,
    show_notes,
)


@fails_clearly
def card(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A fitted model, or its name on the hub.", show_default=False)
    ],
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="Rows whose answers are known; those of the fit if not given."),
    ] = None,
    interval: Interval = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="The card; README.md in RUN if not given.")
    ] = None,
    revision: Revision = None,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Write the figures of held-out rows into a model's card.

    The card is the file README.md of the model's folder, as the hub reads it: base model, license, figures with their
    intervals, calibration, limits, the command. `fit` writes it with the validation figure alone.

    [bold]Examples[/bold]

      predgen card stars-model

      predgen card stars-model new.csv --interval 0.9
    """
    show_notes(quiet)
    import predgen
    from predgen.experiments.reported_rows import rows_to_report
    from predgen.files import write_text
    from predgen.models.card import CARD_FILE, card_of, for_repository
    from predgen.models.hub import check_is_local

    check_results(out)
    if out is None:
        check_is_local(run, "a card")
    model = predgen.load(run, revision=revision, backbone=backbone, device=device, trust_remote_code=trust_remote_code)
    rows = rows_to_report(model, data)
    evaluation = {**model.evaluate(rows.table, interval=interval).to_json(), "part": rows.part, "level": interval}
    text = card_of(model.contents, model.target, evaluation)
    path = Path(run) / CARD_FILE if out is None else Path(out)
    write_text(path, text if model.origin is None else for_repository(text, run))
    print_line(f"The card is in '{path}'.")
