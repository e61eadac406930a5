"""Charts as vector pictures that stand in a page: colors that color-blind people tell apart, text that stays text."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from predgen.report.plots import draw_results, draw_training, training_panels

# The colors of Okabe and Ito (2008), without yellow, which is faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
WIDTH = 7.0
BAND = "#56B4E9"


@contextmanager
def _style(name: str) -> Iterator[None]:
    """Sets colors, text as text, and ids that differ from chart to chart and not from run to run."""
    settings: Any = {
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
    }
    with mpl.rc_context(settings):
        yield


def chart(name: str, draw: Callable[[Figure], None], *, height: float, width: float = WIDTH) -> str:
    """Returns a chart as SVG.

    Args:
        name: tells its ids from those of other charts of a page.
        draw: draws it on an empty figure.
        height: in inches.
        width: in inches.
    """
    with _style(name):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = stream.getvalue()
    return re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg[svg.index("<svg") :], count=1).rstrip("\n")


def histograms(figure: Figure, edges: Sequence[float], counts: Mapping[str, Sequence[int]], label: str) -> None:
    """Draws the share of each part's rows in each bar.

    Args:
        figure: where.
        edges: the ends of the bars.
        counts: the rows of each bar, by the part.
        label: of the axis.
    """
    axes = figure.subplots()
    for name, of_part in counts.items():
        axes.stairs(np.asarray(of_part) / max(sum(of_part), 1), edges, label=name, linewidth=1.5)
    axes.set_xlabel(label)
    axes.set_ylabel("share of rows")
    _legend_beside(axes)


def label_bars(figure: Figure, labels: Sequence[str], counts: Mapping[str, Sequence[int]]) -> None:
    """Draws the share of each part's rows that have each label; the arguments are those of `histograms`."""
    axes = figure.subplots()
    size = 0.8 / len(counts)
    for position, (name, of_part) in enumerate(counts.items()):
        places = np.arange(len(labels)) + (position - (len(counts) - 1) / 2) * size
        axes.barh(places, np.asarray(of_part) / max(sum(of_part), 1), size, label=name)
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel("share of rows")
    _legend_beside(axes)


def results(figure: Figure, comparison: Mapping[str, Any], names: Sequence[str]) -> None:
    """Draws the metrics of each method with their 95 % intervals, a panel each.

    Args:
        figure: where.
        comparison: the JSON of a `Comparison`.
        names: the metrics.
    """
    draw_results(figure, comparison["methods"], names)


def training(figure: Figure, record: Mapping[str, Any]) -> None:
    """Draws the curves of a training record, two panels in a row."""
    panels = training_panels(record)
    axes = list(figure.subplots(-(-len(panels) // 2), min(len(panels), 2), squeeze=False).flatten())
    for place in axes[len(panels) :]:
        place.remove()
    draw_training(axes[: len(panels)], panels, record)


def confusion(figure: Figure, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    """Draws true labels as rows and answers as columns, shaded by the share of the row.

    Args:
        figure: where.
        labels: of rows and columns.
        counts: rows of each pair.
    """
    axes = figure.subplots()
    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(table.shape):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(table[row, column]), ha="center", va="center", color=color, fontsize=8)
    names = [shortened(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")


def scatter(figure: Figure, points: Mapping[str, Sequence[float]], band: float | None) -> None:
    """Draws predicted beside true numbers, with the diagonal, and the band of the intervals if there is one.

    Args:
        figure: where.
        points: `truth`, `predicted`, and `low` and `high` if there are intervals.
        band: the level of the intervals; None for none.
    """
    axes = figure.subplots()
    predicted, truth = np.asarray(points["predicted"]), np.asarray(points["truth"])
    ends = [*predicted, *truth]
    line = [min(ends, default=0.0), max(ends, default=1.0)]
    axes.plot(line, line, color="#777777", linewidth=1, linestyle="--", label="right")
    if band is not None and "low" in points:
        order = np.argsort(predicted)
        low, high = (np.asarray(points[end], float)[order] for end in ("low", "high"))
        axes.fill_between(predicted[order], low, high, color=BAND, alpha=0.3, linewidth=0, label=f"{band:.0%} interval")
    axes.plot(predicted, truth, ".", color=COLORS[0], alpha=0.6, markersize=4)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.legend(frameon=False)


def lines_to_diagonal(
    figure: Figure, stated: Sequence[float], found: Sequence[float], ends: Sequence[Any], names: tuple[str, str]
) -> None:
    """Draws what happened beside what was stated, both shares, with the diagonal that they should lie on.

    Args:
        figure: where.
        stated: shares that were stated.
        found: shares that were found.
        ends: the 95 % interval of each, or None.
        names: of both axes.
    """
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle="--")
    for share, interval in zip(stated, ends, strict=True):
        if interval is not None:
            axes.plot([share, share], interval, color=COLORS[0], linewidth=2, alpha=0.5)
    axes.plot(stated, found, "o-", color=COLORS[0])
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])


def slice_bars(figure: Figure, slices: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Draws the metric of each slice with its 95 % interval.

    Args:
        figure: where.
        slices: each with `slice`, `rows`, `value` and `ci95`.
        metric: its name.
    """
    axes: Axes = figure.subplots()
    for row, one in enumerate(slices):
        low, high = one["ci95"]
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=COLORS[0], linewidth=2)
        if one["value"] is not None:
            axes.plot([one["value"]], [row], "o", color=COLORS[0])
    axes.set_yticks(range(len(slices)), [f"{shortened(one['slice'])} ({one['rows']})" for one in slices])
    axes.set_ylim(len(slices) - 0.5, -0.5)
    axes.set_xlabel(metric)
    axes.grid(axis="x", alpha=0.3)


def signed_bars(figure: Figure, names: Sequence[str], values: Sequence[float], label: str) -> None:
    """Draws numbers that may be negative as bars from 0, the first on top, their values beside the names.

    Args:
        figure: where.
        names: of the bars.
        values: of the bars.
        label: of the axis.
    """
    axes = figure.subplots()
    colors = [COLORS[0] if value > 0 else COLORS[1] for value in values]
    axes.barh(range(len(values)), values, 0.7, color=colors)
    axes.axvline(0, color="#777777", linewidth=1)
    shown = [f"{shortened(name)}  {value:+z.2f}" for name, value in zip(names, values, strict=True)]
    axes.set_yticks(range(len(values)), shown)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)


def _legend_beside(axes: Axes) -> None:
    """Puts the legend where nothing is drawn."""
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def shortened(text: str, most: int = 28) -> str:
    """Returns a text on one line that is at most so many characters long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
