"""Several columns that are one target: shares or counts of labels, or what several annotators say."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from predgen.config import DataSettings
from predgen.errors import ConfigError, DataError, TargetError, explain
from predgen.tables.reading import require_columns, row_numbers
from predgen.tables.values import columns_named, target_columns
from predgen.targets.cells import Cell, describe, is_missing, label_key, parse_number
from predgen.targets.distribution import Distribution, amount_of, amounts_in, normalized
from predgen.targets.field import missing_message
from predgen.targets.inference import infer_kind

RECORD, SHARES, COUNTS, ANNOTATORS = "record", "shares", "counts", "annotators"
# What a mean of annotators' numbers is rounded to, in decimals more than their own have.
MORE_DECIMALS = 2
# What stands between the common beginning of column names and the label, as in p_good and p_bad.
_BEGINNING = re.compile(r".*[_.\-:/ ]")


@dataclass(frozen=True)
class Joining:
    """How the columns of a target become one.

    Attributes:
        how: what they hold, a name in `predgen.names.TARGET_COLUMNS`.
        numeric: whether annotators give numbers, whose mean is the target; else the shares of their labels are.
        labels: the label of each column of shares or counts; None for the columns' own names, less what they share.
        decimals: of the mean of annotators' numbers; None for two more than the numbers have.
    """

    how: str
    numeric: bool = False
    labels: tuple[str, ...] | None = None
    decimals: int | None = None

    @property
    def kind(self) -> str:
        """The kind of the target that comes of it."""
        return "number" if self.numeric else Distribution.kind

    @property
    def target_name(self) -> str:
        """How a prompt calls the target: one of several columns has no name of its own."""
        return "number" if self.numeric else "label"

    def table(self, table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        """Returns the table with one column in place of the target's, which has all of their names.

        A table that has that column already is returned as it is, as is one whose only column holds shares.

        Args:
            table: the rows.
            names: as `predgen.config.target_names` gives them.

        Raises:
            DataError: a cell is not what it must be, or a row has none; the message names its row.
            UnknownNameError: a column is missing.
        """
        columns = target_columns(names, table)
        if len(columns) == 1 and (self.how == SHARES or (len(names) > 1 and self.how != COUNTS)):
            return table
        made = list(map(self._of_row, *self._rows(table, columns)))
        name = ",".join(columns)
        kept = table.drop(columns=list(columns))
        return kept.assign(**{name: pd.Series(made, index=table.index, dtype=object)})

    def _rows(self, table: pd.DataFrame, columns: Sequence[str]) -> tuple[list[int], list[Any], list[Any]]:
        """Returns each row's number, its cells, and the columns, which are the same for all."""
        cells = list(zip(*(table[column].tolist() for column in columns), strict=True))
        return row_numbers(table), cells, [columns] * len(cells)

    def _of_row(self, row: int, cells: Sequence[Cell], columns: Sequence[str]) -> Any:
        """Returns the one cell of a row.

        Raises:
            DataError: with the row.
        """
        if self.how == ANNOTATORS:
            return self._annotated(row, cells, columns)
        if len(columns) == 1:  # counts in JSON
            if is_missing(cells[0]):
                raise DataError(missing_message(Distribution, cells[0], row, columns[0]))
            return _checked(row, columns, lambda: _text(normalized(amounts_in(cells[0]), expect_one=False)))
        what = "a share" if self.how == SHARES else "a count"
        amounts = {}
        for label, column, cell in zip(self._labels(columns), columns, cells, strict=True):
            amounts[label] = _checked(row, [column], partial(amount_of, cell, f"{what} of at least 0"))
        return _checked(row, columns, lambda: _text(normalized(amounts, expect_one=self.how == SHARES)))

    def _labels(self, columns: Sequence[str]) -> list[str]:
        """Returns the label of each column.

        Raises:
            ConfigError: others are declared, or two columns have the same.
        """
        labels = labels_of_columns(columns) if self.labels is None else list(self.labels)
        if len(labels) != len(columns) or len(set(map(label_key, labels))) < len(labels):
            raise ConfigError(
                f"Expected a label of its own for each of the {len(columns)} target columns, found "
                f"{', '.join(labels)}. Declare them in the order of the columns (--labels)."
            )
        return list(map(label_key, labels))

    def _annotated(self, row: int, cells: Sequence[Cell], columns: Sequence[str]) -> Any:
        given = [(column, cell) for column, cell in zip(columns, cells, strict=True) if not is_missing(cell)]
        if not given:
            raise DataError(
                explain(
                    expected="the answer of one annotator at least",
                    found="empty cells alone",
                    fix="Fill one, or remove the row.",
                    row=row,
                    column=", ".join(columns),
                )
            )
        if self.numeric:
            numbers = [_number(row, column, cell) for column, cell in given]
            finest = max(map(_decimals, (cell for _, cell in given)))
            return round(fmean(numbers), finest + MORE_DECIMALS if self.decimals is None else self.decimals)
        counts: dict[str, float] = {}
        for _, cell in given:
            counts[label_key(cell)] = counts.get(label_key(cell), 0.0) + 1
        return _text(normalized(counts, expect_one=False))


def joining_of(settings: DataSettings, table: pd.DataFrame, *, numeric: bool | None = None) -> Joining | None:
    """Returns how the target's columns become one; None where each is a field of its own.

    Args:
        settings: what is declared.
        table: training rows, which say whether annotators give numbers or labels.
        numeric: whether they do, where it is known.

    Raises:
        ConfigError: what is declared does not go together.
        UnknownNameError: a column is missing.
    """
    how = settings.columns or (SHARES if settings.kind == Distribution.kind else RECORD)
    if how == RECORD:
        if settings.kind == Distribution.kind and len(columns_named(settings.target, table)) > 1:
            raise ConfigError(
                "Expected shares, counts or annotators in the columns of a distribution over labels, found "
                "--columns record. Leave columns out."
            )
        return None
    if how != ANNOTATORS:
        _check_kind(settings, how, (Distribution.kind,))
        several = len(columns_named(settings.target, table)) > 1 or len(settings.target) > 1
        return Joining(how, labels=settings.labels if several else None)
    _check_kind(settings, how, (Distribution.kind, "label", "number"))
    if numeric is None:
        numeric = settings.kind == "number" or (settings.kind is None and _are_numbers(settings, table))
    return Joining(how, numeric=numeric, decimals=settings.decimals)


def joined_table(settings: DataSettings, table: pd.DataFrame, *, numeric: bool) -> pd.DataFrame:
    """Returns a table with the target's columns joined as the settings say; else as it is.

    Args:
        settings: of the model.
        table: rows whose answers are known.
        numeric: whether the model's target is a number.

    Raises:
        PredGenError: as `Joining.table`.
    """
    joining = joining_of(settings, table, numeric=numeric)
    return table if joining is None else joining.table(table, settings.target)


def spread_of_annotators(settings: DataSettings, table: pd.DataFrame) -> Float[np.ndarray, " row"] | None:
    """Returns the standard deviation (n − 1) of each row's numbers over its annotators; None without annotators.

    NaN where fewer than two gave a number.
    """
    columns = columns_named(settings.target, table)
    if settings.columns != ANNOTATORS or len(columns) < 2:
        return None
    require_columns(table, columns)
    rows = zip(*(table[column].tolist() for column in columns), strict=True)
    numbers = [[number for number in map(parse_number, row) if number is not None] for row in rows]
    return np.array([stdev(row) if len(row) > 1 else np.nan for row in numbers])


def labels_of_columns(columns: Sequence[str]) -> list[str]:
    """Returns the label that each column of shares is of: its name less the beginning that all of them share.

    Example:
        >>> labels_of_columns(["p_good", "p_bad"]), labels_of_columns(["yes", "no"])
        (['good', 'bad'], ['yes', 'no'])
    """
    alike = takewhile(lambda signs: len(set(signs)) == 1, zip(*columns, strict=False))
    found = _BEGINNING.match("".join(signs[0] for signs in alike))
    begins = len(found.group()) if found else 0
    return [column[begins:] for column in columns]


def _are_numbers(settings: DataSettings, table: pd.DataFrame) -> bool:
    """Returns whether annotators' cells are numbers, as those of one column would be taken."""
    if settings.label_text or settings.label_codes or settings.labels is not None:
        return False
    if settings.low is not None or settings.high is not None or settings.decimals is not None:
        return True
    cells = [cell for column in target_columns(settings.target, table) for cell in table[column].tolist()]
    return infer_kind(cells)[0] == "number"


def _check_kind(settings: DataSettings, how: str, kinds: Sequence[str]) -> None:
    if settings.kind is not None and settings.kind not in kinds:
        raise ConfigError(
            f"Expected the kind {' or '.join(kinds)} with --columns {how}, found '{settings.kind}'. Leave kind out."
        )


def _checked(row: int, columns: Sequence[str], made: Callable[[], Any]) -> Any:
    """Returns what is made of a row; a message about its cells says where they are.

    Raises:
        DataError: with the row and the columns.
    """
    try:
        return made()
    except TargetError as error:
        raise DataError(f"Row {row}, column '{', '.join(columns)}': {error}") from error


def _number(row: int, column: str, cell: Cell) -> float:
    number = parse_number(cell)
    if number is None:
        raise DataError(
            explain(
                expected="an annotator's number",
                found=describe(cell),
                fix="Correct it, or leave the cell empty.",
                row=row,
                column=column,
            )
        )
    return number


def _decimals(cell: Cell) -> int:
    """Returns how many digits after the point a number is given with."""
    text = repr(parse_number(cell))
    return 0 if "e" in text or text.endswith(".0") else len(text.partition(".")[2])


def _text(shares: dict[str, float]) -> str:
    """Returns shares as a cell: JSON, the same whatever the order of the columns."""
    return json.dumps(shares, sort_keys=True, ensure_ascii=False)
