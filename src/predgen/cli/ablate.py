"""`predgen ablate`."""

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
    check_pictures,
    check_results,
    fails_clearly,
    is_first,
    save_comparison_page,
    says_what_is_kept,
    show_comparison,
    show_notes,
)


@fails_clearly
@takes_settings(without=["model.method"])
def ablate(
    context: typer.Context,
    data: Data = None,
    parts: Annotated[str | None, typer.Option("--parts", help="Which parts; all if not given.")] = None,
    seeds: Seeds = 1,
    runs: RunsPath = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    markdown: MarkdownPath = None,
    plot: PlotPath = None,
    report: ReportPath = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Switch one part of the method at a time, and test each variant against the whole.

    Parts: loss, schedule, sampling, passes, director, director_share, writer_loss, standardization, method.

    [bold]Examples[/bold]

      predgen ablate reviews.csv --target stars --parts loss,schedule

      predgen ablate sts/ --target label --seeds 3 --runs ablation --json a.json

      predgen ablate sts/ --target label --seeds 3 --runs ablation --resume
    """
    config = run_config(context, data)
    import predgen
    from predgen.config import split_names

    show_notes(quiet)
    check_results(json, markdown, plot, report)
    check_pictures(plot, report)
    with says_what_is_kept(runs, NAME_RUNS):
        comparison = predgen.ablate(
            config=config,
            parts=split_names(parts),
            seeds=seeds,
            runs=runs,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
        )
    show_comparison(comparison.to_json(), json=json, markdown=markdown, plot=plot)
    if report is not None and is_first():
        options = ["--seeds", str(seeds), *([] if parts is None else ["--parts", parts])]
        save_comparison_page(report, comparison.to_json(), config, "ablate", options)
