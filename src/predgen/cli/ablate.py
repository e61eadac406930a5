"""`predgen ablate`."""

from typing import Annotated, Any

import typer

from predgen.cli.options import with_run_options
from predgen.cli.output import (
    JsonPath,
    MarkdownPath,
    Overwrite,
    PlotPath,
    Quiet,
    Resume,
    RunsPath,
    Seeds,
    check_pictures,
    check_results,
    fails_clearly,
    show_comparison,
    show_notes,
)


@fails_clearly
@with_run_options(without=["model.method"])
def ablate(
    data: str | None,
    target: str,
    settings: dict[str, Any],
    parts: Annotated[str | None, typer.Option("--parts", help="Which parts; all if not given.")] = None,
    seeds: Seeds = 1,
    runs: RunsPath = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    markdown: MarkdownPath = None,
    plot: PlotPath = None,
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
    import predgen
    from predgen.config import split_names

    show_notes(quiet)
    check_results(json, markdown, plot)
    check_pictures(plot)
    found = predgen.ablate(
        data,
        target,
        parts=split_names(parts),
        seeds=seeds,
        runs=runs,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        **settings,
    )
    show_comparison(found.to_json(), json=json, markdown=markdown, plot=plot)
