"""The stated rules by which a target is inferred from a column."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predgen.errors import ConfigError, DataError, TargetError
from predgen.targets.cells import label_key
from predgen.targets.inference import infer_kind
from predgen.targets.label import Label, infer_label
from predgen.targets.label_set import infer_set
from predgen.targets.number import Number, infer_number, written_value
from predgen.targets.ranges import Form
from predgen.warning_kinds import ConstantTargetWarning, IdTargetWarning, RareLabelsWarning, SimilarLabelsWarning
from tests.unit.targets.test_targets import exact

PROPERTY = settings(max_examples=150)


@pytest.mark.parametrize(
    ("cells", "kind", "reason"),
    [
        (["a", "b"], "label", "its cells are not numbers"),
        (["[[]]", "a;b", "b;a", "a;b"], "label", "its cells are not numbers"),
        ([None, ""], "label", "its cells are not numbers"),
        ([], "label", "its cells are not numbers"),
        (list(range(10)) * 3, "label", "it holds only 10 different whole numbers"),
        (["1.0", "2", 3.0, None], "label", "it holds only 3 different whole numbers"),
        (list(range(11)), "number", "its cells are numbers"),
        ([0.5, 1.0], "number", "its cells are numbers"),
        (
            [f"{month:02d}" for month in range(1, 13)],
            "label",
            "its cells have leading zeros, as codes do: '01' (declare",
        ),
        ([f"{code:05d}" for code in range(12)], "label", "its cells have leading zeros, as codes do: '00000'"),
        (["008.45", "12.5", "7"], "label", "its cells have leading zeros"),
        (["0.5", "0", "-0.25", "0e1"], "number", "its cells are numbers"),
        (["[removed]", "[deleted]", "kept"], "label", "its cells are not numbers"),
        (["[removed]", "[deleted]"], "label", "its cells are not numbers"),
        (['["a"]', "[]", '["a", "b"'], "set", "its cells are lists"),
        ([True, False] * 5, "label", "its cells are not numbers"),
        ([*map(str, range(18)), "n/a", "?"], "number", "its cells are numbers"),  # nine in ten: with mistakes
        ([*map(str, range(17)), "n/a", "?"], "label", "its cells are not numbers"),
    ],
)
def test_the_kind_of_a_column(cells: list[Any], kind: str, reason: str) -> None:
    found, why = infer_kind(cells)
    assert found == kind
    assert why.startswith(reason)


COLUMN = st.integers(0, 6).flatmap(
    lambda digits: st.lists(st.integers(-(10**6), 10**6).map(lambda units: units / 10**digits), min_size=2, max_size=20)
)


@PROPERTY
@given(COLUMN)
def test_inferred_decimals_are_the_fewest_that_cost_one_percent_of_the_deviation(values: list[float]) -> None:
    number = infer_number(values, form="fixed")
    allowed = 0.01 * float(np.std(values))

    def cost(decimals: int) -> float:
        return max(abs(float(round(exact(value), decimals) - exact(value))) for value in values)

    assert cost(number.decimals) <= allowed * (1 + 1e-9) + 1e-9
    assert number.decimals == 0 or cost(number.decimals - 1) > allowed * (1 - 1e-9)


@PROPERTY
@given(COLUMN)
def test_an_inferred_range_is_wider_than_the_column_but_not_past_zero(values: list[float]) -> None:
    number = infer_number(values, form="fixed")
    smallest, largest, unit = min(values), max(values), 10.0**-number.decimals
    margin = max(0.1 * (largest - smallest), unit)
    assert not number.declared
    assert number.low == pytest.approx(max(smallest - margin, 0) if smallest >= 0 else smallest - margin, abs=unit)
    assert number.high == pytest.approx(
        min(largest + margin, 0) if largest <= 0 > smallest else largest + margin, abs=unit
    )
    assert (number.low < 0) == (smallest < 0)
    assert number.high > 0 or largest <= 0
    for value in values:
        assert abs(Decimal(number.to_text(value)) - exact(value)) <= Decimal(1).scaleb(-number.decimals) / 2
    assert "-0 " not in number.describe()


def test_known_columns() -> None:
    assert infer_number([0.123456789, 5.0, 2.5, 3.8]) == Number(0.0, 5.49, 2)
    assert infer_number([10.0, 20.0, 30.0]) == Number(8.0, 32.0, 0)
    assert infer_number([-3.0, -1.02, -10.0]) == Number(-11.0, 0.0, 0)
    assert infer_number([-3.0, -1.02, -10.0]).describe() == "number -11 … 0 with 0 decimals (inferred)"  # no −0
    assert infer_number([4.0, 4.0]) == Number(4.0, 4.0, 0)
    assert infer_number([4.0, 4.0], decimals=0) == Number(3.0, 5.0, 0)
    assert infer_number([0.0, 0.0]) == Number(0.0, 0.0, 0)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e3, 1e9, 1e12])
def test_the_scale_of_a_column_does_not_matter(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=50) * scale
    number = infer_number(values.tolist())
    written = np.array([float(number.to_text(value)) for value in values.tolist()])
    assert np.abs(written - values).max() <= 0.01 * values.std()


@pytest.mark.parametrize(
    ("values", "decimals", "message"),
    [
        ([1e30, 2e30], None, r"15 digits, 0 of them after the point, found 2e\+30\. .*divide the column"),
        ([-1e308, 1.0], None, r"15 digits, 0 of them after the point, found -1e\+308\."),
        ([1e15 + 2, 0.0], None, r"15 digits, 0 of them after the point, found 1e\+15\."),
        ([0.0, 1234.5], 12, r"15 digits, 12 of them after the point, found 1234\.5\. Declare fewer decimals"),
    ],
)
def test_values_of_more_digits_than_a_float_holds(values: list[float], decimals: int | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        infer_number(values, decimals=decimals)
    assert infer_number([-1e15, 9e14]) == Number(-1e15, 1e15, 0)  # no room for a margin, but refused they are not


def test_digits_that_only_rounding_errors_need_are_not_inferred() -> None:
    assert infer_number([1e6 + 0.1 * step for step in range(5)]).decimals == 1
    assert infer_number([1e6 + 1e-9, 1e6]).decimals <= 9
    assert infer_number([0.1 + 0.2, 0.3, 0.3]).decimals == 1


def test_what_is_declared_is_taken_as_it_is() -> None:
    assert infer_number([1.0, 2.5], low=-1.0, high=9.0, decimals=3) == Number(-1.0, 9.0, 3, declared=True)
    assert infer_number([1.0, 2.5], low=-1.0, high=9.0) == Number(-1.0, 9.0, 1, declared=True)
    assert infer_number([1.0, 2.5], decimals=3) == Number(0.85, 2.65, 3)


@pytest.mark.parametrize("ends", [{"low": 0.0}, {"high": 9.0}])
def test_half_a_range(ends: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="both ends of the declared range, found one"):
        infer_number([1.0, 2.0], **ends)


# ── Wide ranges ──────────────────────────────────────────────────────────────────────────────────────────────


POSITIVE = st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=20)


@PROPERTY
@given(POSITIVE)
def test_a_column_over_six_orders_of_magnitude_is_logarithmic_and_scientific(values: list[float]) -> None:
    number = infer_number(values)
    wide = max(values) >= 1e6 * min(values)
    assert number.logarithmic == wide
    allowed = max(0.01 * float(np.std(values)), 1e-12 * max(values))
    fine = max(abs(round(value, 12) - value) for value in values) > allowed
    assert number.form == ("scientific" if wide or (fine and max(values) < 1000) else "fixed")
    if wide:
        assert number == infer_number(values, form="scientific", logarithmic=True)
        assert number.decimals == 2


def test_when_a_column_is_wide() -> None:
    assert infer_number([1.0, 1e6]).logarithmic
    assert not infer_number([1.0, 999_999.0]).logarithmic
    assert not infer_number([0.0, 1.0, 1e6]).logarithmic
    assert not infer_number([-1.0, 1.0, 1e6]).logarithmic
    for declared in ({"form": "fixed"}, {"logarithmic": False}, {"decimals": 1}, {"low": 0.0, "high": 1e7}):
        number = infer_number([1.0, 1e6], **declared)  # type: ignore[arg-type]
        assert (number.form, number.logarithmic) == ("fixed", False)
    alone = infer_number([1.0, 1e6], form="scientific")
    assert (alone.form, alone.logarithmic) == ("scientific", False)
    alone = infer_number([1.0, 1e6], logarithmic=True)
    assert (alone.form, alone.logarithmic) == ("fixed", True)
    assert infer_number([1e-301, 1.0]).form == "fixed"  # no exponent is so small


@PROPERTY
@given(values=POSITIVE, decimals=st.integers(0, 14))
def test_a_logarithmic_range_is_wider_by_a_tenth_of_the_logarithms(values: list[float], decimals: int) -> None:
    number = infer_number(values, form="scientific", logarithmic=True, decimals=decimals)
    first, last = (np.log10(end) for end in (min(values), max(values)))
    margin = 0.1 * (last - first)
    unit = np.log10(1 + 10.0**-decimals)
    assert first - max(margin, unit) - unit - 1e-9 <= np.log10(number.low) <= first - margin + 1e-9
    assert last + margin - 1e-9 <= np.log10(number.high) <= last + max(margin, unit) + unit + 1e-9
    assert number.low < min(values) <= max(values) < number.high
    for end in (number.low, number.high):
        assert written_value(number.to_text(end)) == end
    for value in values:
        assert written_value(number.to_text(value)) == pytest.approx(value, rel=0.50001 * 10.0**-decimals)


@PROPERTY
@given(POSITIVE)
def test_a_logarithmic_number_of_fixed_form_holds_its_column(values: list[float]) -> None:
    number = infer_number(values, logarithmic=True)
    assert number.form == "fixed"
    assert number.low > 0
    assert number.low < min(values) or number.low == 10.0**-number.decimals
    assert max(values) < number.high or number.high == 1e15 / 10**number.decimals
    logarithms = np.log10(values)
    allowed = max(0.01 * logarithms.std(), 1e-14)

    def cost(decimals: int) -> float:
        return max(abs(np.log10(max(round(value, decimals), 1e-300)) - np.log10(value)) for value in values)

    full = number.decimals == 12 or max(values) * 10.0 ** (number.decimals + 1) > 1e15
    assert full or cost(number.decimals) <= allowed * 1.001
    assert number.decimals == 0 or cost(number.decimals - 1) > allowed * 0.999 - 1e-14


@PROPERTY
@given(st.lists(st.floats(1e-9, 1e12) | st.floats(-1e12, -1e-9) | st.just(0.0), min_size=1, max_size=20))
def test_a_scientific_range_that_is_not_logarithmic(values: list[float]) -> None:
    number = infer_number(values, form="scientific")
    smallest, largest = min(values), max(values)
    margin = 0.1 * (largest - smallest)
    allowed = max(0.01 * float(np.std(values)), 1e-15 * max(map(abs, values)))

    def cost(decimals: int) -> float:
        return max(abs(float(f"{value:.{decimals}e}") - value) for value in values)

    assert number.decimals in (2, 14) or cost(number.decimals - 1) > allowed * (1 - 1e-9)
    assert number.decimals == 14 or cost(number.decimals) <= allowed * (1 + 1e-9)
    # The ends have three digits or more.
    low, high = max(smallest - margin, 0) if smallest >= 0 else smallest - margin, largest + margin
    high = min(high, 0) if largest <= 0 > smallest else high
    slack = 0.0202 * max(map(abs, values)) + 1.0
    assert low - slack <= number.low <= low + 1e-9 * abs(low)
    assert high - 1e-9 * abs(high) <= number.high <= high + slack
    assert number.low <= smallest <= largest <= number.high
    if number.low <= 0 <= number.high:
        least = min((abs(value) for value in values if value), default=number.high)
        assert number.smallest == float(f"1e{exact(least).adjusted()}")
    else:
        assert number.smallest == 0.0
    for value in values:
        assert written_value(number.to_text(value)) == pytest.approx(value, rel=0.0050001)


@pytest.mark.parametrize("scale", [1e-290, 1e-100, 1e-19, 1e-12, 1e-9, 1.0, 1e9])
@pytest.mark.parametrize("offset", [0.0, 8.0, -80.0])
def test_distinct_values_stay_distinct_however_small_they_are(scale: float, offset: float) -> None:
    values = [float(f"{offset + step / 10:.1f}e0") * scale for step in range(1, 81)]
    number = infer_number(values)
    texts = [number.to_text(value) for value in values]
    assert len(set(texts)) == 80
    for text, value in zip(texts, values, strict=True):
        assert written_value(text) == pytest.approx(value, rel=1e-9, abs=0)


@PROPERTY
@given(
    st.lists(st.integers(-999, 999), min_size=2, max_size=30, unique=True),
    st.integers(-290, 11),
    st.sampled_from([None, "fixed", "scientific"]),
)
def test_values_that_differ_by_more_than_the_stated_error_are_written_apart(
    units: list[int], exponent: int, form: Form | None
) -> None:
    assume(form != "fixed" or exponent >= -9)
    values = [float(f"{unit}e{exponent}") for unit in units]
    number = infer_number(values, form=form)
    texts = [number.to_text(value) for value in values]
    order = np.argsort(values)
    for first, second in pairwise(order):
        if values[second] - values[first] > 0.02 * float(np.std(units)) * 10.0**exponent * (1 + 1e-9):
            assert texts[first] != texts[second], number


def test_values_that_no_form_tells_apart_are_refused() -> None:
    with pytest.raises(DataError, match=r"1e-300 or more, .* told apart, found 9\.99988867182683e-321\. Multiply"):
        infer_number([1e-320, 2e-320, 3e-310, 1e-300])


def test_values_that_are_written_alike_are_counted() -> None:
    values = [*np.random.default_rng(0).normal(size=200).tolist(), 400.0]
    number = infer_number(values)
    apart = len({number.to_text(value) for value in values})
    assert number.describe_column(values).endswith(f"{apart} of 201 different values are written apart")
    assert infer_number([1.0, 2.0, 2.0]).describe_column(["1", 2.0, None]) == "number 0 … 3 with 0 decimals (inferred)"


@pytest.mark.parametrize("value", [4.5, 0.0, -3.0, 1e14, 8e-19, 0.1])
def test_a_column_of_one_number_has_one_value_and_is_warned_of(value: float) -> None:
    number = infer_number([value] * 3)
    assert (number.low, number.high, number.num_values) == (value, value, 1)
    assert written_value(number.to_text(value + 1)) == value
    (doubt,) = number.doubts([value, str(value)])
    assert isinstance(doubt, ConstantTargetWarning)
    assert "there is nothing to learn" in str(doubt)
    assert infer_number([value, value + 100.0]).doubts([value, value + 100.0]) == []


@pytest.mark.parametrize(
    ("cells", "doubts"),
    [
        (["2", "2.0", "3"], ["'2' and '2.0' are one label"]),
        (["1.0", "1.00", "7", "007"], ["'1.0' and '1.00' are one label"]),
        (["True", True, "true", False], ["'True' and 'true' are one label"]),
        (["caf\xe9", "cafe\u0301", "tea"], [r"'caf\xe9' and 'cafe\u0301' are different labels, but look alike"]),
        (["yes", "ye\u200bs", "no"], [r"'yes' and 'ye\u200bs' are different labels, but look alike"]),
        (["a\u00a0b", "a b"], [r"'a\xa0b' and 'a b' are different labels, but look alike"]),
        (["yes", "no", " yes ", 1, 2.0], []),
    ],
)
def test_labels_of_several_texts_and_labels_that_look_alike_are_told(cells: list[Any], doubts: list[str]) -> None:
    found = [str(one) for one in infer_label(cells).doubts(cells) if isinstance(one, SimilarLabelsWarning)]
    assert len(found) == len(doubts)
    assert all(sentence.startswith(doubt) for sentence, doubt in zip(found, doubts, strict=True))


def test_labels_of_one_row_are_counted() -> None:
    cells = ["cat"] * 8 + ["dog"] * 8 + ["elk", "fox", 1, "1.0"]
    (doubt,) = [one for one in infer_label(cells).doubts(cells) if not isinstance(one, SimilarLabelsWarning)]
    assert isinstance(doubt, RareLabelsWarning)
    assert str(doubt).startswith("2 of 5 labels stand in one training row alone ('elk', 'fox'): little can be learned")
    assert infer_label(cells[:16]).doubts(cells[:16]) == []
    sets = ["cat|dog", "dog|cat", "cat|elk", "none"]  # the last is the empty set
    (doubt,) = infer_set(sets).doubts(sets)
    assert isinstance(doubt, RareLabelsWarning)
    assert str(doubt).startswith("1 of 3 labels stand in one training row alone ('elk')")


def test_a_column_of_ids_is_told_from_one_of_rare_labels() -> None:
    ids = [f"row-{number}" for number in range(16)] + ["cat"] * 24
    (doubt,) = infer_label(ids).doubts(ids)
    assert isinstance(doubt, IdTargetWarning)
    assert str(doubt).startswith("16 of 40 training rows have a label that no other row has: the column looks like an")
    fewer = [*ids[1:], "cat"]
    assert [type(one) for one in infer_label(fewer).doubts(fewer)] == [RareLabelsWarning]
    few = ids[:15] + ["cat"] * 4  # of so few rows nothing is said of the column
    assert [type(one) for one in infer_label(few).doubts(few)] == [RareLabelsWarning]


def test_whole_numbers_that_count_the_rows_look_like_an_id() -> None:
    counted = [str(number) for number in range(1000, 1100) if number % 5]
    (doubt,) = infer_number(list(map(float, counted))).doubts(counted)
    assert isinstance(doubt, IdTargetWarning)
    assert str(doubt).startswith(
        "all 80 training rows hold different whole numbers from 1001 to 1099: the column looks"
    )
    twice, apart, halves = [*counted[1:], counted[1]], [7 * row for row in range(80)], [row + 0.5 for row in range(80)]
    for cells in (twice, apart, halves, counted[:19]):
        assert infer_number(list(map(float, cells))).doubts(cells) == []


@pytest.mark.parametrize(
    ("cell", "form", "read"),
    [
        ("2,214.87", "commas between its thousands", "en"),
        ("13%", "a percentage", "percent"),
        ("6,62", "a decimal comma", "de"),
        ("1.234,5", "a decimal comma", "de"),
        ("$0.50", "an amount of money", "en"),
        ("1,200 €", "an amount of money", "en"),
    ],
)
def test_texts_that_people_write_for_numbers_are_named(cell: str, form: str, read: str) -> None:
    with pytest.raises(
        TargetError, match=rf"found '.*', which looks like .*{form}\. Declare --number-format {read}.*, or correct"
    ):
        Number.check_cell(cell)
    cells = [f"{row}{cell}" if cell[0].isdigit() else f"{cell}{row}" for row in range(10, 40)]
    kind, reason = infer_kind(cells)
    assert kind == "label"
    assert f"(declare --number-format {read} (it is" in reason
    with pytest.raises(
        DataError,
        match=rf"30 different values in 30 rows, such as .*, which looks like .* Declare --number-format {read} ",
    ):
        infer_label(cells)


def test_known_wide_columns() -> None:
    assert infer_number([1e-9, 1e12]) == Number(7.94e-12, 1.26e14, 2, False, "scientific", True)
    assert infer_number([-5.0, 1e9], form="scientific", decimals=0) == Number(
        -2e9, 2e9, 0, False, "scientific", False, 1.0
    )
    assert infer_number([0.0, 0.0], form="scientific") == Number(0.0, 0.01, 2, False, "scientific", smallest=0.01)
    assert infer_number([0.0, 0.037, 5e9], form="scientific").smallest == 0.01
    assert infer_number([-3.0, -1e-7], form="scientific") == Number(-3.3, 0.0, 2, False, "scientific", smallest=1e-7)
    assert infer_number([1e-300, 1e300]) == Number(1e-300, 1e300, 2, False, "scientific", True)
    assert infer_number([1e-320, 1e10], form="scientific").smallest == 1e-300
    assert infer_number([1e-320, 1e-300], form="scientific").low == 0.0
    assert infer_number([-1e-300, -9e-301], form="scientific").high == 0.0
    assert infer_number([4.0, 4.0], logarithmic=True) == Number(3.0, 5.0, 0, logarithmic=True)
    assert infer_number([4.0, 4.0], form="scientific", logarithmic=True).describe() == (
        "number 3.99 … 4.01 in scientific form with 2 decimals, logarithmic (inferred)"
    )


def test_a_declared_range_in_scientific_form() -> None:
    values = [0.02, 3e5]
    found = infer_number(values, low=-10.0, high=1e6, form="scientific")
    assert found == Number(-10.0, 1e6, 2, True, "scientific", smallest=0.01)
    found = infer_number(values, low=1e-3, high=1e6, decimals=4, form="scientific", logarithmic=True)
    assert found == Number(1e-3, 1e6, 4, True, "scientific", True)
    # A magnitude that the range lacks is none to infer: the rows with it are refused later.
    assert infer_number([100.0, 0.0], low=0.0, high=1.0, form="scientific").smallest == 1.0


def test_a_logarithmic_column_below_one_unit_of_the_fixed_form_has_two_values() -> None:
    assert infer_number([0.079], logarithmic=True, decimals=0) == Number(1.0, 2.0, 0, logarithmic=True)
    assert infer_number([7e-300, 8e-300], logarithmic=True) == Number(1e-12, 2e-12, 12, logarithmic=True)
    assert infer_number([5.0, 5.0], logarithmic=True, decimals=0) == Number(4.0, 6.0, 0, logarithmic=True)


@pytest.mark.parametrize(
    ("values", "declared", "error", "message"),
    [
        (
            [0.0, 5.0],
            {"logarithmic": True},
            ConfigError,
            r"only values above 0 for a logarithmic number, found 0\. Leave",
        ),
        ([-2.0, 5.0], {"logarithmic": True, "form": "scientific"}, ConfigError, r"only values above 0 .*, found -2\."),
        ([2.0, 5.0], {"logarithmic": True, "low": 0.0, "high": 9.0}, ConfigError, r"a range above 0 for a logarithmic"),
        ([1.0, 2.0], {"form": "scientific", "low": 0.5}, ConfigError, r"both ends of the declared range, found one"),
        ([1.0, 2.0], {"form": "scientific", "decimals": 15}, ConfigError, r"between 0 and 14 decimals, found 15"),
        ([0.0, 1e305], {"form": "scientific"}, DataError, r"magnitudes between 1e-300 and 1e\+300, found 0 … 1e\+305"),
        (
            [-1e305, 0.0],
            {"form": "scientific"},
            DataError,
            r"found -1e\+305 … 0\. Multiply the column by a power of ten",
        ),
        ([0.0, 1e-305], {"form": "scientific"}, DataError, r"magnitudes between 1e-300 and 1e\+300, found 0 … 1e-305"),
        ([1e-305, 1.0], {"form": "scientific", "logarithmic": True}, DataError, r"found 1e-305 … 1\. Multiply"),
    ],
)
def test_wide_columns_that_make_no_number(
    values: list[float], declared: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        infer_number(values, **declared)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        ([10, 9, 2.0, "1", 9], (1, 2, 9, 10)),
        (["10", "9", "-1.5"], ("-1.5", "9", "10")),
        (["b", "a", "10", "9", " a "], ("10", "9", "a", "b")),
        ([True, False], (False, True)),
    ],
)
def test_labels_stand_in_numeric_or_else_alphabetic_order(cells: list[Any], values: tuple[Any, ...]) -> None:
    label = infer_label(cells)
    assert tuple(map(label_key, label.values)) == tuple(map(label_key, values))
    assert label.words == tuple(map(label_key, values))


def test_label_words() -> None:
    label = infer_label([0, 1, 2], {"0": "negative", "2": "positive"})
    assert label == Label((0, 1, 2), ("negative", "1", "positive"))
    with pytest.raises(ConfigError, match=r"label texts for the labels 0, 1, found one for '7'\. Correct --label-text"):
        infer_label([0, 1], {"7": "seven"})
    with pytest.raises(ConfigError, match="every word once, found '1' twice"):
        infer_label([0, 1], {"0": "1"})


def test_letter_codes() -> None:
    label = infer_label([f"l{position:03}" for position in range(26 + 26 * 26 + 1)] * 2, codes=True)
    assert label.words[:3] == ("A", "B", "C")
    assert label.words[25:28] == ("Z", "AA", "AB")
    assert label.words[26 + 26 * 26 - 1 :] == ("ZZ", "AAA")
    assert label.to_text("l027") == "AB"


def test_too_many_or_too_few_labels() -> None:
    with pytest.raises(DataError, match=r"a column of labels, found 30 different values in 40 rows, such as 't0'"):
        infer_label([f"t{row % 30}" for row in range(40)])
    assert len(infer_label([f"t{row % 30}" for row in range(60)]).values) == 30
    with pytest.raises(TargetError, match=r"at least two labels, found 1 \(x\)"):
        infer_label(["x"] * 5)
