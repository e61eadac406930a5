"""Tables of one model's evaluation, from its JSON."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from predgen.report.tables import format_interval, format_number

LABEL_FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "average precision",
    "support": "rows",
}


def evaluation_table(evaluation: Mapping[str, Any]) -> Table:
    """Returns one model's metrics with their intervals.

    Args:
        evaluation: the JSON of an `Evaluation`.
    """
    weighted = f", weighted by '{evaluation['weight']}'" if "weight" in evaluation else ""
    title = f"{evaluation['rows']} rows{weighted}, {evaluation['invalid_fraction']:.1%} invalid answers"
    table = Table(title=title)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    fewer = evaluation.get("metric_rows", {})
    if fewer:
        table.add_column("rows", justify="right")
    for name, value in evaluation["metrics"].items():
        rows = [str(fewer.get(name, evaluation["rows"]))] if fewer else []
        table.add_row(name, format_number(value), format_interval(evaluation["ci95"].get(name, (None, None))), *rows)
    return table


def evaluation_notes(evaluation: Mapping[str, Any]) -> list[str]:
    """Returns what the answers of an evaluation hang on, a sentence or two each.

    Args:
        evaluation: the JSON of an `Evaluation`.
    """
    notes = [threshold_note(evaluation["threshold"])] if "threshold" in evaluation else []
    return [*notes, evaluation["abstaining"]["promise"]] if "abstaining" in evaluation else notes


def threshold_note(facts: Mapping[str, Any]) -> str:
    """Returns how a threshold was chosen.

    Args:
        facts: as `predgen.models.thresholds.threshold_facts` has them.
    """
    shown = {"f1": "F1", "youden": "Youden's J", "cost": "cost"}[facts["rule"]]
    note = (
        f"Threshold: '{facts['positive']}' is answered from the probability {format_number(facts['calibrated'])} on, "
        f"chosen by {shown} on {facts['rows']} {facts['chosen_on']} rows, {facts['positive_rows']} of them "
        f"'{facts['positive']}': {shown} {format_number(facts['value'])} there, and "
        f"{format_number(facts['value_at_half'])} from one half on."
    )
    if "analytic" in facts:
        note += f" Were the probabilities right, it would be {format_number(facts['analytic'])}."
    return note


def label_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Returns a table of the figures of each label, for each field that has labels.

    Args:
        evaluation: the JSON of an `Evaluation`.
    """
    tables: dict[str, Table] = {}
    for line in evaluation["per_label"]:
        field = line.get("field", "")
        if field not in tables:
            tables[field] = Table(title=f"Labels of {field}" if field else "Labels")
            for position, name in enumerate(label_header("weight" in evaluation)):
                tables[field].add_column(name, justify="right" if position else "left")
        tables[field].add_row(*label_cells(line))
    return list(tables.values())


def label_header(is_weighted: bool = False) -> list[str]:
    """Returns the header of a table of labels."""
    names = {**LABEL_FIGURES, "support": "weight of rows"} if is_weighted else LABEL_FIGURES
    return ["label", *names.values()]


def label_cells(line: Mapping[str, Any]) -> list[str]:
    """Returns the cells of one label.

    Args:
        line: a row of `predgen.measures.per_label.label_table`.
    """
    shown = {name: format_number(line[name]) for name in LABEL_FIGURES if name != "support"}
    support = line["support"]
    shown["support"] = str(support) if isinstance(support, int) else f"{support:.4g}"
    return [line["label"], *shown.values()]
