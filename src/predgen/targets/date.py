"""A date: a number of days, written in ISO 8601."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from predgen.errors import ConfigError, TargetError, explain
from predgen.targets.cells import Cell, describe
from predgen.targets.date_cells import FIRST_DAY, LAST_DAY, check_date_format, date_trouble, day_of, iso_of
from predgen.targets.declared import UNDECLARED, Declared
from predgen.targets.number import Number
from predgen.targets.ranges import RANGE_MARGIN_FRACTION
from predgen.warning_kinds import ConstantTargetWarning, PredGenWarning


@dataclass(frozen=True)
class Date(Number):
    """A date, such as `2021-03-01`. Its values are days counted from 1970-01-01; as a number it has no decimals.

    Attributes:
        low: the first day that can be written.
        high: the last day that can be written.
        decimals: 0.
        date_format: how cells write it, as `datetime.strptime` reads it; None for ISO 8601. Answers are ISO dates.
    """

    decimals: int = 0
    date_format: str | None = None

    kind: ClassVar[str] = "date"
    noun: ClassVar[str] = "a date"
    nouns: ClassVar[str] = "dates"
    has_number_cells: ClassVar[bool] = False
    fewer_values: ClassVar[str] = "Declare a shorter range (--low, --high)."

    @classmethod
    def infer(cls, cells: Sequence[Cell], declared: Declared) -> "Date":
        """Returns the date of a column.

        The range is the declared one; else the column's, with a tenth of its days more on each side, one at least. Of a
        column of one date it is that date.

        Raises:
            ConfigError: one end of a range is declared without the other, or an end is no ISO date, or the first day is
                not before the last.
        """
        if (declared.low is None) != (declared.high is None):
            raise ConfigError("Expected both ends of the declared range, found one. Declare low and high together.")
        if declared.low is not None and declared.high is not None:
            low, high = (_declared_day(end) for end in (declared.low, declared.high))
            if low >= high:
                raise ConfigError(
                    f"Expected a range whose first day is before its last, found {iso_of(low)} … {iso_of(high)}. Give "
                    "another range."
                )
            return cls(float(low), float(high), declared=True, date_format=declared.date_format)
        days = [day for day in (day_of(cell, declared.date_format) for cell in cells) if day is not None]
        first, last = min(days), max(days)
        margin = 0 if first == last else max(1, math.ceil(RANGE_MARGIN_FRACTION * (last - first)))
        low, high = max(first - margin, FIRST_DAY), min(last + margin, LAST_DAY)
        return cls(float(low), float(high), date_format=declared.date_format)

    @classmethod
    def check_cell(cls, cell: Cell, declared: Declared = UNDECLARED) -> None:
        """Refuses a cell that is no date of the declared form.

        Raises:
            TargetError: it is none, or it has a time of day.
        """
        if day_of(cell, declared.date_format) is None:
            raise TargetError(date_trouble(cell, declared.date_format))

    @classmethod
    def check_declared(cls, declared: Declared, column: str, reason: str) -> None:
        """Refuses the words of labels, what only numbers have, and a form that does not say which day it is.

        Raises:
            ConfigError: some are declared.
        """
        super().check_declared(declared, column, reason)
        others = (declared.decimals, declared.form, declared.logarithmic, declared.number_format)
        if any(setting is not None for setting in others):
            raise ConfigError(
                explain(
                    expected="a range and a date_format for a column of dates",
                    found=f"settings of numbers for the column '{column}' ({reason})",
                    fix="Leave --decimals, --number-format, number_form and logarithmic out.",
                )
            )
        if declared.date_format is not None:
            check_date_format(declared.date_format)

    @property
    def default_metric(self) -> str:
        """The metric that chooses the checkpoint unless one is declared."""
        return "mse_days"

    @property
    def characters(self) -> str:
        """The characters that dates are written with."""
        return "0123456789-"

    def parse(self, cell: Cell) -> float:
        """Returns the cell's day.

        Raises:
            TargetError: the cell is no date, has a time of day, or lies outside a declared range.
        """
        day = day_of(cell, self.date_format)
        if day is None:
            raise TargetError(date_trouble(cell, self.date_format))
        if self.declared and not self.low <= day <= self.high:
            raise TargetError(
                explain(
                    expected=f"a date in the declared range {iso_of(self.low)} … {iso_of(self.high)}",
                    found=describe(cell),
                    fix="Correct or remove the row, or declare a wider range.",
                )
            )
        return float(day)

    def answered(self, cell: Cell) -> float | None:
        """Returns the day of an ISO date, whatever range and form the true cells have."""
        day = day_of(cell)
        return None if day is None else float(day)

    def to_text(self, value: float) -> str:
        """Returns the text of the nearest day of the range.

        Example:
            >>> Date(18628.0, 18993.0).to_text(18687.4)
            '2021-03-01'
        """
        return iso_of(self.to_units(value))

    def from_text(self, text: str) -> float | None:
        """Returns the day that an unconstrained text holds, or None if it holds none in the range."""
        day = self.answered(text)
        return day if day is not None and self.low <= day <= self.high else None

    def cell(self, value: float | None) -> Any:
        """Returns an answer as a table's cell: an ISO date, None for an invalid one."""
        return None if value is None else iso_of(value)

    @classmethod
    def shown(cls, number: float) -> float | str:
        """Returns the ISO date of a day."""
        return iso_of(number)

    def to_json(self) -> dict[str, Any]:
        """Returns the date as plain JSON values; its ends are days counted from 1970-01-01."""
        plain = {"kind": self.kind, "low": self.low, "high": self.high, "declared": self.declared}
        return plain if self.date_format is None else {**plain, "date_format": self.date_format}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Date":
        """Returns the date that `to_json` described."""
        return cls(data["low"], data["high"], declared=data["declared"], date_format=data.get("date_format"))

    def describe(self) -> str:
        """Returns one line for people."""
        source = "declared" if self.declared else "inferred"
        form = "" if self.date_format is None else f", read as {self.date_format}"
        return f"date {iso_of(self.low)} … {iso_of(self.high)}{form} ({source})"

    def describe_column(self, cells: Sequence[Cell]) -> str:
        """Returns one line for people."""
        return self.describe()

    def doubts(self, cells: Sequence[Cell]) -> list[PredGenWarning]:
        """Returns a warning of a column of one date."""
        days = {day_of(cell, self.date_format) for cell in cells}
        if len(days) > 1:
            return []
        return [
            ConstantTargetWarning(
                f"all {len(cells)} training rows hold {iso_of(days.pop() or 0)}: there is nothing to learn. Check the "
                "column."
            )
        ]


def _declared_day(end: object) -> int:
    """Returns the day of a declared end, which is an ISO date.

    Raises:
        ConfigError: it is none.
    """
    day = day_of(end)
    if day is None:
        raise ConfigError(
            f"Expected an ISO date such as 2021-03-01 for the end of a range of dates, found '{end}'. Correct --low "
            "and --high."
        )
    return day
