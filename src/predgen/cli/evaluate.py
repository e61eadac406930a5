"""`predgen evaluate`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    Device,
    Interval,
    JsonPath,
    MovedBackbone,
    PredictFrom,
    Quiet,
    Revision,
    Strict,
    TaskName,
    TrustRemoteCode,
    check_results,
    fails_clearly,
    print_table,
    show_notes,
    write_json,
)


@fails_clearly
def evaluate(
    model_dir: Annotated[
        str, typer.Argument(metavar="DIR", help="A fitted model, or its name on the hub.", show_default=False)
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows whose answers are known.", show_default=False)],
    task: TaskName = None,
    interval: Interval = None,
    predict_from: PredictFrom = None,
    revision: Revision = None,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    json: JsonPath = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Score a fitted model on rows whose answers are known, with 95 % intervals.

    Of a folder or a dataset with parts, the test part is scored, else the validation part.

    [bold]Examples[/bold]

      predgen evaluate stars-model test.csv

      predgen evaluate model sst2/ --json scores.json

      predgen evaluate boolq-model my-data --task boolq
    """
    show_notes(quiet, strict=strict)
    import predgen
    from predgen.catalogue import held_out_flat, load_task
    from predgen.report.tables import evaluation_table
    from predgen.tables.splits import held_out_rows

    check_results(json)
    model = predgen.load(
        model_dir,
        revision=revision,
        backbone=backbone,
        device=device,
        predict_from=predict_from,
        trust_remote_code=trust_remote_code,
    )
    rows = held_out_rows(data) if task is None else held_out_flat(load_task(task), data)
    evaluation = model.evaluate(rows, interval=interval).to_json()
    write_json(json, evaluation)
    print_table(evaluation_table(evaluation))
