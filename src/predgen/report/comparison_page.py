"""Comparisons as one page."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from predgen.report.filled import Figure, figure_of, filled, has_charts, strong
from predgen.report.tables import comparison_cells, format_interval, format_number, metric_names, paired_test_cells

# Metrics that are drawn; the table has all.
MOST_PANELS = 4


def comparisons_page(
    title: str,
    comparisons: Mapping[str, Mapping[str, Any]],
    *,
    settings: Mapping[str, Any] | None = None,
    command: str | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """Returns comparisons as one page that needs no other file.

    Args:
        title: of the page.
        comparisons: the JSON of each `Comparison`, by the heading that it stands under.
        settings: those that are not the defaults.
        command: what makes them again.
        versions: of the packages.
    """
    parts = [
        {
            "heading": heading,
            "text": f"{said_rows(comparison)}{_backbone(comparison)}.",
            **compared(comparison),
            "settings": settings_rows(settings or {}),
            "command": command,
        }
        for heading, comparison in comparisons.items()
    ]
    return filled("comparison.html", title, comparisons=parts, versions=list((versions or {}).items()))


def compared(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the table of the methods, their picture, and the table of the paired tests, as templates take them.

    Args:
        comparison: the JSON of a `Comparison`.
    """
    header, rows = comparison_cells(comparison, strong)
    tests_header, tests = paired_test_cells(comparison)
    figure = _figure(comparison) if has_charts() else None
    return {"header": header, "rows": rows, "figure": figure, "tests_header": tests_header, "tests": tests}


def _figure(comparison: Mapping[str, Any]) -> Figure:
    from predgen.report.charts import results

    names = metric_names(comparison)[:MOST_PANELS]
    methods = comparison["methods"]
    rows = [
        [
            method,
            name,
            format_number(result["metrics"].get(name)),
            format_interval(result["ci95"].get(name, (None, None))),
        ]
        for method, result in methods.items()
        for name in names
    ]
    return figure_of(
        "Metrics with their intervals",
        "Dots are the values, lines their 95 % intervals over the rows; small dots are seeds.",
        partial(results, comparison=comparison, names=names),
        ["method", "metric", "value", "95 % interval"],
        rows,
        height=0.35 * len(methods) + 1.2,
        width=9.0,
    )


def _backbone(comparison: Mapping[str, Any]) -> str:
    config = comparison["config"]
    return "" if config is None else f", with {config['model']['backbone']}"


def said_rows(comparison: Mapping[str, Any]) -> str:
    """Returns what the figures of a comparison are of."""
    if comparison["part"] == "matched":
        return f"{comparison['rows']} rows that the truth and all files have"
    return f"{comparison['rows']} rows of the {comparison['part']} part"


def settings_rows(settings: Mapping[str, Any]) -> list[list[str]]:
    """Returns settings as rows of a table."""
    return [[name, str(value)] for name, value in settings.items()]
