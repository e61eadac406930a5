"""`predgen tune`."""

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
    print_line,
    print_table,
    says_what_is_kept,
    show_notes,
    write_json,
)


@fails_clearly
@takes_settings()
def tune(
    context: typer.Context,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the best trial's model goes.")],
    data: Data = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", help="How many settings are tried.")] = 20,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="A,B=LOW..HIGH,C=X|Y",
            help="Settings to search, with a range or choices of yours (default: learning_rate, head_learning_rate, "
            "lora_rank, epochs).",
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="How many trials run at once, each in a process.")
    ] = 1,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="End trials early whose validations are behind the others'.")
    ] = True,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="SECONDS", help="No further trial begins after that; one is always finished."),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option("--runs", metavar="DIR", help="Keep the trials there, so that more can be added later."),
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the search of --runs, or with the unfinished one of --out.")
    ] = False,
    report: ReportPath = None,
    json: JsonPath = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Search for one's own model: settings are tried, and the best on the validation rows is kept.

    A search that was stopped goes on with --resume, in the middle of a trial too.

    [bold]Examples[/bold]

      predgen tune reviews.csv --target stars --trials 20 --out best

      predgen tune reviews.csv --target stars --search method,learning_rate=1e-4..1e-2 --processes 2 --out best

      predgen tune reviews.csv --target stars --runs search --out best --report search.html

      predgen tune reviews.csv --target stars --runs search --trials 40 --resume --out better
    """
    config = run_config(context, data)
    import predgen
    from predgen.config import split_names

    show_notes(quiet, strict=strict)
    check_results(json, report)
    check_pictures(report)
    from predgen.training.runs import unfinished_folder

    with says_what_is_kept(runs or unfinished_folder(out)):
        model = predgen.tune(
            config=config,
            trials=trials,
            search=None if search is None else split_names(search),
            processes=processes,
            prune=prune,
            budget=budget,
            out=out,
            runs=runs,
            overwrite=overwrite,
            resume=resume,
            quiet=quiet,
        )
    found = model.record["search"]
    from predgen.report.search import search_table, search_text, write_search_page

    print_table(search_table(found))
    typer.echo(search_text(found))
    if report is not None:
        write_search_page(found, model.config.model.backbone, report)
    print_line(f"The model is in '{out}'. Next: predgen evaluate {out} TEST.csv")
    write_json(json, {"out": out, "target": model.target.describe(), "inputs": list(model.inputs), "search": found})
