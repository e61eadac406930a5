"""`predgen evaluate`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    AbstainDelta,
    AbstainError,
    AbstainRisk,
    Device,
    Interval,
    JsonPath,
    MovedBackbone,
    NoThreshold,
    PredictFrom,
    Quiet,
    Revision,
    Strict,
    TaskName,
    TrustRemoteCode,
    check_results,
    fails_clearly,
    print_line,
    print_table,
    show_notes,
    write_json,
)
from predgen.errors import ConfigError


@fails_clearly
def evaluate(
    model_dir: Annotated[
        str, typer.Argument(metavar="DIR", help="A fitted model, or its name on the hub.", show_default=False)
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows whose answers are known.", show_default=False)],
    task: TaskName = None,
    interval: Interval = None,
    weight: Annotated[
        str | None,
        typer.Option("--weight", metavar="COLUMN", help="Weights of the rows, at least 0; 0 leaves a row out."),
    ] = None,
    abstain_risk: AbstainRisk = None,
    abstain_delta: AbstainDelta = 0.05,
    abstain_error: AbstainError = None,
    per_label: Annotated[
        bool, typer.Option("--per-label", help="Also precision, recall, F1 and average precision of each label.")
    ] = False,
    predict_from: PredictFrom = None,
    no_threshold: NoThreshold = False,
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

      predgen evaluate model test.csv --per-label

      predgen evaluate model test.csv --weight trust

      predgen evaluate model test.csv --abstain-risk 0.1

      predgen evaluate boolq-model my-data --task boolq
    """
    show_notes(quiet, strict=strict)
    import predgen
    from predgen.catalogue import held_out_flat, load_task
    from predgen.report.evaluation import evaluation_notes, evaluation_table, label_tables
    from predgen.tables.splits import held_out_rows

    check_results(json)
    model = predgen.load(
        model_dir,
        revision=revision,
        backbone=backbone,
        device=device,
        predict_from=predict_from,
        threshold=not no_threshold,
        trust_remote_code=trust_remote_code,
    )
    rows = held_out_rows(data) if task is None else held_out_flat(load_task(task), data)
    if per_label and not any(field.labels for field in model.target.fields.values()):
        raise ConfigError("Expected a model of labels with --per-label, found one of numbers. Leave it out.")
    evaluation = model.evaluate(
        rows,
        interval=interval,
        weight=weight,
        abstain_risk=abstain_risk,
        abstain_delta=abstain_delta,
        abstain_error=abstain_error,
    ).to_json()
    write_json(json, evaluation)
    print_table(evaluation_table(evaluation))
    for note in evaluation_notes(evaluation):
        print_line(note)
    for table in label_tables(evaluation) if per_label else ():
        print_table(table)
