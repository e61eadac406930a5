"""Tables of comparisons, from their JSON, for the terminal and as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from predgen.measures.base import EXACT_MATCH, metric_of
from predgen.measures.metrics import higher_is_better
from predgen.report.pages import code, plain_text

NOT_DEFINED = "–"
COSTS = ("train s", "rows/s", "invalid")
TEST_FIGURES = ("difference", "95 % interval", "p", "p (Holm)")


def format_number(value: float | None) -> str:
    """Returns a number that people can read: three decimals, or fewer for large ones.

    Example:
        >>> format_number(0.98765), format_number(2864.21), format_number(None)
        ('0.988', '2864', '–')
    """
    if value is None:
        return NOT_DEFINED
    size = abs(value)
    if size and (size < 0.001 or size >= 1e6):
        return f"{value:.2e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0}f}"


def format_interval(interval: Sequence[float | None]) -> str:
    """Returns a 95 % interval in brackets, or nothing if it is not defined."""
    low, high = interval
    return "" if low is None or high is None else f"[{format_number(low)}, {format_number(high)}]"


def comparison_tables(comparison: Mapping[str, Any], width: int) -> list[Table]:
    """Returns the methods as rows; the best value of each metric is bold.

    Args:
        comparison: the JSON of a `Comparison`.
        width: characters of a line; columns beyond it make a further table, so that no figure is cut.
    """
    title = f"{comparison['rows']} {comparison['part']} rows; [95 % intervals] over the rows"
    if any(len(result["seeds"]) > 1 for result in comparison["methods"].values()):
        title += ", ± one standard deviation over the seeds"
    columns = _columns(comparison)
    methods = list(comparison["methods"])
    first = max(map(len, ["method", *methods])) + len("│  │")
    groups: list[list[str]] = []
    left = 0
    for name, cells in columns.items():
        needed = max(cell_len(line) for text in (name, *map(str, cells)) for line in text.split("\n")) + len("  │")
        if needed > left:
            groups.append([])
            left = width - first
        groups[-1].append(name)
        left -= needed
    tables = []
    for number, group in enumerate(groups):
        table = Table(title=None if number else title)
        table.add_column("method", no_wrap=True)
        for name in group:
            table.add_column(name, justify="right", no_wrap=True)
        for row, method in enumerate(methods):
            table.add_row(method, *(columns[name][row] for name in group))
        tables.append(table)
    return tables


def _columns(comparison: Mapping[str, Any]) -> dict[str, list[Text | str]]:
    """Returns the cells of each column, a method each: the metrics with their intervals below, then the costs."""
    best = _best(comparison)
    results = comparison["methods"]
    columns: dict[str, list[Text | str]] = {}
    for name in metric_names(comparison):
        columns[name] = []
        for method, result in results.items():
            text = Text(format_number(result["metrics"].get(name)), style="bold" if method in best[name] else "")
            for line in (format_interval(result["ci95"].get(name, (None, None))), _spread(result, name)):
                if line:
                    text.append(f"\n{line}", style="not bold dim")
            columns[name].append(text)
    for position, name in enumerate(COSTS):
        columns[name] = [_costs(result)[position] for result in results.values()]
    return columns


def tests_table(comparison: Mapping[str, Any]) -> Table:
    """Returns the paired tests of every pair of methods.

    Args:
        comparison: the JSON of a `Comparison`.
    """
    table = Table(title="Paired tests over the rows (difference = first − second)")
    table.add_column("first", no_wrap=True)
    table.add_column("second", no_wrap=True)
    table.add_column("metric")
    for name in TEST_FIGURES:
        table.add_column(name, justify="right")
    for test in _shown_tests(comparison):
        table.add_row(test["a"], test["b"], test["metric"], *_test_figures(test))
    return table


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """Returns both tables as Markdown, the second one where there are tests.

    Args:
        comparison: the JSON of a `Comparison`.
    """
    header, rows = comparison_cells(comparison, "**{}**".format)
    tests_header, tests = paired_test_cells(comparison)
    lines = markdown_lines(list(map(plain_text, header)), [[code(method), *cells] for method, *cells in rows])
    if tests:
        lines += ["", *markdown_lines(tests_header, [[*map(plain_text, row[:3]), *row[3:]] for row in tests])]
    return "\n".join([*lines, ""])


def comparison_cells(comparison: Mapping[str, Any], strong: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of a table of methods.

    Args:
        comparison: the JSON of a `Comparison`.
        strong: marks the best value of a metric.
    """
    names = metric_names(comparison)
    best = _best(comparison)
    rows = []
    for method, result in comparison["methods"].items():
        cells = []
        for name in names:
            value = format_number(result["metrics"].get(name))
            shown = strong(value) if method in best[name] else value
            interval = format_interval(result["ci95"].get(name, (None, None)))
            cells.append(shown + "".join(f" {text}" for text in (interval, _spread(result, name)) if text))
        rows.append([method, *cells, *_costs(result)])
    return ["method", *names, *COSTS], rows


def paired_test_cells(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of a table of paired tests.

    Args:
        comparison: the JSON of a `Comparison`.
    """
    rows = [[test["a"], test["b"], test["metric"], *_test_figures(test)] for test in _shown_tests(comparison)]
    return ["first", "second", "metric", *TEST_FIGURES], rows


def markdown_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def metric_names(comparison: Mapping[str, Any]) -> list[str]:
    """Returns the metrics that are shown to people, in their order."""
    names: dict[str, None] = {}
    for result in comparison["methods"].values():
        names |= dict.fromkeys(result["metrics"])
    return [name for name in names if _is_shown(name, comparison)]


def _shown_tests(comparison: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [test for test in comparison["tests"] if _is_shown(test["metric"], comparison)]


def _is_shown(metric: str, comparison: Mapping[str, Any]) -> bool:
    """Returns whether a metric is shown to people: exact match of numbers is shown only if it is the run's metric."""
    field, _, name = metric.rpartition(".")
    of_number = any(metric_of(field, "mse") in result["metrics"] for result in comparison["methods"].values())
    config = comparison.get("config")
    return name != EXACT_MATCH or not of_number or (config is not None and config["train"]["metric"] == metric)


def _best(comparison: Mapping[str, Any]) -> dict[str, set[str]]:
    """Returns the methods with the best value of each metric."""
    best = {}
    for name in metric_names(comparison):
        values = {
            method: result["metrics"][name]
            for method, result in comparison["methods"].items()
            if result["metrics"].get(name) is not None
        }
        top = (max if higher_is_better(name) else min)(values.values(), default=None)
        best[name] = {method for method, value in values.items() if value == top}
    return best


def _costs(result: Mapping[str, Any]) -> list[str]:
    seconds, rate = result["train_seconds"], result["predict_examples_per_second"]
    return [
        NOT_DEFINED if seconds is None else f"{seconds:.1f}",
        NOT_DEFINED if rate is None else f"{rate:.0f}" if rate < 1e6 else ">1e6",
        f"{result['invalid_fraction']:.1%}",
    ]


def _spread(result: Mapping[str, Any], name: str) -> str:
    """Returns the standard deviation over the seeds, or nothing where one seed tells none."""
    deviation = result["seed_deviation"].get(name)
    return "" if deviation is None else f"± {format_number(deviation)}"


def _test_figures(test: Mapping[str, Any]) -> list[str]:
    return [
        f"{test['difference']:+.4f}",
        format_interval(test["ci95"]),
        *(f"{test[name]:.4f}" if test[name] >= 0.0001 else "<0.0001" for name in ("p_value", "p_holm")),
    ]
