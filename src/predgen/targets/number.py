"""A number, and the digits that a model writes for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from predgen.errors import ConfigError, TargetError, explain
from predgen.names import NUMBER_FORMATS
from predgen.targets import scientific
from predgen.targets.cells import Cell, describe, parse_number
from predgen.targets.declared import UNDECLARED, Declared
from predgen.targets.field import Field
from predgen.targets.ids import id_doubts
from predgen.targets.number_formats import Amount, amount_of
from predgen.targets.ranges import MAX_DECIMALS, MAX_UNITS, Form, infer_range
from predgen.warning_kinds import ConstantTargetWarning, PredGenWarning

# The first digit of a mantissa stands before its point.
MAX_MANTISSA_DECIMALS = scientific.MAX_DIGITS - 1


@dataclass(frozen=True)
class Number(Field):
    """A number written in decimal digits, such as `3.80`, or in scientific form, such as `e-5*3.80`.

    Attributes:
        low: the smallest value that can be written.
        high: the largest value that can be written.
        decimals: digits after the point, in scientific form those of the mantissa; 0 for integers.
        declared: whether the user gave the range. A declared range refuses values outside it; an inferred one
            writes its nearest value instead.
        form: `fixed`, or `scientific` for a range of many orders of magnitude: then the exponent is written first.
        logarithmic: whether heads learn the number's logarithm; all of its values are above 0 then.
        smallest: the least magnitude but zero that is written in scientific form where the range reaches zero.
        number_format: how cells write it, a name in `predgen.names.NUMBER_FORMATS`; None for plain numbers.
        currency: the sign or code beside the numbers of the training cells; another one is refused.
    """

    low: float
    high: float
    decimals: int
    declared: bool = False
    form: Form = "fixed"
    logarithmic: bool = False
    smallest: float = 0.0
    number_format: str | None = None
    currency: str = ""

    kind: ClassVar[str] = "number"
    noun: ClassVar[str] = "a number"
    nouns: ClassVar[str] = "numbers"
    numeric: ClassVar[bool] = True
    has_number_cells: ClassVar[bool] = True
    fewer_values: ClassVar[str] = "Declare fewer decimals (--set decimals=…) or a smaller range."

    @classmethod
    def infer(cls, cells: Sequence[Cell], declared: Declared) -> "Number":
        """Returns the number of a column; `predgen.targets.ranges.infer_range` states the rules.

        Raises:
            ConfigError: one end of a range is declared without the other, or what is declared holds no number.
            DataError: a value has more digits than the form holds.
        """
        low, high = declared.low, declared.high
        if isinstance(low, str) or isinstance(high, str):
            raise ConfigError(
                f"Expected numbers for the ends of a number's range, found {low} … {high}. Correct --low and --high, "
                "or declare --kind date."
            )
        amounts = [amount_of(cell, declared.number_format) for cell in cells]
        number = infer_number(
            [amount.value for amount in amounts],
            low=low,
            high=high,
            decimals=declared.decimals,
            form=declared.form,
            logarithmic=declared.logarithmic,
        )
        currency = next((amount.currency for amount in amounts if amount.currency), "")
        return replace(number, number_format=declared.number_format, currency=currency)

    @classmethod
    def check_cell(cls, cell: Cell, declared: Declared = UNDECLARED) -> None:
        """Refuses a cell that is no finite number of the declared format.

        Raises:
            TargetError: it is none.
        """
        amount_of(cell, declared.number_format)

    @classmethod
    def check_declared(cls, declared: Declared, column: str, reason: str) -> None:
        """Refuses the words of labels, and the form of dates.

        Raises:
            ConfigError: some are declared.
        """
        if declared.date_format is not None and cls.has_number_cells:
            raise ConfigError(
                f"Expected a column of dates for date_format, found the number column '{column}' ({reason}). Declare "
                "--kind date, or leave --date-format out."
            )
        if declared.words:
            raise ConfigError(
                explain(
                    expected="label texts for a column of labels",
                    found=f"the number column '{column}' ({reason})",
                    fix="Declare --kind label, or leave --label-text, label_codes and labels out.",
                )
            )

    @classmethod
    def describe_missing(cls, cell: object) -> str:
        """Returns how a message calls a cell that holds nothing: empty, or NaN."""
        return describe(cell)

    @property
    def default_metric(self) -> str:
        """The metric that chooses the checkpoint unless one is declared."""
        return "mse_log10" if self.logarithmic else "mse"

    def __post_init__(self) -> None:
        if self.form not in ("fixed", "scientific"):
            raise ConfigError(
                explain(expected="the form fixed or scientific", found=f"'{self.form}'", fix="Correct the form.")
            )
        if self.number_format is not None:
            NUMBER_FORMATS.check(self.number_format)
        most = MAX_DECIMALS if self.form == "fixed" else MAX_MANTISSA_DECIMALS
        if not 0 <= self.decimals <= most:
            raise ConfigError(
                explain(
                    expected=f"between 0 and {most} decimals",
                    found=str(self.decimals),
                    fix="Give another number of decimals.",
                )
            )
        is_constant = self.low == self.high and not self.declared
        if not (math.isfinite(self.low) and math.isfinite(self.high) and (self.low < self.high or is_constant)):
            raise ConfigError(
                explain(
                    expected="a finite range whose low end is below its high end",
                    found=f"{self.low} … {self.high}",
                    fix="Give another range.",
                )
            )
        if self.logarithmic and self.low <= 0:
            raise ConfigError(
                explain(
                    expected="a range above 0 for a logarithmic number",
                    found=f"{self.low} … {self.high}",
                    fix="Give another range, or leave logarithmic out.",
                )
            )
        if self.form == "scientific":
            self._check_scientific()
        elif self.low_units > self.high_units or max(-self.low_units, self.high_units) > MAX_UNITS:
            raise ConfigError(
                explain(
                    expected=f"a range that holds a number of {self.decimals} decimals and at most 15 digits",
                    found=f"{self.low} … {self.high}",
                    fix="Give fewer decimals or a smaller range.",
                )
            )

    def _check_scientific(self) -> None:
        reaches_zero, largest = self.low <= 0 <= self.high, max(-self.low, self.high)
        if reaches_zero and not 0 < self.smallest <= largest:
            raise ConfigError(
                explain(
                    expected=f"a least magnitude above 0 and up to {largest} where a scientific range reaches zero",
                    found=str(self.smallest),
                    fix="Give another `smallest`, or a range that does not reach zero.",
                )
            )
        least = self.smallest if reaches_zero else min(abs(self.low), abs(self.high))
        limit = scientific.MAX_EXPONENT
        if _exact(least).adjusted() < -limit or _exact(largest).adjusted() > limit:
            raise ConfigError(
                explain(
                    expected=f"magnitudes whose exponents lie between -{limit} and {limit}",
                    found=f"{least} … {largest}",
                    fix="Give another range.",
                )
            )
        if not (self._scientific.positive or self._scientific.negative):
            raise ConfigError(
                explain(
                    expected=f"a range that holds a mantissa of {self.decimals} decimals",
                    found=f"{self.low} … {self.high}",
                    fix="Give more decimals or a larger range.",
                )
            )

    @cached_property
    def _scientific(self) -> scientific.Scientific:
        return scientific.Scientific(_exact(self.low), _exact(self.high), self.decimals, _exact(self.smallest))

    @property
    def low_units(self) -> int:
        """The smallest value that can be written in fixed form, in units of the last digit."""
        return int((_exact(self.low) * 10**self.decimals).to_integral_value(ROUND_CEILING))

    @property
    def high_units(self) -> int:
        """The largest value that can be written in fixed form, in units of the last digit."""
        return int((_exact(self.high) * 10**self.decimals).to_integral_value(ROUND_FLOOR))

    @property
    def positive_mantissas(self) -> list[tuple[int, int, int]]:
        """Each exponent of the positive numbers in scientific form, its first and its last mantissa in units."""
        return scientific.mantissas(self._scientific.positive, self.decimals)

    @property
    def negative_mantissas(self) -> list[tuple[int, int, int]]:
        """The exponents and mantissas of the negative numbers' magnitudes."""
        return scientific.mantissas(self._scientific.negative, self.decimals)

    @property
    def characters(self) -> str:
        """The characters that texts of the number's form are made of."""
        return "0123456789.-" if self.form == "fixed" else "0123456789.-e*"

    @property
    def num_values(self) -> int:
        """How many different values can be written."""
        return self._scientific.num_values if self.form == "scientific" else self.high_units - self.low_units + 1

    def parse(self, cell: Cell) -> float:
        """Returns the cell's value.

        Raises:
            TargetError: the cell is not a finite number, lies outside a declared range, has no logarithm where the
                number is logarithmic, or is of another currency.
        """
        amount = self._amount(cell)
        value = amount.value
        if self.currency and amount.currency not in ("", self.currency):
            raise TargetError(
                explain(
                    expected=f"an amount in {self.currency}, as rows before have it",
                    found=describe(cell),
                    fix="Convert it, or remove the row.",
                )
            )
        if self.declared and not self.low <= value <= self.high:
            raise TargetError(
                explain(
                    expected=f"a number in the declared range {self.low:.15g} … {self.high:.15g}",
                    found=f"{value:.15g}",
                    fix="Correct or remove the row, or declare a wider range.",
                )
            )
        if self.logarithmic and value <= 0:
            raise TargetError(
                explain(
                    expected="a number above 0, for its logarithm is learned",
                    found=f"{value:.15g}",
                    fix="Correct or remove the row, or set logarithmic=false.",
                )
            )
        return value

    def _amount(self, cell: Cell) -> Amount:
        return amount_of(cell, self.number_format)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the range's ends and of its middle, as it is learned."""
        middle = self.unlearned((self.learned(self.low) + self.learned(self.high)) / 2)
        return tuple(dict.fromkeys(self.to_text(value) for value in (self.low, middle, self.high)))

    def known(self, cell: Cell) -> float:
        """Returns the value of a held-out cell, as `parse`."""
        return self.parse(cell)

    def is_unseen(self, value: Any) -> bool:
        """Returns False: every number can be seen."""
        return False

    def answered(self, cell: Cell) -> float | None:
        """Returns the plain number, whatever range, decimals and format the true cells have.

        None of a logarithm that is not above 0.
        """
        number = parse_number(cell)
        return None if self.logarithmic and number is not None and number <= 0 else number

    def to_units(self, value: float) -> int:
        """Returns the nearest value that can be written in fixed form, in units of the last digit (ties to even)."""
        units = (_exact(value) * 10**self.decimals).to_integral_value(ROUND_HALF_EVEN)
        return min(max(int(units), self.low_units), self.high_units)

    def to_text(self, value: float) -> str:
        """Returns the text of the nearest value that can be written.

        Example:
            >>> Number(0.0, 5.0, decimals=2).to_text(3.8)
            '3.80'
            >>> Number(1e-9, 1e12, decimals=2, form="scientific").to_text(0.000038)
            'e-5*3.80'
        """
        if self.form == "scientific":
            return self._scientific.to_text(_exact(value))
        return units_to_text(self.to_units(value), self.decimals)

    def from_text(self, text: str) -> float | None:
        """Returns the number that an unconstrained text holds, or None if it holds none in the range."""
        value = scientific.value_of(text.strip()) if self.form == "scientific" else None
        if value is None:
            value = parse_number(text)
        return value if value is not None and self.low <= value <= self.high else None

    def clip(self, value: float) -> float:
        """Returns the nearest value inside the range."""
        return min(max(float(value), self.low), self.high)

    def learned(self, value: float) -> float:
        """Returns the quantity that heads learn: the value, or its decimal logarithm where the number is logarithmic.

        Args:
            value: above 0 where the number is logarithmic.
        """
        return math.log10(value) if self.logarithmic else float(value)

    def unlearned(self, quantity: float) -> float:
        """Returns the value of a quantity that heads learn, not clipped to the range; infinity beyond all floats."""
        if not self.logarithmic:
            return float(quantity)
        try:
            return math.pow(10.0, quantity)
        except OverflowError:
            return math.inf

    def cell(self, value: float | None) -> Any:
        """Returns an answer as a table's cell: NaN for an invalid one."""
        return math.nan if value is None else value

    def to_json(self) -> dict[str, Any]:
        """Returns the number as plain JSON values."""
        data = {"kind": self.kind, **asdict(self)}
        # Artifacts of plain numbers stay as they were before there were formats.
        return {name: value for name, value in data.items() if name not in ("number_format", "currency") or value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Number":
        """Returns the number that `to_json` described."""
        # Those that were saved before there were other forms do not name one.
        form, smallest = data.get("form", "fixed"), data.get("smallest", 0.0)
        logarithmic = data.get("logarithmic", False)
        number = cls(data["low"], data["high"], data["decimals"], data["declared"], form, logarithmic, smallest)
        return replace(number, number_format=data.get("number_format"), currency=data.get("currency", ""))

    def describe(self) -> str:
        """Returns one line for people."""
        source = "declared" if self.declared else "inferred"
        decimals = f"{self.decimals} decimal{'' if self.decimals == 1 else 's'}"
        form = "in scientific form " if self.form == "scientific" else ""
        more = ", logarithmic" if self.logarithmic else ""
        if self.form == "scientific" and self._scientific.has_zero:
            more += f", least magnitude {self.smallest:.15g}"
        if self.number_format is not None:
            more += f", read as {self.number_format}" + (f" in {self.currency}" if self.currency else "")
        return f"number {self.low:.15g} … {self.high:.15g} {form}with {decimals}{more} ({source})"

    def doubts(self, cells: Sequence[Cell]) -> list[PredGenWarning]:
        """Returns a warning of a column of one number, or of numbers that count the rows."""
        values = {self._amount(cell).value for cell in cells}
        if len(values) > 1:
            return id_doubts(sorted(values), len(cells))
        return [
            ConstantTargetWarning(
                f"all {len(cells)} training rows hold {values.pop():.15g}: there is nothing to learn. Check the column."
            )
        ]

    def describe_column(self, cells: Sequence[Cell]) -> str:
        """Returns one line for people, also how many of the column's values are written alike."""
        values = {self._amount(cell).value for cell in cells if not self.is_missing(cell)}
        apart = len(set(map(self.to_text, values)))
        note = f"; {apart} of {len(values)} different values are written apart" if apart < len(values) else ""
        return self.describe() + note


def infer_number(
    values: Sequence[float],
    *,
    low: float | None = None,
    high: float | None = None,
    decimals: int | None = None,
    form: Form | None = None,
    logarithmic: bool | None = None,
) -> Number:
    """Returns the number of a column of values, by the rules of `predgen.targets.ranges.infer_range`."""
    return Number(*infer_range(values, low=low, high=high, decimals=decimals, form=form, logarithmic=logarithmic))


def learned(number: Number, values: np.ndarray) -> np.ndarray:
    """Returns the quantities that stand for values, as `Number.learned`, of any shape; NaN stays NaN."""
    return np.log10(values) if number.logarithmic else values


def unlearned(number: Number, quantities: np.ndarray) -> np.ndarray:
    """Returns the values that quantities stand for, as `Number.unlearned`, of any shape."""
    with np.errstate(over="ignore"):
        return np.power(10.0, quantities) if number.logarithmic else quantities


def _exact(value: float) -> Decimal:
    """Returns the decimal number that a float is written as."""
    return Decimal(repr(float(value)))


def written_value(text: str) -> float:
    """Returns the float nearest to a number's text, in either form.

    Example:
        >>> written_value("3.80"), written_value("-e-5*3.80")
        (3.8, -3.8e-05)
    """
    value = scientific.value_of(text)
    return float(text) if value is None else value


def units_to_text(units: int, decimals: int) -> str:
    """Returns the text of `units · 10^−decimals`: no −0, no leading zeros, no plus."""
    digits = str(abs(units)).rjust(decimals + 1, "0")
    sign = "-" if units < 0 else ""
    return sign + digits if decimals == 0 else f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"
