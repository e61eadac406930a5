"""The stated rules by which a target is inferred from a column: its kind, its range and decimals, its labels."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np

from predgen.errors import ConfigError, DataError, explain
from predgen.targets import (
    MAX_DECIMALS,
    MAX_UNITS,
    Cell,
    Kind,
    Label,
    LabelValue,
    Number,
    describe,
    is_missing,
    label_key,
    label_value,
    parse_number,
)

# An inferred range is widened by this share of its span on each side.
RANGE_MARGIN_FRACTION = 0.1
# The rounding error that inferred decimals may cost, as a share of the column's standard deviation.
ROUNDING_FRACTION = 0.01
# Whole numbers with at most this many different values are taken as labels unless a kind is declared.
MAX_INTEGER_LABELS = 10
# A column is called a number column if at least this share of its cells are numbers.
NUMBER_SHARE = 0.9


def infer_kind(cells: Sequence[Cell]) -> tuple[Kind, str]:
    """Returns whether a column holds numbers or labels, and the reason in words.

    Whole numbers with at most 10 different values are labels; other columns of numbers are numbers; a column
    where at least nine cells in ten are numbers is a number column with mistakes in it; the rest are labels.
    """
    present = [cell for cell in cells if not is_missing(cell)]
    numbers = [value for value in map(parse_number, present) if value is not None]
    distinct = len(set(numbers))
    if not present or len(numbers) < NUMBER_SHARE * len(present):
        return "label", "its cells are not numbers"
    if distinct <= MAX_INTEGER_LABELS and all(value.is_integer() for value in numbers):
        return (
            "label",
            f"it holds only {distinct} different whole numbers (declare the kind 'number' otherwise)",
        )
    return "number", "its cells are numbers"


def infer_number(
    values: Sequence[float],
    *,
    low: float | None = None,
    high: float | None = None,
    decimals: int | None = None,
) -> Number:
    """Returns the number target of a column.

    Decimals are the fewest whose largest rounding error is at most 1 % of the column's standard deviation, as far as
    15 digits go. The range is the column's own, widened on each side by 10 % of its span, but not past zero. What is
    declared is taken as it is.

    Args:
        values: the training values.
        low: the declared low end, if any.
        high: the declared high end, if any; a range is declared as a whole.
        decimals: the declared number of decimals, if any.

    Raises:
        ConfigError: one end of a range is declared without the other, or what is declared holds no number.
        DataError: a value has more than 15 digits.
    """
    column = np.asarray(values, dtype=np.float64)
    smallest, largest = float(column.min()), float(column.max())
    if decimals is None:
        decimals = _fewest_decimals(column, max(abs(end) for end in (smallest, largest, low or 0.0, high or 0.0)))
    if (low is None) != (high is None):
        raise ConfigError("Expected both ends of the declared range, found one. Declare low and high together.")
    if low is not None and high is not None:
        return Number(low, high, decimals, declared=True)
    unit, limit = 10.0**-decimals, MAX_UNITS / 10**decimals
    if max(-smallest, largest) > limit:
        raise DataError(
            explain(
                expected=f"numbers of at most 15 digits, {decimals} of them after the point",
                found=f"{max(smallest, largest, key=abs):.15g}",
                fix="Declare fewer decimals, divide the column by a power of ten, or correct the row.",
            )
        )
    margin = max(RANGE_MARGIN_FRACTION * (largest - smallest), unit)
    wide_low, wide_high = max(smallest - margin, -limit), min(largest + margin, limit)
    if smallest >= 0:
        wide_low = max(wide_low, 0.0)
    elif largest <= 0:
        wide_high = min(wide_high, 0.0)

    def to_unit(value: float, rounding: str) -> float:
        return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), rounding)) + 0.0  # no −0

    return Number(to_unit(wide_low, ROUND_FLOOR), to_unit(wide_high, ROUND_CEILING), decimals)


def _fewest_decimals(column: np.ndarray, magnitude: float) -> int:
    """Returns the fewest decimals that cost little, within the digits that a float of this magnitude holds."""
    with np.errstate(over="ignore", invalid="ignore"):
        allowed = ROUNDING_FRACTION * float(column.std())
    # What is left of a float's own error at this magnitude is no decimal of the column.
    allowed = max(allowed, 1e-15 * magnitude)
    decimals = 0
    while decimals < MAX_DECIMALS and magnitude * 10.0 ** (decimals + 1) <= MAX_UNITS:
        if np.abs(column - np.round(column, decimals)).max() <= allowed:
            break
        decimals += 1
    return decimals


def infer_label(cells: Sequence[Cell], words: Mapping[str, str] | None = None, *, codes: bool = False) -> Label:
    """Returns the label target of a column, its labels in numeric or else alphabetic order.

    Args:
        cells: the training cells, none missing.
        words: the word to write for a label, by the label's text; labels that are not named write themselves.
        codes: write letters (A, B, … AA) instead, for labels whose own texts cannot be told apart.
    """
    found: dict[str, LabelValue] = {}
    for cell in cells:
        found.setdefault(label_key(cell), label_value(cell))
    if len(found) > max(20, len(cells) // 2):
        raise DataError(
            explain(
                expected="a column of labels",
                found=f"{len(found)} different values in {len(cells)} rows, such as {describe(next(iter(found)))}",
                fix="Name another target column, or declare the kind 'number'.",
            )
        )
    numbers = {key: parse_number(key) for key in found}
    if all(value is not None for value in numbers.values()):
        order = sorted(found, key=lambda key: (numbers[key], key))
    else:
        order = sorted(found)
    if codes:
        words = {key: _letters(position) for position, key in enumerate(order)}
    words = words or {}
    unknown = [key for key in words if key not in found]
    if unknown:
        raise ConfigError(
            explain(
                expected=f"label texts for the labels {', '.join(order[:10])}",
                found=f"one for '{unknown[0]}'",
                fix="Correct --label-text.",
            )
        )
    return Label(tuple(found[key] for key in order), tuple(words.get(key, key) for key in order))


def _letters(position: int) -> str:
    """Returns the letter code of a position: A to Z, AA, AB and so on."""
    rest, letter = divmod(position, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("A") + letter)
