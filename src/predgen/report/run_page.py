"""A report of one fitted model as a page: its result, its answers, its data, its training, single rows."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from predgen.errors import require
from predgen.files import write_text
from predgen.report.comparison_page import compared, said_rows, settings_rows
from predgen.report.evaluation import label_cells, label_header
from predgen.report.filled import Figure, figure_of, filled, has_charts
from predgen.report.tables import format_interval, format_number
from predgen.targets.kinds import field_kind

FACTS = {
    "train_rows": "training rows",
    "validation_rows": "validation rows",
    "trainable_parameters": "trained parameters",
    "train_seconds": "seconds of training",
    "steps": "steps",
    "best_step": "best step",
    "best_metric": "its validation metric",
    "resumed": "resumed after a stop",
}


def write_report(facts: Mapping[str, Any], out: str | Path) -> None:
    """Writes a report of a fitted model as one page that needs no other file and no network.

    Args:
        facts: as `predgen.describe` returns them.
        out: the HTML file; one that is there is replaced.

    Raises:
        MissingPackageError: matplotlib is not installed, which draws the charts.
    """
    require("matplotlib", extra="plots", what="the charts of a report")
    write_text(out, run_page(facts))


def run_page(facts: Mapping[str, Any]) -> str:
    """Returns the page of a report.

    Args:
        facts: as `predgen.describe` returns them.
    """
    comparison = facts["comparison"]
    summary = (
        f"The method {facts['method']} over {facts['backbone']} predicts a {facts['kind']} from "
        f"{', '.join(facts['data']['inputs'])}. All figures are of {said_rows(comparison)} "
        f"of {facts['data']['source']}."
    )
    loss = [name for name in facts["worst"][0] if name not in ("row", "inputs")][-1] if facts["worst"] else "loss"
    return filled(
        "run.html",
        f"{', '.join(facts['target'])}: a report",
        summary=summary,
        result={"text": _result_text(facts), **compared(comparison)},
        fields=[_field(field) for field in facts["fields"]],
        slices=_slices(facts),
        data=_data(facts["data"]),
        training=_training(facts["training"], facts["metric"]),
        worst_text=f"Those with the largest {loss.replace('_', ' ')}.",
        worst=[_row(row) for row in facts["worst"]],
        examples=[_row(row) for row in facts["examples"]],
        command=facts["command"],
        versions=list(facts["versions"].items()),
    )


def _result_text(facts: Mapping[str, Any]) -> str:
    result = facts["comparison"]["methods"][facts["method"]]
    metric = facts["metric"]
    value = f"{metric} {format_number(result['metrics'].get(metric))}"
    interval = format_interval(result["ci95"].get(metric, (None, None)))
    text = f"{value} {interval}, a 95 % interval over the rows." if interval else f"{value}."
    if facts["data"]["part"] == "validation":
        text += " These rows also chose the checkpoint: new rows may do worse."
    if facts["data"]["missing"]:
        text += f" There are no baselines: {facts['data']['missing']}"
    return text


# ---- answers


def _field(field: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the figures, tables and notes of a field's answers, as the template takes them."""
    figures, notes = [], []
    if has_charts():
        if "points" in field:
            figures.append(_scatter(field))
        if "counts" in field:
            figures.append(_confusion(field))
        if field["reliability"]:
            figures.append(_reliability(field))
        if field["coverage"]:
            figures.append(_coverage(field))
    if not field["coverage"] and field["kind"] != "set":
        notes.append("The model is not calibrated, or on too few rows: it promises no interval. See predgen calibrate.")
    by_label = [[one[name] for name in ("label", "found", "missed", "wrong")] for one in field.get("by_label", [])]
    return {
        "name": field["field"],
        "figures": figures,
        "by_label_header": ["label", "found", "missed", "wrongly added"],
        "by_label": by_label,
        "per_label_header": label_header(),
        "per_label": [label_cells(one) for one in field.get("per_label", [])],
        "notes": notes,
    }


def _showing(field: Mapping[str, Any]) -> Callable[[float | None], str]:
    """Returns what writes a number of a field: a date as one."""
    kind = field_kind(field["kind"])

    def text_of(number: float | None) -> str:
        shown = None if number is None else kind.shown(number)
        return shown if isinstance(shown, str) else format_number(shown)

    return text_of


def _scatter(field: Mapping[str, Any]) -> Figure:
    from predgen.report.charts import scatter

    points = field["points"]
    header = [name for name in ("truth", "predicted", "low", "high") if name in points]
    shown = len(points["truth"])
    of_all = "" if shown == field["rows"] else f" {shown} of {field['rows']} rows are shown."
    return figure_of(
        f"Answers and truth {field['field']}".strip(),
        f"Each dot is a row; on the dashed line an answer is right.{of_all}",
        partial(scatter, points=points, band=field["interval"]),
        header,
        [list(map(_showing(field), row)) for row in zip(*(points[name] for name in header), strict=True)],
        height=4.5,
        width=6.0,
    )


def _confusion(field: Mapping[str, Any]) -> Figure:
    from predgen.report.charts import confusion

    labels, counts = field["labels"], field["counts"]
    return figure_of(
        f"Confusion {field['field']}".strip(),
        "Each row is a true label, each column an answer; the shade is the share of the row.",
        partial(confusion, labels=labels, counts=counts),
        ["truth", *labels],
        [[label, *row] for label, row in zip(labels, counts, strict=True)],
        height=max(2.5, 0.38 * len(labels) + 1.5),
        width=max(4.0, 0.5 * len(labels) + 2.5),
    )


def _reliability(field: Mapping[str, Any]) -> Figure:
    from predgen.report.charts import lines_to_diagonal

    bins = field["reliability"]
    return figure_of(
        f"Reliability {field['field']}".strip(),
        "Answers in bins of confidence: on the dashed line they are right as often as they say.",
        partial(
            lines_to_diagonal,
            stated=[one["confidence"] for one in bins],
            found=[one["accuracy"] for one in bins],
            ends=[None] * len(bins),
            names=("confidence", "accuracy"),
        ),
        ["confidence from", "to", "rows", "mean confidence", "accuracy"],
        [
            [
                f"{one['low']:.2f}",
                f"{one['high']:.2f}",
                one["rows"],
                *map(format_number, (one["confidence"], one["accuracy"])),
            ]
            for one in bins
        ],
        height=3.6,
        width=4.2,
    )


def _coverage(field: Mapping[str, Any]) -> Figure:
    from predgen.report.charts import lines_to_diagonal

    levels = field["coverage"]
    sizes = [name for name in levels[0] if name not in ("level", "coverage", "ci95")]
    return figure_of(
        f"Coverage {field['field']}".strip(),
        "Intervals or label sets of several levels: on the dashed line they hold the truth as often as they promise.",
        partial(
            lines_to_diagonal,
            stated=[one["level"] for one in levels],
            found=[one["coverage"] for one in levels],
            ends=[one["ci95"] for one in levels],
            names=("promised", "found"),
        ),
        ["level", "coverage", "95 % interval", *(name.replace("_", " ") for name in sizes)],
        [
            [
                f"{one['level']:.0%}",
                format_number(one["coverage"]),
                format_interval(one["ci95"]),
                *(format_number(one[name]) for name in sizes),
            ]
            for one in levels
        ],
        height=3.6,
        width=4.2,
    )


def _slices(facts: Mapping[str, Any]) -> list[Figure]:
    if not has_charts():
        return []
    from predgen.report.charts import slice_bars

    return [
        figure_of(
            f"{facts['metric']} by {one['by']}",
            "Dots are the values, lines their 95 % intervals; the rows of each in brackets.",
            partial(slice_bars, slices=one["slices"], metric=facts["metric"]),
            [one["by"], "rows", facts["metric"], "95 % interval"],
            [
                [of["slice"], of["rows"], format_number(of["value"]), format_interval(of["ci95"])]
                for of in one["slices"]
            ],
            height=0.3 * len(one["slices"]) + 1.0,
        )
        for one in facts["slices"]
        if len(one["slices"]) > 1
    ]


# ---- data and training


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    parts = data["lengths"]["parts"]
    lines = [f"Rows: {data['how']}."] if data["how"] else []
    cut = {name: of["cut"] for name, of in parts.items() if of["cut"]}
    if cut:
        said = ", ".join(f"{count} of {name}" for name, count in cut.items())
        lines.append(f"Prompts that were cut inside their longest field to fit the model: {said}.")
    between = [one for one in data["shared"]["between"] if one["rows"]]
    shared = [[f"in {one['second']} that {one['first']} has too", one["rows"]] for one in between]
    shared += [[f"in {name}, twice or more", rows] for name, rows in data["shared"]["inside"].items() if rows]
    if not shared:
        lines.append("No row has the inputs of another.")
    return {
        "lines": lines,
        "header": ["part", "rows", "median tokens", "95th percentile", "longest", "cut"],
        "rows": [
            [name, of["rows"], *(format_number(of[f"p{share}"]) for share in (50, 95, 100)), of["cut"]]
            for name, of in parts.items()
        ],
        "figures": _data_figures(data),
        "shared_header": ["rows with the same inputs", "rows"],
        "shared": shared,
    }


def _data_figures(data: Mapping[str, Any]) -> list[Figure]:
    if not has_charts():
        return []
    lengths = data["lengths"]
    return [
        _histogram(
            "Tokens of the prompts", "The share of each part's rows.", lengths["edges"], lengths["parts"], "tokens"
        ),
        *(_distribution(field) for field in data["fields"]),
    ]


def _histogram(
    title: str,
    text: str,
    edges: Sequence[float],
    parts: Mapping[str, Mapping[str, Any]],
    label: str,
    shown: Callable[[float | None], str] = format_number,
) -> Figure:
    from predgen.report.charts import histograms

    counts = {name: of["counts"] for name, of in parts.items()}
    return figure_of(
        title,
        text,
        partial(histograms, edges=edges, counts=counts, label=label),
        ["from", "to", *counts],
        [
            [shown(low), shown(high), *of_bar]
            for low, high, *of_bar in zip(edges[:-1], edges[1:], *counts.values(), strict=True)
        ],
        height=2.8,
    )


def _distribution(field: Mapping[str, Any]) -> Figure:
    from predgen.report.charts import label_bars

    title = f"Distribution of the answers {field['field']}".strip()
    if "edges" in field:
        shown = _showing(field)
        said = "; ".join(
            f"{name}: mean {shown(of['mean'])}, deviation {format_number(of['deviation'])}, from "
            f"{shown(of['low'])} to {shown(of['high'])}"
            for name, of in field["parts"].items()
        )
        return _histogram(title, f"{said}.", field["edges"], field["parts"], "value", shown)
    counts = {name: of["counts"] for name, of in field["parts"].items()}
    unseen = {name: of["unseen"] for name, of in field["parts"].items() if of["unseen"]}
    said = ", ".join(f"{rows} of {name}" for name, rows in unseen.items())
    return figure_of(
        title,
        "The share of each part's rows." + (f" Rows of labels that training never saw: {said}." if said else ""),
        partial(label_bars, labels=field["labels"], counts=counts),
        ["label", *counts],
        [[label, *of_label] for label, *of_label in zip(field["labels"], *counts.values(), strict=True)],
        height=max(2.2, 0.3 * len(field["labels"]) + 1.0),
    )


def _training(training: Mapping[str, Any], metric: str) -> dict[str, Any]:
    record = training["record"]
    shown = [[words, _fact(record[name])] for name, words in FACTS.items() if record.get(name) is not None]
    curves = {"history": training["history"], "metric": metric}
    return {
        "facts": shown,
        "figure": _curves(curves) if has_charts() and training["history"] else None,
        "settings": settings_rows(training["settings"]),
    }


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _curves(record: Mapping[str, Any]) -> Figure | None:
    from predgen.report.charts import training
    from predgen.report.plots import training_panels

    panels = training_panels(record)
    if not panels:
        return None
    names = list(dict.fromkeys(name for _, curves in panels for name in curves))
    rows = [
        [entry["step"], *(format_number(entry.get(name)) for name in names)]
        for entry in record["history"]
        if any(entry.get(name) is not None for name in names)
    ]
    return figure_of(
        "How training went",
        "Losses and validation figures by step.",
        partial(training, record=record),
        ["step", *names],
        rows,
        height=2.4 * -(-len(panels) // 2),
    )


# ---- rows


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    facts = [
        (name.replace("_", " "), format_number(value) if isinstance(value, float) else value)
        for name, value in row.items()
        if name not in ("row", "inputs") and value is not None
    ]
    return {"number": row["row"], "inputs": list(row["inputs"].items()), "facts": facts}
