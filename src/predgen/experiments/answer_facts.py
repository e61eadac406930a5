"""What the answers are worth: confusion, points, reliability, coverage, errors by length and by group, worst rows."""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from predgen.errors import ConfigError
from predgen.experiments.data_facts import MOST_LABELS, OTHERS, slices_of
from predgen.measures.base import json_number
from predgen.measures.calibration import Calibration
from predgen.measures.distribution import modes_of
from predgen.measures.statistics import bootstrap_interval
from predgen.models.model import Model
from predgen.models.scored import BOOTSTRAP_SEED, Scored, ScoredField
from predgen.targets.field import ALONE, Field

# The level of the intervals and sets that are shown row by row.
INTERVAL = 0.9
LEVELS = (0.5, 0.8, 0.9, 0.95)
# Points of a picture; more are drawn from with a fixed seed.
MOST_POINTS = 500
LENGTH_SLICES = 5
# Columns of the table with this many values at most are groups.
MOST_GROUPS = 12
MOST_GROUP_COLUMNS = 3
LEAST_ROWS_OF_SLICE = 5
WORST_ROWS = 20


def field_facts(model: Model, scored: Scored) -> list[dict[str, Any]]:
    """Returns what is known of the answers of each field.

    Args:
        model: the model.
        scored: its answers beside the truth.
    """
    found = []
    for name, answers in scored.fields.items():
        field = model.target.fields[name]
        facts: dict[str, Any] = {"field": "" if name == ALONE else name, "kind": field.kind}
        calibration = model.contents.calibrations.get(name)
        facts |= points(answers, calibration) if field.numeric else confusion(field, answers)
        facts["reliability"] = answers.measure.reliability(answers.truth, answers.probabilities)
        facts["per_label"] = answers.measure.per_label(answers.truth, answers.predicted, answers.probabilities)
        facts["coverage"] = [] if calibration is None else coverage(calibration, answers)
        found.append(facts)
    return found


def points(answers: ScoredField, calibration: Calibration | None) -> dict[str, Any]:
    """Returns true numbers beside predicted ones, with the ends of intervals if there are any; of many rows some."""
    valid = np.flatnonzero(~answers.invalid & np.isfinite(answers.truth))
    if len(valid) > MOST_POINTS:
        valid = np.sort(np.random.default_rng(0).choice(valid, MOST_POINTS, replace=False))
    shown = {"truth": answers.truth[valid].tolist(), "predicted": answers.predicted[valid].tolist()}
    level = None
    if calibration is not None and promises(calibration, INTERVAL):
        level = INTERVAL
        low, high = answers.measure.interval(calibration, level, answers.predicted[valid])
        shown |= {name: list(map(json_number, end.tolist())) for name, end in (("low", low), ("high", high))}
    return {"rows": len(answers.truth), "points": shown, "interval": level}


def confusion(field: Field, answers: ScoredField) -> dict[str, Any]:
    """Returns the counts of true and predicted labels; of a set, how often each label was found, missed and made up."""
    labels = [str(label) for label in field.labels]
    true, answered = answers.truth, answers.predicted
    if field.soft:
        true, answered = modes_of(true), modes_of(answered)
    if true.ndim == 2:
        truth, predicted = answers.truth > 0, np.nan_to_num(answers.predicted) > 0
        rows = [
            {
                "label": label,
                "found": int((truth[:, column] & predicted[:, column]).sum()),
                "missed": int((truth[:, column] & ~predicted[:, column]).sum()),
                "wrong": int((~truth[:, column] & predicted[:, column]).sum()),
            }
            for column, label in enumerate(labels)
        ]
        return {"by_label": rows}
    truth, predicted = _positions(true, len(labels)), _positions(answered, len(labels))
    names = [*labels, "unseen or invalid"]
    order = np.arange(len(labels))
    if len(labels) > MOST_LABELS:
        order = np.argsort(-np.bincount(truth, minlength=len(names))[: len(labels)], kind="stable")[:MOST_LABELS]
    shown = [
        *order.tolist(),
        *([len(labels)] if (truth == len(labels)).any() or (predicted == len(labels)).any() else []),
    ]
    place = np.full(len(names), len(shown))
    place[shown] = range(len(shown))
    size = len(shown) + 1
    counts = np.zeros((size, size), int)
    np.add.at(counts, (place[truth], place[predicted]), 1)
    if not counts[-1].any() and not counts[:, -1].any():
        return {"labels": [names[position] for position in shown], "counts": counts[:-1, :-1].tolist()}
    return {"labels": [*(names[position] for position in shown), OTHERS], "counts": counts.tolist()}


def _positions(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Returns the positions of labels; one that is invalid or was never seen has the position behind the last."""
    return np.where(labels < 0, num_labels, labels).astype(int)


def coverage(calibration: Calibration, answers: ScoredField) -> list[dict[str, Any]]:
    """Returns for each level the share of answers whose interval or set holds the truth, and its mean size."""
    found: list[dict[str, Any]] = []
    for level in LEVELS:
        if not promises(calibration, level):
            continue
        by_row = answers.measure.covered(calibration, level, answers.truth, answers.predicted, answers.probabilities)
        size = {name: json_number(float(values.mean())) for name, values in by_row.items() if name != "coverage"}
        held = by_row["coverage"].astype(float)
        share = float(held.mean())
        ends = bootstrap_interval(partial(_mean_of, held), len(held), seed=BOOTSTRAP_SEED)["coverage"]
        found.append({"level": level, "coverage": share, "ci95": list(ends), **size})
    return found


def _mean_of(held: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    return {"coverage": float(held[rows].mean())}


def promises(calibration: Calibration, level: float) -> bool:
    """Returns whether a calibration has rows enough for intervals or sets of a level."""
    try:
        calibration.check(level)
    except ConfigError:
        return False
    return True


# ---- slices


def slices(
    scored: Scored, metric: str, table: pd.DataFrame, lengths: Sequence[int], groups: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the metric of rows of like length, and of each group.

    Args:
        scored: the answers.
        metric: the metric.
        table: the rows.
        lengths: tokens of each prompt.
        groups: columns whose values are groups.
    """

    def measured(rows: np.ndarray) -> dict[str, Any]:
        ends = bootstrap_interval(
            lambda drawn: {metric: scored.metrics(rows[drawn])[metric]}, len(rows), seed=BOOTSTRAP_SEED, resamples=300
        )
        value = json_number(scored.metrics(rows)[metric])
        return {"value": value, "ci95": [json_number(end) for end in ends[metric]]}

    by = {"tokens of the prompt": _length_slices(np.asarray(lengths))}
    for column in groups:
        cells = table[column].astype(str).to_numpy()
        by[column] = {str(cell): cells == cell for cell in pd.unique(cells)}
    return [{"by": name, "slices": slices_of(of, measured, LEAST_ROWS_OF_SLICE)} for name, of in by.items()]


def _length_slices(lengths: np.ndarray) -> dict[str, np.ndarray]:
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTH_SLICES + 1)).round().astype(int))
    if len(edges) == 1:
        return {str(edges[0]): np.ones(len(lengths), bool)}
    pieces = {}
    for position, (low, high) in enumerate(itertools.pairwise(edges.tolist())):
        is_last = position == len(edges) - 2
        shown = f"{low} to {high if is_last else high - 1}"
        pieces[shown] = (lengths >= low) & ((lengths <= high) if is_last else (lengths < high))
    return pieces


def group_columns(table: pd.DataFrame, taken: Sequence[str], asked: Sequence[str] | None) -> list[str]:
    """Returns the columns by whose values errors are shown: those that are asked for, else those of few values.

    Args:
        table: the rows.
        taken: the input columns and the target's.
        asked: the columns to group by; None to look for some.
    """
    if asked is not None:
        return list(asked)
    few = [
        str(name)
        for name in table.columns
        if name not in taken and 2 <= table[name].astype(str).nunique() <= min(MOST_GROUPS, len(table) // 10)
    ]
    return few[:MOST_GROUP_COLUMNS]


# ---- rows


def row_losses(scored: Scored, metric: str) -> tuple[str, np.ndarray]:
    """Returns the loss of each row by which rows are worst, and its name: that of the metric, else the first."""
    losses = scored.losses()
    for name in ("log_loss", scored.tested.get(metric, ("", 1))[0], *losses):
        if name in losses:
            return name, losses[name]
    raise AssertionError("every kind has a loss")


def shown_rows(
    positions: Sequence[int], columns: Mapping[str, Sequence[Any]], rows: Sequence[int], inputs: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns some rows as people read them: their place, inputs, truth, answer, and what was written.

    Args:
        positions: which rows.
        columns: everything that is shown, each a value for each row; the inputs by their names.
        rows: the number of each row in its source.
        inputs: the input columns.
    """
    return [
        {
            "row": rows[position],
            "inputs": {name: str(columns[name][position]) for name in inputs},
            **{name: values[position] for name, values in columns.items() if name not in inputs},
        }
        for position in positions
    ]
