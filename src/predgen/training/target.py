"""What is predicted: declared, or inferred from a column."""

import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd

from predgen.config import DataSettings, FieldSettings
from predgen.errors import ConfigError, explain, unknown_name
from predgen.tables.reading import row_numbers
from predgen.tables.values import parse_cells, refuse_missing
from predgen.targets.cells import Cell, is_missing, label_key
from predgen.targets.inference import infer_kind, infer_label, infer_number, infer_set
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet, delimiter_of, is_empty, items_of
from predgen.targets.number import Kind, Number
from predgen.targets.record import Field, Record, Target, joined_values

log = logging.getLogger("predgen")


def prepare_target(settings: DataSettings, train: pd.DataFrame, columns: Sequence[str]) -> tuple[Target, list[Any]]:
    """Returns the target that the training rows have or that was declared, and their values.

    Raises:
        ConfigError: what was declared does not fit the columns.
        DataError: a cell is no value of its column's target.
    """
    if len(columns) == 1:
        unknown = set(settings.fields) - set(columns)
        if unknown:
            raise unknown_name("column of the target", min(unknown), columns)
        found = _field(settings.fields.get(columns[0], settings), train, columns[0])
        return found
    declared = [
        name
        for name, one in FieldSettings.model_fields.items()
        if getattr(settings, name) != one.get_default(call_default_factory=True)
    ]
    if declared:
        raise ConfigError(
            f"Expected what is declared of a record's columns in the setting fields, found {declared[0]} outside it. "
            f"Use --set 'fields={{{columns[0]}: {{{declared[0]}: …}}}}'."
        )
    for name in settings.fields:
        if name not in columns:
            raise unknown_name("column of the target", name, columns)
    fields: dict[str, Field] = {}
    values: dict[str, list[Any]] = {}
    for column in columns:
        fields[column], values[column] = _field(settings.fields.get(column, FieldSettings()), train, column)
    record = Record(fields)
    return record, joined_values(record, values)


def _field(settings: FieldSettings, train: pd.DataFrame, column: str) -> tuple[Field, list[Any]]:
    """Returns the target of one column, and its values."""
    cells: list[Cell] = train[column].tolist()
    kind, reason = kind_of(settings, cells)
    rows = row_numbers(train)
    field: Field
    if kind == "number":
        if settings.label_text or settings.label_codes or settings.labels is not None:
            raise ConfigError(
                explain(
                    expected="label texts for a column of labels",
                    found=f"the number column '{column}' ({reason})",
                    fix="Declare --kind label, or leave --label-text, label_codes and labels out.",
                )
            )
        anything = Number(-1e15, 1e15, 0)  # to refuse text and empty cells before a range can be inferred
        values = parse_cells(anything, cells, column, rows)
        field = infer_number(
            values,
            low=settings.low,
            high=settings.high,
            decimals=settings.decimals,
            form=settings.number_form,
            logarithmic=settings.logarithmic,
        )
    else:
        if _declares_number(settings):
            raise ConfigError(
                explain(
                    expected="a range and decimals for a column of numbers",
                    found=f"the label column '{column}' ({reason})",
                    fix="Declare --kind number, or leave --low, --high, --decimals, number_form and logarithmic out.",
                )
            )
        for row, cell in zip(rows, cells, strict=True):
            refuse_missing(kind, cell, row, column)
        if kind == "set":
            if settings.labels is not None:
                raise ConfigError(
                    f"Expected declared labels for a column of labels, found '{column}' of sets. Leave them out."
                )
            field = infer_set(cells, settings.label_text, codes=settings.label_codes)
        else:
            field = infer_label(cells, settings.label_text, codes=settings.label_codes, declared=settings.labels)
    values = parse_cells(field, cells, column, rows)
    log.info("Target: '%s', %s — %s", column, field.describe(), reason)
    return field, values


def _declares_number(settings: FieldSettings) -> bool:
    given = (settings.low, settings.high, settings.decimals, settings.number_form, settings.logarithmic)
    return any(one is not None for one in given)


def kind_of(settings: FieldSettings, cells: list[Cell]) -> tuple[Kind, str]:
    """Returns the kind of a column, declared or inferred, and why."""
    if settings.kind is not None:
        return settings.kind, "declared"
    if settings.label_text or settings.label_codes:
        return "label", "label texts were given"
    if settings.labels is not None:
        return "label", "labels were given"
    if _declares_number(settings):
        return "number", "a range or decimals were given"
    return infer_kind(cells)


def warn_of_lost_labels(target: Label | LabelSet, cells: Sequence[Cell], num_rows: int) -> None:
    """Warns of labels that the first rows lack, as those of a sorted table do."""
    known = {label_key(value) for value in target.values}
    if isinstance(target, LabelSet):
        # By the delimiter of all rows: the first ones may hold no set of two labels.
        delimiter = delimiter_of(cells)
        cells = [item for cell in cells if not is_empty(cell) for item in items_of(cell, delimiter, target.empty)]
    lost = sorted({label_key(cell) for cell in cells if not is_missing(cell)} - known)
    if lost:
        log.warning(
            "The first %d training rows lack labels that others have (%s); the model will never answer them. Shuffle "
            "the table, or raise --max-train-rows.",
            num_rows,
            ", ".join(lost[:5]),
        )
