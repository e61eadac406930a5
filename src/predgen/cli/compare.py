"""`predgen compare`."""

from typing import Annotated

import typer

from predgen.cli.options import Data, run_config, takes_settings
from predgen.cli.output import (
    NAME_RUNS,
    JsonPath,
    MarkdownPath,
    Overwrite,
    PlotPath,
    Quiet,
    ReportPath,
    Resume,
    RunsPath,
    Seeds,
    Strict,
    check_pictures,
    check_results,
    fails_clearly,
    is_first,
    save_comparison_page,
    says_what_is_kept,
    show_comparison,
    show_notes,
)
from predgen.names import BASELINES, DEFAULT_BASELINES, METHODS


@fails_clearly
@takes_settings(without=["model.method"])
def compare(
    context: typer.Context,
    data: Data = None,
    methods: Annotated[str, typer.Option("--methods", help=f"Which of {METHODS.explained}.")] = ",".join(METHODS),
    baselines: Annotated[str, typer.Option("--baselines", help=f"Which of {BASELINES.explained}.")] = ",".join(
        DEFAULT_BASELINES
    ),
    seeds: Seeds = 1,
    trials: Annotated[
        int, typer.Option("--trials", help="Tune each method in so many trials on the validation part.")
    ] = 0,
    runs: RunsPath = None,
    models: Annotated[
        str | None, typer.Option("--models", metavar="DIR", help="Keep every fitted model there.")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    markdown: MarkdownPath = None,
    plot: PlotPath = None,
    report: ReportPath = None,
    json: JsonPath = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on the same rows, seeds and budget, beside baselines.

    Choices are made on the validation part, figures are of the test part.

    [bold]Examples[/bold]

      predgen compare reviews.csv --target stars

      predgen compare sts/ --target label --seeds 3 --json a.json --plot a.png

      predgen compare sts/ --target label --seeds 3 --trials 8 --runs all

      predgen compare sts/ --target label --seeds 3 --trials 8 --runs all --resume

      predgen compare reviews.csv --target stars --methods predictor,predgen

      predgen compare reviews.csv --target stars --set director=mean

      predgen compare reviews.csv --target stars --baselines zero_shot_calibrated

      predgen compare my-data --task stsb --seeds 3 --runs all

      predgen compare reviews.csv --target stars --models fitted
    """
    config = run_config(context, data)
    import predgen
    from predgen.config import ModelSettings, split_names
    from predgen.errors import ConfigError

    show_notes(quiet, strict=strict)
    check_results(json, markdown, plot, report)
    check_pictures(plot, report)
    if config.model.method != ModelSettings().method:
        raise ConfigError("Expected no setting 'method', as compare fits several. Name them with --methods.")
    with says_what_is_kept(runs, NAME_RUNS):
        comparison = predgen.compare(
            config=config,
            methods=split_names(methods),
            baselines=split_names(baselines),
            seeds=seeds,
            trials=trials,
            runs=runs,
            models=models,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
        )
    show_comparison(comparison.to_json(), json=json, markdown=markdown, plot=plot)
    if report is not None and is_first():
        options = ["--methods", methods, "--baselines", baselines, "--seeds", str(seeds), "--trials", str(trials)]
        save_comparison_page(report, comparison.to_json(), config, "compare", options)
