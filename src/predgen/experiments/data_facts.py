"""What the data looks like: rows, lengths, the target's distribution, rows that parts share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from predgen.targets.field import ALONE, Field
from predgen.targets.record import Target, field_values

# Bars of a histogram.
BINS = 30
# Labels that are shown one by one; the others are one bar.
MOST_LABELS = 20
OTHERS = "others"


def lengths_of(lengths: Mapping[str, Sequence[int]], cut: Mapping[str, int]) -> dict[str, Any]:
    """Returns the lengths of the prompts of each part, and a histogram over common bars.

    Args:
        lengths: tokens of each prompt, by the part.
        cut: how many prompts were cut, by the part.
    """
    together = np.concatenate([np.asarray(of_part) for of_part in lengths.values()])
    shortest, longest = int(together.min()), int(together.max())
    edges = np.unique(np.linspace(shortest, longest + 1, BINS + 1).round())
    parts = {}
    for name, of_part in lengths.items():
        tokens = np.asarray(of_part)
        parts[name] = {
            "rows": len(tokens),
            "cut": cut[name],
            **{f"p{share}": float(np.percentile(tokens, share)) if len(tokens) else None for share in (50, 95, 100)},
            "counts": np.histogram(tokens, edges)[0].tolist(),
        }
    return {"edges": edges.tolist(), "parts": parts}


def distributions(target: Target, values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Returns how the values of each field are distributed in each part.

    Args:
        target: what is predicted.
        values: the values of each part, as `predgen.tables.values.values_of` returns them.
    """
    found = []
    for name, field in target.fields.items():
        of_parts = {part: field_values(target, of_part, name) for part, of_part in values.items()}
        shown = _of_numbers(of_parts) if field.numeric else _of_labels(field, of_parts)
        found.append({"field": "" if name == ALONE else name, "kind": field.kind, **shown})
    return found


def _of_numbers(of_parts: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    arrays = {
        part: np.array([value for value in values if value is not None], float) for part, values in of_parts.items()
    }
    together = np.concatenate(list(arrays.values()))
    edges = np.histogram_bin_edges(together, BINS)
    return {
        "edges": edges.tolist(),
        "parts": {
            part: {
                "counts": np.histogram(array, edges)[0].tolist(),
                "mean": float(array.mean()) if len(array) else None,
                "deviation": float(array.std()) if len(array) else None,
                "low": float(array.min()) if len(array) else None,
                "high": float(array.max()) if len(array) else None,
            }
            for part, array in arrays.items()
        },
    }


def _of_labels(field: Field, of_parts: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Returns how many rows have each label; a row of several counts for each of them."""
    labels = [str(label) for label in field.labels]
    counts = {part: dict.fromkeys(labels, 0) for part in of_parts}
    unseen = dict.fromkeys(of_parts, 0)
    for part, values in of_parts.items():
        for value in values:
            if value is None:
                unseen[part] += 1
            for label in field.labels_in(value):
                counts[part][str(label)] += 1
    order = sorted(labels, key=lambda label: -sum(of_part[label] for of_part in counts.values()))
    if field.kind == "ordinal":
        order = labels
    shown, rest = (order, []) if len(order) <= MOST_LABELS else (order[:MOST_LABELS], order[MOST_LABELS:])
    return {
        "labels": [*shown, *([OTHERS] if rest else [])],
        "parts": {
            part: {
                "counts": [
                    *(of_part[label] for label in shown),
                    *([sum(of_part[label] for label in rest)] if rest else []),
                ],
                "unseen": unseen[part],
            }
            for part, of_part in counts.items()
        },
    }


def shared_rows(parts: Mapping[str, pd.DataFrame], inputs: Sequence[str]) -> dict[str, Any]:
    """Returns how many rows have inputs that another part has too, or that their own part has before them.

    Args:
        parts: the rows of each part.
        inputs: the input columns.
    """
    keys = {name: _keys(table, inputs) for name, table in parts.items()}
    names = list(parts)
    between = [
        {"first": first, "second": second, "rows": int(keys[second].isin(set(keys[first])).sum())}
        for position, first in enumerate(names)
        for second in names[position + 1 :]
    ]
    return {"between": between, "inside": {name: int(key.duplicated().sum()) for name, key in keys.items()}}


def _keys(table: pd.DataFrame, inputs: Sequence[str]) -> pd.Series:
    """Returns the inputs of each row as one value."""
    return table.loc[:, list(inputs)].astype(str).agg("\x00".join, axis=1) if len(table) else pd.Series(dtype=str)


def slices_of(
    values: Mapping[str, np.ndarray], measured: Callable[[np.ndarray], dict[str, Any]], least: int
) -> list[dict[str, Any]]:
    """Returns what is measured of the rows of each slice that has enough of them.

    Args:
        values: which rows are in each slice, shape (row,), by the slice's name.
        measured: what is measured of some rows, given their positions.
        least: the least rows of a slice.
    """
    found = []
    for name, chosen in values.items():
        rows = np.flatnonzero(chosen)
        if len(rows) >= least:
            found.append({"slice": name, "rows": len(rows), **measured(rows)})
    return found
