"""Tables of the benchmark, from its JSON, for the terminal and as Markdown."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from predgen.report.tables import NOT_DEFINED, markdown_lines

RATIO_HEADER = ("ratio", "measured", "quartiles", "goal", "")
CASE_HEADER = ("case", "median ms", "tokens per row", "peak MiB")


def benchmark_tables(cell: Mapping[str, Any], goals: Mapping[str, tuple[str, float]]) -> list[Table]:
    """Returns one cell's ratios beside their goals, and the seconds and the memory that they are made of.

    Args:
        cell: one of the `cells` of the benchmark's JSON.
        goals: for each ratio whether it may be that at `most` or must be at `least`.
    """
    return [table_of(*part) for part in _parts(cell, goals)]


def table_of(title: str, header: tuple[str, ...], rows: list[list[str]]) -> Table:
    """Returns a table whose columns with figures are aligned on the right."""
    table = Table(title=title)
    for column_index, name in enumerate(header):
        table.add_column(name, justify="right" if 0 < column_index < 4 else "left")
    for row in rows:
        table.add_row(*row)
    return table


def benchmark_markdown(benchmark: Mapping[str, Any], goals: Mapping[str, tuple[str, float]]) -> str:
    """Returns all cells as Markdown.

    Args:
        benchmark: the benchmark's JSON.
        goals: as `benchmark_tables` takes them.
    """
    lines = []
    for cell in benchmark["cells"]:
        for title, header, rows in _parts(cell, goals):
            lines += [f"**{title}**", "\n".join(markdown_lines(header, rows))]
    return "\n\n".join(lines) + "\n"


def _parts(
    cell: Mapping[str, Any], goals: Mapping[str, tuple[str, float]]
) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Returns each table's title, header and rows."""
    what = cell["cell"]
    title = (
        f"{what['shape']} ({cell['parameters'] / 1e6:.1f} M parameters), prompts of {what['prompt_tokens']} tokens, "
        f"target {what['target']} ({cell['target_tokens']} tokens), batch {what['batch_size']}, {what['dtype']}"
    )
    ratios = [
        [name, _number(value), _spread(cell["spreads"].get(name)), *goal_of(value, goals.get(name))]
        for name, value in cell["ratios"].items()
    ]
    peaks, tokens = cell["peak_bytes"], cell["tokens_per_row"]
    cases = [
        [
            name,
            f"{1000 * seconds:.1f}",
            f"{tokens[name]:.1f}" if name in tokens else NOT_DEFINED,
            f"{peaks[name] / 2**20:.0f}" if name in peaks else NOT_DEFINED,
        ]
        for name, seconds in cell["median_seconds"].items()
    ]
    machine = cell["machine"]
    products = cell["matrix_flops_per_second"] / 1e9
    rate = (
        f"{machine.get('gpu', machine['processor'])}, {machine['threads']} threads, torch {machine['torch']}; "
        f"{cell['repetitions']} repetitions; matrix products run at {products:.0f} GFLOP/s; "
        "a training case is a forward and a backward pass, p = 1"
    )
    return [(title, RATIO_HEADER, ratios), (rate, CASE_HEADER, cases)]


def _number(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{value:.2f}"


def _spread(spread: Mapping[str, float] | None) -> str:
    return NOT_DEFINED if spread is None else f"{spread['lower_quartile']:.2f} – {spread['upper_quartile']:.2f}"


def goal_of(value: float | None, goal: tuple[str, float] | None) -> tuple[str, str]:
    """Returns a goal, and whether it is met."""
    if goal is None or value is None:
        return NOT_DEFINED, ""
    side, limit = goal
    met = value <= limit if side == "most" else value >= limit
    return f"{'≤' if side == 'most' else '≥'} {limit:g}", "met" if met else "missed"
