"""Tables of the benchmark on a real model, from its JSON, for the terminal and as Markdown."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from predgen.report.benchmark import RATIO_HEADER, goal_of, table_of
from predgen.report.tables import markdown_lines

RIVAL_HEADER = ("rival", "fit s", "rows/s", "peak MiB", "accuracy or squared error")


def real_benchmark_tables(benchmark: Mapping[str, Any], goals: Mapping[str, tuple[str, float]]) -> list[Table]:
    """Returns each task's rivals, and its ratios beside their goals.

    Args:
        benchmark: the JSON of `run_real_bench`.
        goals: for each ratio whether it may be that at `most` or must be at `least`.
    """
    return [table_of(*part) for part in _parts(benchmark, goals)]


def real_benchmark_markdown(benchmark: Mapping[str, Any], goals: Mapping[str, tuple[str, float]]) -> str:
    """Returns the same as Markdown; the arguments are those of `real_benchmark_tables`."""
    lines = []
    for title, header, rows in _parts(benchmark, goals):
        lines += [f"**{title}**", "\n".join(markdown_lines(header, rows))]
    return "\n\n".join(lines) + "\n"


def _parts(
    benchmark: Mapping[str, Any], goals: Mapping[str, tuple[str, float]]
) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Returns each table's title, header and rows."""
    machine, parts = benchmark["machine"], []
    where = f"{machine['processor']}, {machine['threads']} threads, {benchmark['repetitions']} repetitions"
    for task, figures in benchmark["tasks"].items():
        title = f"{task}, {benchmark['backbone']}: {benchmark['train_rows']} training rows, one epoch; {where}"
        rivals = [
            [
                rival,
                f"{one['fit_seconds']:.1f}",
                f"{one['test_rows'] / one['predict_seconds']:.1f}",
                f"{one['peak_bytes'] / 2**20:.0f}",
                f"{one['score']:.3f}",
            ]
            for rival, one in figures["rivals"].items()
        ]
        ratios = [
            [
                name,
                f"{one['ratio']:.2f}",
                f"{one['lower_quartile']:.2f} – {one['upper_quartile']:.2f}",
                *goal_of(one["ratio"], goals.get(name)),
            ]
            for name, one in figures["ratios"].items()
        ]
        parts += [(title, RIVAL_HEADER, rivals)] + ([(task, RATIO_HEADER, ratios)] if ratios else [])
    return parts
