"""A target's columns, and one of weights: from cells to values, with messages for cells that hold none."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from predgen.errors import ConfigError, DataError, TargetError, explain
from predgen.tables.reading import require_columns, row_numbers
from predgen.targets.cells import Cell, describe, parse_number
from predgen.targets.declared import UNDECLARED, Declared
from predgen.targets.field import Field, missing_message
from predgen.targets.record import Target, field_values, joined_values
from predgen.warning_kinds import UnseenLabelsWarning, warn


def parse_cells(field: Field, cells: Sequence[Cell], column: str, rows: Sequence[int]) -> list[Any]:
    """Returns the values of a column.

    Args:
        field: what the cells must be.
        cells: the cells.
        column: the column's name, for messages.
        rows: each cell's row in its source, counted from 1 without the header.

    Raises:
        DataError: a cell is missing or is no value of the field; the message names its row.
    """
    values = []
    for row, cell in zip(rows, cells, strict=True):
        values.append(_read_cell(type(field), field.parse, cell, row, column))
    return values


def check_cells(
    kind: type[Field], cells: Sequence[Cell], column: str, rows: Sequence[int], declared: Declared = UNDECLARED
) -> None:
    """Refuses cells that are no value of any field of a kind.

    Args:
        kind: what the cells must be.
        cells: the cells.
        column: the column's name, for messages.
        rows: each cell's row in its source, counted from 1 without the header.
        declared: how cells are written, among other things.

    Raises:
        DataError: a cell is missing or is no value of the kind; the message names its row.
    """
    for row, cell in zip(rows, cells, strict=True):
        _read_cell(kind, partial(kind.check_cell, declared=declared), cell, row, column)


def _read_cell(kind: type[Field], read: Callable[[Cell], Any], cell: Cell, row: int, column: str) -> Any:
    """Returns a cell's value.

    Raises:
        DataError: it holds nothing, or cannot be read; the message names its row.
    """
    if kind.is_missing(cell):
        raise DataError(missing_message(kind, cell, row, column))
    try:
        return read(cell)
    except TargetError as error:
        raise DataError(f"Row {row}, column '{column}': {error}") from error


def columns_named(names: Sequence[str], table: pd.DataFrame) -> tuple[str, ...]:
    """Returns the columns that a target's names stand for: a column whose own name has the commas, or one for each.

    Args:
        names: as `predgen.config.target_names` gives them.
        table: the table, whether it has the columns or not.
    """
    whole = ",".join(names)
    return (whole,) if whole in table.columns else tuple(name.strip() for name in names if name.strip())


def target_columns(names: Sequence[str], table: pd.DataFrame) -> tuple[str, ...]:
    """Returns the columns that a target's names stand for.

    Raises:
        ConfigError: a column is named twice.
        UnknownNameError: a column is not in the table.
    """
    columns, whole = columns_named(names, table), ",".join(names)
    require_columns(table, columns or (whole,))
    if len(set(columns)) < len(columns):
        raise ConfigError(f"Expected every column of the target once, found {whole}. Leave the double one out.")
    return columns


def values_of(target: Target, table: pd.DataFrame, columns: Sequence[str]) -> list[Any]:
    """Returns a held-out part's values; None for a label, and in a set, that was never seen in training.

    Raises:
        DataError: a cell is missing, or is no number, or lies outside a declared range.
    """
    values: dict[str, list[Any]] = {}
    for (name, field), column in zip(target.fields.items(), columns, strict=True):
        cells = zip(table[column].tolist(), row_numbers(table), strict=True)
        values[name] = [_read_cell(type(field), field.known, cell, row, column) for cell, row in cells]
    return joined_values(target, values)


def unseen_labels(target: Target, values: Sequence[Any], table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """Returns a sentence about labels that training never saw, or None if there are none."""
    unseen = []
    for (name, field), column in zip(target.fields.items(), columns, strict=True):
        pairs = zip(table[column].tolist(), field_values(target, values, name), strict=True)
        unseen += [cell for cell, value in pairs if field.is_unseen(value)]
    if not unseen:
        return None
    names = ", ".join(sorted({f"'{cell}'" for cell in unseen})[:5])
    return (
        f"{len(unseen)} rows have labels that were never seen in training ({names}); they count as wrong. Add rows of "
        "them to the training part."
    )


def warn_of_unseen(target: Target, values: Sequence[Any], table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Warns of labels that training never saw."""
    unseen = unseen_labels(target, values, table, columns)
    if unseen:
        warn(UnseenLabelsWarning(unseen))


def weights_in(table: pd.DataFrame, column: str) -> Float[np.ndarray, " row"]:
    """Returns the weights in a column of a table.

    Args:
        table: the rows.
        column: the column's name.

    Raises:
        DataError: a cell is missing, negative, or no finite number; the message names its row.
        UnknownNameError: there is no such column.
    """
    require_columns(table, [column])
    numbers = []
    for row, cell in zip(row_numbers(table), table[column].tolist(), strict=True):
        number = parse_number(cell)
        if number is None or number < 0:
            raise DataError(
                explain(
                    expected="a weight, a number of at least 0",
                    found=describe(cell),
                    fix="Correct the cell; 0 leaves a row out.",
                    row=row,
                    column=column,
                )
            )
        numbers.append(number)
    return np.array(numbers, dtype=np.float64)
