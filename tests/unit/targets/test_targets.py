"""Cells to values to text and back."""

import json
import math
import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predgen.errors import ConfigError, DataError, TargetError
from predgen.tables.values import parse_cells
from predgen.targets.cells import describe, is_missing, label_key, label_value, parse_number
from predgen.targets.kinds import target_from_json, target_to_json
from predgen.targets.label import Label
from predgen.targets.number import Number, units_to_text, written_value
from predgen.targets.record import Target

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


def listed(low: float, high: float, decimals: int, smallest: float) -> list[tuple[Decimal, str]]:
    """Returns every value of a scientific number and its text, ascending, by trying all mantissas."""
    zero = low <= 0 <= high
    least, most = exact(smallest if zero else min(abs(low), abs(high))), exact(max(abs(low), abs(high)))
    found = [(Decimal(0), "0")] if zero else []
    for exponent in range(least.adjusted() - 1, most.adjusted() + 2):
        for units in range(10**decimals, 10 ** (decimals + 1)):
            mantissa = f"{Decimal(units).scaleb(-decimals):f}"
            for sign in ("", "-"):
                value = Decimal(f"{sign}{mantissa}e{exponent}")
                if exact(low) <= value <= exact(high) and abs(value) >= least:
                    found.append((value, f"{sign}e{exponent}*{mantissa}"))
    return sorted(found)


def listed_of(number: Number) -> list[tuple[Decimal, str]]:
    return listed(number.low, number.high, number.decimals, number.smallest)


def ranges(draw: st.DrawFn, digits: int, exponents: tuple[int, int]) -> tuple[float, float, float]:
    """Returns a range and a least magnitude: positive, negative, over zero, or up to it."""

    def magnitude() -> float:
        return float(f"{draw(st.integers(1, 10**digits - 1))}e{draw(st.integers(*exponents)) - digits + 1}")

    shape = draw(st.sampled_from(["positive", "negative", "over zero", "from zero", "to zero"]))
    first, second = magnitude(), magnitude()
    if shape in ("positive", "negative"):
        assume(first != second)
    low, high = {
        "positive": (min(first, second), max(first, second)),
        "negative": (-max(first, second), -min(first, second)),
        "over zero": (-first, second),
        "from zero": (0.0, first),
        "to zero": (-first, 0.0),
    }[shape]
    if shape in ("positive", "negative"):
        return low, high, 0.0
    smallest = magnitude()
    assume(smallest <= max(-low, high))
    return low, high, smallest


@st.composite
def small_scientific(draw: st.DrawFn, max_values: int = 1000) -> Number:
    """Returns scientific numbers of few enough values to list, between 1e-9 and 1e12."""
    decimals = draw(st.integers(0, 2))
    first = draw(st.integers(-9, 10) | st.sampled_from([-9, -1, 0, 9, 10]))
    low, high, smallest = ranges(draw, 3, (first, first + 2 - decimals // 2))
    assume(1 <= len([value for value, _ in listed(low, high, decimals, smallest) if value]) <= max_values)
    return Number(low, high, decimals, draw(st.booleans()), "scientific", smallest=smallest)


@st.composite
def wide_scientific(draw: st.DrawFn) -> Number:
    """Returns scientific numbers between 1e-9 and 1e12 of up to 15 digits."""
    decimals = draw(st.integers(0, 14))
    low, high, smallest = ranges(draw, draw(st.integers(1, 17)), (-9, 11))
    try:
        return Number(low, high, decimals, form="scientific", smallest=smallest)
    except ConfigError as error:  # both ends between the same neighbors
        assume("holds a mantissa" not in str(error))
        raise


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


# ── The scientific form ──────────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(number=small_scientific())
def test_scientific_values_are_those_of_the_range(number: Number) -> None:
    values = listed_of(number)
    assert number.num_values == len(values)
    for value, text in values:
        assert number.to_text(float(value)) == text
        assert written_value(text) == float(value)
        assert number.from_text(f" {text}\n") == number.from_text(str(float(value))) == float(value)
        assert number.parse(float(value)) == float(value)
        assert set(text) <= set(number.characters)


@PROPERTY
@given(number=small_scientific(), data=st.data())
def test_scientific_text_is_the_nearest_value(number: Number, data: st.DataObject) -> None:
    values = listed_of(number)
    place = data.draw(st.integers(0, len(values) - 1))
    beside = values[min(place + 1, len(values) - 1)][0]
    share = data.draw(st.floats(0, 1) | st.sampled_from([0.5, 0.0, 1.0]))
    between = float(values[place][0]) * (1 - share) + float(beside) * share
    beyond = data.draw(st.sampled_from([-1e300, -2.0, 0.0, 1e-300, 2.0, 1e300]))
    for value in (between, number.clip(between), beyond, number.high * 1.01, number.low * 1.01):
        written = dict((text, one) for one, text in values)[number.to_text(value)]
        nearest = min(abs(one - exact(value)) for one, _ in values)
        assert abs(written - exact(value)) == nearest


@PROPERTY
@given(number=wide_scientific(), share=st.floats(0, 1), power=st.floats(-9, 12), negative=st.booleans())
def test_scientific_text_is_read_back(number: Number, share: float, power: float, negative: bool) -> None:
    inside = number.low + share * (number.high - number.low)
    for value in (inside, (-1 if negative else 1) * 10.0**power, number.low, number.high):
        text = number.to_text(value)
        read = written_value(text)
        assert number.low <= read <= number.high
        assert number.from_text(text) == read
        assert number.to_text(read) == text
        if text == "0":
            continue
        sign, exponent, mantissa = re.fullmatch(r"(-?)e(0|-?[1-9]\d*)\*([1-9](?:\.\d+)?)", text).groups()  # type: ignore[union-attr]
        assert len(mantissa.partition(".")[2]) == number.decimals
        decimal = Decimal(f"{sign}{mantissa}e{exponent}")
        assert exact(number.low) <= decimal <= exact(number.high)
        assert read == float(decimal)
        rounded = Decimal(f"{exact(number.clip(value)):.{number.decimals}e}")  # another way to the nearest
        if exact(number.low) <= rounded <= exact(number.high) and abs(rounded) >= exact(number.smallest):
            assert decimal == rounded


@PROPERTY
@given(number=numbers(), share=st.floats(0, 1))
def test_the_value_of_a_fixed_text_is_what_python_reads(number: Number, share: float) -> None:
    text = number.to_text(number.low + share * (number.high - number.low))
    assert written_value(text) == float(text) == number.from_text(text)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (3.8e-5, 2, "e-5*3.80"),
        (-1e12, 2, "-e12*1.00"),
        (0.0, 2, "0"),
        (-0.0, 2, "0"),
        (1.0, 0, "e0*1"),
        (1.25, 1, "e0*1.2"),
        (1.35, 1, "e0*1.4"),
        (-0.0125, 1, "-e-2*1.2"),
        (9.95, 1, "e1*1.0"),
        (9.85, 1, "e0*9.8"),
        (9.999e11, 2, "e12*1.00"),
        (9.5, 0, "e1*1"),
        (8.5, 0, "e0*8"),
        (2e12, 2, "e12*1.00"),
        (1e300, 14, "e12*1.00000000000000"),
        (0.1 + 0.2, 14, "e-1*3.00000000000000"),
        (5e-10, 2, "0"),
        (5.1e-10, 2, "e-9*1.00"),
        (-5.1e-10, 2, "-e-9*1.00"),
        (-1e-300, 2, "0"),
        (1.234e-9, 2, "e-9*1.23"),
    ],
)
def test_known_scientific_texts(value: float, decimals: int, text: str) -> None:
    assert Number(-1e12, 1e12, decimals, form="scientific", smallest=1e-9).to_text(value) == text


@pytest.mark.parametrize(
    ("low", "high", "smallest", "values"),
    [
        (3.45, 9.97, 0.0, {3.4: "e0*3.5", 9.96: "e0*9.9", 10.0: "e0*9.9", 0.0: "e0*3.5", -5.0: "e0*3.5"}),
        (-9.97, -3.45, 0.0, {-3.4: "-e0*3.5", -9.96: "-e0*9.9", -10.0: "-e0*9.9", 0.0: "-e0*3.5", 5.0: "-e0*3.5"}),
        (0.0, 9.97, 3.42, {-5.0: "0", 1.7: "0", 1.75: "0", 1.76: "e0*3.5", 9.99: "e0*9.9"}),
        (-9.97, 0.0, 3.42, {5.0: "0", -1.7: "0", -1.75: "0", -1.76: "-e0*3.5", -9.99: "-e0*9.9"}),
        (-0.01, 9.97, 3.42, {-0.01: "0", -5.0: "0", 5.0: "e0*5.0"}),  # nothing negative is large enough
    ],
)
def test_what_rounding_would_carry_out_of_the_range_stays_in_it(
    low: float, high: float, smallest: float, values: dict[float, str]
) -> None:
    number = Number(low, high, 1, form="scientific", smallest=smallest)
    assert {value: number.to_text(value) for value in values} == values


def test_scientific_texts_that_are_no_value_of_the_range() -> None:
    number = Number(1e-9, 1e3, 2, form="scientific")
    read = ["e2*9.99", "e2*9.9", " e2*9 ", "999", "9.99e2"]
    assert [number.from_text(text) for text in read] == [999.0, 990.0, 900.0, 999.0, 999.0]
    wrong = ["0", "e4*1.00", "-e2*1.00", "e999*9.99", "e-10*9.99", "e+2*1.00", "e02*1.00", "e-0*1.00", "e2*0.50"]
    wrong += ["e2*10.0", "e2*", "e2", "2*1.00", "e2*1.", "e 2*1.00", "--e2*1.00", "", "x", "nan"]
    assert [number.from_text(text) for text in wrong] == [None] * len(wrong)
    assert Number(0.0, 1e3, 2).from_text("e2*9.99") is None  # of the other form
    assert Number(-1.0, 1.0, 2, form="scientific", smallest=0.1).from_text("0") == 0.0


@pytest.mark.parametrize("text", ["e2", "e2*10", "x", "1*2", ""])
def test_a_text_of_neither_form_has_no_value(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        written_value(text)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"decimals": 15}, r"between 0 and 14 decimals, found 15\."),
        ({"decimals": -1}, r"between 0 and 14 decimals, found -1\."),
        ({"low": 2e12}, r"low end is below its high end"),
        ({"low": math.nan}, r"a finite range"),
        ({"low": 0.0}, r"a least magnitude above 0 and up to 1000000000000\.0 where a scientific range reaches zero"),
        ({"low": -1.0, "smallest": -1e-3}, r"found -0\.001\. Give another `smallest`"),
        ({"low": -1.0, "smallest": math.nan}, r"found nan\."),
        ({"low": -1.0, "high": 2.0, "smallest": 3.0}, r"above 0 and up to 2\.0 .*, found 3\.0\."),
        ({"low": 9e-301}, r"exponents lie between -300 and 300, found 9e-301 … 1000000000000\.0\."),
        ({"high": 1e301}, r"exponents lie between -300 and 300, found 1e-09 … 1e\+301\."),
        ({"low": 0.0, "smallest": 9e-301}, r"exponents lie between -300 and 300, found 9e-301"),
        ({"low": -1e301, "smallest": 1.0}, r"exponents lie between -300 and 300, found 1\.0 … 1e\+301"),
        ({"low": 1.001, "high": 1.009}, r"holds a mantissa of 2 decimals, found 1\.001 … 1\.009\. Give more decimals"),
        ({"low": -1.001, "high": 1.009, "smallest": 1.001}, r"holds a mantissa of 2 decimals"),
        ({"low": 0.0, "logarithmic": True}, r"a range above 0 for a logarithmic number, found 0\.0 … 1000000000000\.0"),
    ],
)
def test_scientific_numbers_that_cannot_be(settings_: dict[str, Any], message: str) -> None:
    given_: dict[str, Any] = {"low": 1e-9, "high": 1e12, "decimals": 2, "form": "scientific"}
    with pytest.raises(ConfigError, match=message):
        Number(**(given_ | settings_))


def test_a_form_that_is_none() -> None:
    number = Number(0.0, 5.0, 2)
    object.__setattr__(number, "form", "roman")  # as a file of a later version might say; the types refuse it here
    with pytest.raises(ConfigError, match=r"the form fixed or scientific, found 'roman'"):
        number.__post_init__()


def test_fifteen_digits_and_exponents_of_300_are_enough() -> None:
    number = Number(-9.99e300, 9.99e300, 14, form="scientific", smallest=1e-300)
    for text in ("-e300*9.98999999999999", "e-300*1.00000000000000", "e300*9.99000000000000", "e0*1.00000000000001"):
        assert number.to_text(written_value(text)) == text
    assert number.num_values == 2 * (600 * 9 * 10**14 + 899 * 10**12 + 1) + 1


# ── Logarithms ───────────────────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(st.floats(1e-9, 1e12))
def test_heads_learn_the_logarithm_of_a_logarithmic_number(value: float) -> None:
    for form in ("fixed", "scientific"):
        number = Number(1e-3, 1e12, 2, form=form, logarithmic=True)  # type: ignore[arg-type]
        assert number.learned(value) == math.log10(value)
        assert number.unlearned(number.learned(value)) == pytest.approx(value, rel=1e-13)
    plain = Number(1e-3, 1e12, 2)
    assert plain.learned(value) == plain.unlearned(value) == value


def test_what_no_logarithm_can_be() -> None:
    number = Number(1e-3, 1e3, 2, logarithmic=True)
    assert number.unlearned(400.0) == math.inf
    assert number.clip(number.unlearned(400.0)) == 1e3
    assert number.unlearned(-400.0) == 0.0
    assert number.parse("2000") == 2000.0  # outside of an inferred range
    for cell in (0, "-1.5"):
        with pytest.raises(TargetError, match=rf"a number above 0, .*, found {cell}\. .*logarithmic=false"):
            number.parse(cell)
    with pytest.raises(ConfigError, match=r"a range above 0 for a logarithmic number, found -1\.0 … 5\.0\."):
        Number(-1.0, 5.0, 2, logarithmic=True)


def test_forms_for_people() -> None:
    wide = Number(1e-9, 1e12, 2, form="scientific", logarithmic=True)
    assert wide.describe() == "number 1e-09 … 1000000000000 in scientific form with 2 decimals, logarithmic (inferred)"
    both = Number(-5.0, 5.0, 1, True, "scientific", smallest=1e-3)
    assert both.describe() == "number -5 … 5 in scientific form with 1 decimal, least magnitude 0.001 (declared)"
    assert Number(1.0, 5.0, 0, logarithmic=True).describe() == "number 1 … 5 with 0 decimals, logarithmic (inferred)"


# ── Labels and their words ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", [1, 1.0, "1", " 1 "])
def test_a_label_is_known_in_every_format(cell: Any) -> None:
    assert MOODS.parse(cell) == 1
    assert MOODS.index(cell) == 1
    assert MOODS.to_text(MOODS.parse(cell)) == "fair"


@pytest.mark.parametrize(
    "same",
    [
        [True, "true", "True", "TRUE", " True ", np.True_, np.array([True])[0], np.str_("True")],
        [False, "false", "False", "FALSE", np.False_],
        [1, 1.0, "1", "1.0", "1.00", np.int8(1), np.uint64(1), np.float32(1), np.str_("1"), Decimal("1.0")],
        [0, -0.0, "0", "-0.0", "0.0", np.float64(-0.0)],
        [0.5, "0.5", np.float64(0.5), np.float32(0.5), np.str_("0.5"), Decimal("0.5")],
        [10**22, 1e22, "1e+22", "10000000000000000000000", "10000000000000000000000.0"],
        [float(np.float32(0.1)), np.float32(0.1), str(float(np.float32(0.1)))],
    ],
    ids=lambda same: label_key(same[0]),
)
def test_a_label_has_one_key_whatever_holds_it(same: list[Any]) -> None:
    assert {label_key(cell) for cell in same} == {label_key(same[0])}
    assert {label_key(label_value(cell)) for cell in same} == {label_key(same[0])}


def test_labels_that_only_look_like_numbers_keep_their_texts() -> None:
    texts = ["007", "7", "1e5", "1.10", "1.1", "tRue", "yes", "+1", "1_0", "-0", "1e+400", "1.0.0"]
    assert [label_key(text) for text in texts] == texts


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
        (MOODS, math.nan, r"^Expected a label in row 12, column 'y', found an empty cell\. Fill"),
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
        Number(1e-9, 1e12, 14, form="scientific", logarithmic=True),
        Number(-1e12, 1e12, 0, True, "scientific", smallest=1e-9),
        MOODS,
        Label((True, False), ("ja", "nein")),
        Label(("1.0", "é", "x y"), ("one", "two", "three")),
    ],
)
def test_targets_survive_json(target: Target) -> None:
    again = target_from_json(json.loads(json.dumps(target_to_json(target))))
    assert again == target
    assert repr(again) == repr(target)  # True is not 1


def test_numbers_that_were_saved_before_there_were_forms() -> None:
    old = {"kind": "number", "low": 0.0, "high": 5.0, "decimals": 2, "declared": True}
    assert target_from_json(old) == STARS
