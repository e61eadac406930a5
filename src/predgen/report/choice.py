"""Which method was kept of those that `fit --method auto` fitted, from the record's JSON, for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from predgen.report.tables import format_interval, format_number


def choice_table(choice: Mapping[str, Any]) -> Table:
    """Returns the methods that were fitted, as rows.

    Args:
        choice: the record's `auto`.
    """
    table = Table(title=f"{choice['rows']} validation rows; [95 % intervals] over the rows")
    table.add_column("method", no_wrap=True)
    for name in (choice["metric"], "95 % interval", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in choice["candidates"].items():
        cells = (format_number(figures["value"]), format_interval(figures["ci95"]), f"{figures['seconds']:.0f}")
        table.add_row(name, *cells, style="bold" if name == choice["best"] else "")
    return table


def choice_text(choice: Mapping[str, Any]) -> str:
    """Returns which method is kept, by how much it is ahead, and what its figure is worth.

    Args:
        choice: the record's `auto`.
    """
    kept = f"Kept: {choice['best']}."
    if "second" not in choice:
        return f"{kept} It is the only one that was fitted."
    low, high = choice["ci95"]
    figures = f"{format_number(choice['difference'])} {format_interval(choice['ci95'])}".strip()
    text = (
        f"{kept} Its {choice['metric']} minus that of {choice['second']}, the second: {figures}, paired over the rows."
    )
    if low is not None and high is not None and low <= 0 <= high:
        text += " The interval holds 0: these rows do not tell the two apart."
    return f"{text}\n{choice['note']}"
