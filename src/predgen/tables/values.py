"""A target's columns: cells to values, and what is wrong with them."""

import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd

from predgen.errors import ConfigError, DataError, TargetError, explain
from predgen.tables.reading import require_columns, row_numbers
from predgen.targets.cells import Cell, describe, is_missing
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet, is_empty
from predgen.targets.number import Number
from predgen.targets.record import Field, Target, field_values, fields_of, joined_values


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
        refuse_missing(field.kind, cell, row, column)
        try:
            values.append(field.parse(cell))
        except TargetError as error:
            raise DataError(f"Row {row}, column '{column}': {error}") from error
    return values


def refuse_missing(kind: str, cell: object, row: int, column: str) -> None:
    """Refuses a cell that holds nothing.

    Raises:
        DataError: it does; the message names its row.
    """
    if is_empty(cell) if kind == "set" else is_missing(cell):
        what = "a set of labels" if kind == "set" else f"a {kind}"
        found = describe(cell) if kind == "number" else "an empty cell"
        fill = "Write none for the empty set" if kind == "set" else "Fill the cell"
        raise DataError(explain(expected=what, found=found, fix=f"{fill} or remove the row.", row=row, column=column))


log = logging.getLogger("predgen")


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
    found: dict[str, list[Any]] = {}
    for (name, field), column in zip(fields_of(target).items(), columns, strict=True):
        cells: list[Cell] = table[column].tolist()
        if isinstance(field, Number):
            found[name] = parse_cells(field, cells, column, row_numbers(table))
            continue
        found[name] = []
        for row, cell in zip(row_numbers(table), cells, strict=True):
            refuse_missing(field.kind, cell, row, column)
            found[name].append(_known(field, cell))
    return joined_values(target, found)


def _known(field: Label | LabelSet, cell: Cell) -> Any:
    """Returns a cell's label or set, with None for a label that was never seen in training."""
    if isinstance(field, LabelSet):
        return field.members(cell)
    position = field.index(cell)
    return None if position is None else field.values[position]


def unseen_labels(target: Target, values: Sequence[Any], table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """Returns a sentence about labels that training never saw, or None if there are none."""
    unseen = []
    for (name, field), column in zip(fields_of(target).items(), columns, strict=True):
        own = field_values(target, values, name)
        if not isinstance(field, Number):
            pairs = zip(table[column].tolist(), own, strict=True)
            unseen += [cell for cell, value in pairs if value is None or (isinstance(value, tuple) and None in value)]
    if not unseen:
        return None
    names = ", ".join(sorted({f"'{cell}'" for cell in unseen})[:5])
    return f"{len(unseen)} rows have labels that were never seen in training ({names}); they count as wrong."


def log_unseen(target: Target, values: Sequence[Any], table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Warns of labels that training never saw."""
    warning = unseen_labels(target, values, table, columns)
    if warning:
        log.warning(warning)
