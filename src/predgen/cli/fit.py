"""`predgen fit`."""

from typing import Annotated

import typer

from predgen.cli.options import Data, run_config, takes_settings
from predgen.cli.output import (
    JsonPath,
    Overwrite,
    Quiet,
    ReportPath,
    Strict,
    check_pictures,
    check_results,
    fails_clearly,
    is_first,
    print_line,
    print_table,
    says_what_is_kept,
    show_notes,
    write_json,
)


@fails_clearly
@takes_settings()
def fit(
    context: typer.Context,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the fitted model goes.")],
    data: Data = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="SECONDS",
            help="With --method auto: time for all fits; one that would end later is not begun, but for the first.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option("--models", metavar="DIR", help="With --method auto: keep the model of every method there."),
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run of --out.")] = False,
    plot: Annotated[str | None, typer.Option("--plot", metavar="PNG", help="Also draw the course of training.")] = None,
    report: ReportPath = None,
    json: JsonPath = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Fit a model to a column of a table.

    What it infers of the target, the inputs and the split is printed. An interrupted fit goes on with --resume.

    [bold]Examples[/bold]

      predgen fit reviews.csv --target stars --out stars-model

      predgen fit pairs.jsonl --target label --inputs first,second --out model

      predgen fit sst2/ --target label --label-text 0=bad,1=good --out model

      predgen fit reviews.csv --target stars --out model --plot course.png

      predgen fit reviews.csv --target stars --out model --report report.html

      predgen fit sst2/ --target label --backbone Qwen/Qwen3-0.6B --out model

      predgen fit --task boolq --backbone Qwen/Qwen3-0.6B --out model

      predgen fit reviews.csv --target stars --method auto --out best

      predgen fit --config run.yaml --set seed=1 --out model-1
    """
    config = run_config(context, data)
    import predgen

    show_notes(quiet, strict=strict)
    check_results(json, plot, report)
    check_pictures(plot, report)
    from predgen.training.runs import unfinished_folder

    with says_what_is_kept(unfinished_folder(out)):
        model = predgen.fit(
            config=config,
            out=out,
            budget=budget,
            models=models,
            overwrite=overwrite,
            resume=resume,
            quiet=quiet,
        )
    record = model.record
    if plot is not None and is_first():
        from predgen.report.plots import save_training

        save_training(record, plot)
    if report is not None and is_first():
        from predgen.report.run_page import write_report

        write_report(predgen.describe(model), report)
    if "auto" in record:
        from predgen.report.choice import choice_table, choice_text

        print_table(choice_table(record["auto"]))
        typer.echo(choice_text(record["auto"]))
    best = "not defined" if record["best_metric"] is None else f"{record['best_metric']:.4f}"
    step = record["best_step"] or record["steps"]
    print_line(
        f"{record['metric']} {best} on {record['validation_rows']} validation rows, at step {step} of "
        f"{record['steps']}, after {record['train_seconds']:.0f} s of training."
    )
    print_line(f"The model is in '{out}'. Next: predgen predict {out} NEW.csv --out answers.csv")
    write_json(json, {"out": out, "target": model.target.describe(), "inputs": list(model.inputs), "record": record})
