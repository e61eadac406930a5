"""`predgen bench`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    JsonPath,
    MarkdownPath,
    Overwrite,
    Quiet,
    Resume,
    RunsPath,
    check_results,
    fails_clearly,
    print_table,
    show_notes,
    write_json,
)


@fails_clearly
def bench(
    shape: Annotated[str, typer.Option("--shape", help="6M, 26M, 135M; on a GPU also 1B, 7B.")] = "26M",
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", help="Tokens of each prompt.")] = 128,
    target: Annotated[str, typer.Option("--target", help="d.dd or 16-tokens.")] = "d.dd",
    dtype: Annotated[str, typer.Option("--dtype", help="float32 or bf16.")] = "float32",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Rows of a batch.")] = 16,
    grid: Annotated[
        bool, typer.Option("--grid", help="All shapes, prompts, targets and types; this one first.")
    ] = False,
    repetitions: Annotated[int, typer.Option("--repetitions", help="Timed runs of every case.")] = 7,
    threads: Annotated[int | None, typer.Option("--threads", help="Of torch; its own choice if not given.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    runs: RunsPath = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    markdown: MarkdownPath = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Measure training and prediction against a pooled head, plain fine-tuning and the paper's program.

    Models of random weights; no table is needed. All rivals are timed in turns, in one run.

    [bold]Examples[/bold]

      predgen bench --json bench.json

      predgen bench --shape 6M --prompt-tokens 32 --repetitions 3

      predgen bench --grid --runs bench --resume --json bench.json
    """
    import torch

    from predgen.bench import GOALS, Cell, grid_of, run_bench
    from predgen.errors import ConfigError
    from predgen.files import write_text
    from predgen.report.benchmark import benchmark_markdown, benchmark_tables
    from predgen.threads import keep_threads

    show_notes(quiet)
    check_results(json, markdown)
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"Expected at least 1 thread, found {threads}. Leave --threads out.")
        torch.set_num_threads(threads)
    keep_threads()
    cell = Cell(shape, prompt_tokens, target, dtype, batch_size)
    cells = grid_of(cell, gpu=torch.cuda.is_available()) if grid else [cell]
    results = run_bench(cells, repetitions=repetitions, device=device, runs=runs, resume=resume, overwrite=overwrite)
    write_json(json, results)
    if markdown is not None:
        write_text(markdown, benchmark_markdown(results, GOALS))
    for measured in results["cells"]:
        for table in benchmark_tables(measured, GOALS):
            print_table(table)
