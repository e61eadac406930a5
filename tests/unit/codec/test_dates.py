"""The automaton of dates: every day of the range that the calendar has, as text and back, and nothing else."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predgen.codec.automaton import Automaton
from predgen.codec.base import END
from predgen.codec.codec import Codec
from predgen.codec.date import date_rows
from predgen.targets.date import Date
from predgen.targets.date_cells import EPOCH
from tests.unit.codec.test_codec import Vocabulary

DAYS = st.dates()
# The end of February in leap years, in common ones and in full centuries; the calendar's own ends.
RANGES = [
    (date(2020, 2, 27), date(2020, 3, 2)),
    (date(1899, 12, 30), date(1904, 3, 1)),
    (date(2000, 2, 29), date(2000, 2, 29)),
    (date(1, 1, 1), date(12, 1, 1)),
    (date(9999, 12, 1), date(9999, 12, 31)),
    (date(1990, 1, 1), date(2009, 12, 31)),
]


def texts(rows: list[dict[str, int]]) -> list[str]:
    """Returns every text that an automaton in characters accepts."""
    found, waiting = [], [(0, "")]
    while waiting:
        state, text = waiting.pop()
        for character, after in rows[state].items():
            if character == END:
                assert after == len(rows) - 1
                found.append(text)
            else:
                waiting.append((after, text + character))
    return sorted(found)


def accepts(rows: list[dict[str, int]], text: str) -> bool:
    state = 0
    for character in text:
        if character not in rows[state]:
            return False
        state = rows[state][character]
    return END in rows[state]


def field_of(low: date, high: date) -> Date:
    return Date(float(low.toordinal() - EPOCH), float(high.toordinal() - EPOCH))


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_exactly_the_days_of_a_range_are_written(low: date, high: date) -> None:
    rows = date_rows(low, high)
    assert texts(rows) == [(low + timedelta(days=day)).isoformat() for day in range((high - low).days + 1)]


@given(low=DAYS, high=DAYS, day=DAYS)
def test_a_day_is_accepted_if_it_lies_in_the_range(low: date, high: date, day: date) -> None:
    low, high = min(low, high), max(low, high)
    rows = date_rows(low, high)
    for one in (low, high, day):
        assert accepts(rows, one.isoformat()) == (low <= one <= high)


@given(low=DAYS, high=DAYS, year=st.integers(0, 9999), month=st.integers(0, 99), day=st.integers(0, 99))
def test_no_day_is_accepted_that_no_calendar_has(low: date, high: date, year: int, month: int, day: int) -> None:
    text = f"{year:04}-{month:02}-{day:02}"
    try:
        is_day = min(low, high) <= date.fromisoformat(text) <= max(low, high)
    except ValueError:
        is_day = False
    assert accepts(date_rows(min(low, high), max(low, high)), text) == is_day


def test_the_whole_calendar_needs_few_states_and_counts_its_days() -> None:
    rows = date_rows(date.min, date.max)
    numbered = {character: number for number, character in enumerate(["-", END, *"0123456789"])}
    automaton = Automaton([{numbered[character]: after for character, after in row.items()} for row in rows])
    assert automaton.num_paths == date.max.toordinal()
    assert automaton.num_states < 50
    for text in ("2021-02-29", "1900-02-29", "2021-13-01", "2021-00-10", "2021-04-31", "2021-01-00", "0000-01-01"):
        assert not accepts(rows, text)


@given(low=DAYS, span=st.integers(0, 4000), share=st.floats(0, 1))
def test_a_day_comes_back_from_its_tokens(low: date, span: int, share: float) -> None:
    high = min(low + timedelta(days=span), date.max) if low.year < 9980 else date.max
    field = field_of(low, high)
    codec = Codec(field, Vocabulary())
    assert codec.num_targets == field.num_values == (high - low).days + 1
    value = field.low + round(share * (field.high - field.low))
    found = codec.read(codec.path(value))
    assert found == (value, (low + timedelta(days=int(value - field.low))).isoformat())
    assert codec.range_of(()) == (field.low, field.high)
    assert codec.range_of(codec.path(value)[:-1]) == (value, value)
