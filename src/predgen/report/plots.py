"""Pictures of comparisons and of training, from their JSON, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from predgen.files import appears_whole

DOTS_PER_INCH = 150
# The panels of a training picture: a title, and what the log calls the curves in it.
TRAINING_PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    ("loss (training)", {"writer_loss": "L_W", "director_loss": "L_D", "loss": "loss"}),
    ("L_D (validation)", {"eval_director_loss_gold": "on gold tokens", "eval_director_loss_own": "on own tokens"}),
    (
        "Writer's token accuracy (validation)",
        {
            "eval_writer_accuracy_gold": "after gold",
            "eval_writer_accuracy_own": "after own",
            "eval_exposure_gap": "exposure gap",
        },
    ),
    ("sampling probability p", {"sampling_probability": "p"}),
)


def save_comparison(comparison: Mapping[str, Any], path: str | Path) -> None:
    """Writes a picture with a panel for each metric: each method's value and its 95 % interval over the rows.

    Small dots are the seeds.

    Args:
        comparison: the JSON of a `Comparison`.
        path: the PNG file.
    """
    methods = comparison["methods"]
    names = list(dict.fromkeys(name for result in methods.values() for name in result["metrics"]))
    figure = Figure(figsize=(2.6 * len(names) + 1.5, 0.45 * len(methods) + 1.4), layout="constrained")
    draw_results(figure, methods, names)
    figure.suptitle(f"{comparison['rows']} {comparison['part']} rows; lines are 95 % intervals over the rows")
    save_figure(figure, path)


def draw_results(figure: Figure, methods: Mapping[str, Any], names: Sequence[str]) -> None:
    """Draws a panel for each metric, with a row for each method.

    Args:
        figure: where.
        methods: the methods of a comparison's JSON.
        names: the metrics.
    """
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        for row, result in enumerate(methods.values()):
            _draw_result(panel, row, result, name)
        panel.set_title(name)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(methods)), list(methods))
    panels[0].set_ylim(len(methods) - 0.5, -0.5)


def _draw_result(panel: Axes, row: int, result: Mapping[str, Any], name: str) -> None:
    """Draws a method's value of a metric, its 95 % interval, and its seeds as small dots.

    Args:
        panel: where.
        row: the height.
        result: the method's part of a comparison's JSON.
        name: the metric.
    """
    value = result["metrics"].get(name)
    low, high = result["ci95"].get(name, (None, None))
    if value is None:
        return
    color = f"C{row}"
    if low is not None and high is not None:
        panel.plot([low, high], [row, row], color=color, linewidth=2)
    panel.plot([value], [row], "o", color=color)
    seeds = [seed[name] for seed in result["seeds"] if seed.get(name) is not None]
    if len(seeds) > 1:
        panel.plot(seeds, [row + 0.22] * len(seeds), ".", color=color, alpha=0.6)


def save_training(record: Mapping[str, Any], path: str | Path) -> None:
    """Writes a picture of a run: its losses, the Director's loss and the Writer's accuracy on gold and own tokens, p.

    Args:
        record: a model's training record.
        path: the PNG file.
    """
    panels = training_panels(record)
    figure = Figure(figsize=(3.4 * len(panels), 3.2), layout="constrained")
    draw_training(list(figure.subplots(1, len(panels), squeeze=False)[0]), panels, record)
    save_figure(figure, path)


def training_panels(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, str]]]:
    """Returns the panels of which a training record has curves: their titles, and what the log calls the curves."""
    metric = f"eval_{record['metric']}"
    panels: list[tuple[str, Mapping[str, str]]] = [*TRAINING_PANELS, (f"{record['metric']} (validation)", {metric: ""})]
    return [
        (title, curves)
        for title, curves in panels
        if any(name in entry for entry in record["history"] for name in curves)
    ]


def draw_training(
    axes: Sequence[Axes], panels: Sequence[tuple[str, Mapping[str, str]]], record: Mapping[str, Any]
) -> None:
    """Draws the curves of a training record.

    Args:
        axes: one for each panel.
        panels: as `training_panels` returns them.
        record: the record.
    """
    for panel, (title, curves) in zip(axes, panels, strict=True):
        for name, label in curves.items():
            points = [(entry["step"], entry[name]) for entry in record["history"] if entry.get(name) is not None]
            if points:
                panel.plot(*zip(*points, strict=True), label=label, marker="." if name.startswith("eval_") else None)
        panel.set_title(title)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        if any(curves.values()):
            panel.legend()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with appears_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)
