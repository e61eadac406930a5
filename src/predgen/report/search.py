"""What `predgen tune` tried and found, from the record's JSON: for the terminal, and as a page."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from predgen.errors import require
from predgen.files import write_text
from predgen.report.filled import Figure, figure_of, filled
from predgen.report.tables import format_number

# Trials that the terminal shows; the JSON and the page have all.
MOST_TRIALS = 15


def search_table(found: Mapping[str, Any]) -> Table:
    """Returns the trials as rows, the best ones first.

    Args:
        found: the record's `search`.
    """
    trials = _ordered(found)
    left = f"; {len(trials) - MOST_TRIALS} others are in the report" if len(trials) > MOST_TRIALS else ""
    table = Table(title=f"{len(trials)} trials, {found['metric']} on {found['rows']} validation rows{left}")
    for position, name in enumerate(_header(found)):
        table.add_column(name, justify="left" if position == 1 else "right", no_wrap=True)
    for trial in trials[:MOST_TRIALS]:
        table.add_row(*_cells(found, trial), style="bold" if trial["number"] == found["best"] else "")
    return table


def search_text(found: Mapping[str, Any]) -> str:
    """Returns which trial is kept, what mattered, and what the figure is worth.

    Args:
        found: the record's `search`.
    """
    best = _best(found)
    first = found["trials"][0]
    kept = f"Kept: trial {best['number']}, {found['metric']} {format_number(best['value'])}"
    if first["value"] is not None and first is not best:
        kept += f"; the first trial, with the run's own settings: {format_number(first['value'])}"
    shares = ", ".join(f"{_short(name)} {share:.0%}" for name, share in found["importance"].items())
    mattered = f"What mattered (share of the variance, a rough figure of few trials): {shares}." if shares else ""
    return "\n".join(line for line in (f"{kept}.", mattered, found["note"]) if line)


def write_search_page(found: Mapping[str, Any], backbone: str, out: str | Path) -> None:
    """Writes a search as one page that needs no other file and no network.

    Args:
        found: the record's `search`.
        backbone: of all trials.
        out: the HTML file; one that is there is replaced.

    Raises:
        MissingPackageError: matplotlib is not installed, which draws the charts.
    """
    require("matplotlib", extra="plots", what="the charts of a report")
    write_text(out, search_page(found, backbone))


def search_page(found: Mapping[str, Any], backbone: str) -> str:
    """Returns the page of a search.

    Args:
        found: the record's `search`.
        backbone: of all trials.
    """
    best = _best(found)
    return filled(
        "search.html",
        "A search for settings",
        text=f"{len(found['trials'])} trials over {backbone}. All figures are of the {found['rows']} validation rows.",
        note=found["note"],
        metric=found["metric"],
        value=format_number(best["value"]),
        settings=[
            [_short(name), _shown(best["settings"].get(name)), _range(one)] for name, one in found["searched"].items()
        ],
        figures=[figure for figure in (_course(found), _importance(found), _panels(found)) if figure is not None],
        header=_header(found),
        rows=[_cells(found, trial) for trial in _ordered(found)],
        reasons=[[str(one["number"]), one["reason"]] for one in found["trials"] if one["reason"]],
        command=found["command"],
    )


def _course(found: Mapping[str, Any]) -> Figure:
    from predgen.report.search_charts import course

    rows = [[str(one["number"]), one["state"], format_number(one["value"])] for one in found["trials"]]
    return figure_of(
        "The course of the search",
        "Dots are finished trials, crosses the last validation of those that were ended early; the line is the best "
        "so far.",
        partial(course, found=found),
        ["trial", "state", found["metric"]],
        rows,
        height=2.6,
    )


def _importance(found: Mapping[str, Any]) -> Figure | None:
    from predgen.report.search_charts import importance

    if not found["importance"]:
        return None
    return figure_of(
        "What mattered",
        "How much of the variance of the figures over the searched space each setting explains by itself and with the "
        "others (fANOVA). Of few trials it is a rough figure.",
        partial(importance, shares={_short(name): share for name, share in found["importance"].items()}),
        ["setting", "share"],
        [[_short(name), f"{share:.3f}"] for name, share in found["importance"].items()],
        height=0.3 * len(found["importance"]) + 0.9,
    )


def _panels(found: Mapping[str, Any]) -> Figure:
    from predgen.report.search_charts import COLUMNS, panels

    names = list(found["searched"])
    rows = [
        [str(one["number"]), *(_shown(one["settings"].get(name)) for name in names), format_number(one["value"])]
        for one in found["trials"]
        if one["state"] == "finished"
    ]
    return figure_of(
        "Each setting",
        "The figures of the finished trials over each setting; the ring is the best.",
        partial(panels, found=found, names={name: _short(name) for name in names}),
        ["trial", *map(_short, names), found["metric"]],
        rows,
        height=2.3 * -(-len(names) // COLUMNS),
    )


def _best(found: Mapping[str, Any]) -> Mapping[str, Any]:
    best: Mapping[str, Any] = next(one for one in found["trials"] if one["number"] == found["best"])
    return best


def _ordered(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the finished trials, the best first, and then the others."""
    sign = -1 if found["higher_is_better"] else 1

    def place(trial: Mapping[str, Any]) -> tuple[bool, float, int]:
        value = trial["value"]
        return value is None, 0.0 if value is None else sign * value, trial["number"]

    return sorted(found["trials"], key=place)


def _header(found: Mapping[str, Any]) -> list[str]:
    return ["trial", "state", found["metric"], *map(_short, found["searched"]), "seconds"]


def _cells(found: Mapping[str, Any], trial: Mapping[str, Any]) -> list[str]:
    seconds = "" if trial["seconds"] is None else f"{trial['seconds']:.0f}"
    settings = [_shown(trial["settings"].get(name)) for name in found["searched"]]
    return [str(trial["number"]), trial["state"], format_number(trial["value"]), *settings, seconds]


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _range(one: Mapping[str, Any]) -> str:
    if "choices" in one:
        return ", ".join(map(str, one["choices"]))
    return f"{_shown(one['low'])} to {_shown(one['high'])}{', logarithmic' if one['log'] else ''}"
