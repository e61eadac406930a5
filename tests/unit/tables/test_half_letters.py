"""Halves of surrogate pairs are refused, whatever rows in memory are made of."""

from typing import Any

import datasets
import pandas as pd
import pytest

from predgen.errors import DataError
from predgen.tables.reading import read_table

HALF = "caf\ud83d"
ROWS = [{"text": "whole 😀", "label": "a"}, {"text": HALF, "label": "b"}]


@pytest.mark.parametrize(
    "table",
    [
        ROWS,
        {"text": [row["text"] for row in ROWS], "label": ["a", "b"]},
        pd.DataFrame({"text": [row["text"] for row in ROWS]}, dtype=object),
        [{"text": "x"}, {"text": ["a list", HALF]}],
    ],
)
def test_a_cell_is_refused_with_its_row_and_column(table: Any) -> None:
    with pytest.raises(DataError, match=r"Expected text in row 2, column 'text', found half of a surrogate pair"):
        read_table(table)


@pytest.mark.parametrize("table", [[{HALF: "x"}], {HALF: ["x"]}])
def test_a_column_name_is_refused_in_a_message_that_can_be_printed(table: Any) -> None:
    with pytest.raises(DataError, match="in the column's name") as caught:
        read_table(table)
    str(caught.value).encode()


def test_whole_letters_beyond_the_first_plane_are_read() -> None:
    assert read_table(ROWS[:1])["text"].tolist() == ["whole 😀"]
    assert len(read_table(datasets.Dataset.from_list(ROWS[:1]))) == 1
