"""From a request's rows to a table that is checked, and from a table of answers to JSON."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from predgen.errors import DataError, explain, unknown_name
from predgen.models.answer_columns import WRITTEN_TOKENS
from predgen.models.model import Model
from predgen.serving.schemas import Row
from predgen.tables.inputs import check_inputs
from predgen.tables.reading import read_table, require_columns


def checked_table(model: Model, rows: Sequence[Row], most_characters: int) -> pd.DataFrame:
    """Returns rows as a table of the model's input columns: nothing in it can make a batch of many requests fail.

    Args:
        model: the model.
        rows: the rows.
        most_characters: of a cell.

    Raises:
        DataError: an input is missing, or a cell is too long.
        UnknownNameError: an input column is missing, or a column is none.
    """
    inputs = list(model.inputs)
    for number, row in enumerate(rows, start=1):
        for name, cell in row.items():
            if name not in inputs:
                raise unknown_name("input column", name[:100], inputs)
            if isinstance(cell, str) and len(cell) > most_characters:
                raise DataError(
                    explain(
                        expected=f"at most {most_characters:,} characters",
                        found=f"{len(cell):,}",
                        fix="Shorten the text.",
                        row=number,
                        column=name,
                    )
                )
    if not any(rows):
        raise DataError(explain(expected=f"the input columns {', '.join(inputs)}", found="none", fix="Give them."))
    table = read_table(list(rows))
    require_columns(table, inputs)
    check_inputs(table, inputs)
    return table[inputs]


def answers_of(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the answers of a table as JSON holds them, row by row; null for what is missing.

    Args:
        table: as `Model.predict` returns it.
        columns: those of the answers.
    """
    cells = [[_parsed(cell) if name == WRITTEN_TOKENS else _plain(cell) for cell in table[name]] for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]


def _parsed(cell: str | None) -> Any:
    """Returns what a cell of JSON holds."""
    return None if cell is None else json.loads(cell)


def _plain(cell: Any) -> Any:
    """Returns a cell without numpy; what is no finite number is null."""
    cell = cell.item() if hasattr(cell, "item") else cell
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
