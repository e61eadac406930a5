"""Numbers as people write them: each format reads what it writes, whole and as declared, and nothing else."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from predgen.errors import DataError, TargetError
from predgen.names import NUMBER_FORMATS
from predgen.tables.values import parse_cells, values_of
from predgen.targets.declared import Declared
from predgen.targets.inference import infer_kind
from predgen.targets.kinds import field_from_json
from predgen.targets.number import Number
from predgen.targets.number_formats import formats_hint, read_amount

MARKS = {"en": (",", "."), "de": (".", ","), "percent": (",", "."), "percent_de": (".", ",")}
NUMBERS = st.decimals(-(10**15), 10**15, places=3) | st.decimals(-1000, 1000, places=2) | st.integers(-(10**12), 10**12)


def written(number: Any, number_format: str, group: str | None = None) -> str:
    """Returns a number as a format writes it, by Python's own grouping."""
    thousands, point = MARKS[number_format]
    text = f"{number:,}".replace(",", "G").replace(".", point)
    return text.replace("G", thousands if group is None else group) + ("%" if number_format.startswith("p") else "")


@pytest.mark.parametrize("number_format", NUMBER_FORMATS)
@given(number=NUMBERS)
@example(number=0)
def test_what_a_format_writes_is_read_back(number_format: str, number: Any) -> None:
    for group in (None, ""):
        amount = read_amount(written(number, number_format, group), number_format)
        assert amount is not None
        assert amount.value == float(number)
    if number_format == "de":
        for group in (" ", "\u00a0", "\u202f"):
            assert read_amount(written(number, "de", group), "de").value == float(number)  # type: ignore[union-attr]


@pytest.mark.parametrize("number_format", ["en", "de"])
@given(
    number=NUMBERS, mark=st.sampled_from(["$", "€", "£", "₹", "USD", "CHF"]), space=st.sampled_from(["", " ", "\u00a0"])
)
def test_a_currency_stands_before_or_after(number_format: str, number: Any, mark: str, space: str) -> None:
    text = written(abs(number), number_format)
    for cell in (f"{mark}{space}{text}", f"{text}{space}{mark}"):
        amount = read_amount(cell, number_format)
        assert amount is not None
        assert (amount.value, amount.currency) == (abs(float(number)), mark)
    for cell in (f"-{mark}{text}", f"{mark}-{text}", f"-{text} {mark}", f"−{mark}{text}"):
        assert read_amount(cell, number_format).value == -abs(float(number))  # type: ignore[union-attr]
    for cell in (f"{mark}{text}{mark}", f"-{mark}-{text}", f"{text} ABC", f"{mark}  {text}", f"({mark}{text})"):
        assert read_amount(cell, number_format) is None


@pytest.mark.parametrize("number_format", NUMBER_FORMATS)
@given(text=st.text("0123456789.,-+ %$€", max_size=9))
@example(text="1,23,4")
@example(text="0,123")
@example(text="1.234.56")
@example(text="12,34.5")
@example(text="1 234.567")
def test_nothing_is_read_but_what_the_format_writes(number_format: str, text: str) -> None:
    amount = read_amount(text, number_format)
    thousands, point = MARKS[number_format]
    if amount is None:
        return
    sign = "-" if "-" in text else ""
    digits = text.strip().strip("+-$€% ").strip("+-")
    whole, _, fraction = digits.partition(point)
    plain = re.sub(r"\D", "", whole)
    # The oracle groups the digits anew: what was read has all groups or none, and no zero before its digits.
    groups = (thousands, "", *([" "] if number_format in ("de", "percent_de") else []))
    grouped = {f"{int(plain):,}".replace(",", group) for group in groups}
    assert whole in grouped
    assert amount.value == float(f"{sign}{plain}.{fraction or 0}")
    assert ("%" in text) == number_format.startswith("percent")


@pytest.mark.parametrize(
    "cell", ["NaN", "inf", "1e5", "1_000", "١٢", "0x1", "007", ".5", "5.", "9" * 400, "", " ", "5 kg"]
)
def test_what_python_reads_and_no_format_does(cell: str) -> None:
    assert all(read_amount(cell, number_format) is None for number_format in NUMBER_FORMATS)
    assert formats_hint(cell) == ""


@pytest.mark.parametrize("cell", [12, 0.12, np.float32(0.5)])
def test_typed_numbers_stand_for_themselves_but_as_percentages(cell: float) -> None:
    assert [read_amount(cell, name) is None for name in NUMBER_FORMATS] == [False, False, True, True]
    assert read_amount(True, "en") is None
    assert read_amount(cell, "de").value == cell  # type: ignore[union-attr]


def test_a_format_belongs_to_the_field_and_comes_back() -> None:
    cells = ["1.234,50 €", "12,25 €", "7"]
    field = Number.infer(cells, Declared(number_format="de"))
    assert field.describe() == "number 0 … 1358 with 0 decimals, read as de in € (inferred)"
    again = field_from_json(field.to_json())
    assert again == field
    table = pd.DataFrame({"y": ["2.000", "0,5 €"]}, dtype=object)
    assert values_of(again, table, ("y",)) == [2000.0, 0.5]
    assert again.answered("1234.5") == 1234.5  # answers are plain numbers, whatever the truth is written as
    with pytest.raises(
        DataError, match=r"Row 2, column 'y': Expected a number such as 1\.234,5 \(de\), found '1,23,4'\."
    ):
        parse_cells(field, ["1", "1,23,4"], "y", [1, 2])
    with pytest.raises(
        DataError, match=r"Row 9, column 'y': Expected an amount in €, as rows before .*, found '\$5'\."
    ):
        parse_cells(field, ["$5"], "y", [9])
    plain = Number(0.0, 5.0, 1)
    assert set(plain.to_json()) == {"kind", "low", "high", "decimals", "declared", "form", "logarithmic", "smallest"}


def test_a_cell_of_another_format_says_which_reads_it() -> None:
    with pytest.raises(
        TargetError, match=r"such as 1,234\.5 \(en\), found '12 %'\. Declare --number-format percent \("
    ):
        Number.check_cell("12 %", Declared(number_format="en"))
    with pytest.raises(TargetError, match=r"found '0\.12'\. Correct or remove the row\."):
        Number.check_cell(0.12, Declared(number_format="percent"))
    assert formats_hint("1,234") == "Declare --number-format en (it is 1234 then) or de (1.234)"
    assert infer_kind(["12 %", "13 %", "13 %"]) == (
        "label",
        "its cells are not numbers as they stand, such as '12 %' (declare --number-format percent (it is 12 then) or "
        "percent_de (12) if they are meant as numbers)",
    )
