"""Dates in cells: ISO, typed, or of a declared form; their range, their words and what is refused."""

from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predgen.config import build_config
from predgen.errors import ConfigError, DataError
from predgen.measures.kinds import measure_of
from predgen.tables.reading import read_table
from predgen.targets.date import Date
from predgen.targets.date_cells import EPOCH, day_of, iso_of
from predgen.targets.inference import infer_kind
from predgen.training.target import prepare_target

MARCH = float(date(2021, 3, 1).toordinal() - EPOCH)


def prepared(cells: list[Any], **declared: Any) -> tuple[Date, list[Any]]:
    settings = build_config({"data": "t", "target": "y"}, {"kind": "date", **declared}).data
    target, values = prepare_target(settings, pd.DataFrame({"y": cells}, dtype=object), ["y"])
    assert isinstance(target, Date)
    return target, values


@given(st.dates())
def test_a_day_is_read_as_it_is_written(day: date) -> None:
    number = day.toordinal() - EPOCH
    assert iso_of(number) == day.isoformat()
    written = f"{day.day:02}.{day.month:02}.{day.year:04}"
    for cell in (day, day.isoformat(), f"{day.isoformat()} 00:00:00", datetime(day.year, day.month, day.day)):
        assert day_of(cell) == number
    assert day_of(written, "%d.%m.%Y") == number
    assert day_of(written) is None
    assert day_of(day.isoformat(), "%d.%m.%Y") is None


def test_dates_of_typed_tables_are_days() -> None:
    days = pd.to_datetime(["2021-03-01", "2021-03-05"])
    for table in (
        pd.DataFrame({"y": days}),
        pd.DataFrame({"y": [day.date() for day in days]}),
        pa.table({"y": pa.array([day.date() for day in days], pa.date32())}),
        pa.table({"y": pa.array(days, pa.timestamp("ms"))}),
    ):
        cells = read_table(table)["y"].tolist()
        assert [day_of(cell) for cell in cells] == [MARCH, MARCH + 4]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "2021-02-30",
            r"Row 2, column 'y': Expected a date in ISO form, .*, found '2021-02-30', a day that no calendar",
        ),
        ("2021-03-01 12:30", r"found '2021-03-01 12:30'\. Cut the time of day off"),
        ("2021-03-01T00:00:00+01:00", r"Cut the time of day off"),
        ("01.03.2021", r"found '01\.03\.2021'\. Declare --date-format %d\.%m\.%Y, or correct or remove the row\."),
        ("3/1/2021", r"Declare --date-format %m/%d/%Y or %d/%m/%Y"),
        ("soon", r"found 'soon'\. Correct or remove the row\."),
        (18687, r"found '18687'\. Correct or remove the row\."),
        ("", r"Expected a date in row 2, column 'y', found an empty cell"),
    ],
)
def test_what_is_no_date_is_an_error_with_its_row(cell: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(["2021-03-01", cell, "2021-03-03"])


def test_a_timestamp_with_a_time_or_a_zone_is_no_day() -> None:
    assert day_of(datetime(2021, 3, 1, 1)) is None
    assert day_of(datetime(2021, 3, 1, tzinfo=timezone.utc)) is None  # noqa: UP017


def test_the_range_is_learned_with_a_tenth_on_each_side() -> None:
    target, values = prepared(["2021-03-01", "2021-03-11", "2021-03-06"])
    assert values == [MARCH, MARCH + 10, MARCH + 5]
    assert target.describe() == "date 2021-02-28 … 2021-03-12 (inferred)"
    assert target.texts == ("2021-02-28", "2021-03-06", "2021-03-12")
    assert prepared(["2021-01-01", "2021-12-27"])[0].describe() == "date 2020-11-26 … 2022-02-01 (inferred)"
    assert prepared(["0001-01-01", "9999-12-31"])[0].describe() == "date 0001-01-01 … 9999-12-31 (inferred)"
    with pytest.warns(match="all 2 training rows hold 2021-03-01"):
        constant, _ = prepared(["2021-03-01"] * 2)
    assert (constant.num_values, constant.low) == (1, MARCH)


def test_a_declared_range_and_form() -> None:
    target, values = prepared(["1.3.2021"], date_format="%d.%m.%Y", low="2021-01-01", high=date(2021, 12, 31))
    assert target.describe() == "date 2021-01-01 … 2021-12-31, read as %d.%m.%Y (declared)"
    assert values == [MARCH]
    assert Date.from_json(target.to_json()) == target
    with pytest.raises(DataError, match=r"Row 1, .* in the declared range 2021-01-01 … 2021-12-31, found '2\.1\.2022'"):
        prepared(["2.1.2022"], date_format="%d.%m.%Y", low="2021-01-01", high="2021-12-31")
    for kind in (None, "date"):  # such ends say what the column is
        assert prepared(["2021-03-01"], kind=kind, low="2021-01-01", high="2021-12-31")[1] == [MARCH]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"low": "2021-01-01"}, "both ends of the declared range, found one"),
        ({"low": 5, "high": 9}, r"an ISO date such as 2021-03-01 for the end .*, found '5\.0'"),
        ({"low": "2021-02-01", "high": "2021-01-01"}, "first day is before its last, found 2021-02-01 … 2021-01-01"),
        ({"decimals": 2}, "found settings of numbers for the column 'y'"),
        ({"date_format": "%d.%m"}, r"with day, month and year, .*, found '%d\.%m'"),
        ({"date_format": "%q"}, "found '%q'"),
        ({"labels": "a,b"}, "label texts for a column of labels"),
        ({"kind": "number", "low": "2021-01-01", "high": "2021-02-01"}, "Expected numbers for the ends of a number's"),
        ({"kind": "number", "date_format": "%d.%m.%Y"}, "a column of dates for date_format"),
        ({"low": "2021-02-30", "high": "2021-03-01"}, "expected a number, or an ISO date"),
    ],
)
def test_what_cannot_be_declared(declared: dict[str, Any], message: str) -> None:
    cells = ["1", "2"] if declared.get("kind") == "number" else ["2021-03-01", "2021-03-02"]
    with pytest.raises(ConfigError, match=message):
        prepared(cells, **declared)


def test_dates_that_are_not_declared_are_labels_and_it_is_said() -> None:
    kind, reason = infer_kind(["2021-03-01", "2021-03-02"])
    assert (kind, reason) == (
        "label",
        "its cells are not numbers as they stand, such as '2021-03-01' (declare --kind date if they are meant as "
        "dates)",
    )
    many = pd.DataFrame({"y": [iso_of(day) for day in range(40)]}, dtype=object)
    settings = build_config({"data": "t", "target": "y"}).data
    with pytest.raises(DataError, match=r"such as '1970-01-01'\. Then it is one of dates\. Declare --kind date\."):
        prepare_target(settings, many, ["y"])


def test_metrics_are_of_whole_days() -> None:
    measure = measure_of(Date(MARCH, MARCH + 100))
    truth = measure.as_array([MARCH, MARCH + 10, MARCH + 20, MARCH + 30])
    answers = measure.as_array([MARCH + 0.4, MARCH + 17.2, MARCH + 12, None])
    found = measure.metrics(truth, answers, None, measure.exact(truth, answers))
    assert found["mae_days"] == 5  # 0, 7 and 8 days off
    assert found["mse_days"] == pytest.approx((49 + 64) / 3)
    assert found["within_7_days"] == pytest.approx(2 / 3)
    assert found["exact_match"] == 0.25
    assert np.isnan(measure.losses(truth, answers, None)["beyond_7_days"][3])
