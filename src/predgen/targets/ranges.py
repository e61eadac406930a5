"""The stated rules for a column of numbers: its range, its decimals and its form."""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal, NamedTuple

import numpy as np

from predgen.errors import ConfigError, DataError, explain
from predgen.targets import scientific

Form = Literal["fixed", "scientific"]

# Beyond this many units a float no longer holds every one of them.
MAX_UNITS = 10**15
MAX_DECIMALS = 12
# An inferred range is widened by this share of its span on each side.
RANGE_MARGIN_FRACTION = 0.1
# The rounding error that inferred decimals may cost, as a share of the column's standard deviation.
ROUNDING_FRACTION = 0.01
# Positive numbers whose largest is at least this many times their smallest are learned as logarithms.
WIDE_RATIO = 1e6
# The fewest decimals of a mantissa that are not declared: a rounding error of at most half a percent.
MANTISSA_DECIMALS = 2


class Range(NamedTuple):
    """The range and form of a column of numbers, as the attributes of `predgen.targets.number.Number`."""

    low: float
    high: float
    decimals: int
    declared: bool
    form: Form
    logarithmic: bool
    smallest: float


def infer_range(
    values: Sequence[float],
    *,
    low: float | None = None,
    high: float | None = None,
    decimals: int | None = None,
    form: Form | None = None,
    logarithmic: bool | None = None,
) -> Range:
    """Returns the range, the decimals and the form of a column of numbers.

    If nothing is declared, all values are above 0, and the largest is at least a million times the smallest, the number
    is logarithmic and in scientific form; else it is neither, unless so declared.

    Decimals are the fewest whose largest rounding error is at most 1 % of the column's standard deviation (of the
    logarithms, where they are learned), within 15 digits; of a mantissa 2 at least. Where nothing is declared and 12
    decimals do not hold the column so, such as one of 8.1e-19 and 8.2e-19, it is in scientific form.

    The range of a column of one number is that number. Else it is the column's own, widened on each side by 10 % of its
    span, but not past zero; of a logarithmic number
    by 10 % of the logarithms' span. Where a range in scientific form reaches zero, the least magnitude but zero is the
    column's own, rounded down to a power of ten. What is declared is taken as it is.

    Args:
        values: the training values.
        low: the declared low end, if any.
        high: the declared high end, if any; a range is declared as a whole.
        decimals: the declared number of decimals, if any.
        form: the declared form, if any.
        logarithmic: whether logarithms are to be learned, if declared.

    Raises:
        ConfigError: one end of a range is declared without the other, or what is declared holds no number.
        DataError: a value has more digits than the form holds.
    """
    column = np.asarray(values, dtype=np.float64)
    smallest, largest = float(column.min()), float(column.max())
    if (low is None) != (high is None):
        raise ConfigError("Expected both ends of the declared range, found one. Declare low and high together.")
    undeclared = all(setting is None for setting in (low, high, decimals, form, logarithmic))
    if undeclared:
        logarithmic = _is_wide(smallest, largest)
        form = "scientific" if logarithmic or _is_too_fine(column) else "fixed"
    form, logarithmic = form or "fixed", bool(logarithmic)
    if logarithmic and low is None and smallest <= 0:
        raise ConfigError(
            explain(
                expected="only values above 0 for a logarithmic number",
                found=f"{smallest:.15g}",
                fix="Leave logarithmic out, or correct the row.",
            )
        )
    if decimals is None:
        magnitude = max(abs(end) for end in (smallest, largest, low or 0.0, high or 0.0))
        fewest = _fewest_mantissa_decimals if form == "scientific" else _fewest_decimals
        decimals = fewest(column, magnitude, logarithmic=logarithmic and smallest > 0)
    declared = low is not None
    if undeclared and smallest == largest and _is_written(smallest, decimals, form):
        low = high = smallest
    if low is None or high is None:
        low, high = _wider_range(smallest, largest, decimals, form, logarithmic)
    reaches_zero = form == "scientific" and low <= 0 <= high
    least = _least_magnitude(column, max(-low, high)) if reaches_zero else 0.0
    return Range(low, high, decimals, declared, form, logarithmic, least)


def _is_written(value: float, decimals: int, form: Form) -> bool:
    """Returns whether a value is what is written of it."""
    return float(f"{value:.{decimals}{'f' if form == 'fixed' else 'e'}}") == value


def _is_wide(smallest: float, largest: float) -> bool:
    """Returns whether a column's logarithms are to be learned, within the exponents of the scientific form."""
    limit = 10.0**scientific.MAX_EXPONENT
    return 1 / limit <= smallest and largest <= limit and smallest * WIDE_RATIO <= largest


def _is_too_fine(column: np.ndarray) -> bool:
    """Returns whether the fixed form cannot hold a column's values, for they need decimals that it does not have.

    Raises:
        DataError: the exponents of the scientific form cannot, either.
    """
    magnitude = float(np.abs(column).max())
    if magnitude > MAX_UNITS or magnitude == 0:
        return False
    decimals = _fewest_decimals(column, magnitude, logarithmic=False)
    errors = np.abs(column - np.round(column, decimals))
    # A float that no decimals end, such as a third, is held all the same.
    if errors.max() <= max(ROUNDING_FRACTION * _deviation(column), magnitude * 10.0**-MAX_DECIMALS):
        return False
    least = float(np.abs(column[column != 0]).min())
    if least < _power(-scientific.MAX_EXPONENT):
        raise DataError(
            explain(
                expected=f"magnitudes of {_power(-scientific.MAX_EXPONENT):g} or more, which can be told apart",
                found=f"{least:.15g}",
                fix="Multiply the column by a power of ten, or correct the row.",
            )
        )
    return True


def _wider_range(smallest: float, largest: float, decimals: int, form: Form, logarithmic: bool) -> tuple[float, float]:
    """Returns a column's range, widened on each side by the rule, its ends values that can be written."""
    fixed = form == "fixed"
    limit = MAX_UNITS / 10**decimals if fixed else _power(scientific.MAX_EXPONENT)
    least = 10.0**-decimals if fixed else _power(-scientific.MAX_EXPONENT)
    magnitude = max(-smallest, largest)
    if fixed and magnitude > limit:
        raise DataError(
            explain(
                expected=f"numbers of at most 15 digits, {decimals} of them after the point",
                found=f"{max(smallest, largest, key=abs):.15g}",
                fix="Declare fewer decimals, divide the column by a power of ten, or correct the row.",
            )
        )
    if not fixed and (magnitude > limit or 0 < magnitude < least or (logarithmic and smallest < least)):
        raise DataError(
            explain(
                expected=f"magnitudes between {least} and {limit}",
                found=f"{smallest:.15g} … {largest:.15g}",
                fix="Multiply the column by a power of ten, or correct the row.",
            )
        )

    def unit_exponent(value: float) -> int:
        """Returns the exponent of the last digit that is written of a value."""
        return -decimals if fixed or value == 0 else _exponent(value) - decimals

    def to_unit(value: float, rounding: str) -> float:
        return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(unit_exponent(value)), rounding)) + 0.0  # no −0

    if logarithmic:
        unit = _power(unit_exponent(smallest))
        factor = 10 ** (RANGE_MARGIN_FRACTION * (math.log10(largest) - math.log10(smallest)))
        # About a unit of the last digit at least; of a number below that unit, a factor of two.
        factor = max(factor, 1 + unit / max(smallest, unit))
        wide_low, wide_high = smallest / factor, min(largest * factor, limit)
        low, high = max(to_unit(wide_low, ROUND_FLOOR), least), to_unit(wide_high, ROUND_CEILING)
        # A column that lies below one unit of the fixed form still gets two values: one unit and two.
        return low, high if low < high else to_unit(2 * low, ROUND_CEILING)
    unit = _power(unit_exponent(max(smallest, largest, key=abs)))
    margin = max(RANGE_MARGIN_FRACTION * (largest - smallest), unit)
    wide_low, wide_high = max(smallest - margin, -limit), min(largest + margin, limit)
    if smallest >= 0:
        wide_low = max(wide_low, 0.0)
    elif largest <= 0:
        wide_high = min(wide_high, 0.0)
    if not fixed:  # what no exponent is small enough for is zero
        wide_low, wide_high = (0.0 if abs(end) < least else end for end in (wide_low, wide_high))
    return to_unit(wide_low, ROUND_FLOOR), to_unit(wide_high, ROUND_CEILING)


def _fewest_decimals(column: np.ndarray, magnitude: float, *, logarithmic: bool) -> int:
    """Returns the fewest decimals that cost little, within the digits that a float of this magnitude holds."""
    decimals = 0
    while decimals < MAX_DECIMALS and magnitude * 10.0 ** (decimals + 1) <= MAX_UNITS:
        if _costs_little(column, np.round(column, decimals), magnitude, logarithmic=logarithmic):
            break
        decimals += 1
    return decimals


def _fewest_mantissa_decimals(column: np.ndarray, magnitude: float, *, logarithmic: bool) -> int:
    """Returns the fewest decimals of a mantissa that cost little."""
    values = np.unique(column)
    for decimals in range(MANTISSA_DECIMALS, scientific.MAX_DIGITS - 1):
        rounded = np.array([float(f"{value:.{decimals}e}") for value in values.tolist()])
        if _costs_little(values, rounded, magnitude, logarithmic=logarithmic, spread=column):
            return decimals
    return scientific.MAX_DIGITS - 1


def _costs_little(
    values: np.ndarray, rounded: np.ndarray, magnitude: float, *, logarithmic: bool, spread: np.ndarray | None = None
) -> bool:
    """Returns whether rounding errors are small beside the standard deviation of what is learned.

    Args:
        values: the values.
        rounded: what is written of them.
        magnitude: the largest that is written, whose own error as a float is no decimal of the column.
        logarithmic: whether logarithms are learned.
        spread: the column with the deviation; None for the values.
    """

    def learned(numbers: np.ndarray) -> np.ndarray:
        return np.log10(numbers) if logarithmic else numbers

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        allowed = ROUNDING_FRACTION * _deviation(learned(values if spread is None else spread))
        allowed = max(allowed, 1e-15 * (1.0 if logarithmic else magnitude))
        return bool(np.abs(learned(values) - learned(rounded)).max() <= allowed)


def _deviation(values: np.ndarray) -> float:
    """Returns the standard deviation, also of values whose squares no float holds."""
    largest = float(np.abs(values).max())
    return largest * float((values / largest).std()) if 0 < largest < math.inf else 0.0


def _least_magnitude(column: np.ndarray, largest: float) -> float:
    """Returns the least nonzero magnitude of a column, or `largest` if it is less, rounded down to a power of ten."""
    magnitudes = np.abs(column[column != 0])
    least = min(float(magnitudes.min()), largest) if len(magnitudes) else largest
    return _power(max(_exponent(least), -scientific.MAX_EXPONENT))


def _exponent(value: float) -> int:
    return Decimal(repr(value)).adjusted()


def _power(exponent: int) -> float:
    """Returns the float nearest to a power of ten."""
    return float(f"1e{exponent}")
