"""The automaton of a range's dates in ISO 8601, such as `2021-03-01`: every day that the calendar has, and no other.

States that accept the same rest are one state: years of one pattern of leap years, months of one length.
"""

from calendar import isleap, monthrange
from collections.abc import Hashable, Sequence
from datetime import date

from predgen.codec.base import END, explore
from predgen.codec.number import NumberPaths
from predgen.targets.date import Date
from predgen.targets.date_cells import day_of, iso_of

YEAR, MONTH, DAY = 4, 7, 10  # letters of a text up to the end of each


class DatePaths(NumberPaths):
    """The automaton of dates, in characters."""

    def rows(self) -> list[dict[str, int]]:
        """Returns the state after each character of every state; the accepting state, after `END`, is the last."""
        assert isinstance(self.field, Date)
        return date_rows(date.fromisoformat(iso_of(self.field.low)), date.fromisoformat(iso_of(self.field.high)))

    def read(self, path: Sequence[int]) -> tuple[float, str]:
        """Returns the day and its text."""
        text = "".join(map(self.character, path[:-1]))
        return self.number_of(text), text

    def number_of(self, text: str) -> float:
        """Returns the day of a date's text, counted from 1970-01-01."""
        day = day_of(text)
        assert day is not None  # the automaton writes dates alone
        return float(day)


def date_rows(low: date, high: date) -> list[dict[str, int]]:
    """Returns the automaton of the dates from the first day to the last.

    Args:
        low: the first day.
        high: the last day.
    """
    beginnings: dict[Hashable, str] = {}

    def state_of(beginning: str) -> Hashable:
        """Returns the state after the beginning of a date: the beginning itself where the range cuts its dates off."""
        span = _span(beginning)
        is_whole = span is not None and low <= span[0] and span[1] <= high
        state: Hashable = (len(beginning), _rests(beginning)) if is_whole else beginning
        beginnings.setdefault(state, beginning)
        return state

    def step(state: Hashable) -> dict[str, Hashable]:
        beginning = beginnings[state]
        if len(beginning) == DAY:
            return {END: END}
        longer = [beginning + letter for letter in ("-" if len(beginning) in (YEAR, MONTH) else "0123456789")]
        spans = zip(longer, map(_span, longer), strict=True)
        return {text[-1]: state_of(text) for text, span in spans if span and span[0] <= high and low <= span[1]}

    return explore(state_of(""), step)


def _span(beginning: str) -> tuple[date, date] | None:
    """Returns the first and the last date with a beginning, which has all days between them; None if there is none."""
    if len(beginning) <= YEAR:
        first, last = (int(beginning.ljust(YEAR, digit)) for digit in "09")
        return (date(max(first, 1), 1, 1), date(last, 12, 31)) if last else None
    year = int(beginning[:YEAR])
    if len(beginning) <= MONTH:
        months = _months(beginning)
        return (date(year, months[0], 1), date(year, months[-1], _length(year, months[-1]))) if months else None
    month, days = int(beginning[YEAR + 1 : MONTH]), _days(beginning)
    return (date(year, month, days[0]), date(year, month, days[-1])) if days else None


def _rests(beginning: str) -> Hashable:
    """Returns a key of the texts that may follow a beginning: of equal keys and lengths they are the same."""
    if len(beginning) <= YEAR:
        first, last = (int(beginning.ljust(YEAR, digit)) for digit in "09")
        # There is no year 0, so that the decade from it is like no other.
        return tuple(isleap(year) if year else None for year in range(first, last + 1))
    if len(beginning) <= MONTH:
        written = len(beginning) - YEAR - 1
        year = int(beginning[:YEAR])
        return tuple((f"{month:02}"[written:], _length(year, month)) for month in _months(beginning))
    written = len(beginning) - MONTH - 1
    return tuple(f"{day:02}"[written:] for day in _days(beginning))


def _months(beginning: str) -> list[int]:
    return [month for month in range(1, 13) if f"{month:02}".startswith(beginning[YEAR + 1 : MONTH])]


def _days(beginning: str) -> list[int]:
    length = _length(int(beginning[:YEAR]), int(beginning[YEAR + 1 : MONTH]))
    return [day for day in range(1, length + 1) if f"{day:02}".startswith(beginning[MONTH + 1 :])]


def _length(year: int, month: int) -> int:
    """Returns the days of a month."""
    return monthrange(year, month)[1]
