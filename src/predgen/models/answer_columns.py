"""The columns that a prediction adds to a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from predgen.errors import ConfigError
from predgen.measures.calibration import Calibration, set_texts
from predgen.methods import Answers
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number, learned, unlearned
from predgen.targets.record import ALONE, Field, Target, fields_of

PREDICTION = "prediction"
WRITTEN = "written"
INVALID = "invalid"
STD = "std"
SET = "set"
LOW, HIGH = "low", "high"
PROBABILITY = "probability"


def column_of(name: str, field: str, label: Any = None) -> str:
    """Returns a column's name; a record's field and a label stand after it.

    Example:
        >>> column_of("prediction", ""), column_of("std", "stars"), column_of("probability", "mood", "good")
        ('prediction', 'std_stars', 'probability_mood_good')
    """
    return "_".join([name, *([field] if field != ALONE else []), *([] if label is None else [str(label)])])


def output_names(
    target: Target, calibrations: Mapping[str, Calibration], *, probabilities: bool, std: bool, interval: bool
) -> list[str]:
    """Returns the columns that a prediction adds, in their order.

    Args:
        target: what is predicted.
        calibrations: of the fields that have one.
        probabilities: those of labels are asked for.
        std: the standard deviations of numbers are asked for.
        interval: intervals and sets are asked for.

    Raises:
        ConfigError: the names of fields and labels make the same column twice.
    """
    names = [column_of(PREDICTION, field) for field in fields_of(target)]
    names += [WRITTEN, INVALID]
    for name, field in fields_of(target).items():
        if std and isinstance(field, Number):
            names.append(column_of(STD, name))
        if probabilities and not isinstance(field, Number):
            names += [column_of(PROBABILITY, name, label) for label in field.values]
        if interval and name in calibrations:
            names += [column_of(one, name) for one in ((LOW, HIGH) if isinstance(field, Number) else (SET,))]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(
            f"Expected a column of its own for each answer, found '{twice[0]}' for two. Rename a column of the target, "
            "or a label, and fit again."
        )
    return names


def with_answers(
    table: pd.DataFrame,
    target: Target,
    answers: Answers,
    calibrations: Mapping[str, Calibration],
    *,
    probabilities: bool,
    std: bool,
    interval: float | None,
) -> pd.DataFrame:
    """Returns a table with the columns of its answers.

    Args:
        table: the rows.
        target: what is predicted.
        answers: of these rows.
        calibrations: of the fields that have one.
        probabilities: also those of labels.
        std: also the standard deviations of numbers.
        interval: the level of intervals and sets; None for none.
    """
    names = output_names(target, calibrations, probabilities=probabilities, std=std, interval=interval is not None)
    columns: dict[str, Any] = {
        WRITTEN: _objects(answers.written, table),
        INVALID: pd.Series([value is None for value in answers.values], index=table.index),
    }
    parts = answers.fields or (answers,)
    for (name, field), own in zip(fields_of(target).items(), parts, strict=True):
        cells = cells_of(field, own.values)
        numbers = isinstance(field, Number)
        columns[column_of(PREDICTION, name)] = (
            pd.Series(cells, index=table.index, dtype=np.float64) if numbers else _objects(cells, table)
        )
        if own.deviations is not None:
            columns[column_of(STD, name)] = pd.Series(own.deviations.numpy(), index=table.index)
        if own.probabilities is not None and not isinstance(field, Number):
            for label, column in zip(field.values, own.probabilities.double().numpy().T, strict=True):
                columns[column_of(PROBABILITY, name, label)] = pd.Series(column, index=table.index)
        if interval is None or name not in calibrations:
            continue
        if isinstance(field, Number):
            ends = interval_of(field, calibrations[name], np.array(cells, dtype=np.float64), interval)
            for one, end in zip((LOW, HIGH), ends, strict=True):
                # Where invalid calibration answers leave an end open, the cell is empty: files hold no infinity.
                columns[column_of(one, name)] = pd.Series(np.where(np.isfinite(end), end, np.nan), index=table.index)
        elif isinstance(field, Label):
            assert own.probabilities is not None  # asked for with the interval
            chosen = calibrations[name].sets(own.probabilities.double().numpy(), interval)
            columns[column_of(SET, name)] = _objects(set_texts(field.values, chosen), table)
    return pd.concat([table, pd.DataFrame({name: columns[name] for name in names}, index=table.index)], axis=1)


def cells_of(field: Field, values: Sequence[Any]) -> list[Any]:
    """Returns a field's answers as a table holds them: NaN for an invalid number, text for a set."""
    if isinstance(field, Number):
        return [np.nan if value is None else value for value in values]
    if isinstance(field, LabelSet):
        return [None if value is None else field.cell(value) for value in values]
    return list(values)


def interval_of(
    field: Number, calibration: Calibration, predicted: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of each answer's interval, inside a declared range.

    That of a logarithmic number reaches as far up as down on its logarithm.

    Args:
        field: the number.
        calibration: its own.
        predicted: the answers, shape (row,).
        level: in (0, 1).
    """
    low, high = (unlearned(field, end) for end in calibration.interval(learned(field, predicted), level))
    if field.declared:  # an inferred range promises nothing
        low, high = np.clip(low, field.low, None), np.clip(high, None, field.high)
    return low, high


def _objects(cells: Sequence[Any], table: pd.DataFrame) -> pd.Series:
    return pd.Series(list(cells), index=table.index, dtype=object)
