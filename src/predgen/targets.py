"""What is predicted: a number or a label, and its text.

A target knows the way between a table's cell, a value, and the text that a model writes. It knows nothing of
tokens (`codec.py`), of models, or of tables' files.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any, ClassVar, Literal

import numpy as np

from predgen.errors import ConfigError, DataError, TargetError, explain

# A whole number that a CSV file writes as a float.
_WHOLE = re.compile(r"-?(0|[1-9]\d*)\.0+")

Kind = Literal["number", "label"]
Cell = str | int | float | bool | None
LabelValue = str | int | bool

# Beyond this many units a float no longer holds every one of them.
MAX_UNITS = 10**15
MAX_DECIMALS = 12


@dataclass(frozen=True)
class Number:
    """A number written in decimal digits, such as `3.80`.

    Attributes:
        low: the smallest value that can be written.
        high: the largest value that can be written.
        decimals: digits after the point; 0 for integers.
        declared: whether the user gave the range. A declared range refuses values outside it; an inferred one
            writes its nearest value instead.
    """

    low: float
    high: float
    decimals: int
    declared: bool = False

    kind: ClassVar[Kind] = "number"
    default_metric: ClassVar[str] = "mse"

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= MAX_DECIMALS:
            raise ConfigError(
                explain(
                    expected=f"between 0 and {MAX_DECIMALS} decimals",
                    found=str(self.decimals),
                    fix="Give another number of decimals.",
                )
            )
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(
                explain(
                    expected="a finite range whose low end is below its high end",
                    found=f"{self.low} … {self.high}",
                    fix="Give another range.",
                )
            )
        if self.low_units > self.high_units or max(-self.low_units, self.high_units) > MAX_UNITS:
            raise ConfigError(
                explain(
                    expected=f"a range that holds a number of {self.decimals} decimals and at most 15 digits",
                    found=f"{self.low} … {self.high}",
                    fix="Give fewer decimals or a smaller range.",
                )
            )

    @property
    def low_units(self) -> int:
        """The smallest value that can be written, in units of the last digit."""
        return int((Decimal(repr(float(self.low))) * 10**self.decimals).to_integral_value(ROUND_CEILING))

    @property
    def high_units(self) -> int:
        """The largest value that can be written, in units of the last digit."""
        return int((Decimal(repr(float(self.high))) * 10**self.decimals).to_integral_value(ROUND_FLOOR))

    @property
    def num_values(self) -> int:
        """How many different values can be written."""
        return self.high_units - self.low_units + 1

    def parse(self, cell: Cell) -> float:
        """Returns the cell's value.

        Raises:
            TargetError: the cell is not a finite number, or lies outside a declared range.
        """
        value = parse_number(cell)
        if value is None:
            raise TargetError(
                explain(
                    expected="a finite number",
                    found=describe(cell),
                    fix="Correct or remove the row, or declare the kind 'label'.",
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
        return value

    def to_units(self, value: float) -> int:
        """Returns the nearest value that can be written, in units of the last digit (ties to even)."""
        units = (Decimal(repr(float(value))) * 10**self.decimals).to_integral_value(ROUND_HALF_EVEN)
        return min(max(int(units), self.low_units), self.high_units)

    def to_text(self, value: float) -> str:
        """Returns the text of the nearest value that can be written.

        Example:
            >>> Number(0.0, 5.0, decimals=2).to_text(3.8)
            '3.80'
        """
        return units_to_text(self.to_units(value), self.decimals)

    def from_text(self, text: str) -> float | None:
        """Returns the number that a freely written text holds, or None if it holds none in the range."""
        value = parse_number(text)
        return value if value is not None and self.low <= value <= self.high else None

    def clip(self, value: float) -> float:
        """Returns the nearest value inside the range."""
        return min(max(float(value), self.low), self.high)

    def describe(self) -> str:
        """Returns one line for people."""
        source = "declared" if self.declared else "inferred"
        decimals = f"{self.decimals} decimal{'' if self.decimals == 1 else 's'}"
        return f"number {self.low:.15g} … {self.high:.15g} with {decimals} ({source})"


@dataclass(frozen=True)
class Label:
    """One of a few labels, each with the word that is written for it.

    Attributes:
        values: the labels as they stand in the table, in the order that every output keeps.
        words: the text to write for each of them.
    """

    values: tuple[LabelValue, ...]
    words: tuple[str, ...]

    kind: ClassVar[Kind] = "label"
    default_metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise TargetError(
                explain(
                    expected="at least two labels",
                    found=f"{len(self.values)} ({', '.join(map(str, self.values))})",
                    fix="Check the target column and the rows that were read.",
                )
            )
        if len(self.values) != len(self.words):
            raise ConfigError("Expected one word for each label.")
        for what, keys in (
            ("label", [label_key(value) for value in self.values]),
            ("word", [word.strip() for word in self.words]),
        ):
            twice = [key for key, count in Counter(keys).items() if count > 1]
            if twice:
                raise ConfigError(
                    explain(
                        expected=f"every {what} once",
                        found=f"'{twice[0]}' twice",
                        fix="Give different words.",
                    )
                )
        if any(not word.strip() for word in self.words):
            raise ConfigError(
                explain(expected="a word to write for each label", found="an empty one", fix="Give it a word.")
            )

    def index(self, cell: Cell) -> int | None:
        """Returns the label's position in `values`, or None for a label that is not known."""
        key = label_key(cell)
        for position, value in enumerate(self.values):
            if label_key(value) == key:
                return position
        return None

    def parse(self, cell: Cell) -> LabelValue:
        """Returns the cell's label.

        Raises:
            TargetError: the cell is empty or holds no known label.
        """
        position = None if is_missing(cell) else self.index(cell)
        if position is None:
            known = ", ".join(str(value) for value in self.values[:10])
            raise TargetError(
                explain(
                    expected=f"one of the labels {known}",
                    found=describe(cell),
                    fix="Correct or remove the row.",
                )
            )
        return self.values[position]

    def to_text(self, value: LabelValue) -> str:
        """Returns the word to write for a label."""
        position = self.index(value)
        if position is None:
            raise TargetError(f"Expected a known label, found {describe(value)}. Check the label's spelling.")
        return self.words[position]

    def from_text(self, text: str) -> LabelValue | None:
        """Returns the label of a written word, or None if the text is no label's word."""
        words = {word.strip(): value for word, value in zip(self.words, self.values, strict=True)}
        return words.get(text.strip())

    def describe(self) -> str:
        """Returns one line for people."""
        pairs = [
            str(value) if label_key(value) == word else f"{value}={word}"
            for value, word in zip(self.values, self.words, strict=True)
        ]
        shown = ", ".join(pairs[:8]) + (", …" if len(pairs) > 8 else "")
        return f"{len(pairs)} labels: {shown}"


Target = Number | Label


def units_to_text(units: int, decimals: int) -> str:
    """Returns the text of `units · 10^−decimals`: no −0, no leading zeros, no plus."""
    digits = str(abs(units)).rjust(decimals + 1, "0")
    sign = "-" if units < 0 else ""
    return sign + digits if decimals == 0 else f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


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


def parse_cells(target: Target, cells: Sequence[Cell], column: str, rows: Sequence[int]) -> list[Any]:
    """Returns the values of a column.

    Args:
        target: what the cells must be.
        cells: the cells.
        column: the column's name, for messages.
        rows: each cell's row in its source, counted from 1 without the header.

    Raises:
        DataError: a cell is missing or is no value of the target; the message names its row.
    """
    values = []
    for row, cell in zip(rows, cells, strict=True):
        if is_missing(cell):
            raise DataError(
                explain(
                    expected=f"a {target.kind}",
                    found=describe(cell),
                    fix="Fill the cell or remove the row.",
                    row=row,
                    column=column,
                )
            )
        try:
            values.append(target.parse(cell))
        except TargetError as error:
            raise DataError(f"Row {row}, column '{column}': {error}") from error
    return values


def target_to_json(target: Target) -> dict[str, Any]:
    """Returns the target as plain JSON values."""
    if isinstance(target, Number):
        return {
            "kind": "number",
            "low": target.low,
            "high": target.high,
            "decimals": target.decimals,
            "declared": target.declared,
        }
    return {"kind": "label", "values": list(target.values), "words": list(target.words)}


def target_from_json(data: Mapping[str, Any]) -> Target:
    """Returns the target that `target_to_json` described."""
    if data["kind"] == "number":
        return Number(data["low"], data["high"], data["decimals"], data["declared"])
    return Label(tuple(data["values"]), tuple(data["words"]))
