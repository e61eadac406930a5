"""Cells to values to text and back."""

import json
import math
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predgen.errors import ConfigError, DataError, TargetError
from predgen.targets import (
    Label,
    Number,
    Target,
    describe,
    is_missing,
    label_key,
    label_value,
    parse_cells,
    parse_number,
    target_from_json,
    target_to_json,
    units_to_text,
)

PROPERTY = settings(max_examples=150)
STARS = Number(0.0, 5.0, 2, declared=True)
MOODS = Label((0, 1, 2), ("bad", "fair", "very good"))


@st.composite
def numbers(draw: st.DrawFn, max_units: int = 10**9) -> Number:
    """Returns numbers whose range's ends need not be values that can be written."""
    decimals = draw(st.integers(0, 6))
    first, second = (draw(st.integers(-max_units, max_units)) for _ in range(2))
    assume(abs(first - second) > 1)
    low, high = sorted((first / 10**decimals, second / 10**decimals))
    inside = draw(st.sampled_from([0.0, 0.25])) / 10**decimals
    return Number(low + inside, high - inside, decimals)


def exact(value: float) -> Decimal:
    return Decimal(repr(value))


# ── Numbers and their text ───────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(units=st.integers(-(10**15), 10**15), decimals=st.integers(0, 12))
def test_text_is_the_one_plain_form(units: int, decimals: int) -> None:
    assert units_to_text(units, decimals) == f"{Decimal(units).scaleb(-decimals):.{decimals}f}"


@PROPERTY
@given(number=numbers(), share=st.floats(0, 1))
def test_text_is_the_nearest_value_in_the_range_and_is_read_back(number: Number, share: float) -> None:
    value = number.clip(number.low + share * (number.high - number.low))
    text = number.to_text(value)
    unit = Decimal(1).scaleb(-number.decimals)
    nearest = exact(value).quantize(unit, ROUND_HALF_EVEN)
    if exact(number.low) <= nearest <= exact(number.high):
        assert Decimal(text) == nearest
    else:  # the nearest lies just outside
        assert abs(Decimal(text) - nearest) == unit
    assert not text.startswith("-0") or Decimal(text) < 0
    assert number.from_text(f" {text}\n") == float(text)
    assert number.parse(text) == float(text)
    assert number.to_text(float(text)) == text
    assert number.to_units(float(text)) == int(Decimal(text).scaleb(number.decimals))


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.5, 0, "0"),
        (1.5, 0, "2"),
        (2.5, 0, "2"),
        (-0.5, 0, "0"),
        (-1.5, 0, "-2"),
        (0.125, 2, "0.12"),
        (0.375, 2, "0.38"),
        (0.15, 1, "0.2"),  # ties are decimal: as a binary fraction 0.15 lies below
        (0.25, 1, "0.2"),
        (-0.04, 1, "0.0"),
        (1e-9, 3, "0.000"),
        (1e300, 1, "9.0"),
        (-1e300, 1, "-9.0"),
        (9.04, 1, "9.0"),
    ],
)
def test_ties_go_to_even_and_the_far_to_the_ends(value: float, decimals: int, text: str) -> None:
    assert Number(-9.0, 9.0, decimals).to_text(value) == text


def test_ends_that_cannot_be_written_are_not() -> None:
    number = Number(0.05, 0.95, 1)
    assert (number.low_units, number.high_units) == (1, 9)
    assert number.to_text(0.05) == "0.1"
    assert number.to_text(0.95) == "0.9"
    assert number.clip(2.0) == 0.95
    assert number.clip(-1.0) == 0.05


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "5.01", "-0.01", "1_0", "3 4", "--1", "1,5"])
def test_text_that_is_no_number_of_the_range_has_no_value(text: str) -> None:
    assert STARS.from_text(text) is None


@pytest.mark.parametrize(
    ("cell", "value"),
    [(3, 3.0), (3.25, 3.25), (" 3.5 ", 3.5), ("1e0", 1.0), ("+2", 2.0), ("0", 0.0), (np.float64(4), 4.0)],
)
def test_cells_that_are_numbers(cell: Any, value: float) -> None:
    assert STARS.parse(cell) == value


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("abc", "'abc'"),
        ("", "an empty cell"),
        ("  ", "an empty cell"),
        (None, "an empty cell"),
        (math.nan, "NaN"),
        ("nan", "'nan'"),
        (math.inf, "'inf'"),
        ("-inf", "'-inf'"),
        ("1_000", "'1_000'"),
        (True, "'True'"),
        ("3 stars", "'3 stars'"),
    ],
)
def test_cells_that_are_no_numbers_are_refused(cell: Any, found: str) -> None:
    with pytest.raises(TargetError, match=rf"^Expected a finite number, found {found}\. .*declare the kind 'label'"):
        STARS.parse(cell)


@pytest.mark.parametrize(("cell", "found"), [("5.0000001", "5.0000001"), (-1, "-1"), (1234567.5, "1234567.5")])
def test_a_declared_range_refuses_what_lies_outside_and_an_inferred_one_does_not(cell: Any, found: str) -> None:
    with pytest.raises(TargetError, match=rf"a number in the declared range 0 … 5, found {found}\. .*a wider range"):
        STARS.parse(cell)
    assert Number(0.0, 5.0, 2).parse(cell) == float(cell)


def test_large_ranges_are_shown_in_full() -> None:
    number = Number(0.0, 1e6, 0, declared=True)
    assert number.describe() == "number 0 … 1000000 with 0 decimals (declared)"
    with pytest.raises(TargetError, match=r"range 0 … 1000000, found 1000000\.4\."):
        number.parse("1000000.4")


@pytest.mark.parametrize(
    ("low", "high", "decimals", "message"),
    [
        (1.0, 1.0, 0, r"low end is below its high end, found 1\.0 … 1\.0"),
        (2.0, 1.0, 0, r"low end is below its high end, found 2\.0 … 1\.0"),
        (0.0, math.inf, 0, "a finite range"),
        (math.nan, 1.0, 0, "a finite range"),
        (0.1, 0.9, 0, "holds a number of 0 decimals"),
        (0.0, 2e15, 0, "at most 15 digits"),
        (-2e9, 0.0, 6, "at most 15 digits"),
        (0.0, 1.0, -1, "between 0 and 12 decimals, found -1"),
        (0.0, 1.0, 13, "between 0 and 12 decimals, found 13"),
    ],
)
def test_ranges_that_make_no_number(low: float, high: float, decimals: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Number(low, high, decimals)


def test_ends_may_be_numpys_numbers() -> None:
    number = Number(np.float64(0.5), np.float64(2.5), 1)
    assert (number.low_units, number.high_units) == (5, 25)


# ── Labels and their words ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", [1, 1.0, "1", " 1 "])
def test_a_label_is_known_in_every_format(cell: Any) -> None:
    assert MOODS.parse(cell) == 1
    assert MOODS.index(cell) == 1
    assert MOODS.to_text(MOODS.parse(cell)) == "fair"


def test_words_are_read_back() -> None:
    for value in MOODS.values:
        assert MOODS.from_text(f" {MOODS.to_text(value)} ") == value
    assert [MOODS.from_text(text) for text in ("good", "", "BAD", "1")] == [None] * 4
    assert Label(("a", "b"), (" one", "two ")).from_text("one") == "a"


@pytest.mark.parametrize(
    ("cell", "found"), [(3, "'3'"), ("bad", "'bad'"), (None, "an empty cell"), (math.nan, "NaN"), (True, "'True'")]
)
def test_unknown_labels_are_refused(cell: Any, found: str) -> None:
    with pytest.raises(TargetError, match=f"^Expected one of the labels 0, 1, 2, found {found}. Correct or remove"):
        MOODS.parse(cell)


def test_an_unknown_label_has_no_text() -> None:
    with pytest.raises(TargetError, match="Expected a known label, found '7'"):
        MOODS.to_text(7)


@pytest.mark.parametrize(
    ("values", "words", "error", "message"),
    [
        (("a",), ("a",), TargetError, r"at least two labels, found 1 \(a\)"),
        (("a", "b"), ("a",), ConfigError, "one word for each label"),
        ((1, "1"), ("a", "b"), ConfigError, "every label once, found '1' twice"),
        (("a", "b"), ("x", "x"), ConfigError, "every word once, found 'x' twice"),
        (("a", "b"), ("x", " "), ConfigError, "a word to write for each label, found an empty one"),
    ],
)
def test_labels_that_cannot_be_told_apart(values: Any, words: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Label(values, words)


def test_labels_for_people() -> None:
    assert MOODS.describe() == "3 labels: 0=bad, 1=fair, 2=very good"
    assert Label((True, False), ("true", "no")).describe() == "2 labels: True, False=no"
    many = tuple(f"l{position}" for position in range(12))
    assert Label(many, many).describe() == "12 labels: l0, l1, l2, l3, l4, l5, l6, l7, …"


# ── Cells ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", [None, "", " \t", math.nan, np.nan, np.float32("nan"), pd.NA, pd.NaT])
def test_missing_cells(cell: object) -> None:
    assert is_missing(cell)
    assert parse_number(cell) is None


@pytest.mark.parametrize("cell", [0, "0", False, "nan", "None", [], [1, 2], np.zeros(2)])
def test_cells_that_hold_something(cell: object) -> None:
    assert not is_missing(cell)


@pytest.mark.parametrize("cell", [[1, 2], np.zeros(2), {}, 10**400, "1e999", np.True_, "0x10"])
def test_things_that_are_no_number(cell: object) -> None:
    assert parse_number(cell) is None


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (np.int64(3), 3),
        (3.0, 3),
        (np.float32(2.5), "2.5"),
        (np.True_, True),
        (True, True),
        (" yes ", "yes"),
        (math.inf, "inf"),
    ],
)
def test_labels_become_values_that_json_holds(cell: object, value: object) -> None:
    found = label_value(cell)
    assert found == value
    assert type(found) is type(value)
    assert label_key(found) == label_key(cell)


def test_long_cells_are_shown_shortened() -> None:
    assert describe("x" * 60) == f"'{'x' * 60}'"
    assert describe("x" * 61) == f"'{'x' * 57}…'"


# ── Columns ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_columns_are_parsed_in_order() -> None:
    assert parse_cells(STARS, ["1", 2.5], "y", [1, 2]) == [1.0, 2.5]
    assert parse_cells(MOODS, ["2", 0.0], "y", [1, 2]) == [2, 0]


@pytest.mark.parametrize(
    ("target", "cell", "message"),
    [
        (STARS, "", r"^Expected a number in row 12, column 'y', found an empty cell\. Fill"),
        (MOODS, math.nan, r"^Expected a label in row 12, column 'y', found NaN\. Fill"),
        (STARS, "x", r"^Row 12, column 'y': Expected a finite number, found 'x'"),
        (STARS, "9", r"^Row 12, column 'y': Expected a number in the declared range 0 … 5, found 9\."),
        (MOODS, "x", r"^Row 12, column 'y': Expected one of the labels 0, 1, 2, found 'x'"),
    ],
)
def test_a_bad_cell_is_named(target: Target, cell: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_cells(target, [1, cell, cell], "y", [5, 12, 13])


@pytest.mark.parametrize(
    "target",
    [
        STARS,
        Number(-1e15, 1e15, 0),
        Number(0.1, 0.30000000000000004, 12),
        MOODS,
        Label((True, False), ("ja", "nein")),
        Label(("1.0", "é", "x y"), ("one", "two", "three")),
    ],
)
def test_targets_survive_json(target: Target) -> None:
    again = target_from_json(json.loads(json.dumps(target_to_json(target))))
    assert again == target
    assert repr(again) == repr(target)  # True is not 1
