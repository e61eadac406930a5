"""The columns that a prediction adds to a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from predgen.errors import ConfigError, DataError
from predgen.measures.calibration import Calibration
from predgen.measures.kinds import measure_of
from predgen.methods import Answers
from predgen.targets.field import ALONE
from predgen.targets.record import Target

PREDICTION = "prediction"
WRITTEN = "written"
INVALID = "invalid"
STD = "std"
QUANTILE = "quantile"
PROBABILITY = "probability"
ABSTAINED = "abstained"
WRITTEN_TOKENS = "written_tokens"


def column_of(name: str, field: str, label: Any = None) -> str:
    """Returns a column's name; a record's field and a label stand after it.

    Example:
        >>> column_of("prediction", ""), column_of("std", "stars"), column_of("probability", "mood", "good")
        ('prediction', 'std_stars', 'probability_mood_good')
    """
    return "_".join([name, *([field] if field != ALONE else []), *([] if label is None else [str(label)])])


def output_names(
    target: Target,
    calibrations: Mapping[str, Calibration],
    *,
    probabilities: bool,
    std: bool,
    interval: bool,
    quantiles: Sequence[float] = (),
) -> list[str]:
    """Returns the columns that a prediction adds, in their order.

    Args:
        target: what is predicted.
        calibrations: of the fields that have one.
        probabilities: those of labels are asked for.
        std: the standard deviations of numbers are asked for.
        interval: intervals and sets are asked for.
        quantiles: the shares whose quantiles of numbers are asked for.

    Raises:
        ConfigError: the names of fields and labels make the same column twice.
    """
    names = [column_of(PREDICTION, field) for field in target.fields]
    names += [WRITTEN, INVALID]
    for name, field in target.fields.items():
        if std and field.numeric:
            names.append(column_of(STD, name))
        if field.numeric:
            names += [column_of(QUANTILE, name, share) for share in quantiles]
        if probabilities:
            names += [column_of(PROBABILITY, name, label) for label in field.labels]
        if interval and name in calibrations:
            names += [column_of(column, name) for column in measure_of(field).interval_names]
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
    quantiles: Sequence[float] = (),
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
        quantiles: the shares whose quantiles of numbers are asked for.
    """
    asked = {"probabilities": probabilities, "std": std, "interval": interval is not None}
    names = output_names(target, calibrations, **asked, quantiles=quantiles)
    columns: dict[str, Any] = {
        WRITTEN: _objects(answers.written, table),
        INVALID: pd.Series([value is None for value in answers.values], index=table.index),
    }
    for (name, field), answer in zip(target.fields.items(), answers.by_field, strict=True):
        cells = [field.cell(value) for value in answer.values]
        columns[column_of(PREDICTION, name)] = (
            pd.Series(cells, index=table.index, dtype=np.float64) if field.has_number_cells else _objects(cells, table)
        )
        if answer.deviations is not None:
            columns[column_of(STD, name)] = pd.Series(answer.deviations.numpy(), index=table.index)
        if quantiles and answer.asked_quantiles is not None:
            for share, column in zip(quantiles, answer.asked_quantiles.numpy().T, strict=True):
                columns[column_of(QUANTILE, name, share)] = pd.Series(column, index=table.index)
        shares = None if answer.probabilities is None else answer.probabilities.double().numpy()
        for label, column in zip(field.labels, [] if shares is None else shares.T, strict=shares is not None):
            columns[column_of(PROBABILITY, name, label)] = pd.Series(column, index=table.index)
        if interval is not None and name in calibrations:
            measure = measure_of(field)
            predicted = measure.as_array(answer.values)
            ends = measure.interval_columns(calibrations[name], interval, predicted, shares)
            columns |= {column_of(column, name): _series(values, table) for column, values in ends.items()}
    return pd.concat([table, pd.DataFrame({name: columns[name] for name in names}, index=table.index)], axis=1)


def with_abstained(table: pd.DataFrame, answered: np.ndarray) -> pd.DataFrame:
    """Returns answers with the column `abstained`, and without the predictions of the rows where it is true.

    Raises:
        DataError: the rows have a column of that name.
    """
    if ABSTAINED in table.columns:
        raise DataError(f"Expected a free name for the output, found a column '{ABSTAINED}'. Rename that column.")
    predicted = table[PREDICTION]
    missing = None if predicted.dtype == object else np.nan  # as for an invalid answer
    columns: dict[str, Any] = {PREDICTION: predicted.where(answered, missing), ABSTAINED: ~answered}
    return table.assign(**columns)


def _series(values: Any, table: pd.DataFrame) -> pd.Series:
    """Returns numbers, or texts as objects, as a column of a table."""
    return pd.Series(values, index=table.index, dtype=object if isinstance(values, list) else np.float64)


def _objects(cells: Sequence[Any], table: pd.DataFrame) -> pd.Series:
    return pd.Series(list(cells), index=table.index, dtype=object)
