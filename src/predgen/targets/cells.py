"""Cells of a table: missing ones, numbers and labels."""

import math
import re
from typing import Any

import numpy as np

# A whole number that a CSV file writes as a float.
_WHOLE = re.compile(r"-?(0|[1-9]\d*)\.0+")


Cell = str | int | float | bool | list[Any] | tuple[Any, ...] | None


LabelValue = str | int | bool


def is_missing(cell: object) -> bool:
    """Returns whether a cell holds nothing: None, NaN, or blank text."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return True
    try:
        return bool(cell != cell)  # only NaN, NaT and pandas' NA are unequal to themselves
    except (TypeError, ValueError):
        return type(cell).__name__ == "NAType"


def parse_number(cell: object) -> float | None:
    """Returns a cell's finite number, or None. Numbers in text are read as Python reads them."""
    if is_missing(cell) or isinstance(cell, bool | np.bool_):
        return None
    if isinstance(cell, str) and "_" in cell:  # Python reads 1_000; a table does not mean it
        return None
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def label_key(cell: object) -> str:
    """Returns the text under which a label is recognized, whichever file format it came from.

    Example:
        >>> label_key(1), label_key(1.0), label_key("1.0"), label_key(" yes "), label_key(True)
        ('1', '1', '1', 'yes', 'true')
    """
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell)).lower()
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    text = str(cell).strip()
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text


def label_value(cell: object) -> LabelValue:
    """Returns a label as a plain value that JSON can hold."""
    if isinstance(cell, bool | np.bool_):
        return bool(cell)
    if isinstance(cell, int | np.integer) or (isinstance(cell, float | np.floating) and float(cell).is_integer()):
        return int(cell)
    return str(cell).strip()


def describe(cell: object) -> str:
    """Returns how a message shows a cell."""
    if is_missing(cell):
        return "an empty cell" if not isinstance(cell, float) else "NaN"
    text = str(cell)
    return f"'{text if len(text) <= 60 else text[:57] + '…'}'"
