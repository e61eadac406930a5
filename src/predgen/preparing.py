"""From a table and settings to what every method trains on: splits, target, template, parsed values."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from predgen.columns import check_inputs, infer_inputs, leak_warnings
from predgen.config import DataSettings
from predgen.data import Splits, load_splits
from predgen.errors import ConfigError, DataError, explain
from predgen.tables import TableLike, require_columns, row_numbers
from predgen.target_rules import infer_kind, infer_label, infer_number
from predgen.targets import (
    Cell,
    Kind,
    Label,
    Number,
    Target,
    is_missing,
    label_key,
    parse_cells,
)
from predgen.template import Template

log = logging.getLogger("predgen")


@dataclass(frozen=True)
class Prepared:
    """One table, ready for any method.

    Attributes:
        splits: the rows of each part.
        column: the target's column.
        target: what is predicted, inferred from the training part or declared.
        template: how a row becomes a prompt; its fields are the input columns.
        train_values: the training values.
        validation_values: the validation values; None for a label that the training part lacks.
    """

    splits: Splits
    column: str
    target: Target
    template: Template
    train_values: list[Any]
    validation_values: list[Any]

    def fingerprint(self) -> str:
        """Returns a SHA-256 over what a run trains and chooses on: target, template, and the rows of both parts."""
        columns = [*self.template.fields, self.column]
        digest = hashlib.sha256(repr((self.target, self.template.text)).encode())
        for part in (self.splits.train, self.splits.validation):
            for row in part.loc[:, columns].itertuples(index=False, name=None):
                digest.update(repr(row).encode())
        return digest.hexdigest()


def prepare(settings: DataSettings, source: TableLike, seed: int) -> Prepared:
    """Reads, splits and checks a table, and says what was inferred.

    Args:
        settings: which columns, which split.
        source: the table; `settings.data` where it is a path or a hub id.
        seed: of the split.

    Raises:
        DataError: a cell, a row or a column is not what it must be.
    """
    column = settings.target
    splits = load_splits(
        source,
        target=column,
        stratify=lambda table: _kind(settings, table[column].tolist())[0] == "label",
        validation=settings.validation,
        test=settings.test,
        split=settings.split,
        group=settings.group,
        seed=seed,
        calibration=settings.calibration,
    )
    all_rows = splits.train
    splits = _capped(splits, settings.max_train_rows, settings.max_eval_rows)
    log.info("Rows: %s", splits.how)
    target, train_values = prepare_target(settings, splits.train, column)
    if isinstance(target, Label) and len(all_rows) > len(splits.train):
        _warn_of_lost_labels(target, all_rows[column].tolist(), len(splits.train))
    inputs = settings.inputs
    if settings.template is not None:
        if inputs is not None:
            raise ConfigError("Expected --inputs or --template, found both. The template's fields are the inputs.")
        template = Template.parse(settings.template, [name for name in splits.train.columns if name != column])
    else:
        if inputs is None:
            inputs = tuple(infer_inputs(splits.train, column))
            log.info("Inputs: %s (the free-text columns; name others with --inputs)", ", ".join(inputs))
        require_columns(splits.train, inputs)
        if len(set(inputs)) < len(inputs):
            raise ConfigError(f"Expected every input column once, found {', '.join(inputs)}. Leave the double one out.")
        if column in inputs:
            raise ConfigError(f"Expected inputs other than the target, found '{column}' in both. Leave it out.")
        template = Template.default(inputs, column)
    for part in (splits.train, splits.validation, splits.test, splits.calibration):
        if part is not None:
            require_columns(part, template.fields)
            check_inputs(part, template.fields)
    for warning in leak_warnings(splits.train, list(template.fields), column):
        log.warning(warning)
    validation_values = values_of(target, splits.validation, column)
    log_unseen(target, validation_values, splits.validation, column)
    for part in (splits.test, splits.calibration):
        if part is not None:
            values_of(target, part, column)  # a bad cell is better found now than after training
    return Prepared(splits, column, target, template, train_values, validation_values)


def prepare_target(settings: DataSettings, train: pd.DataFrame, column: str) -> tuple[Target, list[Any]]:
    """Returns the target that the training rows have or that was declared, and their values."""
    cells: list[Cell] = train[column].tolist()
    kind, reason = _kind(settings, cells)
    rows = row_numbers(train)
    target: Target
    if kind == "number":
        if settings.label_text or settings.label_codes:
            raise ConfigError(
                explain(
                    expected="label texts for a column of labels",
                    found=f"the number column '{column}' ({reason})",
                    fix="Declare --kind label, or leave --label-text out.",
                )
            )
        anything = Number(-1e15, 1e15, 0)  # to refuse text and empty cells before a range can be inferred
        values = parse_cells(anything, cells, column, rows)
        target = infer_number(values, low=settings.low, high=settings.high, decimals=settings.decimals)
        values = parse_cells(target, cells, column, rows)
    else:
        if settings.low is not None or settings.high is not None or settings.decimals is not None:
            raise ConfigError(
                explain(
                    expected="a range and decimals for a column of numbers",
                    found=f"the label column '{column}' ({reason})",
                    fix="Declare --kind number, or leave --low, --high and --decimals out.",
                )
            )
        for row, cell in zip(rows, cells, strict=True):
            if is_missing(cell):
                raise _missing_cell(row, column, "label")
        target = infer_label(cells, settings.label_text, codes=settings.label_codes)
        values = parse_cells(target, cells, column, rows)
    log.info("Target: '%s', %s — %s", column, target.describe(), reason)
    return target, values


def values_of(target: Target, table: pd.DataFrame, column: str) -> list[Any]:
    """Returns a held-out column's values; None for a label that was never seen in training.

    Raises:
        DataError: a cell is missing, or is no number, or lies outside a declared range.
    """
    cells: list[Cell] = table[column].tolist()
    if isinstance(target, Number):
        return parse_cells(target, cells, column, row_numbers(table))
    values: list[Any] = []
    for row, cell in zip(row_numbers(table), cells, strict=True):
        if is_missing(cell):
            raise _missing_cell(row, column, "label")
        position = target.index(cell)
        values.append(None if position is None else target.values[position])
    return values


def unseen_labels(target: Target, values: Sequence[Any], table: pd.DataFrame, column: str) -> str | None:
    """Returns a sentence about labels that training never saw, or None if there are none."""
    if not isinstance(target, Label):
        return None
    unseen = [cell for cell, value in zip(table[column].tolist(), values, strict=True) if value is None]
    if not unseen:
        return None
    names = ", ".join(sorted({f"'{cell}'" for cell in unseen})[:5])
    return f"{len(unseen)} rows have labels that were never seen in training ({names}); they count as wrong."


def log_unseen(target: Target, values: Sequence[Any], table: pd.DataFrame, column: str) -> None:
    """Warns of labels that training never saw."""
    warning = unseen_labels(target, values, table, column)
    if warning:
        log.warning(warning)


def _kind(settings: DataSettings, cells: list[Cell]) -> tuple[Kind, str]:
    if settings.kind is not None:
        return settings.kind, "declared"
    if settings.label_text or settings.label_codes:
        return "label", "label texts were given"
    if settings.low is not None or settings.high is not None or settings.decimals is not None:
        return "number", "a range or decimals were given"
    return infer_kind(cells)


def _capped(splits: Splits, max_train_rows: int | None, max_eval_rows: int | None) -> Splits:
    """Returns the first rows of each part."""
    if max_train_rows is None and max_eval_rows is None:
        return splits
    train, validation = splits.train.iloc[:max_train_rows], splits.validation.iloc[:max_eval_rows]
    test = None if splits.test is None else splits.test.iloc[:max_eval_rows]
    sizes = f"{len(train)} / {len(validation)} / {0 if test is None else len(test)}"
    how = f"{splits.how}; the first {sizes} of each part are used"
    return Splits(train, validation, test, how, splits.calibration)


def _warn_of_lost_labels(target: Label, cells: Sequence[Cell], num_rows: int) -> None:
    """Warns of labels that the first rows lack, as those of a sorted table do."""
    known = {label_key(value) for value in target.values}
    lost = sorted({label_key(cell) for cell in cells if not is_missing(cell)} - known)
    if lost:
        log.warning(
            "The first %d training rows lack labels that others have (%s); the model will never answer them. Shuffle "
            "the table, or raise --max-train-rows.",
            num_rows,
            ", ".join(lost[:5]),
        )


def _missing_cell(row: int, column: str, what: str) -> DataError:
    return DataError(
        explain(
            expected=f"a {what}",
            found="an empty cell",
            fix="Fill the cell or remove the row.",
            row=row,
            column=column,
        )
    )
