"""What is predicted: declared, or inferred from a column."""

import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd

from predgen.config import DataSettings, FieldSettings
from predgen.errors import ConfigError, unknown_name
from predgen.tables.reading import row_numbers
from predgen.tables.values import check_cells, parse_cells
from predgen.targets.cells import Cell
from predgen.targets.declared import Declared
from predgen.targets.field import Field
from predgen.targets.inference import infer_kind
from predgen.targets.kinds import field_kind
from predgen.targets.record import Record, Target, joined_values
from predgen.warning_kinds import LostLabelsWarning, warn

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
        return _field(settings.fields.get(columns[0], settings), train, columns[0])
    declared = [
        name
        for name, setting in FieldSettings.model_fields.items()
        if getattr(settings, name) != setting.get_default(call_default_factory=True)
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
    rows = row_numbers(train)
    declared = declared_of(settings)
    name, reason = kind_of(settings, cells)
    kind = field_kind(name)
    kind.check_declared(declared, column, reason)
    check_cells(kind, cells, column, rows, declared)
    field = kind.infer(cells, declared)
    values = parse_cells(field, cells, column, rows)
    log.info("Target: '%s', %s — %s", column, field.describe_column(cells), reason)
    for doubt in field.doubts(cells):
        warn(type(doubt)(f"Target '{column}': {doubt}"))
    return field, values


def declared_of(settings: FieldSettings) -> Declared:
    """Returns what the settings declare of a column, besides its kind."""
    return Declared(
        label_text=settings.label_text,
        label_codes=settings.label_codes,
        labels=settings.labels,
        positive=settings.positive,
        low=settings.low,
        high=settings.high,
        decimals=settings.decimals,
        form=settings.number_form,
        logarithmic=settings.logarithmic,
        number_format=settings.number_format,
        date_format=settings.date_format,
    )


def kind_of(settings: FieldSettings, cells: list[Cell]) -> tuple[str, str]:
    """Returns the kind of a column, declared or inferred, and why."""
    if settings.kind is not None:
        return settings.kind, "declared"
    if settings.label_text or settings.label_codes:
        return "label", "label texts were given"
    if settings.labels is not None or settings.positive is not None:
        return "label", "labels were given"
    if settings.date_format is not None or isinstance(settings.low or settings.high, str):
        return "date", "a range of dates or their format was given"
    if declared_of(settings).numbers:
        return "number", "a range, decimals or a format were given"
    return infer_kind(cells)


def warn_of_lost_labels(field: Field, cells: Sequence[Cell], num_rows: int) -> None:
    """Warns of labels that the first rows lack, as those of a sorted table do."""
    lost = field.lost_labels(cells)
    if lost:
        warn(
            LostLabelsWarning(
                f"The first {num_rows} training rows lack labels that others have ({', '.join(lost[:5])}); the model "
                "will never answer them. Shuffle the table, or raise --max-train-rows."
            )
        )
