"""Cells of a table: missing ones, numbers and labels."""

import math
import re
from typing import Any

# A whole number that a CSV file writes as a float.
_WHOLE = re.compile(r"-?(0|[1-9]\d*)\.0+")
# A large whole number that Python and pandas write as a float.
_LARGE = re.compile(r"-?[1-9](\.\d+)?e\+\d+")
# Texts that people write for numbers and that are none here.
_NUMBER_FORMS = {
    "a number with commas between its thousands": re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?"),
    "a number with a decimal comma": re.compile(r"[-+]?\d{1,3}(\.\d{3})*,\d+|[-+]?\d+,\d+"),
    "a percentage": re.compile(r"[-+]?\d+([.,]\d+)?\s*%"),
    "an amount of money": re.compile(r"[-+]?[$€£¥]\s*[-+]?\d[\d,.]*|[-+]?\d[\d,.]*\s*[$€£¥]"),
}
# How Python, pandas, R and spreadsheets write booleans into text.
_BOOLEANS = ("True", "False", "TRUE", "FALSE")


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
    cell = _python(cell)
    if is_missing(cell) or isinstance(cell, bool):
        return None
    if isinstance(cell, str) and "_" in cell:  # Python reads 1_000; a table does not mean it
        return None
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def label_key(cell: object) -> str:
    """Returns the text under which a label is recognized, whichever file format or library it came from.

    Example:
        >>> label_key(1), label_key(1.0), label_key("1.0"), label_key(" yes "), label_key(True), label_key("True")
        ('1', '1', '1', 'yes', 'true', 'true')
    """
    cell = _python(cell)
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = str(cell).strip()
    if text in _BOOLEANS:
        return text.lower()
    if _LARGE.fullmatch(text):
        number = float(text)
        return str(int(number)) if number.is_integer() and repr(number) == text else text
    if not _WHOLE.fullmatch(text):
        return text
    whole = text.partition(".")[0]
    return "0" if whole == "-0" else whole


def label_value(cell: object) -> LabelValue:
    """Returns a label as a plain value that JSON can hold."""
    cell = _python(cell)
    if isinstance(cell, bool | int):
        return cell
    return int(cell) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _python(cell: object) -> object:
    """Returns a scalar of numpy, also one that pandas holds, as Python's own; other cells as they are."""
    return cell.item() if getattr(cell, "shape", None) == () and hasattr(cell, "item") else cell


def number_form(cell: object) -> str:
    """Returns how a text that is no number here looks like one; nothing of other cells.

    Example:
        >>> print(number_form("2,214.87"))
        , which looks like a number with commas between its thousands
    """
    text = str(cell).strip() if isinstance(cell, str) else ""
    return next(
        (f", which looks like {form}" for form, pattern in _NUMBER_FORMS.items() if pattern.fullmatch(text)), ""
    )


def describe(cell: object) -> str:
    """Returns how a message shows a cell."""
    if is_missing(cell):
        return "an empty cell" if not isinstance(cell, float) else "NaN"
    text = str(cell)
    return f"'{text if len(text) <= 60 else text[:57] + '…'}'"
