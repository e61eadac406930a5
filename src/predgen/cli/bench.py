"""`predgen bench`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    NAME_RUNS,
    JsonPath,
    MarkdownPath,
    Overwrite,
    Quiet,
    Resume,
    RunsPath,
    check_results,
    fails_clearly,
    print_table,
    says_what_is_kept,
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
    real: Annotated[
        str | None,
        typer.Option("--real", metavar="DATA", help="A real model on the rows of its folders sst2 and stsb."),
    ] = None,
    rivals: Annotated[
        str | None, typer.Option("--rivals", metavar="NAME,…", help="With --real: which; else all that can run.")
    ] = None,
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="PYTHON", help="With --real: of an environment with an earlier release."),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", help="With --real: training rows, and as many to answer.")] = 1_000,
    runs: RunsPath = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    markdown: MarkdownPath = None,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Measure training and prediction against a pooled head, plain fine-tuning and the paper's program.

    Models of random weights; no table is needed. All rivals are timed in turns, in one run. With --real it is SmolLM2
    (PREDGEN_BACKBONE names another) on real rows, against Hugging Face's Trainer, a CrossEncoder, llama.cpp and an
    earlier release, each in a process of its own.

    [bold]Examples[/bold]

      predgen bench --json bench.json

      predgen bench --shape 6M --prompt-tokens 32 --repetitions 3

      predgen bench --grid --runs bench --resume --json bench.json

      predgen bench --real data --rows 200 --repetitions 3 --json real.json
    """
    import torch

    from predgen.bench import GOALS, Cell, grid_of, run_bench
    from predgen.errors import ConfigError
    from predgen.files import write_text
    from predgen.parallel.threads import keep_threads
    from predgen.report.benchmark import benchmark_markdown, benchmark_tables

    show_notes(quiet)
    check_results(json, markdown)
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"Expected at least 1 thread, found {threads}. Leave --threads out.")
        torch.set_num_threads(threads)
    keep_threads()
    if real is None and (rivals is not None or release is not None):
        raise ConfigError("Expected --real DATA with --rivals or --release, found none. Name the folder of the rows.")
    if real is not None:
        from predgen.bench.real import GOALS as REAL_GOALS
        from predgen.bench.real import run_real_bench
        from predgen.config import split_names
        from predgen.names import default_backbone
        from predgen.report.real_benchmark import real_benchmark_markdown, real_benchmark_tables

        with says_what_is_kept(runs, NAME_RUNS):
            found = run_real_bench(
                real,
                backbone=default_backbone(),
                rivals=None if rivals is None else split_names(rivals),
                release=release,
                train_rows=rows,
                test_rows=rows,
                repetitions=repetitions,
                runs=runs,
                resume=resume,
                overwrite=overwrite,
            )
        write_json(json, found)
        if markdown is not None:
            write_text(markdown, real_benchmark_markdown(found, REAL_GOALS))
        for table in real_benchmark_tables(found, REAL_GOALS):
            print_table(table)
        return
    cell = Cell(shape, prompt_tokens, target, dtype, batch_size)
    cells = grid_of(cell, gpu=torch.cuda.is_available()) if grid else [cell]
    with says_what_is_kept(runs, NAME_RUNS):
        results = run_bench(
            cells, repetitions=repetitions, device=device, runs=runs, resume=resume, overwrite=overwrite
        )
    write_json(json, results)
    if markdown is not None:
        write_text(markdown, benchmark_markdown(results, GOALS))
    for measured in results["cells"]:
        for table in benchmark_tables(measured, GOALS):
            print_table(table)
