"""The scientific form of a number: `-e-5*3.80` is −3.80·10⁻⁵, and zero is `0`.

The exponent comes first, so that the order of magnitude is decided before the digits. Magnitudes that can be written
are counted upwards by their *rank*, without gaps: 9.99, then 1.00·10¹. So the nearest one is found by rounding alone,
and a range of magnitudes is a range of ranks.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

# Beyond this many digits a float no longer tells every mantissa from its neighbors.
MAX_DIGITS = 15
# Beyond these exponents a float loses digits, or is no number at all.
MAX_EXPONENT = 300
ZERO = "0"

_TEXT = re.compile(r"(-?)e(0|-?[1-9]\d{0,2})\*([1-9](?:\.\d+)?)|0")


@dataclass(frozen=True)
class Scientific:
    """The numbers of a range in scientific form.

    Attributes:
        low: the smallest value.
        high: the largest value.
        decimals: digits of the mantissa after its point.
        smallest: the least magnitude but zero, where the range reaches zero.
    """

    low: Decimal
    high: Decimal
    decimals: int
    smallest: Decimal

    @property
    def has_zero(self) -> bool:
        """Whether zero lies in the range."""
        return self.low <= 0 <= self.high

    @property
    def positive(self) -> range:
        """The ranks of the positive numbers."""
        return self._ranks(self.low, self.high)

    @property
    def negative(self) -> range:
        """The ranks of the negative numbers' magnitudes."""
        return self._ranks(-self.high, -self.low)

    def _ranks(self, low: Decimal, high: Decimal) -> range:
        if high <= 0:
            return range(0)
        least = low if low > 0 else self.smallest
        return range(rank_of(least, self.decimals, ROUND_CEILING), rank_of(high, self.decimals, ROUND_FLOOR) + 1)

    @property
    def num_values(self) -> int:
        """How many different values can be written."""
        return len(self.positive) + len(self.negative) + self.has_zero

    def to_text(self, value: Decimal) -> str:
        """Returns the text of the nearest value that can be written; ties go to the even mantissa, or to zero."""
        if self.has_zero:
            sign, ranks = ("-", self.negative) if value < 0 else ("", self.positive)
            # Below the least magnitude, zero is a neighbor too.
            if not ranks or 2 * abs(value) <= magnitude_of(ranks[0], self.decimals):
                return ZERO
        else:
            sign, ranks = ("-", self.negative) if self.high < 0 else ("", self.positive)
            if value * self.low <= 0:  # all that can be written lies on the other side of zero
                return sign + text_of(ranks[0], self.decimals)
        rank = rank_of(abs(value), self.decimals, ROUND_HALF_EVEN)
        return sign + text_of(min(max(rank, ranks[0]), ranks[-1]), self.decimals)


def rank_of(magnitude: Decimal, decimals: int, rounding: str) -> int:
    """Returns the rank of a positive number, rounded to one that can be written."""
    exponent = magnitude.adjusted()
    count: int = 10**decimals
    mantissa = int(magnitude.scaleb(decimals - exponent).to_integral_value(rounding))
    return exponent * 9 * count + mantissa - count  # 9.999, rounded up to 10.00, is the next exponent's 1.00


def parts_of(rank: int, decimals: int) -> tuple[int, int]:
    """Returns the exponent of a rank, and its mantissa in units of the last digit."""
    exponent, above_one = divmod(rank, 9 * 10**decimals)
    return exponent, 10**decimals + above_one


def magnitude_of(rank: int, decimals: int) -> Decimal:
    """Returns the positive number of a rank."""
    exponent, mantissa = parts_of(rank, decimals)
    return Decimal(mantissa).scaleb(exponent - decimals)


def text_of(rank: int, decimals: int) -> str:
    """Returns the text of a positive number.

    Example:
        >>> text_of(rank_of(Decimal("0.000038"), 2, ROUND_FLOOR), 2)
        'e-5*3.80'
    """
    exponent, mantissa = parts_of(rank, decimals)
    digits = str(mantissa)
    return f"e{exponent}*{digits[0]}" + (f".{digits[1:]}" if decimals else "")


def mantissas(ranks: range, decimals: int) -> list[tuple[int, int, int]]:
    """Returns each exponent of a range of ranks, with its first and last mantissa in units of the last digit."""
    if not ranks:
        return []
    (least, first), (most, last) = parts_of(ranks[0], decimals), parts_of(ranks[-1], decimals)
    whole = 10**decimals
    return [
        (exponent, first if exponent == least else whole, last if exponent == most else 10 * whole - 1)
        for exponent in range(least, most + 1)
    ]


def value_of(text: str) -> float | None:
    """Returns the float nearest to a text of the scientific form, or None if it is none.

    Any number of decimals is read, so that an unconstrained text of the form has its value.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    sign, exponent, mantissa = match.groups()
    return 0.0 if exponent is None else float(f"{sign}{mantissa}e{exponent}")
